//! What a log says, as plain as can be: a map of all entries that stand, whatever a checkpoint covers.

use std::collections::BTreeMap;

use metastore_core::wal::{Record, ReplayError, Replayed};

/// What stands after the records so far.
#[derive(Default)]
struct Standing<'r> {
    entries: BTreeMap<u64, &'r [u8]>,
    next: Option<u64>,
    purged: Option<(u64, &'r [u8])>,
    vote: Option<&'r Vec<u8>>,
    committed: Option<&'r Vec<u8>>,
    closed: bool,
}

/// Goes through the records and then looks at what is left.
pub fn replay<'r>(
    records: impl Iterator<Item = &'r Record>,
    checkpoint: Option<u64>,
) -> Result<Replayed, ReplayError> {
    let mut standing = Standing::default();
    for record in records {
        standing.record(record)?;
    }
    standing.finish(checkpoint)
}

impl<'r> Standing<'r> {
    fn record(&mut self, record: &'r Record) -> Result<(), ReplayError> {
        let purged = self.purged.map(|(index, _)| index);
        self.closed = *record == Record::Closed;
        match record {
            Record::Entry { index, payload } => {
                let (expected, found) = (self.next.unwrap_or(*index), *index);
                if expected != found {
                    return Err(ReplayError::EntryOutOfOrder { expected, found });
                }
                self.next = Some(after(found)?);
                self.entries.insert(found, payload);
            }
            Record::TruncateFrom { index } => {
                let found = *index;
                if let Some(purged) = purged.filter(|purged| found <= *purged) {
                    return Err(ReplayError::TruncatesPurged { purged, found });
                }
                self.next = Some(self.next.unwrap_or(found).min(found));
                self.entries.split_off(&found);
            }
            Record::Purge { index, payload } => {
                let found = *index;
                if let Some(purged) = purged.filter(|purged| found < *purged) {
                    return Err(ReplayError::PurgeWentBack { purged, found });
                }
                let first = after(found)?;
                self.next = self.next.map(|next| next.max(first));
                self.entries = self.entries.split_off(&first);
                self.purged = Some((found, payload));
            }
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Committed(position) => self.committed = Some(position),
            Record::Opened | Record::Closed => {}
        }
        Ok(())
    }

    fn finish(mut self, checkpoint: Option<u64>) -> Result<Replayed, ReplayError> {
        if let Some((purged, _)) = self.purged
            && checkpoint.is_none_or(|covered| purged > covered)
        {
            return Err(ReplayError::CheckpointMissing { purged, checkpoint });
        }
        let expected = checkpoint.map_or(Ok(0), after)?;
        let wanted = self.entries.split_off(&expected);
        match wanted.first_key_value() {
            Some((&found, _)) if found != expected => {
                return Err(ReplayError::EntriesMissing { expected, found });
            }
            _ => {}
        }
        let owned = |(index, payload): (u64, &[u8])| (index, payload.to_vec());
        Ok(Replayed {
            vote: self.vote.cloned(),
            committed: self.committed.cloned(),
            purged: self.purged.map(owned),
            entries: wanted.into_iter().map(owned).collect(),
            closed_cleanly: self.closed,
        })
    }
}

fn after(index: u64) -> Result<u64, ReplayError> {
    index.checked_add(1).ok_or(ReplayError::IndexOutOfRange)
}
