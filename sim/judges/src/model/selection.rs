//! Reads of a part of an interval: filtered, in either order, up to a limit, without values, or the number alone.

use std::fmt;
use std::rc::Rc;

use metastore_proto::etcdserverpb::range_request::SortOrder;
use metastore_proto::etcdserverpb::{RangeRequest, RangeResponse};
use metastore_proto::mvccpb::KeyValue;

use super::words::text;
use super::{Interval, Keys, read, read_request};

/// What to read of an interval.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Where.
    pub interval: Interval,
    /// At which revision; 0 for the newest.
    pub revision: i64,
    /// Whether whatever the asked member has is good enough.
    pub serializable: bool,
    /// Records at most; 0 for all.
    pub limit: i64,
    /// Whether the last key comes first.
    pub descending: bool,
    /// Only the number of keys, whatever else is asked for.
    pub count_only: bool,
    /// Without values and leases.
    pub keys_only: bool,
    /// The lowest and the highest revision of the last change; 0 for any.
    pub changed: (i64, i64),
    /// The lowest and the highest revision of the creation; 0 for any.
    pub created: (i64, i64),
}

/// What a read has to be answered with.
#[derive(Debug, PartialEq)]
pub struct Selected {
    /// The records, in order.
    pub kvs: Vec<Rc<KeyValue>>,
    /// The keys of the interval, whatever was selected of them.
    pub count: i64,
    /// Whether a limit left something out.
    pub more: bool,
}

impl Selected {
    /// A whole interval.
    pub fn all(keys: &Keys, (key, end): (&[u8], &[u8])) -> Self {
        let kvs = read(keys, key, end);
        Self {
            count: kvs.len() as i64,
            kvs,
            more: false,
        }
    }

    /// Whether a response says this.
    pub fn is(&self, response: &RangeResponse) -> bool {
        (response.count, response.more) == (self.count, self.more)
            && response.kvs.iter().eq(self.kvs.iter().map(|kv| &**kv))
    }
}

impl Selection {
    /// As it is asked for.
    pub(super) fn request(&self) -> RangeRequest {
        let (key, end) = &self.interval;
        RangeRequest {
            serializable: self.serializable,
            limit: self.limit,
            sort_order: match self.descending {
                true => SortOrder::Descend.into(),
                false => SortOrder::None.into(),
            },
            count_only: self.count_only,
            keys_only: self.keys_only,
            min_mod_revision: self.changed.0,
            max_mod_revision: self.changed.1,
            min_create_revision: self.created.0,
            max_create_revision: self.created.1,
            ..read_request(key, end, self.revision)
        }
    }

    /// What it selects of these keys.
    pub fn of(&self, keys: &Keys) -> Selected {
        let (key, end) = &self.interval;
        let mut all = Selected::all(keys, (key, end));
        if self.count_only {
            all.kvs.clear();
            return all;
        }
        let within = |at: i64, (min, max): (i64, i64)| at >= min && (max == 0 || at <= max);
        all.kvs.retain(|kv| {
            within(kv.mod_revision, self.changed) && within(kv.create_revision, self.created)
        });
        if self.descending {
            all.kvs.reverse();
        }
        let limit = usize::try_from(self.limit).unwrap_or(0);
        if limit > 0 && all.kvs.len() > limit {
            all.kvs.truncate(limit);
            all.more = true;
        }
        if self.keys_only {
            for kv in &mut all.kvs {
                *kv = Rc::new(KeyValue {
                    value: Vec::new(),
                    lease: 0,
                    ..(**kv).clone()
                });
            }
        }
        all
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, end) = &self.interval;
        write!(f, "read [{}, {}) @{}", text(key), text(end), self.revision)?;
        let words = [
            (self.serializable, "serializable"),
            (self.descending, "from the end"),
            (self.count_only, "only the number"),
            (self.keys_only, "only keys"),
        ];
        for (_, word) in words.iter().filter(|(is, _)| *is) {
            write!(f, " {word}")?;
        }
        let (changed, created) = (self.changed, self.created);
        if (changed, created) != ((0, 0), (0, 0)) {
            write!(f, " changed at {changed:?} and made at {created:?}")?;
        }
        match self.limit {
            0 => Ok(()),
            limit => write!(f, " up to {limit}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Op, fold};

    fn keys() -> Keys {
        let mut keys = Keys::new();
        for (revision, key) in (2..).zip(["a", "b", "c", "a"]) {
            let put = Op::put(key.into(), b"v".to_vec());
            let changes = put.effect(&keys, revision).changes;
            keys = fold(&keys, &changes, revision).expect("it follows");
        }
        keys
    }

    /// What it selects in short: the keys, their number, and whether there are more.
    fn selects(selection: Selection) -> (String, i64, bool) {
        let selected = Selection {
            interval: (b"a".to_vec(), b"z".to_vec()),
            ..selection
        };
        let Selected { kvs, count, more } = selected.of(&keys());
        let keys = kvs.iter().map(|kv| char::from(kv.key[0]));
        (keys.collect(), count, more)
    }

    #[test]
    fn a_selection_filters_then_turns_around_then_takes_up_to_its_limit() {
        let any = Selection::default;
        let limited = Selection { limit: 2, ..any() };
        assert_eq!(selects(any()), ("abc".into(), 3, false));
        assert_eq!(selects(limited.clone()), ("ab".into(), 3, true));
        let descending = Selection {
            descending: true,
            ..limited.clone()
        };
        assert_eq!(selects(descending), ("cb".into(), 3, true));
        let late = Selection {
            changed: (4, 5),
            ..limited.clone()
        };
        assert_eq!(selects(late), ("ac".into(), 3, false));
        let old = Selection {
            created: (0, 3),
            limit: 1,
            ..any()
        };
        assert_eq!(selects(old), ("a".into(), 3, true));
        let number = Selection {
            count_only: true,
            ..limited
        };
        assert_eq!(selects(number), (String::new(), 3, false));
    }

    #[test]
    fn keys_alone_come_without_values_and_leases() {
        let selection = Selection {
            interval: (b"a".to_vec(), Vec::new()),
            keys_only: true,
            ..Selection::default()
        };
        let selected = selection.of(&keys());
        let [kv] = selected.kvs.as_slice() else {
            panic!("there is one such key");
        };
        let numbers = (kv.create_revision, kv.mod_revision, kv.version);
        assert_eq!((kv.value.len(), kv.lease, numbers), (0, 0, (2, 5, 2)));
        let mut response = RangeResponse {
            kvs: vec![(**kv).clone()],
            count: 1,
            ..RangeResponse::default()
        };
        assert!(selected.is(&response));
        response.count = 2;
        assert!(!selected.is(&response));
    }
}
