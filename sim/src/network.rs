//! The network: how long a letter takes, whether it arrives at all, and how often.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use metastore_core::raft::PeerMessage;

use crate::dice::Dice;
use crate::trace::now;
use crate::world::World;

/// A way from one member to another.
pub(crate) type Way = (u64, u64);

/// See the module.
pub(crate) struct Network {
    seed: u64,
    dice: Dice,
    links: BTreeMap<Way, Link>,
    /// Members that hear nobody else, and whom nobody else hears, whoever comes later.
    splits: Vec<BTreeSet<u64>>,
    message_ms_max: u64,
    loss_permille: u64,
    duplicate_permille: u64,
}

/// One way between two members.
#[derive(Default)]
struct Link {
    way_ms_max: u64,
    /// Faults that cut it; the way is open when there is none.
    cuts: u64,
    /// Faults that hold back what is on it.
    clogs: u64,
    /// With the life of the receiver in which it came.
    held: Vec<(u32, PeerMessage)>,
    /// What was sent lately, with the time.
    recent: VecDeque<(Duration, PeerMessage)>,
}

/// What becomes of a letter when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Open,
    Cut,
    HeldBack,
}

impl Network {
    /// All ways between the first members of a world; those of others are found when they are needed.
    pub(crate) fn new(world: &World) -> Self {
        let mut dice = Dice::new(world.seed, "network");
        let mut links = BTreeMap::new();
        for from in 1..=world.members {
            for to in (1..=world.members).filter(|to| *to != from) {
                links.insert((from, to), Link::draw(&mut dice, world.message_ms_max));
            }
        }
        Self {
            seed: world.seed,
            dice,
            links,
            splits: Vec::new(),
            message_ms_max: world.message_ms_max,
            loss_permille: world.loss_permille,
            duplicate_permille: world.duplicate_permille,
        }
    }

    /// Takes a letter in. Answers how long each copy of it takes; a copy without a time is lost.
    pub(crate) fn send(&mut self, way: Way, message: &PeerMessage) -> Vec<(Duration, bool)> {
        let (lost, twice) = (self.loss_permille, self.duplicate_permille);
        let link = self.link(way);
        link.recent.push_back((now(), message.clone()));
        let old = now().saturating_sub(CALL_TIME_MAX);
        while link.recent.front().is_some_and(|(sent, _)| *sent < old) {
            link.recent.pop_front();
        }
        let most = link.way_ms_max;
        let takes = |dice: &mut Dice| Duration::from_millis(dice.between(1, most));
        let mut copies = vec![(takes(&mut self.dice), self.dice.permille(lost))];
        if self.dice.permille(twice) {
            copies.push((takes(&mut self.dice) * 3, false));
        }
        copies
    }

    /// What a letter finds at the end of its way.
    pub(crate) fn arrive(&mut self, way: Way, message: &PeerMessage, life: u32) -> Arrival {
        if !self.is_open(way) {
            return Arrival::Cut;
        }
        let link = self.link(way);
        if link.clogs > 0 {
            link.held.push((life, message.clone()));
            return Arrival::HeldBack;
        }
        Arrival::Open
    }

    /// One more fault cuts this way; answers whether it was open.
    pub(crate) fn cut(&mut self, way: Way) -> bool {
        let was_open = self.is_open(way);
        self.link(way).cuts += 1;
        was_open
    }

    /// Whether nothing cuts this way.
    pub(crate) fn is_open(&self, way: Way) -> bool {
        let apart = |side: &BTreeSet<u64>| side.contains(&way.0) != side.contains(&way.1);
        self.links.get(&way).is_none_or(|link| link.cuts == 0) && !self.splits.iter().any(apart)
    }

    /// These members are apart from all others.
    pub(crate) fn split(&mut self, side: BTreeSet<u64>) {
        self.splits.push(side);
    }

    /// One such split is over.
    pub(crate) fn join(&mut self, side: &BTreeSet<u64>) {
        let place = self.splits.iter().position(|split| split == side);
        place.map(|place| self.splits.swap_remove(place));
    }

    /// A fault that cut this way is over.
    pub(crate) fn mend(&mut self, way: Way) {
        if let Some(link) = self.links.get_mut(&way) {
            link.cuts -= 1;
        }
    }

    /// One more fault holds back what is on this way.
    pub(crate) fn clog(&mut self, way: Way) {
        self.link(way).clogs += 1;
    }

    /// A fault that held back letters is over: what was held, in the order in which it goes on, each with the life of
    /// its receiver in which it came.
    pub(crate) fn unclog(&mut self, way: Way) -> Vec<(u32, PeerMessage)> {
        let Some(link) = self.links.get_mut(&way) else {
            return Vec::new();
        };
        link.clogs -= 1;
        if link.clogs > 0 {
            return Vec::new();
        }
        let mut held = std::mem::take(&mut link.held);
        for place in (1..held.len()).rev() {
            let other = self.dice.place(place + 1);
            held.swap(place, other);
        }
        held
    }

    /// The connection breaks: what was sent on this way lately may not have arrived.
    pub(crate) fn forget(&mut self, way: Way) -> Vec<PeerMessage> {
        let link = self.links.get_mut(&way);
        let recent = link.map(|link| std::mem::take(&mut link.recent));
        let recent = recent.into_iter().flatten();
        recent.map(|(_, message)| message).collect()
    }

    /// A way, with a slowness of its own from its first use on.
    fn link(&mut self, way: Way) -> &mut Link {
        let (seed, most, (from, to)) = (self.seed, self.message_ms_max, way);
        self.links.entry(way).or_insert_with(|| {
            let mut dice = Dice::new(seed, &format!("way from {from} to {to}"));
            Link::draw(&mut dice, most)
        })
    }

    /// Letters are lost and arrive twice again, as in this world.
    pub(crate) fn rouse(&mut self, world: &World) {
        self.loss_permille = world.loss_permille;
        self.duplicate_permille = world.duplicate_permille;
    }

    /// A member is gone for good, and all ways from and to it.
    pub(crate) fn scrap(&mut self, id: u64) {
        self.links.retain(|(from, to), _| *from != id && *to != id);
    }

    /// From now on nothing is lost and nothing arrives twice.
    pub(crate) fn calm(&mut self) {
        (self.loss_permille, self.duplicate_permille) = (0, 0);
    }
}

impl Link {
    fn draw(dice: &mut Dice, message_ms_max: u64) -> Self {
        let slower = if dice.permille(100) { 10 } else { 1 };
        Self {
            way_ms_max: dice.between(1, message_ms_max) * slower,
            ..Self::default()
        }
    }
}

/// No call to a peer is under way for longer.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);
