//! Every flag of the server as data: its name, kind, default, support level and help.
//!
//! When a feature is built, its row flips from `Refused` or `Inert` to `Supported`.

/// One flag: a command-line flag, an environment variable and a configuration file key at once.
#[derive(Debug)]
pub struct Flag {
    /// As written after `--`.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// The default as it would be written on the command line; empty for none.
    pub default: &'static str,
    /// What happens when it is set.
    pub support: Support,
    /// One line for the flag list.
    pub help: &'static str,
}

/// What the value of a flag looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `--flag`, `--flag=true` or `--flag=false`.
    Bool,
    /// A whole number between the two bounds, both included.
    Integer(i64, i64),
    /// A Go duration that is not negative; whole nanoseconds in the configuration file.
    Duration,
    /// A comma-separated list of URLs to listen on: IP addresses or `localhost` only.
    ListenUrls,
    /// A comma-separated list of URLs that others are told.
    AdvertiseUrls,
    /// `name=url[,name=url…]`.
    Cluster,
    /// A comma-separated list of texts.
    List,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `simple`, or `jwt` with its options.
    AuthToken,
    /// A retention: a whole number or a duration, depending on the compaction mode.
    Retention,
    /// `Name=true,Other=false`.
    FeatureGates,
    /// Where the log goes.
    LogOutputs,
    /// Without meaning for long, kept so that old command lines start; behaves like a boolean with any value.
    Ignored,
}

/// What this server makes of a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It does what it says.
    Supported,
    /// Accepted without effect; a value other than the default is mentioned in a warning.
    Inert,
    /// A value other than the default would be dangerous to ignore: the server does not start. Says why and what to do.
    Refused(&'static str),
}

impl Flag {
    /// The environment variable without its prefix: `DATA_DIR` for `data-dir`.
    pub fn variable(&self) -> String {
        self.name.to_ascii_uppercase().replace('-', "_")
    }

    /// Whether the flag may stand without a value.
    pub fn is_boolean(&self) -> bool {
        matches!(self.kind, Kind::Bool | Kind::Ignored)
    }
}

/// The flag of that name.
pub fn find(name: &str) -> Option<&'static Flag> {
    flags().find(|flag| flag.name == name)
}

/// All flags, in the order of the flag list.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|(_, flags)| flags.iter())
}

const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    support: Support,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        kind,
        default,
        support,
        help,
    }
}

use Kind::{
    AdvertiseUrls, AuthToken, Bool, Choice, Cluster, Duration, FeatureGates, Ignored, Integer,
    List, ListenUrls, LogOutputs, Retention, Text,
};
use Support::{Inert, Refused, Supported};

const COUNT: Kind = Integer(0, i64::MAX);
const COUNT_32: Kind = Integer(0, u32::MAX as i64);

const TLS_VERSION: Kind = Choice(&["TLS1.2", "TLS1.3"]);

const TLS: Support = Refused(
    "TLS is not built yet and traffic would be in plain text; unset it and keep the ports on a trusted network",
);
const DISCOVERY: Support =
    Refused("discovery of other members is not built; list them in --initial-cluster");
const WEB_ACCESS: Support = Refused(
    "limiting access by browsers is not built; leave it at \"*\" and limit access in front of the server",
);
const JWT: Support = Refused("JSON web tokens are not built; use --auth-token=simple");

/// The sections of the flag list with their flags.
#[rustfmt::skip]
pub const SECTIONS: &[(&str, &[Flag])] = &[
    ("Member", &[
        flag("name", Text, "default", Supported, "Name of this member; its key in --initial-cluster."),
        flag("data-dir", Text, "", Supported, "Data directory; <name>.etcd if not set."),
        flag("wal-dir", Text, "", Supported, "Separate directory for the log; inside the data directory if not set."),
        flag("listen-peer-urls", ListenUrls, "http://localhost:2380", Supported, "URLs to listen on for other members."),
        flag("listen-client-urls", ListenUrls, "http://localhost:2379", Supported, "URLs to listen on for clients, gRPC and HTTP."),
        flag("listen-client-http-urls", ListenUrls, "", Supported, "URLs only for HTTP clients; takes HTTP off --listen-client-urls."),
        flag("listen-metrics-urls", ListenUrls, "", Supported, "Further URLs that serve only health (metrics are not there yet)."),
        flag("max-wals", COUNT, "5", Inert, "Log files to keep; 0 keeps all."),
        flag("snapshot-count", COUNT, "10000", Supported, "Applied entries between two snapshots; 0 is the default."),
        flag("snapshot-catchup-entries", COUNT, "5000", Supported, "Log entries kept for slow followers after a snapshot."),
        flag("heartbeat-interval", COUNT, "100", Supported, "Leader's heartbeat in milliseconds."),
        flag("election-timeout", COUNT, "1000", Supported, "Election timeout in milliseconds; at least 5 heartbeats."),
        flag("initial-election-tick-advance", Bool, "true", Inert, "Shorten the wait for the first election."),
        flag("pre-vote", Bool, "true", Supported, "Ask whether an election can be won before calling it."),
        flag("quota-backend-bytes", Integer(i64::MIN, i64::MAX), "0", Supported, "Space quota in bytes; 0 is 2 GiB, negative is none."),
        flag("backend-bbolt-freelist-type", Choice(&["array", "map"]), "map", Inert, "Free list of etcd's storage."),
        flag("backend-batch-interval", Duration, "0s", Inert, "Longest time before etcd's storage commits a batch."),
        flag("backend-batch-limit", COUNT, "0", Inert, "Most operations before etcd's storage commits a batch."),
        flag("max-txn-ops", COUNT_32, "128", Supported, "Most operations in one transaction."),
        flag("max-request-bytes", COUNT_32, "1572864", Supported, "Largest request in bytes."),
        flag("max-concurrent-streams", COUNT_32, "4294967295", Supported, "Most streams of one client connection."),
        flag("grpc-keepalive-min-time", Duration, "5s", Inert, "Shortest interval between a client's pings."),
        flag("grpc-keepalive-interval", Duration, "2h", Supported, "Ping idle clients this often; 0 is never."),
        flag("grpc-keepalive-timeout", Duration, "20s", Supported, "Close a connection this long after an unanswered ping; 0 is never."),
        flag("socket-reuse-port", Bool, "false", Inert, "Listen with SO_REUSEPORT."),
        flag("socket-reuse-address", Bool, "false", Inert, "Listen with SO_REUSEADDR."),
        flag("raft-read-timeout", Duration, "5s", Inert, "Read timeout of connections between members."),
        flag("raft-write-timeout", Duration, "5s", Inert, "Write timeout of connections between members."),
        flag("memory-mlock", Bool, "false", Inert, "Lock the server's memory."),
        flag("max-learners", COUNT_32, "1", Supported, "Most learners in the cluster."),
        flag("auto-promote-learners", Bool, "false", Supported, "Make voters of learners that have caught up; etcd has no such flag."),
    ]),
    ("Cluster", &[
        flag("initial-advertise-peer-urls", AdvertiseUrls, "http://localhost:2380", Supported, "This member's URLs as other members are told."),
        flag("initial-cluster", Cluster, "", Supported, "The first members, name=url[,name=url...]; this member alone if not set."),
        flag("initial-cluster-state", Choice(&["new", "existing"]), "new", Supported, "Start a new cluster or join an existing one."),
        flag("initial-cluster-token", Text, "etcd-cluster", Supported, "Tells clusters with equal members apart."),
        flag("advertise-client-urls", AdvertiseUrls, "http://localhost:2379", Supported, "This member's URLs as clients are told."),
        flag("strict-reconfig-check", Bool, "true", Supported, "Refuse membership changes that would lose the quorum."),
        flag("discovery-srv", Text, "", DISCOVERY, "Domain whose SRV records name the first members."),
        flag("discovery-srv-name", Text, "", DISCOVERY, "Suffix of the SRV service name."),
        flag("discovery-token", Text, "", DISCOVERY, "Token of the new cluster at the discovery service."),
        flag("discovery-endpoints", List, "", DISCOVERY, "Endpoints of the discovery service."),
        flag("discovery-dial-timeout", Duration, "2s", DISCOVERY, "Dial timeout of the discovery client."),
        flag("discovery-request-timeout", Duration, "5s", DISCOVERY, "Request timeout of the discovery client."),
        flag("discovery-keepalive-time", Duration, "2s", DISCOVERY, "Ping interval of the discovery client."),
        flag("discovery-keepalive-timeout", Duration, "6s", DISCOVERY, "Ping timeout of the discovery client."),
        flag("discovery-insecure-transport", Bool, "true", DISCOVERY, "Speak plain text to the discovery service."),
        flag("discovery-insecure-skip-tls-verify", Bool, "false", DISCOVERY, "Do not verify the discovery service's certificate."),
        flag("discovery-cert", Text, "", DISCOVERY, "Certificate of the discovery client."),
        flag("discovery-key", Text, "", DISCOVERY, "Key of the discovery client."),
        flag("discovery-cacert", Text, "", DISCOVERY, "CA of the discovery service."),
        flag("discovery-user", Text, "", DISCOVERY, "User at the discovery service."),
        flag("discovery-password", Text, "", DISCOVERY, "Password at the discovery service."),
        flag("discovery-fallback", Choice(&["exit"]), "exit", Supported, "What to do when discovery fails; only exit."),
        flag("force-new-cluster", Bool, "false", Supported, "Keep the data and make this its only member."),
    ]),
    ("Security", &[
        flag("cert-file", Text, "", TLS, "Server certificate for clients."),
        flag("key-file", Text, "", TLS, "Key of the server certificate."),
        flag("client-cert-auth", Bool, "false", TLS, "Require and verify clients' certificates."),
        flag("trusted-ca-file", Text, "", TLS, "CA of clients' certificates."),
        flag("client-cert-file", Text, "", TLS, "Certificate this server shows as a client."),
        flag("client-key-file", Text, "", TLS, "Key of --client-cert-file."),
        flag("client-crl-file", Text, "", TLS, "Revoked client certificates."),
        flag("client-cert-allowed-hostname", List, "", TLS, "Names allowed in clients' certificates."),
        flag("auto-tls", Bool, "false", TLS, "TLS for clients with a generated certificate."),
        flag("peer-cert-file", Text, "", TLS, "Certificate for other members."),
        flag("peer-key-file", Text, "", TLS, "Key of --peer-cert-file."),
        flag("peer-client-cert-auth", Bool, "false", TLS, "Require and verify members' certificates."),
        flag("peer-trusted-ca-file", Text, "", TLS, "CA of members' certificates."),
        flag("peer-client-cert-file", Text, "", TLS, "Certificate this member shows when it connects to others."),
        flag("peer-client-key-file", Text, "", TLS, "Key of --peer-client-cert-file."),
        flag("peer-crl-file", Text, "", TLS, "Revoked member certificates."),
        flag("peer-auto-tls", Bool, "false", TLS, "TLS between members with generated certificates."),
        flag("peer-cert-allowed-cn", List, "", TLS, "Common names allowed in members' certificates."),
        flag("peer-cert-allowed-hostname", List, "", TLS, "Names allowed in members' certificates."),
        flag("peer-skip-client-san-verification", Bool, "false", TLS, "Do not verify the names in members' client certificates."),
        flag("self-signed-cert-validity", Integer(1, 1000), "1", Inert, "Years a generated certificate is valid."),
        flag("cipher-suites", List, "", TLS, "TLS cipher suites; chosen by the server if not set."),
        flag("tls-min-version", TLS_VERSION, "TLS1.2", TLS, "Lowest TLS version."),
        flag("tls-max-version", TLS_VERSION, "", TLS, "Highest TLS version; chosen by the server if not set."),
        flag("cors", List, "*", WEB_ACCESS, "Origins allowed to call from a browser."),
        flag("host-whitelist", List, "*", WEB_ACCESS, "Host names accepted in plain-text HTTP requests."),
    ]),
    ("Auth", &[
        flag("auth-token", AuthToken, "simple", JWT, "Kind of tokens: simple, or jwt with its options."),
        flag("bcrypt-cost", Integer(4, 31), "10", Inert, "Cost of hashing a password."),
        flag("auth-token-ttl", Integer(1, u32::MAX as i64), "300", Inert, "Life of an unused simple token in seconds."),
    ]),
    ("Logging, metrics, profiling, tracing", &[
        flag("logger", Choice(&["zap"]), "zap", Supported, "Shape of the log; only zap."),
        flag("log-outputs", LogOutputs, "default", Supported, "default or stderr, stdout, or file paths, as a list."),
        flag("log-level", Choice(&["debug", "info", "warn", "error", "panic", "fatal"]), "info", Supported, "Lowest level that is logged: debug, info, warn, error, panic or fatal."),
        flag("log-format", Choice(&["json", "console"]), "json", Supported, "json or console."),
        flag("enable-log-rotation", Bool, "false", Inert, "Rotate the log file."),
        flag("log-rotation-config-json", Text, "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \"compress\": false}", Inert, "How to rotate the log file."),
        flag("metrics", Choice(&["basic", "extensive"]), "basic", Inert, "extensive adds latency histograms of each call."),
        flag("enable-pprof", Bool, "false", Inert, "Serve runtime profiles."),
        flag("warning-apply-duration", Duration, "100ms", Inert, "Warn when applying an entry takes longer."),
        flag("warning-unary-request-duration", Duration, "300ms", Inert, "Warn when a request takes longer."),
        flag("enable-distributed-tracing", Bool, "false", Inert, "Export OpenTelemetry traces."),
        flag("distributed-tracing-address", Text, "localhost:4317", Inert, "Where traces go."),
        flag("distributed-tracing-service-name", Text, "etcd", Inert, "Service name in traces."),
        flag("distributed-tracing-instance-id", Text, "", Inert, "Instance id in traces."),
        flag("distributed-tracing-sampling-rate", Integer(0, 1_000_000), "0", Inert, "Traces kept of each million."),
    ]),
    ("Behaviour", &[
        flag("auto-compaction-mode", Choice(&["periodic", "revision"]), "periodic", Supported, "Compact by time or by number of revisions."),
        flag("auto-compaction-retention", Retention, "0", Supported, "What compaction keeps: a duration (a bare number is hours) or a number of revisions; 0 is off."),
        flag("enable-grpc-gateway", Bool, "true", Inert, "Serve the JSON gateway under /v3/."),
        flag("corrupt-check-time", Duration, "0s", Inert, "Compare members' hashes this often; 0 is never."),
        flag("compact-hash-check-time", Duration, "1m", Inert, "Compare members' compaction hashes this often."),
        flag("compaction-batch-limit", COUNT_32, "0", Inert, "Records compacted in one step; 0 is 1000."),
        flag("compaction-sleep-interval", Duration, "0s", Inert, "Pause between two steps of compaction; 0 is 10ms."),
        flag("watch-progress-notify-interval", Duration, "0s", Supported, "Interval of watch progress notifications; 0 is 10m."),
        flag("downgrade-check-time", Duration, "5s", Inert, "Interval of the downgrade check."),
        flag("bootstrap-defrag-threshold-megabytes", COUNT, "0", Inert, "Defragment at start if that frees as much; 0 is off."),
        flag("unsafe-no-fsync", Bool, "false", Supported, "Unsafe: do not wait for the disk; a crash loses acknowledged writes."),
        flag("feature-gates", FeatureGates, "", Inert, "Features to switch on or off: Name=true,Other=false."),
        flag("config-file", Text, "", Supported, "YAML file with the whole configuration; all other flags and variables are then ignored."),
        flag("version", Bool, "false", Supported, "Print the version and exit."),
    ]),
    ("Ignored", &[
        flag("cluster-active-size", Ignored, "", Inert, "Has no meaning."),
        flag("cluster-remove-delay", Ignored, "", Inert, "Has no meaning."),
        flag("cluster-sync-interval", Ignored, "", Inert, "Has no meaning."),
        flag("config", Ignored, "", Inert, "Has no meaning."),
        flag("force", Ignored, "", Inert, "Has no meaning."),
        flag("max-result-buffer", Ignored, "", Inert, "Has no meaning."),
        flag("max-retry-attempts", Ignored, "", Inert, "Has no meaning."),
        flag("peer-heartbeat-interval", Ignored, "", Inert, "Has no meaning."),
        flag("peer-election-timeout", Ignored, "", Inert, "Has no meaning."),
        flag("retry-interval", Ignored, "", Inert, "Has no meaning."),
        flag("snapshot", Ignored, "", Inert, "Has no meaning."),
        flag("v", Ignored, "", Inert, "Has no meaning."),
        flag("vv", Ignored, "", Inert, "Has no meaning."),
    ]),
];
