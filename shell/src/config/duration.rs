//! Go's duration grammar: `300ms`, `-1.5h`, `1h2m3.5s`, or a bare `0`.

/// Why a text is not a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing, or only a sign.
    #[error("expected a duration such as 300ms, 5s or 1h30m")]
    Empty,
    /// A number without a unit, such as `5`.
    #[error("a duration needs a unit, such as 300ms, 5s or 1h30m")]
    MissingUnit,
    /// A unit other than ns, us, µs, ms, s, m and h.
    #[error("unknown unit in the duration: use ns, us, ms, s, m or h")]
    UnknownUnit,
    /// A unit without a number before it, such as `s` or `.s`.
    #[error("a duration needs a number before each unit, such as 300ms, 5s or 1h30m")]
    MissingNumber,
    /// Beyond what 64 bits of nanoseconds hold (about 292 years).
    #[error("the duration is too long: at most 2562047h")]
    TooLong,
}

/// The duration in nanoseconds, negative for a leading `-`. Digits finer than a nanosecond are dropped.
pub fn parse_nanoseconds(text: &str) -> Result<i64, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(DurationError::Empty);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (part, after) = parse_part(rest)?;
        total += i128::from(part);
        if total > i128::from(i64::MAX) + 1 {
            return Err(DurationError::TooLong);
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| DurationError::TooLong)
}

/// Takes one number with its unit off the front; the value is in nanoseconds.
fn parse_part(text: &str) -> Result<(u64, &str), DurationError> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after_point) => split_digits(after_point),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::MissingNumber);
    }
    let unit_end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let unit_nanoseconds = unit_nanoseconds(unit)?;

    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| DurationError::TooLong)?
    };
    let mut nanoseconds = u128::from(whole) * u128::from(unit_nanoseconds);
    // Fifteen digits resolve less than a nanosecond of even an hour; more would only overflow.
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    let mut scale: u128 = 1;
    let mut numerator: u128 = 0;
    for digit in fraction.bytes() {
        numerator = numerator * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    nanoseconds += numerator * u128::from(unit_nanoseconds) / scale;
    Ok((
        u64::try_from(nanoseconds).map_err(|_| DurationError::TooLong)?,
        rest,
    ))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

fn unit_nanoseconds(unit: &str) -> Result<u64, DurationError> {
    match unit {
        "" => Err(DurationError::MissingUnit),
        "ns" => Ok(1),
        // U+00B5 (micro sign) and U+03BC (Greek letter mu).
        "us" | "\u{b5}s" | "\u{3bc}s" => Ok(1_000),
        "ms" => Ok(1_000_000),
        "s" => Ok(1_000_000_000),
        "m" => Ok(60 * 1_000_000_000),
        "h" => Ok(3_600 * 1_000_000_000),
        _ => Err(DurationError::UnknownUnit),
    }
}

const FRACTION_DIGITS_MAX: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_follow_the_go_grammar() {
        let cases = [
            ("0", Ok(0)),
            ("-0", Ok(0)),
            ("0s", Ok(0)),
            ("300ms", Ok(300_000_000)),
            ("5s", Ok(5_000_000_000)),
            ("2h45m", Ok(9_900_000_000_000)),
            ("1h2m3.5s", Ok(3_723_500_000_000)),
            ("-1s", Ok(-1_000_000_000)),
            ("+1s", Ok(1_000_000_000)),
            (".5s", Ok(500_000_000)),
            ("1.s", Ok(1_000_000_000)),
            ("7us", Ok(7_000)),
            ("7\u{b5}s", Ok(7_000)),
            ("7\u{3bc}s", Ok(7_000)),
            ("1.9ns", Ok(1)),
            ("0.100000000000000000000h", Ok(360_000_000_000)),
            ("9223372036854775807ns", Ok(i64::MAX)),
            ("-9223372036854775808ns", Ok(i64::MIN)),
            ("9223372036854775808ns", Err(DurationError::TooLong)),
            ("99999999999999999999999h", Err(DurationError::TooLong)),
            ("2562048h", Err(DurationError::TooLong)),
            ("", Err(DurationError::Empty)),
            ("-", Err(DurationError::Empty)),
            ("5", Err(DurationError::MissingUnit)),
            ("1h5", Err(DurationError::MissingUnit)),
            ("s", Err(DurationError::MissingNumber)),
            (".s", Err(DurationError::MissingNumber)),
            ("--1s", Err(DurationError::MissingNumber)),
            (" 1s", Err(DurationError::MissingNumber)),
            ("1 s", Err(DurationError::UnknownUnit)),
            ("1d", Err(DurationError::UnknownUnit)),
            ("1S", Err(DurationError::UnknownUnit)),
            ("1e3s", Err(DurationError::UnknownUnit)),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_nanoseconds(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parts_add_up(h in 0i64..1_000, m in 0i64..100_000, s in 0i64..100_000, ms in 0i64..100_000, ns in 0i64..100_000, negative: bool) {
            let sign = if negative { "-" } else { "" };
            let text = format!("{sign}{h}h{m}m{s}s{ms}ms{ns}ns");
            let magnitude = ((h * 60 + m) * 60 + s) * 1_000_000_000 + ms * 1_000_000 + ns;
            prop_assert_eq!(parse_nanoseconds(&text), Ok(if negative { -magnitude } else { magnitude }));
        }

        #[test]
        fn nine_decimals_of_a_second_are_nanoseconds(seconds in 0i64..1_000_000, nanoseconds in 0i64..1_000_000_000) {
            let text = format!("{seconds}.{nanoseconds:09}s");
            prop_assert_eq!(parse_nanoseconds(&text), Ok(seconds * 1_000_000_000 + nanoseconds));
        }

        #[test]
        fn no_text_panics_and_only_units_end_a_duration(text in "[-+.0-9a-zµ ]{0,24}|\\PC{0,12}") {
            if parse_nanoseconds(&text).is_ok() {
                prop_assert!(text.ends_with(['s', 'm', 'h']) || text.trim_start_matches(['-', '+']) == "0");
            }
        }
    }
}
