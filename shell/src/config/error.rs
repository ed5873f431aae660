//! Why the server does not start with the settings it was given, each in one line with its exit code.

use std::fmt;
use std::path::PathBuf;

use super::url::Url;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// As a flag.
    CommandLine,
    /// In this environment variable.
    Variable(String),
    /// In the configuration file, under this key.
    File(String),
}

/// A flag together with where it was given; prints as `--flag`, and says so if it was not given as a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The flag without dashes.
    pub flag: &'static str,
    /// Where it was given.
    pub origin: Origin,
}

/// Why the server does not start. `Display` is one line: what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An argument that is not a flag.
    #[error("{0:?} is not a valid flag")]
    NotAFlag(String),
    /// Arguments have to be UTF-8.
    #[error("the argument {0:?} is not valid UTF-8; write it in UTF-8")]
    NotUtf8(String),
    /// An argument such as `---x` or `-=x`.
    #[error("bad flag syntax: {0:?}; write --flag or --flag=value")]
    BadFlagSyntax(String),
    /// A flag that does not exist.
    #[error("flag provided but not defined: -{0}; see metastore --help")]
    UnknownFlag(String),
    /// A flag at the end of the command line without its value.
    #[error("flag needs an argument: -{0}")]
    MissingArgument(&'static str),
    /// A value that does not fit its flag.
    #[error("invalid value {value:?} for {setting}: {reason}")]
    InvalidValue {
        /// The flag.
        setting: Setting,
        /// What was given.
        value: String,
        /// What was expected.
        reason: String,
    },
    /// A variable and a flag both set the same thing.
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag: \
         {variable} and --{flag} are both set; unset one of them"
    )]
    Shadowed {
        /// The variable with its prefix.
        variable: String,
        /// The flag without dashes.
        flag: &'static str,
    },
    /// Clients would be told to connect to localhost.
    #[error("--advertise-client-urls is required when --listen-client-urls is set explicitly")]
    AdvertiseRequired,
    /// A setting whose feature is not built, and which would be dangerous to ignore.
    #[error("{setting} is not supported yet: {why}")]
    Unsupported {
        /// The flag.
        setting: Setting,
        /// Why, and what to do instead.
        why: String,
    },
    /// A value of a supported flag whose feature is not built, and which would be dangerous to ignore.
    #[error("{setting}: {value} is not supported yet: {why}")]
    UnsupportedValue {
        /// The flag.
        setting: Setting,
        /// The value, or what it asks for.
        value: String,
        /// Why, and what to do instead.
        why: String,
    },
    /// A listener can only be bound to an address.
    #[error(
        "{setting}: expected IP in URL for binding ({url}); use an IP address or localhost instead of a name"
    )]
    ListenNeedsIp {
        /// The flag.
        setting: Setting,
        /// The URL with the name.
        url: Url,
    },
    /// The same URL cannot serve both.
    #[error(
        "{url} is in both --listen-client-http-urls and --listen-client-urls; give each its own port"
    )]
    SharedListener {
        /// The URL in both.
        url: Url,
    },
    /// Followers would call elections while their leader lives.
    #[error(
        "--election-timeout ({election} ms) must be at least 5 times --heartbeat-interval ({heartbeat} ms)"
    )]
    ElectionTooShort {
        /// In milliseconds.
        election: u64,
        /// In milliseconds.
        heartbeat: u64,
    },
    /// A timer that would never wait.
    #[error("--{0} must be above 0 ms")]
    IntervalZero(&'static str),
    /// A failed leader would be noticed too late.
    #[error("--election-timeout ({election} ms) must be at most {max} ms")]
    ElectionTooLong {
        /// In milliseconds.
        election: u64,
        /// In milliseconds.
        max: u64,
    },
    /// A request that is taken has to fit into the log.
    #[error("--max-request-bytes ({bytes}) must be at most {max} (128 MiB)")]
    RequestsTooLarge {
        /// What was given.
        bytes: u32,
        /// In bytes.
        max: u32,
    },
    /// No listener would be left for clients or members.
    #[error("--{0} is empty; give it at least one URL")]
    NoUrls(&'static str),
    /// Only one way to find the first members.
    #[error("only one of --initial-cluster, --discovery-srv and --discovery-endpoints may be set")]
    SeveralBootstraps,
    /// The list of the first members lacks this one.
    #[error("--initial-cluster does not list this member: add {0:?} with its URLs, or set --name")]
    NotInInitialCluster(String),
    /// The list of the first members has other URLs for this one.
    #[error(
        "--initial-cluster gives {listed} for this member, but --initial-advertise-peer-urls is {advertised}; make them equal"
    )]
    PeerUrlsDiffer {
        /// From `--initial-cluster`, comma-separated.
        listed: String,
        /// From `--initial-advertise-peer-urls`, comma-separated.
        advertised: String,
    },
    /// Two of the first members have a URL in common.
    #[error(
        "--initial-cluster gives {url} to both {first:?} and {second:?}; give each member its own peer URLs"
    )]
    SharedPeerUrl {
        /// The URL.
        url: Url,
        /// One of the members.
        first: String,
        /// The other.
        second: String,
    },
    /// The configuration file could not be read.
    #[error("cannot read the configuration file {}: {error}", path.display())]
    FileUnreadable {
        /// Its path.
        path: PathBuf,
        /// From the system.
        error: std::io::Error,
    },
    /// The configuration file is not a YAML mapping.
    #[error("cannot parse the configuration file {}: {fault}", path.display())]
    FileMalformed {
        /// Its path.
        path: PathBuf,
        /// What is wrong, with its place.
        fault: String,
    },
}

impl ConfigError {
    /// The process's exit code: 2 for a malformed command line, after which the usage is shown; else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConfigError::BadFlagSyntax(_)
            | ConfigError::UnknownFlag(_)
            | ConfigError::MissingArgument(_) => 2,
            ConfigError::InvalidValue { setting, .. } if setting.origin == Origin::CommandLine => 2,
            _ => 1,
        }
    }

    /// Whether the usage belongs on stderr after the error.
    pub fn wants_usage(&self) -> bool {
        self.exit_code() == 2
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{}", self.flag)?;
        match &self.origin {
            Origin::CommandLine => Ok(()),
            Origin::Variable(name) => write!(f, " (set by {name})"),
            Origin::File(key) => write!(f, " ({key} in the configuration file)"),
        }
    }
}
