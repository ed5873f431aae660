//! The YAML file.

use super::*;

fn read(file: &str) -> (Config, Vec<String>) {
    started(run_with_file("--config-file conf.yml", &[], Some(file)))
}

fn file_fault(file: &str) -> (String, u8) {
    fault(run_with_file("--config-file conf.yml", &[], Some(file)))
}

#[test]
fn a_file_sets_what_flags_set() {
    let (config, warnings) = read(SAMPLE);
    assert_eq!(
        warnings,
        ["accepted, but without effect in this version: --socket-reuse-port"]
    );
    assert_eq!(config.name, "m1");
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/m1"));
    assert_eq!(
        texts(&config.listen_client_urls),
        ["http://0.0.0.0:2379", "http://127.0.0.1:2479"]
    );
    assert_eq!(
        texts(&config.initial_cluster["m1"]),
        ["http://10.0.0.1:2380"]
    );
    assert_eq!(config.initial_cluster_token, "17");
    assert_eq!(config.quota_backend_bytes, Some(4_294_967_296));
    assert_eq!(config.heartbeat_interval, Duration::from_millis(200));
    assert_eq!(config.election_timeout, Duration::from_millis(2_000));
    assert_eq!(config.grpc_keepalive.min_time, Duration::from_secs(5));
    assert_eq!(
        config.socket_options,
        SocketOptions {
            reuse_port: true,
            reuse_address: false
        }
    );
    assert_eq!(
        config.log.outputs,
        [
            LogOutput::Stderr,
            LogOutput::File(PathBuf::from("/var/log/m1.log"))
        ]
    );
    assert_eq!(config.log.level, LogLevel::Warn);
    assert!(!config.pre_vote);
    assert_eq!(config.config_file, Some(PathBuf::from("conf.yml")));
    assert!(config.check_bootstrap().is_ok());
}

const SAMPLE: &str = r#"
# a member
name: m1
data-dir: "/var/lib/m1"
wal-dir: ~
listen-client-urls: http://0.0.0.0:2379,http://127.0.0.1:2479
advertise-client-urls: http://10.0.0.1:2379
listen-peer-urls: http://10.0.0.1:2380
initial-advertise-peer-urls: http://10.0.0.1:2380
initial-cluster: m1=http://10.0.0.1:2380
initial-cluster-token: 17
initial-cluster-state: new
quota-backend-bytes: 4294967296
heartbeat-interval: 200
election-timeout: 2000
grpc-keepalive-min-time: 5000000000
auto-compaction-mode: periodic
auto-compaction-retention: "0"
cors: "*"
pre-vote: no
log-level: warn
log-outputs: [stderr, /var/log/m1.log]
client-transport-security:
  cert-file: ""
  client-cert-auth: false
peer-transport-security:
socket-options:
  reuse-port: true
discovery-config: {token: "", endpoints: []}
"#;

#[test]
fn a_file_holds_alone() {
    let startup = run_with_file(
        "--config-file conf.yml --name flag",
        &["ETCD_NAME=env"],
        Some("data-dir: /d"),
    );
    let (config, warnings) = started(startup);
    assert_eq!(
        (config.name.as_str(), config.data_dir),
        ("default", PathBuf::from("/d"))
    );
    assert_eq!(
        warnings,
        [
            "the configuration file conf.yml holds alone: all other flags and environment variables are ignored"
        ]
    );
}

#[test]
fn a_variable_can_name_the_file() {
    for variable in [
        "ETCD_CONFIG_FILE=conf.yml",
        "METASTORE_CONFIG_FILE=conf.yml",
    ] {
        let (config, warnings) = started(run_with_file("", &[variable], Some("name: m1")));
        assert_eq!(
            (config.name.as_str(), warnings.len()),
            ("m1", 0),
            "{variable}"
        );
    }
    let both = run_with_file(
        "--config-file conf.yml",
        &["ETCD_CONFIG_FILE=other.yml"],
        Some("name: m1"),
    );
    assert_eq!(started(both).0.name, "m1");
}

#[test]
fn an_empty_file_is_all_defaults() {
    for file in ["", "---\n", "# nothing\n", "{}"] {
        assert_eq!(
            read(file).0,
            Config {
                config_file: Some(PathBuf::from("conf.yml")),
                ..config("")
            },
            "{file:?}"
        );
    }
}

#[test]
fn unknown_keys_are_ignored_with_a_warning() {
    let (config, warnings) =
        read("name: m1\nnonsense: 1\nsocket-options: {other: 2}\nversion: true\n");
    assert_eq!(config.name, "m1");
    assert_eq!(
        warnings,
        ["nonsense", "socket-options.other", "version"]
            .map(|key| format!("the key {key:?} of the configuration file is unknown and ignored"))
    );
}

#[test]
fn faults_of_a_file_end_with_code_one_and_name_their_key() {
    let in_file = |flag: &str, key: &str| format!("--{flag} ({key} in the configuration file)");
    let cases = [
        (
            "grpc-keepalive-interval: 5s",
            format!(
                "invalid value \"5s\" for {}: expected whole nanoseconds, such as 5000000000 for 5s",
                in_file("grpc-keepalive-interval", "grpc-keepalive-interval")
            ),
        ),
        (
            "grpc-keepalive-interval: -5",
            format!(
                "invalid value \"-5\" for {}: a duration must not be negative here",
                in_file("grpc-keepalive-interval", "grpc-keepalive-interval")
            ),
        ),
        (
            "max-txn-ops: many",
            format!(
                "invalid value \"many\" for {}: expected a whole number from 0 to 4294967295",
                in_file("max-txn-ops", "max-txn-ops")
            ),
        ),
        (
            "socket-options: {reuse-port: maybe}",
            format!(
                "invalid value \"maybe\" for {}: expected true or false",
                in_file("socket-reuse-port", "socket-options.reuse-port")
            ),
        ),
        (
            "socket-options: 5",
            format!(
                "invalid value \"5\" for {}: expected a mapping under socket-options",
                in_file("socket-reuse-port", "socket-options")
            ),
        ),
        ("name: [a]", format!("invalid value \"\" for {}: expected a single value", in_file("name", "name"))),
        (
            "- a list",
            "cannot parse the configuration file conf.yml: expected a mapping of settings, such as \"name: default\"".to_owned(),
        ),
        (
            "listen-client-urls: http://10.0.0.1:1",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly".to_owned(),
        ),
    ];
    for (file, text) in cases {
        assert_eq!(file_fault(file), (text, 1), "{file}");
    }
    let (text, code) = file_fault("name: \"open");
    assert!(
        text.starts_with("cannot parse the configuration file conf.yml: "),
        "{text}"
    );
    assert_eq!(code, 1);
    let (text, code) = fault(run_with_file("--config-file absent.yml", &[], Some("")));
    assert!(
        text.starts_with("cannot read the configuration file absent.yml: "),
        "{text}"
    );
    assert_eq!(code, 1);
}

#[test]
fn dangerous_settings_of_a_file_are_refused_too() {
    let cases = [
        (
            "client-transport-security: {cert-file: c}",
            "cert-file",
            "client-transport-security.cert-file",
        ),
        (
            "client-transport-security: {client-cert-auth: true}",
            "client-cert-auth",
            "client-transport-security.client-cert-auth",
        ),
        (
            "client-transport-security: {allowed-cn: [a]}",
            "client-cert-allowed-hostname",
            "client-transport-security.allowed-cn",
        ),
        (
            "peer-transport-security: {auto-tls: yes}",
            "peer-auto-tls",
            "peer-transport-security.auto-tls",
        ),
        (
            "peer-transport-security: {allowed-hostname: [a, b]}",
            "peer-cert-allowed-hostname",
            "peer-transport-security.allowed-hostname",
        ),
        ("cert-file: c", "cert-file", "cert-file"),
        (
            "discovery-config: {token: t}",
            "discovery-endpoints",
            "discovery-config",
        ),
    ];
    for (file, flag, key) in cases {
        let (text, code) = file_fault(file);
        let start = format!("--{flag} ({key} in the configuration file) is not supported yet: ");
        assert!(text.starts_with(&start), "{file}: {text}");
        assert_eq!(code, 1, "{file}");
    }
}
