//! Assembles a configuration from the settings that were given, and checks what concerns several of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::duration;
use super::error::ConfigError;
use super::support;
use super::value::{Settings, Value};
use super::{
    Auth, AuthToken, AutoCompaction, ClusterState, Compaction, Config, Keepalive, LogConfig,
    LogFormat, LogLevel, MetricsLevel, Security, SocketOptions, Tls, TlsVersion, Url,
};

/// The configuration these settings make, or the first thing wrong with it.
pub(super) fn assemble(
    settings: &Settings,
    config_file: Option<PathBuf>,
    warnings: &mut Vec<String>,
) -> Result<Config, ConfigError> {
    check_bootstraps(settings)?;
    let inert = support::check(settings)?;
    if settings.is_given("listen-client-urls") && !settings.is_given("advertise-client-urls") {
        return Err(ConfigError::AdvertiseRequired);
    }
    let name = settings.text("name");
    let initial_advertise_peer_urls = some_urls(settings, "initial-advertise-peer-urls")?;
    let (heartbeat_interval, election_timeout) = election_timing(settings)?;
    let config = Config {
        data_dir: data_dir(settings, &name),
        wal_dir: settings.path("wal-dir"),
        listen_peer_urls: some_urls(settings, "listen-peer-urls")?,
        listen_client_urls: some_urls(settings, "listen-client-urls")?,
        listen_client_http_urls: settings.urls("listen-client-http-urls"),
        listen_metrics_urls: settings.urls("listen-metrics-urls"),
        initial_cluster: initial_cluster(settings, &name, &initial_advertise_peer_urls),
        initial_advertise_peer_urls,
        advertise_client_urls: some_urls(settings, "advertise-client-urls")?,
        name,
        initial_cluster_state: match settings.text("initial-cluster-state").as_str() {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        initial_cluster_token: settings.text("initial-cluster-token"),
        strict_reconfig_check: settings.bool("strict-reconfig-check"),
        force_new_cluster: settings.bool("force-new-cluster"),
        auto_promote_learners: settings.bool("auto-promote-learners"),
        max_learners: settings.unsigned_32("max-learners"),
        heartbeat_interval,
        election_timeout,
        initial_election_tick_advance: settings.bool("initial-election-tick-advance"),
        pre_vote: settings.bool("pre-vote"),
        snapshot_count: unless_zero(settings.unsigned("snapshot-count"), SNAPSHOT_COUNT),
        snapshot_catchup_entries: settings.unsigned("snapshot-catchup-entries"),
        quota_backend_bytes: quota(settings.signed("quota-backend-bytes"), warnings),
        max_txn_ops: settings.unsigned_32("max-txn-ops"),
        max_request_bytes: max_request_bytes(settings, warnings)?,
        max_concurrent_streams: settings.unsigned_32("max-concurrent-streams"),
        grpc_keepalive: keepalive(settings),
        socket_options: SocketOptions {
            reuse_port: settings.bool("socket-reuse-port"),
            reuse_address: settings.bool("socket-reuse-address"),
        },
        unsafe_no_fsync: settings.bool("unsafe-no-fsync"),
        security: security(settings),
        auth: auth(settings),
        log: log(settings),
        metrics: metrics(settings),
        enable_pprof: settings.bool("enable-pprof"),
        warning_apply_duration: settings.duration("warning-apply-duration"),
        warning_unary_request_duration: settings.duration("warning-unary-request-duration"),
        compaction: compaction(settings)?,
        watch_progress_notify_interval: progress_interval(settings, warnings),
        corrupt_check_time: unless_off(settings.duration("corrupt-check-time")),
        enable_grpc_gateway: settings.bool("enable-grpc-gateway"),
        feature_gates: match settings.value("feature-gates") {
            Value::FeatureGates(gates) => gates,
            other => panic!("--feature-gates is a list of gates, not {other:?}"),
        },
        config_file,
    };
    check_listeners(&config)?;
    warn(&config, &inert, warnings);
    Ok(config)
}

fn data_dir(settings: &Settings, name: &str) -> PathBuf {
    let given = settings.path("data-dir");
    given.unwrap_or_else(|| PathBuf::from(format!("{name}.etcd")))
}

fn check_bootstraps(settings: &Settings) -> Result<(), ConfigError> {
    let ways = ["initial-cluster", "discovery-srv", "discovery-endpoints"];
    if ways.iter().filter(|name| settings.is_given(name)).count() > 1 {
        return Err(ConfigError::SeveralBootstraps);
    }
    Ok(())
}

fn check_listeners(config: &Config) -> Result<(), ConfigError> {
    match config
        .listen_client_http_urls
        .iter()
        .find(|url| config.listen_client_urls.contains(url))
    {
        Some(url) => Err(ConfigError::SharedListener { url: url.clone() }),
        None => Ok(()),
    }
}

fn warn(config: &Config, inert: &[&str], warnings: &mut Vec<String>) {
    if !inert.is_empty() {
        let flags = inert
            .iter()
            .map(|name| format!("--{name}"))
            .collect::<Vec<_>>()
            .join(", ");
        warnings.push(format!(
            "accepted, but without effect in this version: {flags}"
        ));
    }
    if config.unsafe_no_fsync {
        warnings.push("--unsafe-no-fsync is set: a crash can lose acknowledged writes".to_owned());
    }
    let advertised = [
        &config.advertise_client_urls,
        &config.initial_advertise_peer_urls,
    ];
    let listened = [&config.listen_client_urls, &config.listen_peer_urls];
    let flags = ["advertise-client-urls", "initial-advertise-peer-urls"];
    for ((advertised, listened), flag) in advertised.into_iter().zip(listened).zip(flags) {
        let is_local = |url: &Url| {
            url.socket_address()
                .is_some_and(|address| address.ip().is_loopback())
        };
        if advertised.iter().all(is_local) && !listened.iter().all(is_local) {
            warnings.push(format!(
                "--{flag} names only this machine's loopback although others can connect; set it to a URL they can reach"
            ));
        }
    }
}

fn some_urls(settings: &Settings, name: &'static str) -> Result<Vec<Url>, ConfigError> {
    let urls = settings.urls(name);
    if urls.is_empty() {
        Err(ConfigError::NoUrls(name))
    } else {
        Ok(urls)
    }
}

fn initial_cluster(
    settings: &Settings,
    name: &str,
    advertised: &[Url],
) -> BTreeMap<String, Vec<Url>> {
    match settings.value("initial-cluster") {
        Value::Cluster(members) if !members.is_empty() => members,
        _ => BTreeMap::from([(name.to_owned(), advertised.to_vec())]),
    }
}

/// The heartbeat's interval and the election's timeout.
fn election_timing(settings: &Settings) -> Result<(Duration, Duration), ConfigError> {
    let heartbeat = settings.unsigned("heartbeat-interval");
    let election = settings.unsigned("election-timeout");
    if heartbeat == 0 {
        return Err(ConfigError::IntervalZero("heartbeat-interval"));
    }
    if election == 0 {
        return Err(ConfigError::IntervalZero("election-timeout"));
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(ConfigError::ElectionTooShort {
            election,
            heartbeat,
        });
    }
    if election > ELECTION_TIMEOUT_MS_MAX {
        return Err(ConfigError::ElectionTooLong {
            election,
            max: ELECTION_TIMEOUT_MS_MAX,
        });
    }
    Ok((
        Duration::from_millis(heartbeat),
        Duration::from_millis(election),
    ))
}

fn quota(bytes: i64, warnings: &mut Vec<String>) -> Option<u64> {
    let bytes = unless_zero(u64::try_from(bytes).ok()?, QUOTA_BYTES);
    if bytes > QUOTA_BYTES_ADVISED {
        warnings.push(format!(
            "--quota-backend-bytes={bytes} is above the advised {QUOTA_BYTES_ADVISED} (8 GiB)"
        ));
    }
    Some(bytes)
}

fn max_request_bytes(settings: &Settings, warnings: &mut Vec<String>) -> Result<u32, ConfigError> {
    let bytes = settings.unsigned_32("max-request-bytes");
    if bytes > REQUEST_BYTES_MAX {
        return Err(ConfigError::RequestsTooLarge {
            bytes,
            max: REQUEST_BYTES_MAX,
        });
    }
    if bytes > REQUEST_BYTES_ADVISED {
        warnings.push(format!(
            "--max-request-bytes={bytes} is above the advised {REQUEST_BYTES_ADVISED} (10 MiB)"
        ));
    }
    Ok(bytes)
}

fn progress_interval(settings: &Settings, warnings: &mut Vec<String>) -> Duration {
    let interval = unless_off(settings.duration("watch-progress-notify-interval"))
        .unwrap_or(PROGRESS_INTERVAL);
    if interval < PROGRESS_INTERVAL_MIN {
        warnings.push(
            "--watch-progress-notify-interval is raised to 100ms, its least value".to_owned(),
        );
    }
    interval.max(PROGRESS_INTERVAL_MIN)
}

pub(super) fn auto_compaction(settings: &Settings) -> Result<AutoCompaction, ConfigError> {
    const FLAG: &str = "auto-compaction-retention";
    let retention = settings.text(FLAG);
    let number = retention.parse::<u64>().ok();
    if number == Some(0) {
        return Ok(AutoCompaction::Off);
    }
    if settings.text("auto-compaction-mode") == "revision" {
        let reason = "expected a number of revisions, because --auto-compaction-mode is revision";
        return number
            .map(AutoCompaction::Revisions)
            .ok_or_else(|| settings.invalid(FLAG, retention, reason.to_owned()));
    }
    let seconds_of_hours = number.map(|hours| hours.checked_mul(3_600));
    let kept = match seconds_of_hours {
        Some(seconds) => seconds.map(Duration::from_secs),
        None => duration::parse_nanoseconds(&retention)
            .ok()
            .and_then(|n| u64::try_from(n).ok())
            .map(Duration::from_nanos),
    };
    kept.map(AutoCompaction::Periodic).ok_or_else(|| {
        settings.invalid(
            FLAG,
            retention,
            "expected a duration, or a number of hours".to_owned(),
        )
    })
}

fn compaction(settings: &Settings) -> Result<Compaction, ConfigError> {
    Ok(Compaction {
        auto: auto_compaction(settings)?,
        batch_limit: unless_zero(
            settings.unsigned_32("compaction-batch-limit"),
            COMPACTION_BATCH,
        ),
        sleep_interval: unless_off(settings.duration("compaction-sleep-interval"))
            .unwrap_or(COMPACTION_SLEEP),
    })
}

fn security(settings: &Settings) -> Security {
    Security {
        client_tls: client_tls(settings),
        peer_tls: peer_tls(settings),
        cipher_suites: settings.list("cipher-suites"),
        tls_min_version: tls_version(&settings.text("tls-min-version"))
            .unwrap_or(TlsVersion::Tls12),
        tls_max_version: tls_version(&settings.text("tls-max-version")),
        self_signed_cert_validity_years: settings.unsigned_32("self-signed-cert-validity"),
        cors: settings.list("cors"),
        host_whitelist: settings.list("host-whitelist"),
    }
}

fn auth(settings: &Settings) -> Auth {
    Auth {
        token: auth_token(&settings.text("auth-token")),
        token_ttl: Duration::from_secs(settings.unsigned("auth-token-ttl")),
        bcrypt_cost: settings.unsigned_32("bcrypt-cost"),
    }
}

fn auth_token(text: &str) -> AuthToken {
    match text.strip_prefix("jwt") {
        Some(options) => AuthToken::Jwt(options.trim_start_matches(',').to_owned()),
        None => AuthToken::Simple,
    }
}

fn tls_version(text: &str) -> Option<TlsVersion> {
    match text {
        "TLS1.2" => Some(TlsVersion::Tls12),
        "TLS1.3" => Some(TlsVersion::Tls13),
        _ => None,
    }
}

fn client_tls(settings: &Settings) -> Tls {
    Tls {
        cert_file: settings.path("cert-file"),
        key_file: settings.path("key-file"),
        client_cert_file: settings.path("client-cert-file"),
        client_key_file: settings.path("client-key-file"),
        trusted_ca_file: settings.path("trusted-ca-file"),
        crl_file: settings.path("client-crl-file"),
        client_cert_auth: settings.bool("client-cert-auth"),
        auto_tls: settings.bool("auto-tls"),
        allowed_cns: Vec::new(),
        allowed_hostnames: settings.list("client-cert-allowed-hostname"),
        skip_client_san_verification: false,
    }
}

fn peer_tls(settings: &Settings) -> Tls {
    Tls {
        cert_file: settings.path("peer-cert-file"),
        key_file: settings.path("peer-key-file"),
        client_cert_file: settings.path("peer-client-cert-file"),
        client_key_file: settings.path("peer-client-key-file"),
        trusted_ca_file: settings.path("peer-trusted-ca-file"),
        crl_file: settings.path("peer-crl-file"),
        client_cert_auth: settings.bool("peer-client-cert-auth"),
        auto_tls: settings.bool("peer-auto-tls"),
        allowed_cns: settings.list("peer-cert-allowed-cn"),
        allowed_hostnames: settings.list("peer-cert-allowed-hostname"),
        skip_client_san_verification: settings.bool("peer-skip-client-san-verification"),
    }
}

fn keepalive(settings: &Settings) -> Keepalive {
    Keepalive {
        min_time: settings.duration("grpc-keepalive-min-time"),
        interval: unless_off(settings.duration("grpc-keepalive-interval")),
        timeout: unless_off(settings.duration("grpc-keepalive-timeout")),
    }
}

fn metrics(settings: &Settings) -> MetricsLevel {
    match settings.text("metrics").as_str() {
        "extensive" => MetricsLevel::Extensive,
        _ => MetricsLevel::Basic,
    }
}

fn log(settings: &Settings) -> LogConfig {
    LogConfig {
        level: match settings.text("log-level").as_str() {
            "debug" => LogLevel::Debug,
            "warn" => LogLevel::Warn,
            "error" => LogLevel::Error,
            "panic" => LogLevel::Panic,
            "fatal" => LogLevel::Fatal,
            _ => LogLevel::Info,
        },
        format: match settings.text("log-format").as_str() {
            "console" => LogFormat::Console,
            _ => LogFormat::Json,
        },
        outputs: match settings.value("log-outputs") {
            Value::LogOutputs(outputs) => outputs,
            other => panic!("--log-outputs is a list of outputs, not {other:?}"),
        },
    }
}

/// Zero stands for the default.
fn unless_zero<N: Default + PartialEq>(number: N, default: N) -> N {
    if number == N::default() {
        default
    } else {
        number
    }
}

/// Zero stands for off.
fn unless_off(duration: Duration) -> Option<Duration> {
    Some(duration).filter(|duration| !duration.is_zero())
}

const SNAPSHOT_COUNT: u64 = 10_000;
const ELECTION_TIMEOUT_MS_MAX: u64 = 50_000;
const QUOTA_BYTES: u64 = 2 << 30;
const QUOTA_BYTES_ADVISED: u64 = 8 << 30;
const REQUEST_BYTES_ADVISED: u32 = 10 << 20;
/// A batch of the log and a message to another member take 256 MiB, and a request is wrapped before it is in them.
const REQUEST_BYTES_MAX: u32 = 128 << 20;
const COMPACTION_BATCH: u32 = 1_000;
const COMPACTION_SLEEP: Duration = Duration::from_millis(10);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);
