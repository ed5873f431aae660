//! The world: everything a seed decides before anything happens, printed first.

use std::fmt;
use std::time::Duration;

use crate::dice::Dice;
use crate::knobs;
use crate::plan::{self, Fault};
use crate::plant::Plant;

/// Sizes, speeds and odds of one run.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// The number everything is drawn from.
    pub(crate) seed: u64,
    /// A fault built in on purpose, to see that the judges notice.
    pub(crate) plant: Option<Plant>,
    /// Voters: 1, 3 or 5.
    pub(crate) members: u64,
    /// Concurrent clients that fight over keys.
    pub(crate) clients: u64,
    /// Concurrent clients that move sums between accounts.
    pub(crate) movers: u64,
    /// Concurrent clients that hold leases.
    pub(crate) holders: u64,
    /// Concurrent clients that change the membership.
    pub(crate) changers: u64,
    /// Concurrent clients that watch.
    pub(crate) watchers: u64,
    /// Keys the clients fight over.
    pub(crate) keys: u64,
    /// How long anything may break; afterwards everything heals and must converge.
    pub(crate) safety_act: Duration,
    /// The longest pause of a client between two operations.
    pub(crate) pause_ms_max: u64,
    /// Odds of a client to stand still for seconds between two operations, in thousandths.
    pub(crate) standstill_permille: u64,
    /// The longest sync of a log batch. The shortest is a millisecond, the runtime's finest sleep.
    pub(crate) sync_ms_max: u64,
    /// Odds of a crash at each disk operation, in thousandths.
    pub(crate) crash_permille: u64,
    /// Odds of a crash in the middle of a start, in thousandths.
    pub(crate) start_crash_permille: u64,
    /// The longest time a member stays down.
    pub(crate) down_ms_max: u64,
    /// The longest way of a message, from a millisecond on; a slow link takes ten times as long.
    pub(crate) message_ms_max: u64,
    /// Odds of a message to be lost, in thousandths.
    pub(crate) loss_permille: u64,
    /// Odds of a message to arrive twice, in thousandths.
    pub(crate) duplicate_permille: u64,
    /// Whether lost letters vanish without a trace. Otherwise a loss breaks the connection, as a transport would.
    pub(crate) silent_loss: bool,
    /// Size of a log segment.
    pub(crate) segment_bytes: usize,
    /// Bytes of log that bring on a checkpoint.
    pub(crate) checkpoint_log_bytes: u64,
    /// Entries between snapshots in memory.
    pub(crate) snapshot_entries: u64,
    /// Entries kept in memory behind a snapshot.
    pub(crate) catch_up_entries: u64,
    /// What breaks when.
    pub(crate) plan: Vec<Fault>,
}

/// What is asked for rather than drawn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// A fault on purpose.
    pub(crate) plant: Option<Plant>,
    /// Lost letters vanish, and nobody is told.
    pub(crate) silent_loss: bool,
    /// The membership never changes.
    pub(crate) fixed: bool,
    /// So many members, whatever the seed says.
    pub(crate) members: Option<u64>,
    /// Faults of the plan to leave out.
    pub(crate) without: Vec<u64>,
    /// Sizes and odds that are not as the seed draws them, by name.
    pub(crate) set: Vec<(&'static str, u64)>,
}

impl Options {
    /// The words that ask for it.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some(plant) = self.plant {
            words.extend(["--plant".to_owned(), plant.name().to_owned()]);
        }
        if self.silent_loss {
            words.push("--silent-loss".to_owned());
        }
        if self.fixed {
            words.push("--fixed".to_owned());
        }
        if let Some(members) = self.members {
            words.extend(["--members".to_owned(), members.to_string()]);
        }
        if !self.without.is_empty() {
            let numbers: Vec<String> = self.without.iter().map(u64::to_string).collect();
            words.extend(["--without".to_owned(), numbers.join(",")]);
        }
        if !self.set.is_empty() {
            let set = self
                .set
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            let set: Vec<String> = set.collect();
            words.extend(["--set".to_owned(), set.join(",")]);
        }
        words
    }
}

impl World {
    /// The world of this seed.
    pub(crate) fn draw(seed: u64, options: &Options) -> Self {
        let mut dice = Dice::new(seed, "world");
        let drawn = [1, 3, 3, 5][dice.place(4)];
        let members = options.members.unwrap_or(drawn);
        let safety_act = Duration::from_secs(dice.between(15, 40));
        let faults = [0, 3, 8, 16][dice.place(4)];
        // Streams of their own, so that what they decide leaves the rest as it is.
        let mut changes = Dice::new(seed, "changes of the membership");
        let changers = [0, 1, 1, 2][changes.place(4)];
        let changers = if options.fixed { 0 } else { changers };
        let mut later = Dice::new(seed, "starts and standstills");
        let start_crash_permille = [0, 50, 300][later.place(3)];
        let standstill_permille = [0, 5, 30][later.place(3)];
        let seats = if changers > 0 {
            members.max(SEATS)
        } else {
            members
        };
        let mut plan = plan::draw(seed, seats, safety_act, faults);
        plan.retain(|fault| !options.without.contains(&fault.number));
        let mut world = Self {
            seed,
            plant: options.plant,
            members,
            clients: dice.between(1, 6),
            movers: dice.between(0, 2),
            holders: dice.between(0, 2),
            changers,
            watchers: dice.between(0, 3),
            keys: dice.between(2, 10),
            safety_act,
            pause_ms_max: [20, 100, 400][dice.place(3)],
            standstill_permille,
            sync_ms_max: [1, 4, 25][dice.place(3)],
            crash_permille: [0, 2, 5, 15][dice.place(4)],
            start_crash_permille,
            down_ms_max: [20, 500, 3000][dice.place(3)],
            message_ms_max: [1, 5, 40][dice.place(3)],
            loss_permille: [0, 5, 30][dice.place(3)],
            duplicate_permille: [0, 5, 50][dice.place(3)],
            silent_loss: dice.permille(300) || options.silent_loss,
            segment_bytes: [2048, 8192, 65_536][dice.place(3)],
            checkpoint_log_bytes: [4096, 16_384, 131_072][dice.place(3)],
            snapshot_entries: [20, 100, 1000][dice.place(3)],
            catch_up_entries: [5, 50][dice.place(2)],
            plan,
        };
        for (name, value) in &options.set {
            let knob = knobs::named(name).expect("only numbers with a name are asked for");
            (knob.set)(&mut world, *value);
        }
        world
    }
}

/// Places in a plan whose members change; there may be fewer members, and more.
const SEATS: u64 = 5;

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "world seed={} plant={} members={} clients={} movers={} holders={} changers={} watchers={} keys={} act={}s \
             pause≤{}ms standstill={}‰ sync≤{}ms crash={}‰ start-crash={}‰ down≤{}ms message≤{}ms loss={}‰ twice={}‰ silent={} segment={}B checkpoint={}B \
             snapshot={} catch-up={}",
            self.seed,
            self.plant.map_or("none", Plant::name),
            self.members,
            self.clients,
            self.movers,
            self.holders,
            self.changers,
            self.watchers,
            self.keys,
            self.safety_act.as_secs(),
            self.pause_ms_max,
            self.standstill_permille,
            self.sync_ms_max,
            self.crash_permille,
            self.start_crash_permille,
            self.down_ms_max,
            self.message_ms_max,
            self.loss_permille,
            self.duplicate_permille,
            self.silent_loss,
            self.segment_bytes,
            self.checkpoint_log_bytes,
            self.snapshot_entries,
            self.catch_up_entries,
        )?;
        self.plan
            .iter()
            .try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}
