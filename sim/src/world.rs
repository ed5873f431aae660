//! The world: everything a seed decides before anything happens, printed first.

use std::fmt;
use std::time::Duration;

use crate::dice::Dice;

/// Sizes, speeds and odds of one run.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// The number everything is drawn from.
    pub(crate) seed: u64,
    /// A fault built in on purpose, to see that the judges notice.
    pub(crate) plant: Option<Plant>,
    /// Voters, 1 or 3.
    pub(crate) members: u64,
    /// Concurrent clients.
    pub(crate) clients: u64,
    /// Keys the clients fight over.
    pub(crate) keys: u64,
    /// How long anything may break; afterwards everything heals and must converge.
    pub(crate) safety_act: Duration,
    /// The longest pause of a client between two operations.
    pub(crate) pause_ms_max: u64,
    /// The longest sync of a log batch. The shortest is a millisecond, the runtime's finest sleep.
    pub(crate) sync_ms_max: u64,
    /// Odds of a crash at each disk operation, in thousandths.
    pub(crate) crash_permille: u64,
    /// The longest time a member stays down.
    pub(crate) down_ms_max: u64,
    /// The longest way of a message, from a millisecond on.
    pub(crate) message_ms_max: u64,
    /// Odds of a message to be lost, in thousandths.
    pub(crate) loss_permille: u64,
    /// Whether lost letters vanish without a trace. Otherwise a loss breaks the connection, as a transport would.
    pub(crate) silent_loss: bool,
    /// Whether one member at a time is cut off from the others now and then.
    pub(crate) partitions: bool,
    /// The size of a log segment; small, so that there are many.
    pub(crate) segment_bytes: usize,
    /// Bytes of log that bring on a checkpoint.
    pub(crate) checkpoint_log_bytes: u64,
    /// Entries between snapshots in memory.
    pub(crate) snapshot_entries: u64,
    /// Entries kept in memory behind a snapshot.
    pub(crate) catch_up_entries: u64,
}

/// What is asked for rather than drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// A fault on purpose.
    pub(crate) plant: Option<Plant>,
    /// Lost letters vanish, and nobody is told.
    pub(crate) silent_loss: bool,
}

impl Options {
    /// The words that ask for it.
    pub(crate) fn words(self) -> Vec<&'static str> {
        let mut words = Vec::new();
        words.extend(
            self.plant
                .map(|plant| ["--plant", plant.name()])
                .into_iter()
                .flatten(),
        );
        words.extend(self.silent_loss.then_some("--silent-loss"));
        words
    }
}

/// A fault on purpose. All of them lie in the simulated surroundings; the product knows none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// The disk confirms a write when it begins rather than when it is synced.
    AckBeforeSync,
    /// Reads are answered from whatever the asked member shows, without a barrier.
    ReadWithoutBarrier,
    /// A crash also takes the last batch that was synced.
    LosesSyncedBatch,
}

impl Plant {
    /// Every plant, its name, and the number of seeds within which a judge must find it.
    pub(crate) const ALL: [(Plant, &str, u64); 3] = [
        (Plant::AckBeforeSync, "ack-before-sync", 20),
        (Plant::ReadWithoutBarrier, "read-without-barrier", 20),
        (Plant::LosesSyncedBatch, "loses-synced-batch", 20),
    ];

    /// The plant of this name.
    pub(crate) fn named(name: &str) -> Option<Plant> {
        let found = Self::ALL.iter().find(|(_, known, _)| *known == name);
        found.map(|(plant, ..)| *plant)
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(plant, ..)| *plant == self);
        found.expect("every plant is in the list").1
    }
}

impl World {
    /// The world of this seed.
    pub(crate) fn draw(seed: u64, options: Options) -> Self {
        let mut dice = Dice::new(seed, "world");
        let members = if dice.permille(400) { 1 } else { 3 };
        Self {
            seed,
            plant: options.plant,
            members,
            clients: dice.between(2, 8),
            keys: dice.between(2, 10),
            safety_act: Duration::from_secs(dice.between(15, 40)),
            pause_ms_max: [5, 20, 100][dice.place(3)],
            sync_ms_max: [1, 4, 25][dice.place(3)],
            crash_permille: [0, 2, 5, 15][dice.place(4)],
            down_ms_max: [20, 500, 3000][dice.place(3)],
            message_ms_max: [1, 5, 40][dice.place(3)],
            loss_permille: [0, 5, 30][dice.place(3)],
            silent_loss: options.silent_loss,
            partitions: dice.permille(500),
            segment_bytes: [2048, 8192, 65_536][dice.place(3)],
            checkpoint_log_bytes: [4096, 16_384, 131_072][dice.place(3)],
            snapshot_entries: [20, 100, 1000][dice.place(3)],
            catch_up_entries: [5, 50][dice.place(2)],
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "world seed={} plant={} members={} clients={} keys={} act={}s pause≤{}ms sync≤{}ms crash={}‰ \
             down≤{}ms message≤{}ms loss={}‰ silent={} partitions={} segment={}B checkpoint={}B snapshot={} catch-up={}",
            self.seed,
            self.plant.map_or("none", Plant::name),
            self.members,
            self.clients,
            self.keys,
            self.safety_act.as_secs(),
            self.pause_ms_max,
            self.sync_ms_max,
            self.crash_permille,
            self.down_ms_max,
            self.message_ms_max,
            self.loss_permille,
            self.silent_loss,
            self.partitions,
            self.segment_bytes,
            self.checkpoint_log_bytes,
            self.snapshot_entries,
            self.catch_up_entries,
        )
    }
}
