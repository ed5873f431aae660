//! The worked examples of RFC 7541, Appendix C, and what a hostile block may try.

use super::{Decoder, HeaderError, Table, literal};

type Fields = Vec<(String, String)>;

fn decode(decoder: &mut Decoder, hex: &str) -> Result<(Fields, Table), HeaderError> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let block: Vec<u8> = digits
        .chunks(2)
        .map(|pair| {
            u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("test blocks are hex")
        })
        .collect();
    let mut fields = Vec::new();
    let table = decoder.decode(&block, |name, value| {
        fields.push((
            String::from_utf8_lossy(name).into(),
            String::from_utf8_lossy(value).into(),
        ));
    })?;
    Ok((fields, table))
}

fn check(decoder: &mut Decoder, hex: &str, expect: &[(&str, &str)], size_bytes: usize) {
    let (fields, _) = decode(decoder, hex).expect("a block of the RFC decodes");
    let expect: Fields = expect
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    assert_eq!(fields, expect);
    assert_eq!(
        decoder.size_bytes, size_bytes,
        "size of the dynamic table after {hex}"
    );
}

#[test]
fn single_fields_of_appendix_c_2() {
    let mut decoder = Decoder::new();
    check(
        &mut decoder,
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        &[("custom-key", "custom-header")],
        55,
    );
    let mut decoder = Decoder::new();
    check(
        &mut decoder,
        "040c 2f73 616d 706c 652f 7061 7468",
        &[(":path", "/sample/path")],
        0,
    );
    check(
        &mut decoder,
        "1008 7061 7373 776f 7264 0673 6563 7265 74",
        &[("password", "secret")],
        0,
    );
    check(&mut decoder, "82", &[(":method", "GET")], 0);
}

const REQUEST: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "www.example.com"),
];
const SECOND: [(&str, &str); 5] = [
    REQUEST[0],
    REQUEST[1],
    REQUEST[2],
    REQUEST[3],
    ("cache-control", "no-cache"),
];
const THIRD: [(&str, &str); 5] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
];

#[test]
fn requests_without_huffman_of_appendix_c_3() {
    let mut decoder = Decoder::new();
    check(
        &mut decoder,
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        &REQUEST,
        57,
    );
    check(
        &mut decoder,
        "8286 84be 5808 6e6f 2d63 6163 6865",
        &SECOND,
        110,
    );
    check(
        &mut decoder,
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        &THIRD,
        164,
    );
}

#[test]
fn requests_with_huffman_of_appendix_c_4() {
    let mut decoder = Decoder::new();
    check(
        &mut decoder,
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        &REQUEST,
        57,
    );
    check(&mut decoder, "8286 84be 5886 a8eb 1064 9cbf", &SECOND, 110);
    check(
        &mut decoder,
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        &THIRD,
        164,
    );
}

/// The response examples assume a table of 256 bytes, so that entries are evicted.
fn small_table() -> Decoder {
    let mut decoder = Decoder::new();
    assert_eq!(
        decode(&mut decoder, "3fe101").expect("a size update decodes"),
        (Vec::new(), Table::Changed)
    );
    assert_eq!(decoder.size_limit_bytes, 256);
    decoder
}

const LOCATION: (&str, &str) = ("location", "https://www.example.com");
const DATE: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
const PRIVATE: (&str, &str) = ("cache-control", "private");
const COOKIE: (&str, &str) = (
    "set-cookie",
    "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
);
const SIXTH: [(&str, &str); 6] = [
    (":status", "200"),
    PRIVATE,
    ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
    LOCATION,
    ("content-encoding", "gzip"),
    COOKIE,
];

#[test]
fn responses_without_huffman_of_appendix_c_5_evict_old_entries() {
    let mut decoder = small_table();
    check(
        &mut decoder,
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 \
         2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        &[(":status", "302"), PRIVATE, DATE, LOCATION],
        222,
    );
    check(
        &mut decoder,
        "4803 3330 37c1 c0bf",
        &[(":status", "307"), PRIVATE, DATE, LOCATION],
        222,
    );
    check(
        &mut decoder,
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d \
         54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 \
         5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
        &SIXTH,
        215,
    );
}

#[test]
fn responses_with_huffman_of_appendix_c_6_evict_old_entries() {
    let mut decoder = small_table();
    check(
        &mut decoder,
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 \
         2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        &[(":status", "302"), PRIVATE, DATE, LOCATION],
        222,
    );
    check(
        &mut decoder,
        "4883 640e ffc1 c0bf",
        &[(":status", "307"), PRIVATE, DATE, LOCATION],
        222,
    );
    check(
        &mut decoder,
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab \
         77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 \
         03ed 4ee5 b106 3d50 07",
        &SIXTH,
        215,
    );
}

#[test]
fn only_blocks_that_insert_or_resize_change_the_table() {
    let mut decoder = Decoder::new();
    assert_eq!(
        decode(&mut decoder, "8286")
            .expect("static entries decode")
            .1,
        Table::Unchanged
    );
    let inserting = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    assert_eq!(
        decode(&mut decoder, inserting)
            .expect("a literal decodes")
            .1,
        Table::Changed
    );
    assert_eq!(
        decode(&mut decoder, "be").expect("the new entry decodes").1,
        Table::Unchanged
    );
}

#[test]
fn broken_blocks_are_refused() {
    let mut decoder = Decoder::new();
    assert_eq!(decode(&mut decoder, "80"), Err(HeaderError::NoSuchIndex));
    assert_eq!(decode(&mut decoder, "be"), Err(HeaderError::NoSuchIndex));
    assert_eq!(
        decode(&mut decoder, "400a 6375"),
        Err(HeaderError::Truncated)
    );
    assert_eq!(
        decode(&mut decoder, "ff ffff ffff ffff"),
        Err(HeaderError::IntegerTooLarge)
    );
    assert_eq!(
        decode(&mut decoder, "82 20"),
        Err(HeaderError::InvalidSizeUpdate)
    );
    // 4097 bytes, one above what was announced.
    assert_eq!(
        decode(&mut decoder, "3fe2 1f"),
        Err(HeaderError::InvalidSizeUpdate)
    );
    assert_eq!(
        decode(&mut decoder, "3fe1 1f"),
        Ok((Vec::new(), Table::Changed))
    );
}

#[test]
fn a_request_literal_decodes_to_itself_and_leaves_the_table_alone() {
    let mut block = Vec::new();
    literal(&mut block, "te", "trailers");
    let mut decoder = Decoder::new();
    let mut fields = Vec::new();
    let table = decoder.decode(&block, |name, value| {
        fields.push((name.to_vec(), value.to_vec()))
    });
    assert_eq!(table, Ok(Table::Unchanged));
    assert_eq!(fields, [(b"te".to_vec(), b"trailers".to_vec())]);
}
