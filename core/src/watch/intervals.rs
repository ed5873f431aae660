//! Intervals: which watched ranges hold a key, in logarithmic time.

use std::cmp::Ordering;

use slab::Slab;

use crate::key::Key;

/// Where a range ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// Before this key.
    Before(Key),
    /// Nowhere.
    Open,
}

impl End {
    /// Whether `key` lies before the end.
    pub(super) fn is_beyond(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => key < end.as_bytes(),
            End::Open => true,
        }
    }
}

/// Sets of members filed under ranges; equal ranges share one set.
///
/// A treap ordered by start and end, in which every node knows the farthest end below it (an interval tree: Cormen et
/// al., Introduction to Algorithms, 14.3). Its priorities come from a counter, so equal histories give equal trees.
#[derive(Debug)]
pub(super) struct Intervals {
    nodes: Slab<Node>,
    root: Link,
    /// Drawn priorities so far.
    drawn: u64,
}

#[derive(Debug)]
struct Node {
    start: Key,
    end: End,
    /// The farthest end of this node and all below it.
    farthest: End,
    priority: u64,
    left: Link,
    right: Link,
    members: Vec<u32>,
}

type Link = Option<usize>;

impl Intervals {
    pub(super) fn new() -> Self {
        Intervals {
            nodes: Slab::new(),
            root: None,
            drawn: 0,
        }
    }

    /// Files `member` under [start, end); answers its place among the members of that range.
    pub(super) fn insert(&mut self, start: &Key, end: &End, member: u32) -> usize {
        let node = match self.find(start, end) {
            Some(node) => node,
            None => self.add(start, end),
        };
        let members = &mut self.nodes[node].members;
        members.push(member);
        members.len() - 1
    }

    /// Takes out the member at `place`; answers the member that has that place now, if another moved there.
    pub(super) fn remove(&mut self, start: &Key, end: &End, place: usize) -> Option<u32> {
        let node = self
            .find(start, end)
            .expect("a member is filed under its range");
        let members = &mut self.nodes[node].members;
        members.swap_remove(place);
        let moved = members.get(place).copied();
        if members.is_empty() {
            self.root = self.without(self.root, start, end);
            self.nodes.remove(node);
        }
        moved
    }

    /// Calls `visit` with the members of every range that holds `key`.
    pub(super) fn holding(&self, key: &[u8], visit: &mut dyn FnMut(&[u32])) {
        self.visit(self.root, key, visit);
    }

    fn visit(&self, link: Link, key: &[u8], visit: &mut dyn FnMut(&[u32])) {
        let Some(node) = link.map(|index| &self.nodes[index]) else {
            return;
        };
        if !node.farthest.is_beyond(key) {
            return;
        }
        self.visit(node.left, key, visit);
        if node.start.as_bytes() <= key {
            if node.end.is_beyond(key) {
                visit(&node.members);
            }
            self.visit(node.right, key, visit);
        }
    }

    fn find(&self, start: &Key, end: &End) -> Link {
        let mut link = self.root;
        while let Some(index) = link {
            link = match self.order(start, end, index) {
                Ordering::Less => self.nodes[index].left,
                Ordering::Greater => self.nodes[index].right,
                Ordering::Equal => return Some(index),
            };
        }
        None
    }

    fn add(&mut self, start: &Key, end: &End) -> usize {
        self.drawn += 1;
        let node = self.nodes.insert(Node {
            start: start.clone(),
            end: end.clone(),
            farthest: end.clone(),
            priority: scrambled(self.drawn),
            left: None,
            right: None,
            members: Vec::new(),
        });
        let (before, after) = self.split(self.root, start, end);
        let left = self.join(before, Some(node));
        self.root = self.join(left, after);
        node
    }

    /// The tree below `link` without the node of this range.
    fn without(&mut self, link: Link, start: &Key, end: &End) -> Link {
        let index = link.expect("the range to remove is in the tree");
        match self.order(start, end, index) {
            Ordering::Equal => return self.join(self.nodes[index].left, self.nodes[index].right),
            Ordering::Less => {
                self.nodes[index].left = self.without(self.nodes[index].left, start, end);
            }
            Ordering::Greater => {
                self.nodes[index].right = self.without(self.nodes[index].right, start, end);
            }
        }
        self.measure(index);
        link
    }

    /// Cuts a tree into what lies before a range and what lies after it.
    fn split(&mut self, link: Link, start: &Key, end: &End) -> (Link, Link) {
        let Some(index) = link else {
            return (None, None);
        };
        if self.order(start, end, index).is_lt() {
            let (before, after) = self.split(self.nodes[index].left, start, end);
            self.nodes[index].left = after;
            self.measure(index);
            (before, link)
        } else {
            let (before, after) = self.split(self.nodes[index].right, start, end);
            self.nodes[index].right = before;
            self.measure(index);
            (link, after)
        }
    }

    /// Joins two trees of which the first lies before the second.
    fn join(&mut self, before: Link, after: Link) -> Link {
        let (Some(left), Some(right)) = (before, after) else {
            return before.or(after);
        };
        if self.nodes[left].priority >= self.nodes[right].priority {
            self.nodes[left].right = self.join(self.nodes[left].right, after);
            self.measure(left);
            before
        } else {
            self.nodes[right].left = self.join(before, self.nodes[right].left);
            self.measure(right);
            after
        }
    }

    fn measure(&mut self, index: usize) {
        let node = &self.nodes[index];
        let below = [node.left, node.right];
        let farthest = below
            .into_iter()
            .flatten()
            .map(|child| &self.nodes[child].farthest)
            .fold(&node.end, Ord::max)
            .clone();
        self.nodes[index].farthest = farthest;
    }

    fn order(&self, start: &Key, end: &End, index: usize) -> Ordering {
        let node = &self.nodes[index];
        start.cmp(&node.start).then_with(|| end.cmp(&node.end))
    }
}

/// Spreads consecutive numbers evenly (the finalizer of SplitMix64).
pub(super) fn scrambled(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> Key {
        Key::from(&[number][..])
    }

    fn end(number: u8) -> End {
        match number {
            20.. => End::Open,
            _ => End::Before(key(number)),
        }
    }

    fn holding(intervals: &Intervals, at: u8) -> Vec<u32> {
        let mut found = Vec::new();
        intervals.holding(&[at], &mut |members| found.extend_from_slice(members));
        found.sort_unstable();
        found
    }

    #[test]
    fn a_range_holds_its_start_but_not_its_end() {
        let mut intervals = Intervals::new();
        intervals.insert(&key(3), &end(5), 7);
        intervals.insert(&key(4), &End::Open, 8);
        assert_eq!(
            [2, 3, 4, 5, 200].map(|at| holding(&intervals, at)),
            [vec![], vec![7], vec![7, 8], vec![8], vec![8]]
        );
    }

    #[test]
    fn many_ranges_make_a_shallow_tree() {
        let mut intervals = Intervals::new();
        for number in 0..4096_u32 {
            let start = Key::from(&number.to_be_bytes()[..]);
            intervals.insert(&start, &End::Open, number);
        }
        let depth = depth(&intervals, intervals.root);
        assert!(depth < 48, "4,096 ranges in order are {depth} deep");
    }

    fn depth(intervals: &Intervals, link: Link) -> usize {
        link.map_or(0, |index| {
            let node = &intervals.nodes[index];
            1 + depth(intervals, node.left).max(depth(intervals, node.right))
        })
    }

    proptest! {
        #[test]
        fn the_ranges_found_are_those_a_plain_list_finds(
            steps in prop::collection::vec((0u8..20, 1u8..24, any::<bool>(), 0usize..64), 1..200)
        ) {
            let mut intervals = Intervals::new();
            // Range, member, and its place, which moves when others leave.
            let mut listed: Vec<(u8, u8, u32, usize)> = Vec::new();
            for (member, (from, width, remove, which)) in (0u32..).zip(steps) {
                if remove && !listed.is_empty() {
                    let (from, to, _, place) = listed.swap_remove(which % listed.len());
                    if let Some(moved) = intervals.remove(&key(from), &end(to), place) {
                        let it = listed.iter_mut().find(|it| it.2 == moved).expect("it is listed");
                        it.3 = place;
                    }
                } else {
                    let to = from + width;
                    let place = intervals.insert(&key(from), &end(to), member);
                    listed.push((from, to, member, place));
                }
                for at in 0..24 {
                    let mut expected: Vec<u32> = listed
                        .iter()
                        .filter(|it| it.0 <= at && end(it.1).is_beyond(&[at]))
                        .map(|it| it.2)
                        .collect();
                    expected.sort_unstable();
                    prop_assert_eq!(holding(&intervals, at), expected);
                }
            }
            prop_assert_eq!(intervals.nodes.len(), {
                let mut ranges: Vec<_> = listed.iter().map(|it| (it.0, it.1.min(20))).collect();
                ranges.sort_unstable();
                ranges.dedup();
                ranges.len()
            });
        }
    }
}
