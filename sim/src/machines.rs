//! The machines there are: one for each member that ever ran, with its disk, and whether it still serves.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::dice::Dice;
use crate::disk::Disk;
use crate::world::World;

/// See the module.
pub(crate) struct Machines {
    seed: u64,
    segment_bytes: usize,
    machines: BTreeMap<u64, Machine>,
    next_id: u64,
    /// Members whose machines were taken away.
    scrapped: BTreeSet<u64>,
}

struct Machine {
    disk: Rc<RefCell<Disk>>,
    standing: Standing,
}

/// What a machine is still good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Whenever it is down it is started again.
    Serves,
    /// Its member was told that it was removed, and stopped.
    Left,
    /// It is gone, and its disk with it.
    Destroyed,
}

impl Machines {
    /// Those of the first members, with empty disks.
    pub(crate) fn new(world: &World) -> Self {
        let mut machines = Self {
            seed: world.seed,
            segment_bytes: world.segment_bytes,
            machines: BTreeMap::new(),
            next_id: world.members + 1,
            scrapped: BTreeSet::new(),
        };
        (1..=world.members).for_each(|id| machines.bring(id));
        machines
    }

    /// An id that no member has or had.
    pub(crate) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Brings in the machine of a member, with an empty disk.
    pub(crate) fn bring(&mut self, id: u64) {
        let dice = Dice::new(self.seed, &format!("disk {id}"));
        let disk = Disk::new(id, self.segment_bytes, dice);
        let machine = Machine {
            disk: Rc::new(RefCell::new(disk)),
            standing: Standing::Serves,
        };
        let before = self.machines.insert(id, machine);
        assert!(before.is_none(), "a member has one machine, for good");
    }

    /// What became of the machine of a member; none if it never had one.
    pub(crate) fn standing(&self, id: u64) -> Option<Standing> {
        if self.scrapped.contains(&id) {
            return Some(Standing::Destroyed);
        }
        self.machines.get(&id).map(|machine| machine.standing)
    }

    /// From now on it is good for less.
    pub(crate) fn set_standing(&mut self, id: u64, standing: Standing) {
        if let Some(machine) = self.machines.get_mut(&id) {
            machine.standing = standing;
        }
    }

    /// Takes away the machine of a member, and its disk.
    pub(crate) fn scrap(&mut self, id: u64) {
        self.machines.remove(&id);
        self.scrapped.insert(id);
    }

    /// A member's disk, which survives it.
    pub(crate) fn disk(&self, id: u64) -> Option<Rc<RefCell<Disk>>> {
        self.machines.get(&id).map(|it| Rc::clone(&it.disk))
    }

    /// Those of this standing, by id.
    pub(crate) fn that(&self, standing: Standing) -> Vec<u64> {
        let machines = self.machines.iter();
        let machines = machines.filter(|(_, machine)| machine.standing == standing);
        machines.map(|(id, _)| *id).collect()
    }

    /// All there ever were, by id.
    pub(crate) fn all(&self) -> Vec<u64> {
        self.machines.keys().copied().collect()
    }
}
