//! Letters of other members: any bytes are refused or read, never a panic or a huge allocation, and what is read is
//! stable.

#![no_main]

use libfuzzer_sys::fuzz_target;
use metastore_core::raft::PeerMessage;

fn encoded(message: &PeerMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = PeerMessage::decode(bytes) {
        assert!(message.weight() > 0);
        let first = encoded(&message);
        let again = PeerMessage::decode(&first).expect("what was just encoded");
        assert_eq!(encoded(&again), first);
        assert_eq!(again.is_bulk(), message.is_bulk());
    }
});
