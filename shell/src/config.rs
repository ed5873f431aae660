//! The server's configuration, from flags, environment variables or a YAML file as etcd's users know them.
//!
//! [`parse`] is pure: it is given arguments, variables and a way to read a file, and touches nothing else.
//! Precedence: a configuration file replaces everything; else command line over `METASTORE_…` over `ETCD_…` over
//! default. Settings whose feature is not built are refused if ignoring them would be dangerous.

mod assemble;
mod command_line;
pub mod duration;
mod environment;
mod error;
mod feature_gates;
pub mod flag_table;
mod help;
mod support;
mod url;
mod value;
mod yaml_file;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::{ConfigError, Origin, Setting};
pub use feature_gates::{FEATURES, FeatureGates};
pub use help::{ETCD_VERSION, usage, version_text};
pub use url::{Endpoint, Scheme, Url, UrlError};

/// What the process was asked to do.
#[derive(Debug)]
pub struct Startup {
    /// Run, or print something and exit.
    pub action: Action,
    /// One line each, for the log once it is set up.
    pub warnings: Vec<String>,
}

/// Run, or print something and exit.
#[derive(Debug)]
pub enum Action {
    /// Run a member.
    Run(Box<Config>),
    /// Print this flag list on stdout and exit with 0.
    Help(String),
    /// Print this version on stdout and exit with 0.
    Version(String),
}

/// Everything one member is told at its start. Lists of URLs are sorted and without duplicates.
///
/// Fields of flags that [`flag_table`] lists as [`flag_table::Support::Inert`] or refused are read and checked, so that a
/// mistake is reported, and nothing depends on them yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Name of the member. Not empty.
    pub name: String,
    /// Where the data lives; `<name>.etcd` unless set.
    pub data_dir: PathBuf,
    /// A separate directory for the log; `None` is inside `data_dir`.
    pub wal_dir: Option<PathBuf>,

    /// Listeners for members. At least one; IP addresses or `localhost`.
    pub listen_peer_urls: Vec<Url>,
    /// Listeners for clients: gRPC, and HTTP unless `listen_client_http_urls` has any. At least one.
    pub listen_client_urls: Vec<Url>,
    /// Listeners only for HTTP clients. If not empty, `listen_client_urls` serve gRPC only.
    pub listen_client_http_urls: Vec<Url>,
    /// Listeners only for health.
    pub listen_metrics_urls: Vec<Url>,
    /// What other members are told. At least one.
    pub initial_advertise_peer_urls: Vec<Url>,
    /// What clients are told. At least one.
    pub advertise_client_urls: Vec<Url>,

    /// The first members with their peer URLs; this member alone unless set. See [`Config::check_bootstrap`].
    pub initial_cluster: BTreeMap<String, Vec<Url>>,
    /// Whether the cluster exists already. Without meaning once there is data.
    pub initial_cluster_state: ClusterState,
    /// Mixed into the ids of cluster and members.
    pub initial_cluster_token: String,
    /// Refuse membership changes that would lose the quorum.
    pub strict_reconfig_check: bool,
    /// Keep the data and make this its only member.
    pub force_new_cluster: bool,
    /// Whether learners that have caught up become voters without being asked.
    pub auto_promote_learners: bool,
    /// Most learners in the cluster.
    pub max_learners: u32,

    /// A leader's heartbeat, in whole milliseconds, above zero.
    pub heartbeat_interval: Duration,
    /// In whole milliseconds; at least five heartbeats and at most 50 s.
    pub election_timeout: Duration,
    /// Shorten the wait for the first election.
    pub initial_election_tick_advance: bool,
    /// Ask whether an election can be won before calling it.
    pub pre_vote: bool,
    /// Applied entries between two snapshots. Not 0.
    pub snapshot_count: u64,
    /// Entries kept for slow followers after a snapshot.
    pub snapshot_catchup_entries: u64,

    /// Bytes of data above which what adds is refused; `None` is no quota.
    pub quota_backend_bytes: Option<u64>,
    /// Most operations in one transaction.
    pub max_txn_ops: u32,
    /// Largest request in bytes.
    pub max_request_bytes: u32,
    /// Most streams of one connection.
    pub max_concurrent_streams: u32,
    /// Pings on client connections.
    pub grpc_keepalive: Keepalive,
    /// Options of all listening sockets.
    pub socket_options: SocketOptions,
    /// Do not wait for the disk: a crash loses acknowledged writes.
    pub unsafe_no_fsync: bool,

    /// TLS, and who may connect.
    pub security: Security,
    /// Tokens and passwords.
    pub auth: Auth,

    /// Where and what to log.
    pub log: LogConfig,
    /// How much is measured.
    pub metrics: MetricsLevel,
    /// Serve runtime profiles.
    pub enable_pprof: bool,
    /// Warn when applying an entry takes longer.
    pub warning_apply_duration: Duration,
    /// Warn when a request takes longer.
    pub warning_unary_request_duration: Duration,

    /// How history is compacted.
    pub compaction: Compaction,
    /// Interval of watch progress notifications, at least 100 ms.
    pub watch_progress_notify_interval: Duration,
    /// Compare members' hashes this often; `None` is never.
    pub corrupt_check_time: Option<Duration>,
    /// Serve the JSON gateway under /v3/.
    pub enable_grpc_gateway: bool,
    /// Features switched on or off.
    pub feature_gates: FeatureGates,
    /// The file all this came from, if it was one.
    pub config_file: Option<PathBuf>,
}

/// Whether the cluster exists already when the member starts without data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// The member founds the cluster, with the others of `initial_cluster`.
    New,
    /// The member was added to a running cluster.
    Existing,
}

/// Pings on client connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// A client that pings more often is cut off.
    pub min_time: Duration,
    /// Ping an idle client this often; `None` is never.
    pub interval: Option<Duration>,
    /// Close the connection this long after an unanswered ping; `None` is never.
    pub timeout: Option<Duration>,
}

/// Options of listening sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// SO_REUSEADDR.
    pub reuse_address: bool,
}

/// TLS, and who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// TLS towards clients.
    pub client_tls: Tls,
    /// TLS between members.
    pub peer_tls: Tls,
    /// Names of allowed cipher suites; empty leaves the choice to the server.
    pub cipher_suites: Vec<String>,
    /// Lowest TLS version.
    pub tls_min_version: TlsVersion,
    /// Highest TLS version; `None` leaves the choice to the server.
    pub tls_max_version: Option<TlsVersion>,
    /// Years a generated certificate is valid.
    pub self_signed_cert_validity_years: u32,
    /// Origins allowed to call from a browser; `*` is all.
    pub cors: Vec<String>,
    /// Host names accepted in plain-text HTTP requests; `*` is all.
    pub host_whitelist: Vec<String>,
}

/// Tokens and passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Kind of tokens.
    pub token: AuthToken,
    /// Life of an unused simple token, in whole seconds, above zero.
    pub token_ttl: Duration,
    /// Cost of hashing a password, 4 to 31.
    pub bcrypt_cost: u32,
}

/// TLS of one side, clients or members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificate shown to those who connect.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
    /// Certificate shown when connecting to others; `cert_file` if `None`.
    pub client_cert_file: Option<PathBuf>,
    /// Its key.
    pub client_key_file: Option<PathBuf>,
    /// CA of the certificates of those who connect.
    pub trusted_ca_file: Option<PathBuf>,
    /// Revoked certificates.
    pub crl_file: Option<PathBuf>,
    /// Require and verify certificates of those who connect.
    pub client_cert_auth: bool,
    /// Use a generated certificate.
    pub auto_tls: bool,
    /// Common names allowed; empty is all.
    pub allowed_cns: Vec<String>,
    /// Names allowed; empty is all.
    pub allowed_hostnames: Vec<String>,
    /// Do not verify the names in certificates of those who connect.
    pub skip_client_san_verification: bool,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2
    Tls12,
    /// 1.3
    Tls13,
}

/// Kind of auth tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthToken {
    /// Random tokens that the server remembers.
    Simple,
    /// Signed tokens; the options as written after `jwt,`.
    Jwt(String),
}

/// Where and what to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The lowest level.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
    /// All get every line. At least one.
    pub outputs: Vec<LogOutput>,
}

/// The lowest level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// Normal events.
    Info,
    /// What somebody should look at.
    Warn,
    /// What went wrong.
    Error,
    /// Only what ends the process.
    Panic,
    /// Only what ends the process.
    Fatal,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object.
    Json,
    /// Columns with tabs between them.
    Console,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsLevel {
    /// Counters and gauges.
    Basic,
    /// Latency histograms of each call too.
    Extensive,
}

/// How history is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// What the server compacts by itself.
    pub auto: AutoCompaction,
    /// Most records compacted in one step. Not 0.
    pub batch_limit: u32,
    /// Pause between two steps. Not zero.
    pub sleep_interval: Duration,
}

/// What the server compacts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Nothing.
    Off,
    /// Keeps this much time. Not zero.
    Periodic(Duration),
    /// Keeps this many revisions. Not 0.
    Revisions(u64),
}

/// Reads arguments (without the program's name) and variables, and the configuration file if they name one.
///
/// # Errors
/// Each is one line with an exit code; see [`ConfigError::exit_code`] and [`ConfigError::wants_usage`].
pub fn parse(
    args: impl Iterator<Item = OsString>,
    env: impl Iterator<Item = (String, String)>,
    read_file: impl Fn(&Path) -> io::Result<String>,
) -> Result<Startup, ConfigError> {
    let mut warnings = Vec::new();
    let flags = match command_line::read(args)? {
        command_line::CommandLine::Help => {
            return Ok(Startup {
                action: Action::Help(usage()),
                warnings,
            });
        }
        command_line::CommandLine::Flags(settings) => settings,
    };
    if flags.bool("version") {
        return Ok(Startup {
            action: Action::Version(version_text()),
            warnings,
        });
    }
    let environment = environment::Environment::new(env);
    let config_file = flags
        .path("config-file")
        .or_else(|| environment.get("CONFIG_FILE").map(PathBuf::from));
    let settings = match &config_file {
        Some(path) => {
            let text = read_file(path).map_err(|error| ConfigError::FileUnreadable {
                path: path.clone(),
                error,
            })?;
            let is_alone = flags.given().all(|(flag, ..)| flag.name == "config-file")
                && environment
                    .names()
                    .all(|name| name.ends_with("_CONFIG_FILE"));
            if !is_alone {
                warnings.push(format!(
                    "the configuration file {} holds alone: all other flags and environment variables are ignored",
                    path.display()
                ));
            }
            yaml_file::read(&text, path, &mut warnings)?
        }
        None => {
            let mut settings = flags;
            environment.add_to(&mut settings, &mut warnings)?;
            settings
        }
    };
    let config = assemble::assemble(&settings, config_file, &mut warnings)?;
    Ok(Startup {
        action: Action::Run(Box::new(config)),
        warnings,
    })
}

impl Config {
    /// Checks that `initial_cluster` lists this member with the URLs it advertises, and no URL twice. Only a member without
    /// data asks: with data, the settings of the first start have no meaning any more.
    ///
    /// # Errors
    /// [`ConfigError::NotInInitialCluster`], [`ConfigError::PeerUrlsDiffer`] and [`ConfigError::SharedPeerUrl`].
    pub fn check_bootstrap(&self) -> Result<(), ConfigError> {
        let mut owners: BTreeMap<&Url, &String> = BTreeMap::new();
        for (name, urls) in &self.initial_cluster {
            for url in urls {
                if let Some(first) = owners.insert(url, name).filter(|first| *first != name) {
                    return Err(ConfigError::SharedPeerUrl {
                        url: url.clone(),
                        first: first.clone(),
                        second: name.clone(),
                    });
                }
            }
        }
        let listed = self
            .initial_cluster
            .get(&self.name)
            .ok_or_else(|| ConfigError::NotInInitialCluster(self.name.clone()))?;
        // `localhost` and 127.0.0.1 are the same place.
        let places = |urls: &[Url]| {
            let mut places: Vec<String> = urls
                .iter()
                .map(|url| {
                    url.socket_address()
                        .map_or_else(|| url.to_string(), |address| address.to_string())
                })
                .collect();
            places.sort();
            places.dedup();
            places
        };
        if places(listed) == places(&self.initial_advertise_peer_urls) {
            return Ok(());
        }
        let joined = |urls: &[Url]| {
            urls.iter()
                .map(Url::to_string)
                .collect::<Vec<_>>()
                .join(",")
        };
        Err(ConfigError::PeerUrlsDiffer {
            listed: joined(listed),
            advertised: joined(&self.initial_advertise_peer_urls),
        })
    }
}
