//! Inputs as the bytes that they are read from: what `Arbitrary` does, the other way around.

use crate::apply_vs_model::Op as ApplyOp;
use crate::snapshot_decode::{
    Edit, Forgery, Input as SnapshotInput, Op as SnapshotOp, Shape, Story,
};
use crate::txn_vs_model::{Input as TxnInput, Op as TxnOp};
use crate::wal_decode::{Damage, Input as WalInput, Item, Reader, Shape as WalShape};
use crate::world::Turn;
use crate::{Condition, Delete, End, Given, Key, Put, Range, Step, Txn};

/// What can be written as the bytes that it is read from.
pub trait Encode {
    /// Appends the bytes.
    fn encode(&self, out: &mut Vec<u8>);
}

/// The bytes of an input.
pub fn encoded(input: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    input.encode(&mut out);
    out
}

/// The choice of one of so many variants.
fn variant(out: &mut Vec<u8>, place: usize, count: usize) {
    let first = ((place as u64) << 32).div_ceil(count as u64);
    out.extend_from_slice(&(first as u32).to_le_bytes());
}

macro_rules! numbers {
    ($($type:ty)*) => { $(
        impl Encode for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )* };
}

macro_rules! fields {
    ($type:ty: $($field:tt)*) => {
        impl Encode for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$field.encode(out);)*
            }
        }
    };
}

/// All variants, in the order of the type's own definition.
macro_rules! variants {
    ($type:ident: $($variant:ident $({ $($field:ident)* })? $(( $($item:ident)* ))?),*) => {
        impl Encode for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                const NAMES: &[&str] = &[$(stringify!($variant)),*];
                let place = |name| NAMES.iter().position(|it| *it == name).expect("it is listed");
                match self {
                    $($type::$variant $({ $($field),* })? $(( $($item),* ))? => {
                        variant(out, place(stringify!($variant)), NAMES.len());
                        $($($field.encode(out);)*)?
                        $($($item.encode(out);)*)?
                    })*
                }
            }
        }
    };
}

numbers!(u8 u16 u32 i8);

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        u8::from(*self).encode(out);
    }
}

impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        for item in self {
            true.encode(out);
            item.encode(out);
        }
        false.encode(out);
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.is_some().encode(out);
        self.iter().for_each(|it| it.encode(out));
    }
}

impl<T: Encode> Encode for Box<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl Encode for [u8; 4] {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl Encode for (u32, u8) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

fields!(Key: 0);
fields!(Put: key value prev_kv ignore_value lease);
fields!(Delete: key end prev_kv);
fields!(Range: key end limit revision bounds sort_order sort_target keys_only count_only);
fields!(Condition: key end result target given);
fields!(Txn: compare success failure);
fields!(TxnInput: operations_max ops);
fields!(Story: extra ops);
fields!(Forgery: frame_bytes edits);
fields!(SnapshotInput<'_>: piece_bytes shape);
fields!(WalInput<'_>: checkpoint shape);

variants!(End: OneKey, Open, Before(key));
variants!(Turn: PutAndDelete, DeleteAndPut, DeletePutDelete);
variants!(Given: Nothing, Version(it), Create(it), Mod(it), Value(it), Lease(it));
variants!(Step: Put(it), Delete(it), Range(it), Txn(it), Unset);
variants!(ApplyOp:
    Put { key value }, Fill { first keys value }, Again { key times }, Delete { key end },
    Read { key end revision limit chunk_bytes }, Compact { revision }, Sweep { changes }, Reload);
variants!(TxnOp:
    Put(it), Delete(it), Read(it bytes), Txn(it), Fill { first keys value together },
    Again { key times }, Twice { key turn }, Compact(it), Sweep(it), Reload, Grant, Revoke);
variants!(SnapshotOp:
    Put(it), Long { key bytes }, Fill { first keys value together }, Again { key times },
    Twice { key turn }, Delete(it), Compact(it), Sweep(it), Grant(it), Revoke(it));
variants!(Edit:
    Header { field add }, Number { record field add }, Flip { record at flip }, Resize { record add },
    Drop { record }, Repeat { record }, Swap { record }, Rename { record }, Count { add },
    Kind { frame kind }, RepeatFrame { frame }, DropFrame { frame });
variants!(Item:
    Entry { bytes }, Vote(it), Committed(it), Truncate { entries }, Purge { entries }, Opened, Closed,
    StrayEntry(it), StrayTruncate(it), StrayPurge(it), Endless(it));
variants!(Damage:
    Flip { segment at flip }, Batch { segment batch at flip }, Zero { segment at bytes },
    Cut { segment at }, CutTail { segment bytes }, Torn { bytes });
variants!(Reader:
    Right, Without { oldest }, WrongSegment(it), WrongCluster(it), WrongMember(it), WrongBatch(it));

impl Encode for Shape<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Shape::Written(story) => {
                variant(out, 0, 4);
                story.encode(out);
            }
            Shape::Damaged { story, flips, cut } => {
                variant(out, 1, 4);
                story.encode(out);
                flips.encode(out);
                cut.encode(out);
            }
            Shape::Forged { story, forgery } => {
                variant(out, 2, 4);
                story.encode(out);
                forgery.encode(out);
            }
            Shape::Raw(bytes) => {
                variant(out, 3, 4);
                out.extend_from_slice(bytes);
            }
        }
    }
}

impl Encode for WalShape<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            WalShape::Written {
                segments,
                damage,
                reader,
            } => {
                variant(out, 0, 4);
                segments.encode(out);
                damage.encode(out);
                reader.encode(out);
            }
            WalShape::Sealed { records, payload } => {
                variant(out, 1, 4);
                records.encode(out);
                out.extend_from_slice(payload);
            }
            WalShape::Headed(bytes) | WalShape::Raw(bytes) => {
                let headed = matches!(self, WalShape::Headed(_));
                variant(out, if headed { 2 } else { 3 }, 4);
                out.extend_from_slice(bytes);
            }
        }
    }
}
