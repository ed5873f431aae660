//! What is asked: which request comes next and for which key.

use crate::message::{Message, RangeOptions, keys_max};
use crate::random::Random;

/// An endless source of requests, equal for equal seeds.
pub(crate) struct Workload {
    first: Message,
    /// The other request of a mixture, and the share of all that it has.
    second: Option<(Message, f64)>,
    keys: Keys,
    random: Random,
}

/// The shape of a workload; every value in it is data, so that tables of workloads can be written down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shape {
    /// Puts of one key each.
    Put,
    /// Ranges over `keys` consecutive keys each.
    Range { keys: u64, options: RangeOptions },
    /// Transactions of `operations` puts of consecutive keys each.
    TxnPut { operations: u64 },
    /// Puts and ranges of one key; `reads` is the share of the latter, 0 to 1.
    Mixed { reads: f64, options: RangeOptions },
}

/// The keys and values a workload works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) key_bytes: usize,
    pub(crate) value_bytes: usize,
    /// How many keys there are.
    pub(crate) keys: u64,
    /// One key after the other instead of random ones.
    pub(crate) sequential: bool,
    pub(crate) seed: u64,
}

/// The workload cannot be built as asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ShapeError {
    /// The key space has more keys than keys of this length can name.
    KeysTooShort,
    /// Nothing to choose from: no keys, no operations, or keys without bytes.
    Empty,
    /// The share of reads is not within 0 to 1.
    NoShare,
}

impl std::fmt::Display for ShapeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::KeysTooShort => "the key size is too small for that many keys",
            Self::Empty => "keys, key size and operations must be above zero",
            Self::NoShare => "the share of reads must be between 0 and 1",
        })
    }
}

impl Shape {
    /// How many keys one request touches or may touch.
    pub(crate) fn keys_per_request(self) -> u64 {
        match self {
            Self::Put | Self::Mixed { .. } => 1,
            Self::Range { keys, .. } => keys,
            Self::TxnPut { operations } => operations,
        }
    }
}

impl Workload {
    /// The workload of `shape` over `space`, to be sent to the server called `authority`.
    pub(crate) fn new(authority: &str, shape: Shape, space: Space) -> Result<Self, ShapeError> {
        let width = shape.keys_per_request();
        if width == 0 || space.keys == 0 || space.key_bytes == 0 {
            return Err(ShapeError::Empty);
        }
        // The end of a range is one key further, and may lie behind the last key.
        if space
            .keys
            .checked_add(width)
            .is_none_or(|end| end > keys_max(space.key_bytes))
        {
            return Err(ShapeError::KeysTooShort);
        }
        let mut random = Random::new(space.seed);
        let value = value(&mut random, space.value_bytes);
        let put = || Message::put(authority, space.key_bytes, &value);
        let range = |keys, options| Message::range(authority, space.key_bytes, keys, options);
        let (first, second) = match shape {
            Shape::Put => (put(), None),
            Shape::Range { keys, options } => (range(keys, options), None),
            Shape::TxnPut { operations } => (
                Message::txn_put(authority, space.key_bytes, &value, operations),
                None,
            ),
            Shape::Mixed { reads, options } => {
                if !(0.0..=1.0).contains(&reads) {
                    return Err(ShapeError::NoShare);
                }
                (put(), Some((range(1, options), reads)))
            }
        };
        let keys = Keys {
            sequential: space.sequential,
            next: 0,
            width,
            count: space.keys,
        };
        Ok(Self {
            first,
            second,
            keys,
            random,
        })
    }

    /// The workload that sends the same message again and again.
    pub(crate) fn fixed(message: Message) -> Self {
        let keys = Keys {
            sequential: true,
            next: 0,
            width: 1,
            count: 1,
        };
        Self {
            first: message,
            second: None,
            keys,
            random: Random::new(0),
        }
    }

    /// The next request.
    pub(crate) fn next(&mut self) -> &Message {
        let key = self.keys.next(&mut self.random);
        let message = match &mut self.second {
            #[allow(clippy::cast_precision_loss)]
            Some((second, share)) if (self.random.next() as f64) < *share * TWO_POW_64 => second,
            _ => &mut self.first,
        };
        message.patch(key);
        message
    }
}

/// The first key of each request.
struct Keys {
    sequential: bool,
    next: u64,
    width: u64,
    count: u64,
}

impl Keys {
    /// All keys of the request lie within the space, if it is as wide as the request.
    fn next(&mut self, random: &mut Random) -> u64 {
        if !self.sequential {
            return random.below((self.count + 1).saturating_sub(self.width).max(1));
        }
        let key = self.next;
        self.next += self.width;
        if self.next >= self.count {
            self.next = 0;
        }
        key
    }
}

/// Bytes that do not compress.
fn value(random: &mut Random, length: usize) -> Vec<u8> {
    let words = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes());
    words.take(length).collect()
}

const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;

#[cfg(test)]
mod tests {
    use super::{Shape, ShapeError, Space, Workload};
    use crate::message::RangeOptions;

    const SPACE: Space = Space {
        key_bytes: 8,
        value_bytes: 20,
        keys: 1000,
        sequential: false,
        seed: 1,
    };
    const KEY_AT: std::ops::Range<usize> = 7..15;

    fn keys(shape: Shape, space: Space, count: usize) -> Vec<u64> {
        let mut workload = Workload::new("a", shape, space).expect("the workload is well formed");
        let key = |body: &[u8]| {
            let digits = std::str::from_utf8(&body[KEY_AT])
                .expect("keys are digits")
                .to_owned();
            u64::from_str_radix(&digits, 16).expect("keys are hexadecimal")
        };
        (0..count).map(|_| key(workload.next().body())).collect()
    }

    #[test]
    fn equal_seeds_ask_for_equal_keys() {
        assert_eq!(keys(Shape::Put, SPACE, 50), keys(Shape::Put, SPACE, 50));
        assert_ne!(
            keys(Shape::Put, SPACE, 50),
            keys(Shape::Put, Space { seed: 2, ..SPACE }, 50)
        );
        assert!(keys(Shape::Put, SPACE, 5000).iter().all(|key| *key < 1000));
    }

    #[test]
    fn sequential_keys_begin_again_after_the_last() {
        let space = Space {
            keys: 3,
            sequential: true,
            ..SPACE
        };
        assert_eq!(keys(Shape::Put, space, 5), [0, 1, 2, 0, 1]);
    }

    #[test]
    fn a_wide_range_stays_within_the_space() {
        let shape = Shape::Range {
            keys: 100,
            options: RangeOptions::default(),
        };
        let drawn = keys(shape, SPACE, 10_000);
        assert_eq!(drawn.iter().max(), Some(&900));
    }

    #[test]
    fn a_mixture_has_the_share_of_reads_it_was_asked_for() {
        let shape = Shape::Mixed {
            reads: 0.9,
            options: RangeOptions::default(),
        };
        let mut workload = Workload::new("a", shape, SPACE).expect("the workload is well formed");
        let puts = (0..10_000)
            .filter(|_| workload.next().body().len() > 15)
            .count();
        assert!((900..1100).contains(&puts), "{puts} of 10,000 are puts");
    }

    #[test]
    fn impossible_workloads_are_refused() {
        let refused = |shape, space| Workload::new("a", shape, space).err();
        assert_eq!(
            refused(
                Shape::Put,
                Space {
                    key_bytes: 2,
                    ..SPACE
                }
            ),
            Some(ShapeError::KeysTooShort)
        );
        assert_eq!(
            refused(Shape::Put, Space { keys: 0, ..SPACE }),
            Some(ShapeError::Empty)
        );
        assert_eq!(
            refused(Shape::TxnPut { operations: 0 }, SPACE),
            Some(ShapeError::Empty)
        );
        let shape = Shape::Mixed {
            reads: 1.5,
            options: RangeOptions::default(),
        };
        assert_eq!(refused(shape, SPACE), Some(ShapeError::NoShare));
    }
}
