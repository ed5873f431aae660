//! The world: everything a seed decides before anything happens, printed first.

use std::fmt;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::ingredients::LeftOut;
use crate::knobs;
use crate::plan::{self, Fault, What};
use crate::plant::Plant;
use metastore_core::member::Sizes;
use metastore_judges::leases::CLOCK_RATE_PPM_MAX;

/// Sizes, speeds and odds of one run.
#[derive(Debug, Clone)]
pub(crate) struct World {
    /// The number everything is drawn from.
    pub(crate) seed: u64,
    /// A fault built in on purpose, to see that the judges notice.
    pub(crate) plant: Option<Plant>,
    /// Voters at first, from 1 to 7.
    pub(crate) members: u64,
    /// Concurrent clients that fight over keys.
    pub(crate) clients: u64,
    /// Concurrent clients that move sums between accounts.
    pub(crate) movers: u64,
    /// Concurrent clients that hold leases.
    pub(crate) holders: u64,
    /// Concurrent clients that change the membership.
    pub(crate) changers: u64,
    /// Concurrent clients that want to own a name.
    pub(crate) contenders: u64,
    /// Concurrent clients with several watchers on one stream, that begin where watches have gone wrong.
    pub(crate) resumers: u64,
    /// Concurrent clients that read from one member only.
    pub(crate) followers: u64,
    /// Bytes that the store may take; none for any number.
    pub(crate) quota_bytes: Option<u64>,
    /// Leases that each client of a storm grants and lets run out together.
    pub(crate) storm_leases: u64,
    /// Odds of a transaction that reads the past, or of one that changes a key twice, before each other operation on keys,
    /// in thousandths.
    pub(crate) recall_permille: u64,
    /// Odds of a look closer than a plain read, before each other operation on keys, in thousandths.
    pub(crate) survey_permille: u64,
    /// The most revisions that a compaction leaves before the newest that its client knows.
    pub(crate) compaction_back_max: u64,
    /// Odds of a watcher to read slowly, in thousandths.
    pub(crate) slow_permille: u64,
    /// Bytes of events beyond which a response is cut, for watchers that want that.
    pub(crate) fragment_bytes: usize,
    /// The longest that anybody may wait for an answer, in worlds where nothing breaks.
    pub(crate) patience: Option<Duration>,
    /// What the verdict counts beside, where a scenario has to show that its situation came about.
    pub(crate) shows: Option<fn(&Cluster) -> u64>,
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
    /// What the members' thresholds are drawn from that are the same in every server; 0 leaves them as they are there.
    pub(crate) smallness: u64,
    /// The election timeout; heartbeats are due in a tenth of it.
    pub(crate) election_ms: u64,
    /// What breaks when.
    pub(crate) plan: Vec<Fault>,
    /// The most by which a clock runs fast or slow, in millionths.
    pub(crate) clock_rate_ppm_max: u64,
    /// Odds that something happens to a snapshot just when it is sent or installed, in thousandths.
    pub(crate) moments_permille: u64,
    /// What this seed does without.
    pub(crate) left_out: LeftOut,
    /// How long the run goes on at least, in as many rounds of both acts as it takes.
    pub(crate) lasts: Duration,
    /// Faults that are left out, also those of later rounds.
    pub(crate) without: Vec<u64>,
    /// Whether the membership stays as it is.
    pub(crate) fixed: bool,
    /// See [`Options::counts`].
    pub(crate) counts: bool,
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
    /// So many hours of virtual time, in as many rounds as it takes; without, one round.
    pub(crate) hours: u64,
    /// Nothing but what worlds were made of when most scenarios were found: no rarer faults, nothing left out.
    pub(crate) plain: bool,
    /// How often which situation came about is printed. It changes nothing, and needs no place in a replay.
    pub(crate) counts: bool,
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
        if self.hours > 0 {
            words.extend(["--hours".to_owned(), self.hours.to_string()]);
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
        let members = options
            .members
            .unwrap_or(first_members(seed, drawn, options.plain));
        let safety_act = Duration::from_secs(dice.between(15, 40));
        // Streams of their own, so that what they decide leaves the rest as it is.
        let changers = changers(seed, options.fixed);
        let (start_crash_permille, standstill_permille) = starts_and_standstills(seed);
        let seats = match changers {
            0 => members,
            _ => members.max(SEATS),
        };
        let mut plan = plan::draw(seed, seats, safety_act, [0, 3, 8, 16][dice.place(4)]);
        plan.retain(|fault| !options.without.contains(&fault.number));
        let mut world = Self {
            seed,
            plant: options.plant,
            members,
            clients: dice.between(1, 6),
            movers: dice.between(0, 2),
            holders: dice.between(0, 2),
            changers,
            contenders: 0,
            followers: 0,
            resumers: 0,
            quota_bytes: None,
            storm_leases: 0,
            recall_permille: 0,
            survey_permille: 0,
            compaction_back_max: 50,
            slow_permille: 200,
            fragment_bytes: 4096,
            patience: None,
            shows: None,
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
            smallness: 0,
            election_ms: ELECTION_MS,
            plan,
            counts: options.counts,
            clock_rate_ppm_max: CLOCK_RATE_PPM_MAX,
            moments_permille: 0,
            left_out: LeftOut::default(),
            lasts: Duration::from_secs(3600 * options.hours),
            without: options.without.clone(),
            fixed: options.fixed,
        };
        if !options.plain {
            world.draw_more_clients();
            world.draw_more_faults(seats, options);
        }
        knobs::turned(world, &options.set)
    }

    /// Draws the clients that few worlds have, and what bounds a store.
    fn draw_more_clients(&mut self) {
        let mut more = Dice::new(self.seed, "claims, followers and a quota");
        self.contenders = [0, 0, 0, 3][more.place(4)];
        self.followers = [0, 0, 1][more.place(3)];
        self.resumers = [0, 0, 1][more.place(3)];
        self.quota_bytes = [None, None, None, Some(40_000), Some(15_000)][more.place(5)];
        self.recall_permille = 30;
        self.survey_permille = 40;
    }

    /// Draws the rarer faults, and takes out what this seed does without.
    fn draw_more_faults(&mut self, seats: u64, options: &Options) {
        let mut rare = Dice::new(self.seed, "clocks and moments");
        self.clock_rate_ppm_max = match rare.place(8) {
            0 => 20_000,
            1 => 100_000,
            _ => CLOCK_RATE_PPM_MAX,
        };
        self.moments_permille = [0, 0, 100, 400][rare.place(4)];
        self.left_out = LeftOut::draw(self.seed);
        let mut small = Dice::new(self.seed, "smallness");
        self.smallness = small.between(1, 1_000_000) * u64::from(small.permille(500));
        let mut haste = Dice::new(self.seed, "election timeout");
        // Only where even slow ways, there and back, take far less.
        self.election_ms = match (self.message_ms_max, haste.place(8)) {
            (0..=5, 0) => 300,
            (0..=5, 1) => 500,
            _ => ELECTION_MS,
        };
        let planned = self.plan.last().map_or(0, |fault| fault.number);
        let planned = planned.max(PLANNED_MAX);
        let more = plan::draw_more(self.seed, seats, self.safety_act, planned);
        let more = more.into_iter().filter(|fault| {
            let unwanted = options.without.contains(&fault.number);
            !unwanted && self.may_befall(fault)
        });
        self.plan.extend(more.collect::<Vec<_>>());
        self.left_out.clone().apply(self);
    }

    /// Whether such a fault belongs into this world.
    pub(crate) fn may_befall(&self, fault: &Fault) -> bool {
        let replaces = matches!(fault.what, What::Rot(_));
        let unwanted = replaces && self.fixed;
        !unwanted && !self.left_out.holds(fault.what.ingredient())
    }

    /// The members' thresholds: as on a server, or so small that a world of a few values reaches beyond them, each for
    /// itself.
    pub(crate) fn sizes(&self) -> Sizes {
        let usual = Sizes::default();
        if self.smallness == 0 {
            return usual;
        }
        let mut dice = Dice::new(self.smallness, "sizes");
        let mut draw = |usual: usize, small: [usize; 3]| match dice.place(6) {
            place @ 0..3 => small[place],
            _ => usual,
        };
        Sizes {
            proposals_max: draw(usual.proposals_max, [3, 5, 10]),
            reads_max: draw(usual.reads_max, [1, 3, 10]),
            trim_entries: draw(256, [1, 8, 32]) as u64,
            log_bytes_max: draw(usual.log_bytes_max, [2_000, 8_000, 32_000]),
            log_bytes_kept: draw(usual.log_bytes_kept, [0, 1_000, 4_000]),
            log_bytes_held_max: draw(usual.log_bytes_held_max, [4_000, 16_000, 64_000]),
            log_bytes_step: draw(usual.log_bytes_step, [500, 2_000, 8_000]),
            // With room for an entry or two a slow way would take minutes for what any way takes in moments.
            read_bytes: draw(usual.read_bytes, [1_000, 4_000, 16_000]),
            append_bytes: draw(usual.append_bytes, [2_000, 8_000, 32_000]),
            letter_bytes: draw(usual.letter_bytes, [1, 300, 2_000]),
            piece_bytes: draw(usual.piece_bytes, [100, 500, 2_000]),
            sweep_changes: draw(usual.sweep_changes, [1, 4, 16]),
            lease_ends: draw(usual.lease_ends, [1, 2, 4]),
            lease_looks: draw(usual.lease_looks, [1, 2, 4]),
            transfer_entries: draw(1_000, [0, 2, 20]) as u64,
            transfer_bytes: draw(usual.transfer_bytes, [1, 500, 4_000]),
        }
    }

    /// Whether letters are written and read on their way, as between servers. It takes time, and few worlds do.
    pub(crate) fn letters_are_bytes(&self) -> bool {
        self.smallness > 0 && self.smallness.is_multiple_of(7)
    }

    /// Entries after which a member writes its state to the disk, as `--snapshot-count` asks for.
    pub(crate) fn checkpoint_entries(&self) -> Option<u64> {
        let mut dice = Dice::new(self.smallness, "checkpoint entries");
        let drawn = [None, None, None, Some(10), Some(100)][dice.place(5)];
        drawn.filter(|_| self.smallness > 0)
    }

    /// Whether anybody changes the membership, be it only to replace a machine.
    pub(crate) fn membership_changes(&self) -> bool {
        let rots = |fault: &Fault| matches!(fault.what, What::Rot(_));
        let later = !self.fixed && !self.lasts.is_zero();
        self.changers > 0 || later || self.plan.iter().any(rots)
    }
}

fn starts_and_standstills(seed: u64) -> (u64, u64) {
    let mut dice = Dice::new(seed, "starts and standstills");
    ([0, 50, 300][dice.place(3)], [0, 5, 30][dice.place(3)])
}

/// Three in four worlds have clients that change the membership.
fn changers(seed: u64, fixed: bool) -> u64 {
    let mut dice = Dice::new(seed, "changes of the membership");
    [0, 1, 1, 2][dice.place(4)] * u64::from(!fixed)
}

/// Most worlds have one, three or five voters at first; the others as many as there may be.
fn first_members(seed: u64, drawn: u64, plain: bool) -> u64 {
    let mut dice = Dice::new(seed, "members");
    match dice.permille(250) && !plain {
        true => [2, 4, 6, 7][dice.place(4)],
        false => drawn,
    }
}

/// The usual election timeout, as on a server by default.
const ELECTION_MS: u64 = 1000;
/// The numbers up to this belong to the first part of the plan.
const PLANNED_MAX: u64 = 16;
/// Places in a plan whose members change; there may be fewer members, and more.
const SEATS: u64 = 5;

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "world seed={} plant={} members={} clients={} movers={} holders={} changers={} contenders={} followers={} resumers={} quota={} watchers={} keys={} act={}s \
             pause≤{}ms standstill={}‰ sync≤{}ms crash={}‰ start-crash={}‰ down≤{}ms message≤{}ms loss={}‰ twice={}‰ silent={} segment={}B checkpoint={}B \
             snapshot={} catch-up={} smallness={} election={}ms clocks≤{}ppm moments={}‰ without={}",
            self.seed,
            self.plant.map_or("none", Plant::name),
            self.members,
            self.clients,
            self.movers,
            self.holders,
            self.changers,
            self.contenders,
            self.followers,
            self.resumers,
            self.quota_bytes
                .map_or("none".to_owned(), |bytes| format!("{bytes}B")),
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
            self.smallness,
            self.election_ms,
            self.clock_rate_ppm_max,
            self.moments_permille,
            self.left_out,
        )?;
        self.plan
            .iter()
            .try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knobs;

    /// Takes a world apart: a field that is in neither list does not compile.
    macro_rules! numbers {
        ($world:expr, $($number:ident)*; beside $($other:ident)*) => {{
            let World { $($number: _,)* $($other: _,)* } = $world;
            [$(stringify!($number)),*]
        }};
    }

    #[test]
    fn every_number_of_a_world_can_be_asked_for_and_is_written_into_scenarios() {
        let world = World::draw(1, &Options::default());
        let mut numbers = numbers!(world,
            members clients movers holders changers contenders resumers followers watchers quota_bytes
            storm_leases recall_permille survey_permille compaction_back_max slow_permille keys safety_act pause_ms_max
            standstill_permille sync_ms_max crash_permille start_crash_permille down_ms_max message_ms_max
            loss_permille duplicate_permille silent_loss segment_bytes checkpoint_log_bytes snapshot_entries
            catch_up_entries clock_rate_ppm_max moments_permille fragment_bytes smallness election_ms;
            beside seed plant shows plan left_out lasts without fixed counts patience
        );
        let mut known: Vec<&str> = knobs::ALL.iter().map(|knob| knob.name).collect();
        numbers.sort_unstable();
        known.sort_unstable();
        assert_eq!(known, numbers);
    }
}
