//! The time that clients give to calls which wait for others, and so have no other end. A client that is gone without a
//! word must not stand in line for ever.

use std::future::Future;
use std::time::Duration;

use http::HeaderMap;
use tonic::Status;

/// Calls that are not answered before others do something.
const WAITING: [&str; 3] = [
    "/v3lockpb.Lock/Lock",
    "/v3electionpb.Election/Campaign",
    "/v3electionpb.Election/Observe",
];

/// How long the client waits for an answer to this call; none if it has said nothing that can be understood, or if the call
/// is answered soon by itself.
pub(super) fn of(path: &str, headers: &HeaderMap) -> Option<Duration> {
    if !WAITING.contains(&path) {
        return None;
    }
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    read(text)
}

/// A time as gRPC writes it: up to eight digits and the unit.
fn read(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The call's end, or that of its client's patience.
pub(super) async fn within<T>(
    patience: Option<Duration>,
    call: impl Future<Output = T>,
) -> Result<T, Status> {
    match patience {
        None => Ok(call.await),
        Some(patience) => tokio::select! {
            // The deadline first: after a pause both may be over, and whoever has given up must be granted nothing.
            biased;
            () = tokio::time::sleep(patience) => {
                Err(Status::deadline_exceeded("context deadline exceeded"))
            }
            end = call => Ok(end),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_up_to_eight_digits_and_a_unit() {
        let time = Duration::from_nanos;
        for (text, expected) in [
            ("1H", Some(time(3_600_000_000_000))),
            ("2M", Some(time(120_000_000_000))),
            ("3S", Some(time(3_000_000_000))),
            ("4m", Some(time(4_000_000))),
            ("5u", Some(time(5_000))),
            ("6n", Some(time(6))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("0S", Some(Duration::ZERO)),
            ("123456789S", None),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("+1S", None),
            ("-1S", None),
            ("1\u{b5}", None),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_call_that_ends_together_with_its_clients_patience_is_granted_nothing() {
        let paused = async {
            std::thread::sleep(Duration::from_millis(20));
            tokio::task::yield_now().await;
            7
        };
        let over = within(Some(Duration::from_millis(1)), paused).await;
        assert_eq!(
            over.expect_err("too late").code(),
            tonic::Code::DeadlineExceeded
        );
        assert_eq!(within(None, std::future::ready(7)).await.ok(), Some(7));
    }

    #[test]
    fn only_calls_that_wait_for_others_end_by_their_clients_patience() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", "5S".parse().expect("a value"));
        for path in WAITING {
            assert_eq!(of(path, &headers), Some(Duration::from_secs(5)));
            assert_eq!(of(path, &HeaderMap::new()), None);
        }
        assert_eq!(of("/etcdserverpb.KV/Put", &headers), None);
    }
}
