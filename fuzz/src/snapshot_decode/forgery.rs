//! A snapshot taken apart, changed, and put together again with checksums that hold.

use arbitrary::Arbitrary;

/// What is changed, and how the records are cut into frames afterwards.
#[derive(Arbitrary, Debug, Clone)]
pub struct Forgery {
    /// How many bytes of records a frame holds; 0 for as many as the format allows.
    pub frame_bytes: u16,
    /// The changes.
    pub edits: Vec<Edit>,
}

/// One change. Records are named by their place, around the end if need be.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Edit {
    /// A number of the header becomes another one: format, revision, boundary, length of the extra bytes.
    Header { field: u8, add: i8 },
    /// A number of a record: revision, creation, version, place in the revision, length of the key, flags, lease.
    Number { record: u16, field: u8, add: i8 },
    /// Bits of a record.
    Flip { record: u16, at: u16, flip: u8 },
    /// A record grows or shrinks at its end.
    Resize { record: u16, add: i8 },
    /// A record goes.
    Drop { record: u16 },
    /// A record comes twice.
    Repeat { record: u16 },
    /// A record changes places with the next.
    Swap { record: u16 },
    /// A record's key becomes the next one's.
    Rename { record: u16 },
    /// The closing frame tells another number of records.
    Count { add: i8 },
    /// A frame is of another kind.
    Kind { frame: u8, kind: u8 },
    /// A frame comes twice.
    RepeatFrame { frame: u8 },
    /// A frame goes.
    DropFrame { frame: u8 },
}

/// A snapshot in parts.
struct Parts {
    header: Vec<u8>,
    extra: Vec<u8>,
    records: Vec<Vec<u8>>,
    count_off: i64,
}

impl Forgery {
    /// The changed snapshot.
    pub fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let mut parts = Parts::of(bytes);
        self.edits.iter().for_each(|edit| parts.edit(edit));
        let mut frames = parts.frames(match self.frame_bytes {
            0 => PAYLOAD_BYTES,
            few => usize::from(few).max(1 + parts.record_bytes() / FRAMES_MAX),
        });
        for edit in &self.edits {
            edit_frames(edit, &mut frames);
        }
        seal(&frames, parts.count())
    }
}

impl Parts {
    fn of(bytes: &[u8]) -> Parts {
        let (mut header, mut extra, mut stream) = (Vec::new(), Vec::new(), Vec::new());
        let mut rest = bytes;
        while let Some(length) = rest.first_chunk::<4>() {
            let (frame, after) = rest.split_at(HEAD_BYTES + u32::from_le_bytes(*length) as usize);
            let (kind, payload) = (frame[HEAD_BYTES], &frame[HEAD_BYTES + 1..]);
            match kind {
                HEADER => header = payload.to_vec(),
                EXTRA => extra.extend_from_slice(payload),
                RECORDS => stream.extend_from_slice(payload),
                _ => {}
            }
            rest = after;
        }
        let (mut records, mut rest) = (Vec::new(), stream.as_slice());
        while let Some(length) = rest.first_chunk::<4>() {
            let (record, after) = rest.split_at(4 + u32::from_le_bytes(*length) as usize);
            records.push(record[4..].to_vec());
            rest = after;
        }
        Parts {
            header,
            extra,
            records,
            count_off: 0,
        }
    }

    fn place(&self, record: u16) -> Option<usize> {
        usize::from(record).checked_rem(self.records.len())
    }

    fn edit(&mut self, edit: &Edit) {
        match *edit {
            Edit::Header { field, add } => {
                let (at, length) = [(8, 4), (12, 8), (20, 8), (28, 8)][usize::from(field % 4)];
                add_to(&mut self.header[at..at + length], add);
            }
            Edit::Count { add } => self.count_off += i64::from(add),
            Edit::Number { record, .. }
            | Edit::Flip { record, .. }
            | Edit::Resize { record, .. }
            | Edit::Drop { record }
            | Edit::Repeat { record }
            | Edit::Swap { record }
            | Edit::Rename { record } => {
                if let Some(place) = self.place(record) {
                    self.edit_record(place, edit);
                }
            }
            Edit::Kind { .. } | Edit::RepeatFrame { .. } | Edit::DropFrame { .. } => {}
        }
    }

    fn edit_record(&mut self, place: usize, edit: &Edit) {
        let next = (place + 1) % self.records.len();
        let record = &mut self.records[place];
        match *edit {
            Edit::Number { field, add, .. } => {
                let numbers = [(0, 8), (8, 8), (16, 6), (22, 4), (26, 4), (30, 1), (32, 8)];
                let (at, length) = numbers[usize::from(field % 7)];
                record
                    .get_mut(at..at + length)
                    .into_iter()
                    .for_each(|number| add_to(number, add));
            }
            Edit::Flip { at, flip, .. } if !record.is_empty() => {
                let at = usize::from(at) % record.len();
                record[at] ^= flip;
            }
            Edit::Resize { add, .. } => {
                let bytes = record.len().saturating_add_signed(add.into());
                record.resize(bytes, 0);
            }
            Edit::Drop { .. } => drop(self.records.remove(place)),
            Edit::Repeat { .. } => {
                let again = record.clone();
                self.records.insert(place, again);
            }
            Edit::Swap { .. } => self.records.swap(place, next),
            Edit::Rename { .. } => {
                let (from, to) = (key_of(&self.records[next]), key_of(&self.records[place]));
                if let (Some(from), Some(to)) = (from, to) {
                    let key = self.records[next][from].to_vec();
                    let record = &mut self.records[place];
                    record[26..30].copy_from_slice(&(key.len() as u32).to_le_bytes());
                    record.splice(to, key);
                }
            }
            _ => {}
        }
    }

    fn record_bytes(&self) -> usize {
        self.records.iter().map(|record| 4 + record.len()).sum()
    }

    fn count(&self) -> u64 {
        (self.records.len() as u64).wrapping_add_signed(self.count_off)
    }

    /// Kind and payload of each frame but the closing one.
    fn frames(&self, frame_bytes: usize) -> Vec<Vec<u8>> {
        let mut stream = Vec::with_capacity(self.record_bytes());
        for record in &self.records {
            stream.extend_from_slice(&(record.len() as u32).to_le_bytes());
            stream.extend_from_slice(record);
        }
        let body = |kind: u8, payload: &[u8]| [&[kind], payload].concat();
        let extra = self.extra.chunks(PAYLOAD_BYTES);
        let records = stream.chunks(frame_bytes);
        [body(HEADER, &self.header)]
            .into_iter()
            .chain(extra.map(|payload| body(EXTRA, payload)))
            .chain(records.map(|payload| body(RECORDS, payload)))
            .collect()
    }
}

/// Where the key lies in a record, if the record is one.
fn key_of(record: &[u8]) -> Option<std::ops::Range<usize>> {
    let length = u32::from_le_bytes(record.get(26..30)?.try_into().ok()?) as usize;
    let start = if record.get(30)? & LEASED == 0 {
        32_usize
    } else {
        40
    };
    let key = start..start.checked_add(length)?;
    record.get(key.clone()).map(|_| key)
}

fn edit_frames(edit: &Edit, frames: &mut Vec<Vec<u8>>) {
    let place = |frame: u8| usize::from(frame).checked_rem(frames.len());
    match *edit {
        Edit::Kind { frame, kind } => {
            if let Some(place) = place(frame) {
                frames[place][0] = kind % 5;
            }
        }
        Edit::RepeatFrame { frame } => {
            if let Some(place) = place(frame) {
                let again = frames[place].clone();
                frames.insert(place, again);
            }
        }
        Edit::DropFrame { frame } => {
            if let Some(place) = place(frame) {
                frames.remove(place);
            }
        }
        _ => {}
    }
}

/// The frames with their lengths and checksums, and the closing one.
fn seal(frames: &[Vec<u8>], count: u64) -> Vec<u8> {
    let (mut bytes, mut hash) = (Vec::new(), 0);
    let mut push = |body: &[u8], hash: &mut u32| {
        let length = (body.len() as u32).to_le_bytes();
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&length), body).to_le_bytes();
        let head = [length, checksum].concat();
        *hash = crc32c::crc32c_append(*hash, &head);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(body);
    };
    for body in frames {
        push(body, &mut hash);
    }
    let mut close = vec![CLOSE];
    close.extend_from_slice(&count.to_le_bytes());
    close.extend_from_slice(&hash.to_le_bytes());
    push(&close, &mut hash);
    bytes
}

/// Adds to a little-endian number of any width.
fn add_to(bytes: &mut [u8], add: i8) {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let number = i64::from_le_bytes(wide).wrapping_add(add.into());
    bytes.copy_from_slice(&number.to_le_bytes()[..bytes.len()]);
}

const HEAD_BYTES: usize = 8;
const PAYLOAD_BYTES: usize = 512 * 1024;
const FRAMES_MAX: usize = 1024;
const LEASED: u8 = 2;
const HEADER: u8 = 0;
const EXTRA: u8 = 1;
const RECORDS: u8 = 2;
const CLOSE: u8 = 3;
