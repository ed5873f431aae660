//! The 64 bytes at the head of every segment: whose log it is, and where in the chain the segment stands.

use super::recover::CorruptionKind;

/// Whose log it is. A segment of another cluster or member is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogIdentity {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The member's id.
    pub member_id: u64,
}

/// The header of a segment. Its layout and checksum stay as they are in all later format versions, so that a newer
/// version can always be told from damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose log it is.
    pub identity: LogIdentity,
    /// The segment's number in the chain; the first is 1.
    pub segment: u64,
    /// The sequence number of the first batch in this segment.
    pub first_batch: u64,
    /// A number drawn at random for this segment, which nobody outside knows. It seeds the checksums of the batches.
    pub nonce: u64,
}

impl SegmentHeader {
    /// The bytes as they stand in the file.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.identity.cluster_id.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.identity.member_id.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.segment.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_batch.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.nonce.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header at the front of a segment's bytes.
    pub(super) fn decode(segment: &[u8]) -> Result<SegmentHeader, CorruptionKind> {
        let Some(bytes) = segment.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return Err(CorruptionKind::HeaderDamaged);
        };
        if bytes[..8] != MAGIC
            || u32_at(bytes, CHECKSUM_AT) != crc32c::crc32c(&bytes[..CHECKSUM_AT])
        {
            return Err(CorruptionKind::HeaderDamaged);
        }
        let version = u32_at(bytes, 8);
        if version != FORMAT_VERSION {
            return Err(CorruptionKind::NewerVersion { version });
        }
        Ok(SegmentHeader {
            identity: LogIdentity {
                cluster_id: u64_at(bytes, 16),
                member_id: u64_at(bytes, 24),
            },
            segment: u64_at(bytes, 32),
            first_batch: u64_at(bytes, 40),
            nonce: u64_at(bytes, 48),
        })
    }

    /// What the checksums of this segment's batch headers start from.
    pub(super) fn seed(&self) -> u32 {
        u32_at(&self.encode(), CHECKSUM_AT)
    }
}

/// Reads four bytes that the caller knows are there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(
        bytes[at..at + 4]
            .try_into()
            .expect("four bytes were sliced"),
    )
}

/// Reads eight bytes that the caller knows are there.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(
        bytes[at..at + 8]
            .try_into()
            .expect("eight bytes were sliced"),
    )
}

/// The length of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 64;

/// The format this version writes and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"MSTOREWL";
const CHECKSUM_AT: usize = 60;
