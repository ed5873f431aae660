//! Assembles one member: opens its data, starts its threads, and takes it down again.
//!
//! The threads, all of them:
//!
//! | thread | what it does |
//! |---|---|
//! | main | waits for a signal or for a thread that cannot go on |
//! | `member` | the core, see `driver.rs` |
//! | `wal` | the log's writes, see [`crate::disk::log_thread`] |
//! | `wal-segments` | prepares and removes files of the log |
//! | `checkpoint` | writes the state beside the log, see `checkpointing.rs` |
//! | `drop` | frees replaced views |
//! | `conn-N` | connections of clients, see `connections.rs` |
//! | tokio's own | reads that look at much, see `grpc/long_read.rs`, and look-ups of names |
//! | `peers` | connections from and to other members, see `peers.rs` |
//! | `signals` | turns signals into messages |
//! | `last-words` | says that a second signal ends the process, which it does not wait for |

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use metastore_core::check::Limits;
use metastore_core::command::{Command, MemberAttributes, Request};
use metastore_core::compactor::AutoCompaction;
use metastore_core::member::{Member, Settings, Sizes};
use metastore_core::output::Published;
use metastore_core::raft::machine::BadDescription;
use metastore_core::wal::LogIdentity;

use crate::background;
use crate::bootstrap::{self, Bootstrap};
use crate::checkpointing;
use crate::config::{self, Config, Url};
use crate::connections::{Connections, Lane, Transport};
use crate::descriptors::{self, TooFew};
use crate::disk::data_dir::{DataDir, DataDirError, MemberIdentity};
use crate::disk::files::RealFiles;
use crate::disk::log_stats::LogStats;
use crate::disk::log_thread::{LogLimits, LogThread};
use crate::disk::wal_file::{Wal, WalOptions};
use crate::driver::{Announcement, Driver, Ended, Readiness};
use crate::grpc::{Context, FRAME_OVERHEAD_BYTES, Identity, RequestLimits};
use crate::inbox::{self, Inbox};
use crate::listening;
use crate::node::{Call, Node};
use crate::peers::{Me, Peers, Post};
use crate::recovery::{self, Directories, Opened, RecoveryError};
use crate::signals;
use crate::syncs::Syncs;

/// Why a server cannot start. Each text is one line that says what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process has the port, or the address is not this machine's.
    #[error("cannot listen on {url}: {source}; stop what uses the port or change {flag}")]
    Listen {
        /// Where.
        url: String,
        /// The flag that says so.
        flag: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration does not describe a cluster that can be founded or joined.
    #[error("{0}")]
    Bootstrap(String),
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The data in it cannot be used.
    #[error("{0}")]
    Data(String),
    /// There is no room for clients.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// The system refused a thread or a runtime.
    #[error("cannot start a thread: {0}; raise the limit on processes or memory")]
    Thread(#[from] io::Error),
}

impl From<RecoveryError> for StartError {
    fn from(error: RecoveryError) -> Self {
        Self::Data(error.to_string())
    }
}

impl From<BadDescription> for StartError {
    fn from(error: BadDescription) -> Self {
        Self::Data(error.to_string())
    }
}

/// Why a running server ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Stopped {
    /// By this signal.
    Signal(i32),
    /// The disk failed; nothing more could be acknowledged.
    DiskFailed(String),
    /// The member was removed from its cluster.
    Removed,
    /// The member thread panicked. Only where panics unwind: a release build ends at once.
    Panicked,
}

/// A running member.
pub struct Server {
    connections: Connections,
    peers: Peers,
    inbox: Inbox,
    member: JoinHandle<()>,
    log: LogThread,
    ends: Receiver<Stopped>,
    signals_end_at_once: Arc<AtomicBool>,
    /// Held for its lock.
    _data: DataDir,
}

/// Bytes of log after which the state is written to the disk, so that a restart has little to replay.
const CHECKPOINT_LOG_BYTES: u64 = 64 << 20;

/// What `--snapshot-count` says when nobody set it. Then bytes alone decide: writing a large state every few
/// thousand entries would be wasteful. A number that was asked for is kept to.
const DEFAULT_SNAPSHOT_COUNT: u64 = 10_000;

/// How often members compare their histories.
const COMPARISON_INTERVAL: Duration = Duration::from_secs(60);

/// How long a lease runs before what it has left is recorded: a restart gives it at most this much more.
const LEASE_RECORD_INTERVAL: Duration = Duration::from_secs(60);

/// How long a start waits until a leader has taken this member's announcement, and made a voter of it if it is to vote.
const READY_MAX: Duration = Duration::from_secs(5);

/// How long replaced views are collected before they are dropped.
const DROP_PAUSE: Duration = Duration::from_millis(5);

/// How long a stop waits until another member leads.
const STEP_DOWN_MAX: Duration = Duration::from_secs(1);

/// How long the last words of a process that is to end at once may take.
const LAST_WORDS_MAX: Duration = Duration::from_millis(100);

/// Longer than any member runs, and little enough to be added to a point in time, which `Duration::MAX` is not.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What a response of a watch takes beside its events at most, in bytes: a header with four numbers of 64 bits, the
/// watcher's id and the mark of a part.
const WATCH_ENVELOPE_BYTES_MAX: u64 = 64;

/// What a request may take beyond two election timeouts.
const REQUEST_TIME: Duration = Duration::from_secs(5);

impl Server {
    /// Starts a member and returns when it serves.
    ///
    /// # Errors
    /// Listening comes first, so that a port in use leaves the data untouched.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let (ended, ends) = channel();
        let signals_end_at_once = spawn_signals(ended.clone())?;
        let listeners = listening::for_clients(config)?;
        let peer_listeners = listening::for_peers(config)?;
        let room = descriptors::make_room()?;
        let origin = Instant::now();
        let (data, bootstrap, opened) = open_data(config)?;
        let joins_as_learner = bootstrap.joins_as_learner();
        let me = bootstrap.identity;
        let member_id = me.member_id;
        let settings = settings(config, member_id, bootstrap.founders);

        let (inbox, calls) = inbox::new();
        let peers = Peers::start(
            introduce(config, &me),
            peer_listeners,
            inbox.clone(),
            bootstrap.first,
        )?;
        let log = spawn_log(opened.wal, inbox.clone())?;
        let (checkpoints, work) = sync_channel(1);
        checkpointing::spawn(opened.checkpoints, work, inbox.clone())?;
        let replaced = spawn_dropper()?;

        let lanes: Vec<Lane> = (0..connection_threads()).map(|_| Lane::default()).collect();
        let (ready, readiness) = sync_channel(2);
        let start = MemberStart {
            settings,
            recovered: opened.recovered,
            origin,
            calls,
            log: log.ops(),
            checkpoints,
            replaced,
            lanes: lanes.clone(),
            post: peers.post(),
            announcement: announcement(config, member_id),
            ready,
        };
        let member = spawn_member(start, ended)?;
        let published = wait_until_ready(&readiness, &ends)?;
        let context = Context {
            node: Node::new(inbox.clone(), published),
            identity: Identity::of(&me),
            limits: limits(config),
            joins_as_learner,
        };
        let connections = Connections::start(
            listeners,
            room,
            lanes,
            &context,
            &transport(config),
            watch_settings(config),
        )?;
        signals_end_at_once.store(false, Ordering::Relaxed);
        Ok(Self {
            connections,
            peers,
            inbox,
            member,
            log,
            ends,
            signals_end_at_once,
            _data: data,
        })
    }

    /// Waits until a signal or a failure ends the server, then takes it down in order: no new requests,
    /// then the member, then the log, which is closed. A signal that comes meanwhile ends the process at once.
    pub fn run(self) -> Stopped {
        let stopped = self.ends.recv().expect("the signals thread has a sender");
        self.signals_end_at_once.store(true, Ordering::Relaxed);
        if let Stopped::Signal(signal) = stopped {
            tracing::info!(signal, "received signal; shutting down");
            tracing::info!("closing etcd server");
            self.step_down();
        }
        self.connections.stop();
        // The member has ended already when the log failed.
        let _ = self.inbox.tell(Call::Stop);
        // Who panicked has said so, here and to whoever reads why the server stopped.
        let _ = self.member.join();
        self.peers.stop();
        let written = self.log.stats();
        self.log.stop();
        report(&written);
        tracing::info!("closed etcd server");
        stopped
    }

    /// Hands leadership over if this member has it: the others then need not wait for an election.
    fn step_down(&self) {
        let (done, stepped_down) = channel();
        if self.inbox.tell(Call::StepDown(done)).is_ok()
            && stepped_down.recv_timeout(STEP_DOWN_MAX).is_err()
        {
            tracing::warn!(waited = ?STEP_DOWN_MAX, "nobody took over leadership; stopping nevertheless");
        }
    }
}

/// Says what the log did in the life of this process, and how long the disk let it wait: it tells a slow disk from a
/// slow server afterwards. The quantiles are upper bounds, the maximum is exact; all in microseconds.
fn report(written: &LogStats) {
    let sync = written.sync();
    let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tracing::info!(
        batches = written.batches(),
        records = written.records(),
        bytes = written.bytes(),
        sync_p50_us = micros(sync.quantile_bound(500)),
        sync_p99_us = micros(sync.quantile_bound(990)),
        sync_p999_us = micros(sync.quantile_bound(999)),
        sync_max_us = micros(sync.max()),
        "log written"
    );
}

/// What is said of a member that was removed.
const REMOVED: &str = "the member has been permanently removed from the cluster; remove its data directory and add it anew \
                       to bring it back";

/// What is said when the log cannot be written.
const LOG_FAILED: &str =
    "the log cannot be written; stopping before anything is acknowledged that is not durable";

/// Waits until the member runs, and a while for a leader to take its announcement.
fn wait_until_ready(
    readiness: &Receiver<Readiness>,
    ends: &Receiver<Stopped>,
) -> Result<Arc<ArcSwap<Published>>, StartError> {
    let ended = || StartError::Data(first_end(ends));
    let published = readiness.recv().map_err(|_| ended())??;
    match readiness.recv_timeout(READY_MAX) {
        Ok(_) => {}
        Err(RecvTimeoutError::Timeout) => tracing::warn!(
            waited = ?READY_MAX,
            "no leader has taken this member in yet; serving what needs none, such as serializable reads"
        ),
        Err(RecvTimeoutError::Disconnected) => return Err(ended()),
    }
    Ok(published)
}

fn first_end(ends: &Receiver<Stopped>) -> String {
    match ends.recv().expect("the signals thread has a sender") {
        Stopped::DiskFailed(reason) => reason,
        Stopped::Removed => REMOVED.into(),
        Stopped::Panicked => "the member thread panicked before it was ready".into(),
        Stopped::Signal(_) => unreachable!("a signal ends the process until the member serves"),
    }
}

/// Opens the data directory and what is in it; a new one gets this member's identity last of all.
fn open_data(config: &Config) -> Result<(DataDir, Bootstrap, Opened), StartError> {
    let mut data = DataDir::open(&config.data_dir)?;
    let fresh = data.identity().is_none();
    let mut bootstrap = bootstrap::find_out(config, data.identity())
        .map_err(|error| StartError::Bootstrap(error.to_string()))?;
    let me = bootstrap.identity.clone();
    if let Some(path) = &config.wal_dir {
        data.keep_log_in(path)?;
    }
    let directories = Directories {
        wal: data.wal_dir(),
        snap: data.snap_dir(),
    };
    let identity = LogIdentity {
        cluster_id: me.cluster_id,
        member_id: me.member_id,
    };
    let mut opened = recovery::open(&directories, identity, wal_options(config), fresh)?;
    if fresh {
        data.claim(&RealFiles, me)?;
    } else if config.force_new_cluster {
        let urls = config.initial_advertise_peer_urls.iter();
        opened.go_on_alone(me.member_id, urls.map(Url::to_string).collect())?;
    } else if opened.is_blank() {
        bootstrap.begin_again(config);
    }
    Ok((data, bootstrap, opened))
}

fn introduce(config: &Config, me: &MemberIdentity) -> Me {
    let urls = config.initial_advertise_peer_urls.iter();
    Me {
        cluster_id: me.cluster_id,
        member_id: me.member_id,
        peer_urls: urls.map(Url::to_string).collect(),
        election_timeout: config.election_timeout,
    }
}

fn wal_options(config: &Config) -> WalOptions {
    WalOptions {
        sync: !config.unsafe_no_fsync,
        ..WalOptions::default()
    }
}

fn settings(config: &Config, member_id: u64, founders: BTreeMap<u64, Vec<String>>) -> Settings {
    let dice = RandomState::new();
    Settings {
        id: member_id,
        initial_members: founders,
        heartbeat: config.heartbeat_interval,
        election_timeout: config.election_timeout,
        pre_vote: config.pre_vote,
        request_timeout: request_time(config),
        snapshot_entries: config.snapshot_count,
        catch_up_entries: config.snapshot_catchup_entries,
        checkpoint_log_bytes: CHECKPOINT_LOG_BYTES,
        checkpoint_entries: (config.snapshot_count != DEFAULT_SNAPSHOT_COUNT)
            .then_some(config.snapshot_count),
        lease_record_interval: Some(LEASE_RECORD_INTERVAL),
        auto_compaction: match config.compaction.auto {
            config::AutoCompaction::Off => AutoCompaction::Off,
            config::AutoCompaction::Periodic(kept) => AutoCompaction::Periodic(kept.min(FOREVER)),
            config::AutoCompaction::Revisions(kept) => AutoCompaction::Revisions(kept),
        },
        learners_max: config.max_learners as usize,
        strict_reconfiguration: config.strict_reconfig_check,
        comparison_interval: Some(COMPARISON_INTERVAL),
        sizes: Sizes::default(),
        seed: dice.hash_one("seed"),
        incarnation: u32::try_from(dice.hash_one("incarnation") >> 32).unwrap_or_default(),
    }
}

fn announcement(config: &Config, member_id: u64) -> Command {
    let client_urls = config
        .advertise_client_urls
        .iter()
        .map(Url::to_string)
        .collect();
    Request::Publish(MemberAttributes {
        member_id,
        name: config.name.clone(),
        client_urls,
    })
    .into()
}

fn limits(config: &Config) -> RequestLimits {
    RequestLimits {
        request_bytes_max: config.max_request_bytes.into(),
        shape: Limits {
            txn_operations_max: config.max_txn_ops as usize,
        },
        quota_bytes: config.quota_backend_bytes,
        lease_ttl_seconds_min: lease_ttl_seconds_min(
            config.heartbeat_interval,
            config.election_timeout,
        ),
        auto_promote_learners: config.auto_promote_learners,
        election_timeout: config.election_timeout,
    }
}

/// A lease must outlive a change of leaders: one and a half election timeouts, in whole heartbeats, rounded up to
/// seconds.
fn lease_ttl_seconds_min(heartbeat: Duration, election_timeout: Duration) -> i64 {
    let heartbeats = election_timeout.as_millis() / heartbeat.as_millis();
    let millis = heartbeats * 3 / 2 * heartbeat.as_millis();
    i64::try_from(millis.div_ceil(1000))
        .unwrap_or(i64::MAX)
        .max(1)
}

/// What a request may take.
fn request_time(config: &Config) -> Duration {
    REQUEST_TIME + 2 * config.election_timeout
}

fn transport(config: &Config) -> Transport {
    Transport {
        streams_max: config.max_concurrent_streams,
        keepalive_interval: config.grpc_keepalive.interval,
        keepalive_timeout: config.grpc_keepalive.timeout.unwrap_or(FOREVER),
        answers_within: request_time(config) + Duration::from_secs(1),
    }
}

fn watch_settings(config: &Config) -> metastore_core::watch::Settings {
    let frame_max = u64::from(config.max_request_bytes).saturating_add(FRAME_OVERHEAD_BYTES);
    let events_max = frame_max - WATCH_ENVELOPE_BYTES_MAX;
    metastore_core::watch::Settings::new(
        config.watch_progress_notify_interval,
        usize::try_from(events_max).unwrap_or(usize::MAX),
    )
}

/// Connections take about as much processor time as everything behind them, so half the cores are theirs.
fn connection_threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 16))
}

/// Everything the member thread is made of; the member itself cannot leave the thread it is made on.
struct MemberStart {
    settings: Settings,
    recovered: metastore_core::member::Recovered,
    origin: Instant,
    calls: inbox::Receiver,
    log: SyncSender<crate::disk::log_thread::LogOp>,
    checkpoints: SyncSender<metastore_core::output::Checkpoint>,
    replaced: Sender<Arc<Published>>,
    lanes: Vec<Lane>,
    post: Post,
    announcement: Command,
    ready: SyncSender<Readiness>,
}

fn spawn_member(start: MemberStart, ended: Sender<Stopped>) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("member".into()).spawn(move || {
        let last_word = LastWord(ended);
        let ended = &last_word.0;
        match run_member(start) {
            None | Some(Ended::Stopped) => {}
            Some(Ended::LogFailed(reason)) => {
                tracing::error!(error = %reason, "{LOG_FAILED}");
                let _ = ended.send(Stopped::DiskFailed(reason));
            }
            Some(Ended::Removed) => {
                tracing::warn!("{REMOVED}");
                let _ = ended.send(Stopped::Removed);
            }
        }
    })
}

/// Says of a thread that it panicked: whoever waits for the server to end would wait for ever.
struct LastWord(Sender<Stopped>);

impl Drop for LastWord {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(Stopped::Panicked);
        }
    }
}

/// Runs a member to its end; none if it cannot start, which whoever waits for it is told.
fn run_member(start: MemberStart) -> Option<Ended> {
    let member = match Member::new(start.settings, start.recovered, start.origin.elapsed()) {
        Ok(member) => member,
        Err(error) => {
            let _ = start.ready.send(Err(error));
            return None;
        }
    };
    let published = Arc::new(ArcSwap::from_pointee(member.published().clone()));
    // Whoever started this member may have given up.
    let _ = start.ready.send(Ok(Arc::clone(&published)));
    let lanes = start.lanes.into_iter();
    let (mailboxes, feeds) = lanes.map(|lane| (lane.mailbox, lane.feed)).unzip();
    let driver = Driver {
        member,
        calls: start.calls,
        log: start.log,
        checkpoints: start.checkpoints,
        published,
        replaced: start.replaced,
        mailboxes,
        feeds,
        post: start.post,
        letters: Vec::new(),
        members: Arc::new([]),
        stepping_down: None,
        removed: false,
        syncs: Syncs::new(start.origin),
        origin: start.origin,
        announcement: Announcement::new(start.announcement, start.ready),
    };
    Some(driver.run())
}

fn spawn_log(wal: Wal<RealFiles>, inbox: Inbox) -> io::Result<LogThread> {
    LogThread::spawn(wal, LogLimits::default(), move |done| {
        let result = done.result.map_err(|error| error.to_string());
        // Nobody listens any more when the member has stopped first.
        let _ = inbox.tell(Call::Written {
            up_to: done.up_to_ticket,
            result,
        });
    })
}

/// Drops replaced views, all that came within a pause together: waking for each would cost more than dropping it.
fn spawn_dropper() -> io::Result<Sender<Arc<Published>>> {
    let (sender, receiver) = channel();
    background::spawn("drop", move || {
        while let Ok(first) = receiver.recv() {
            drop(first);
            thread::sleep(DROP_PAUSE);
            receiver.try_iter().for_each(drop);
        }
    })?;
    Ok(sender)
}

/// Turns signals into messages. Where the flag is set, as it is until the member serves and again when it stops, a signal
/// ends the process at once instead: the first process of a container has to do that by itself.
fn spawn_signals(ended: Sender<Stopped>) -> io::Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let signals_end_at_once = Arc::new(AtomicBool::new(true));
    let at_once = Arc::clone(&signals_end_at_once);
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if at_once.swap(true, Ordering::Relaxed)
                    || ended.send(Stopped::Signal(signal)).is_err()
                {
                    end_at_once(signal);
                }
            }
        })?;
    Ok(signals_end_at_once)
}

/// Ends the process by this signal, as if nobody had handled it.
fn end_at_once(signal: i32) -> ! {
    let (said, is_said) = channel();
    // Standard error may be on the disk that hangs, so nobody relies on it.
    let _ = thread::Builder::new()
        .name("last-words".into())
        .spawn(move || {
            let _ = writeln!(
                io::stderr(),
                "metastore: received signal {signal} while starting or shutting down; ending at once"
            );
            let _ = said.send(());
        });
    let _ = is_said.recv_timeout(LAST_WORDS_MAX);
    let _ = signals::end_by(signal);
    std::process::exit(128 + signal)
}

#[cfg(test)]
mod tests {
    use metastore_proto::etcdserverpb::{ResponseHeader, WatchResponse};
    use prost::Message;

    use super::*;
    use crate::config::Action;

    /// What a member is configured with by these flags.
    fn config_of(flags: &str) -> Config {
        let flags = flags.split(' ').map(Into::into);
        let startup = config::parse(flags, std::iter::empty(), |_| {
            Err(io::ErrorKind::NotFound.into())
        });
        let Action::Run(config) = startup.expect("flags").action else {
            panic!("the flags start a server");
        };
        *config
    }

    #[test]
    fn every_flag_reaches_what_it_sets() {
        let usual = settings(&config_of("--name=m1"), 1, BTreeMap::new());
        assert!(usual.strict_reconfiguration && usual.pre_vote);
        assert_eq!(usual.request_timeout, Duration::from_secs(7));

        let config = config_of(
            "--heartbeat-interval=30 --election-timeout=250 --max-learners=3 --strict-reconfig-check=false \
             --pre-vote=false --snapshot-count=77 --snapshot-catchup-entries=66 --auto-promote-learners \
             --max-txn-ops=7 --max-request-bytes=1000000 --quota-backend-bytes=12345 --max-concurrent-streams=9 \
             --grpc-keepalive-interval=8s --grpc-keepalive-timeout=6s --watch-progress-notify-interval=4s",
        );
        let time = Duration::from_millis;
        let settings = settings(&config, 5, BTreeMap::new());
        assert!(!settings.strict_reconfiguration && !settings.pre_vote);
        assert_eq!((settings.id, settings.learners_max), (5, 3));
        assert_eq!(
            (settings.heartbeat, settings.election_timeout),
            (time(30), time(250))
        );
        assert_eq!(settings.request_timeout, time(5_000 + 2 * 250));
        assert_eq!(
            (settings.snapshot_entries, settings.catch_up_entries),
            (77, 66)
        );
        assert_eq!(settings.checkpoint_entries, Some(77));

        let limits = limits(&config);
        assert_eq!(limits.shape.txn_operations_max, 7);
        assert_eq!(limits.request_bytes_max, 1_000_000);
        assert_eq!(limits.quota_bytes, Some(12_345));
        assert_eq!(limits.election_timeout, time(250));
        assert!(limits.auto_promote_learners);

        let transport = transport(&config);
        assert_eq!(transport.streams_max, 9);
        assert_eq!(transport.answers_within, time(5_000 + 2 * 250 + 1_000));
        assert_eq!(transport.keepalive_interval, Some(time(8_000)));
        assert_eq!(transport.keepalive_timeout, time(6_000));

        let watch = watch_settings(&config);
        assert_eq!(watch.progress_interval, time(4_000));
        assert_eq!(watch.fragment_bytes, 1_000_000 + 512 * 1024 - 64);
    }

    #[test]
    fn whatever_time_a_flag_gives_it_can_be_added_to_the_present() {
        let config = config_of(
            "--grpc-keepalive-interval=2562047h --grpc-keepalive-timeout=0 --auto-compaction-retention=5124095576030431",
        );
        let transport = transport(&config);
        let AutoCompaction::Periodic(kept) = settings(&config, 1, BTreeMap::new()).auto_compaction
        else {
            panic!("the retention is a time");
        };
        for time in [
            transport.keepalive_interval.expect("there is one"),
            transport.keepalive_timeout,
            kept,
        ] {
            assert!(Instant::now().checked_add(time).is_some(), "{time:?}");
        }
    }

    #[test]
    fn the_least_time_of_a_lease_is_counted_in_whole_heartbeats() {
        let least = |heartbeat, election| {
            let time = Duration::from_millis;
            lease_ttl_seconds_min(time(heartbeat), time(election))
        };
        assert_eq!(least(100, 1000), 2);
        // 13 heartbeats fit, 19 are one and a half of them.
        assert_eq!(least(100, 1390), 2);
        assert_eq!(least(100, 1400), 3);
        assert_eq!(least(10, 50), 1);
        assert_eq!(least(10_000, 50_000), 70);
    }

    #[test]
    fn a_whole_response_of_a_watch_is_smaller_than_the_largest_frame() {
        let header = ResponseHeader {
            cluster_id: u64::MAX,
            member_id: u64::MAX,
            revision: i64::MAX,
            raft_term: u64::MAX,
        };
        let empty = WatchResponse {
            header: Some(header),
            watch_id: i64::MAX,
            fragment: true,
            ..WatchResponse::default()
        };
        assert!(empty.encoded_len() as u64 <= WATCH_ENVELOPE_BYTES_MAX);
    }
}
