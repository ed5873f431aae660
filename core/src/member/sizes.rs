//! From where on a member does things in pieces, or does them at all.

use crate::snapshot;

/// Thresholds that are the same in every server. Small clusters with small values never reach them, and what happens
/// beyond them is to be tried together with crashes and partitions, too: so simulations set smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Proposals that may be under way at once; more are refused at once rather than queued.
    pub proposals_max: usize,
    /// Reads that may wait for a barrier at once; more are refused at once rather than queued.
    pub reads_max: usize,
    /// Entries that make a trim of the log in memory worthwhile.
    pub trim_entries: u64,
    /// Bytes of entries in memory that start a trim.
    pub log_bytes_max: usize,
    /// What such a trim leaves for followers that lag a little, in bytes.
    pub log_bytes_kept: usize,
    /// What followers in touch may hold back at least, in bytes; a quarter of the state if that is more.
    pub log_bytes_held_max: usize,
    /// Growth in bytes before a trim that was held back is tried again.
    pub log_bytes_step: usize,
    /// Bytes of entries that one read of the log for a peer gives at most, and at least one entry.
    pub read_bytes: usize,
    /// Bytes of entries on their way to a peer that let no further append start. The last one may go beyond.
    pub append_bytes: usize,
    /// Bytes of proposals, or of answers about leases, after which the next letter begins.
    pub letter_bytes: usize,
    /// Bytes in a piece of a snapshot that goes to a peer, at most [`snapshot::PAYLOAD_BYTES`].
    pub piece_bytes: usize,
    /// Changes that one slice of a sweep looks at.
    pub sweep_changes: usize,
    /// Ends of leases that may be under way at once.
    pub lease_ends: usize,
    /// Alarms of leases that are looked at in one turn, and leases in one record.
    pub lease_looks: usize,
    /// Entries that the target of a transfer may lack when leadership is handed over. It gets them within moments; it
    /// must, as nobody leads meanwhile, and one that takes longer than it takes to lose patience is not elected.
    pub transfer_entries: u64,
    /// What those may weigh, in bytes.
    pub transfer_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            proposals_max: 16_384,
            reads_max: 65_536,
            trim_entries: 256,
            log_bytes_max: 4 << 20,
            log_bytes_kept: 1 << 20,
            log_bytes_held_max: 64 << 20,
            log_bytes_step: 1 << 20,
            read_bytes: 1 << 20,
            append_bytes: 2 << 20,
            letter_bytes: 1 << 20,
            piece_bytes: snapshot::PAYLOAD_BYTES,
            sweep_changes: 256,
            lease_ends: 64,
            lease_looks: 512,
            transfer_entries: 1_000,
            transfer_bytes: 8 << 20,
        }
    }
}
