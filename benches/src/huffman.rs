//! The Huffman code of header compression (RFC 7541, Appendix B), decoding only.
//!
//! The code is canonical: symbols sorted by code length, then by value, carry consecutive codes.
//! So the lengths alone are stored and the decoder works on the first code of each length.

/// Decodes `encoded` onto the end of `decoded`; `Err` if it is no valid Huffman string.
pub(crate) fn decode(encoded: &[u8], decoded: &mut Vec<u8>) -> Result<(), InvalidCode> {
    let mut code = 0_u32;
    let mut length = 0_usize;
    let mut all_ones = true;
    for byte in encoded {
        for shift in (0..8).rev() {
            let bit = u32::from(byte >> shift & 1);
            code = code << 1 | bit;
            length += 1;
            all_ones &= bit == 1;
            if length > LENGTH_MAX {
                return Err(InvalidCode);
            }
            let Some(symbol) = CANON.symbol(code, length) else {
                continue;
            };
            if symbol == END_OF_STRING {
                return Err(InvalidCode);
            }
            decoded.push(symbol.to_le_bytes()[0]);
            (code, length, all_ones) = (0, 0, true);
        }
    }
    // What is left is padding: fewer than eight bits, each of them one.
    if length > 7 || !all_ones {
        Err(InvalidCode)
    } else {
        Ok(())
    }
}

/// The bytes end within a code, use the end-of-string code, or are padded with anything but ones.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InvalidCode;

/// For every code length: the first code, the number of codes and where its symbols begin.
struct Canon {
    first_code: [u32; LENGTH_MAX + 1],
    count: [u32; LENGTH_MAX + 1],
    first_symbol: [usize; LENGTH_MAX + 1],
    symbols: [u16; SYMBOLS],
}

impl Canon {
    const fn new() -> Self {
        let mut canon = Self {
            first_code: [0; LENGTH_MAX + 1],
            count: [0; LENGTH_MAX + 1],
            first_symbol: [0; LENGTH_MAX + 1],
            symbols: [0; SYMBOLS],
        };
        let (mut code, mut placed, mut length) = (0_u32, 0_usize, 1_usize);
        while length <= LENGTH_MAX {
            code <<= 1;
            canon.first_code[length] = code;
            canon.first_symbol[length] = placed;
            let mut symbol = 0_u16;
            while (symbol as usize) < SYMBOLS {
                if LENGTHS[symbol as usize] as usize == length {
                    canon.symbols[placed] = symbol;
                    placed += 1;
                    code += 1;
                    canon.count[length] += 1;
                }
                symbol += 1;
            }
            length += 1;
        }
        assert!(placed == SYMBOLS, "every symbol has a code");
        assert!(
            code == 1 << LENGTH_MAX,
            "the code is complete: no bit pattern is left without a symbol"
        );
        canon
    }

    fn symbol(&self, code: u32, length: usize) -> Option<u16> {
        let offset = code.checked_sub(self.first_code[length])?;
        if offset >= self.count[length] {
            return None;
        }
        Some(self.symbols[self.first_symbol[length] + offset as usize])
    }
}

static CANON: Canon = Canon::new();

const SYMBOLS: usize = 257;
const END_OF_STRING: u16 = 256;
const LENGTH_MAX: usize = 30;

/// Code length in bits of every octet, then of the end-of-string symbol.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[cfg(test)]
mod tests {
    use super::{InvalidCode, decode};

    fn check(encoded: &[u8], expect: Result<&str, InvalidCode>) {
        let mut decoded = Vec::new();
        let outcome = decode(encoded, &mut decoded);
        match expect {
            Ok(text) => {
                assert_eq!(outcome, Ok(()));
                assert_eq!(String::from_utf8_lossy(&decoded), text);
            }
            Err(error) => assert_eq!(outcome, Err(error)),
        }
    }

    #[test]
    fn strings_of_the_rfc_examples_decode() {
        check(
            &[
                0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
            ],
            Ok("www.example.com"),
        );
        check(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], Ok("no-cache"));
        check(
            &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f],
            Ok("custom-key"),
        );
        check(&[0x64, 0x02], Ok("302"));
        check(&[], Ok(""));
    }

    #[test]
    fn padding_of_zeros_or_of_a_whole_byte_is_refused() {
        check(&[0x00], Err(InvalidCode));
        check(&[0x64, 0x02, 0xff], Err(InvalidCode));
    }

    #[test]
    fn the_end_of_string_code_is_refused() {
        check(&[0xff, 0xff, 0xff, 0xff], Err(InvalidCode));
    }
}
