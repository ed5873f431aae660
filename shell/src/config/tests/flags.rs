//! The grammar of the command line, the environment, and which of them wins.

use super::*;

#[test]
fn every_flag_that_users_know_is_in_the_table() {
    let known = "
        name data-dir wal-dir listen-peer-urls listen-client-urls listen-client-http-urls listen-metrics-urls max-wals
        snapshot-count snapshot-catchup-entries heartbeat-interval election-timeout initial-election-tick-advance
        pre-vote quota-backend-bytes backend-bbolt-freelist-type backend-batch-interval backend-batch-limit max-txn-ops
        max-request-bytes max-concurrent-streams grpc-keepalive-min-time grpc-keepalive-interval
        grpc-keepalive-timeout socket-reuse-port socket-reuse-address raft-read-timeout raft-write-timeout
        memory-mlock max-learners auto-promote-learners
        initial-advertise-peer-urls initial-cluster initial-cluster-state initial-cluster-token advertise-client-urls
        strict-reconfig-check discovery-srv discovery-srv-name discovery-token discovery-endpoints
        discovery-dial-timeout discovery-request-timeout discovery-keepalive-time discovery-keepalive-timeout
        discovery-insecure-transport discovery-insecure-skip-tls-verify discovery-cert discovery-key
        discovery-cacert discovery-user discovery-password discovery-fallback force-new-cluster
        cluster-active-size cluster-remove-delay cluster-sync-interval config force max-result-buffer
        max-retry-attempts peer-heartbeat-interval peer-election-timeout retry-interval snapshot v vv
        cert-file key-file client-cert-auth trusted-ca-file client-cert-file client-key-file client-crl-file
        client-cert-allowed-hostname auto-tls peer-cert-file peer-key-file peer-client-cert-auth peer-trusted-ca-file
        peer-client-cert-file peer-client-key-file peer-crl-file peer-auto-tls peer-cert-allowed-cn
        peer-cert-allowed-hostname peer-skip-client-san-verification self-signed-cert-validity cipher-suites
        tls-min-version tls-max-version cors host-whitelist
        auth-token bcrypt-cost auth-token-ttl
        logger log-outputs log-level log-format enable-log-rotation log-rotation-config-json metrics enable-pprof
        warning-apply-duration warning-unary-request-duration enable-distributed-tracing distributed-tracing-address
        distributed-tracing-service-name distributed-tracing-instance-id distributed-tracing-sampling-rate
        auto-compaction-mode auto-compaction-retention enable-grpc-gateway corrupt-check-time compact-hash-check-time
        compaction-batch-limit compaction-sleep-interval watch-progress-notify-interval downgrade-check-time
        bootstrap-defrag-threshold-megabytes unsafe-no-fsync feature-gates config-file version";
    let mut known: Vec<&str> = known.split_whitespace().collect();
    let mut table: Vec<&str> = flag_table::flags().map(|flag| flag.name).collect();
    known.sort_unstable();
    table.sort_unstable();
    assert_eq!(
        table, known,
        "the table has each of these once and no other"
    );
}

#[test]
fn every_default_parses_and_starts_without_a_warning() {
    for flag in flag_table::flags() {
        value::default_value(flag);
    }
    assert_eq!(warnings(""), Vec::<String>::new());
}

#[test]
fn one_dash_or_two_and_equals_or_a_word_are_the_same() {
    for args in [
        "--name m1",
        "--name=m1",
        "-name m1",
        "-name=m1",
        "--name m0 --name m1",
    ] {
        assert_eq!(config(args).name, "m1", "{args}");
    }
    assert_eq!(
        config("--initial-cluster-token=a=b").initial_cluster_token,
        "a=b"
    );
    assert_eq!(config("--quota-backend-bytes -1").quota_backend_bytes, None);
}

#[test]
fn booleans_take_no_word() {
    for (args, expected) in [
        ("--unsafe-no-fsync", true),
        ("-unsafe-no-fsync", true),
        ("--unsafe-no-fsync=true", true),
        ("--unsafe-no-fsync=false", false),
        ("", false),
    ] {
        assert_eq!(config(args).unsafe_no_fsync, expected, "{args}");
    }
    assert!(!config("--pre-vote=false").pre_vote);
    assert_eq!(
        fault(run("--unsafe-no-fsync false", &[])),
        ("\"false\" is not a valid flag".to_owned(), 1)
    );
}

#[test]
fn malformed_command_lines_end_with_their_code() {
    let cases = [
        ("x", "\"x\" is not a valid flag", 1),
        ("--name m1 x --nonsense", "\"x\" is not a valid flag", 1),
        ("-", "\"-\" is not a valid flag", 1),
        ("-- --name", "\"--name\" is not a valid flag", 1),
        (
            "--nonsense",
            "flag provided but not defined: -nonsense; see metastore --help",
            2,
        ),
        (
            "-nonsense=1",
            "flag provided but not defined: -nonsense; see metastore --help",
            2,
        ),
        (
            "--max-snapshots 5",
            "flag provided but not defined: -max-snapshots; see metastore --help",
            2,
        ),
        (
            "--enable-v2",
            "flag provided but not defined: -enable-v2; see metastore --help",
            2,
        ),
        (
            "---name",
            "bad flag syntax: \"---name\"; write --flag or --flag=value",
            2,
        ),
        (
            "--=x",
            "bad flag syntax: \"--=x\"; write --flag or --flag=value",
            2,
        ),
        ("--name", "flag needs an argument: -name", 2),
        (
            "--max-txn-ops many",
            "invalid value \"many\" for --max-txn-ops: expected a whole number from 0 to 4294967295",
            2,
        ),
        (
            "--snapshot-count=-1",
            "invalid value \"-1\" for --snapshot-count: expected a whole number of at least 0",
            2,
        ),
        (
            "--max-txn-ops=",
            "invalid value \"\" for --max-txn-ops: expected a whole number from 0 to 4294967295",
            2,
        ),
        (
            "--pre-vote=maybe",
            "invalid value \"maybe\" for --pre-vote: expected true or false",
            2,
        ),
        (
            "--grpc-keepalive-min-time 5",
            "invalid value \"5\" for --grpc-keepalive-min-time: a duration needs a unit, such as 300ms, 5s or 1h30m",
            2,
        ),
        (
            "--grpc-keepalive-min-time -5s",
            "invalid value \"-5s\" for --grpc-keepalive-min-time: a duration must not be negative here",
            2,
        ),
        (
            "--log-format text",
            "invalid value \"text\" for --log-format: expected json or console",
            2,
        ),
        (
            "--discovery-fallback proxy",
            "invalid value \"proxy\" for --discovery-fallback: expected exit",
            2,
        ),
    ];
    for (args, text, code) in cases {
        assert_eq!(fault(run(args, &[])), (text.to_owned(), code), "{args}");
        assert_eq!(
            run(args, &[]).unwrap_err().wants_usage(),
            code == 2,
            "{args}"
        );
    }
}

#[cfg(unix)]
#[test]
fn arguments_have_to_be_utf8() {
    use std::os::unix::ffi::OsStringExt;
    let args = [OsString::from_vec(b"--name=\xff".to_vec())];
    let error = parse(args.into_iter(), std::iter::empty(), |_| Ok(String::new())).unwrap_err();
    assert!(error.to_string().contains("not valid UTF-8"), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn help_lists_every_flag_unless_a_fault_comes_before_it() {
    for args in ["-h", "--help", "-help", "--name m1 --help x"] {
        match run(args, &["ETCD_NAME=m2"]).map(|startup| startup.action) {
            Ok(Action::Help(text)) => {
                for flag in flag_table::flags() {
                    assert!(
                        text.contains(&format!("  --{}", flag.name)),
                        "--{} is not in the list",
                        flag.name
                    );
                }
            }
            other => panic!("{args}: {other:?}"),
        }
    }
    assert_eq!(fault(run("x --help", &[])).1, 1);
    assert_eq!(fault(run("--nonsense --help", &[])).1, 2);
}

#[test]
fn the_version_comes_in_the_shape_tools_read() {
    let Ok(Startup {
        action: Action::Version(text),
        ..
    }) = run("--version", &[])
    else {
        panic!("no version")
    };
    let lines: Vec<&str> = text.lines().collect();
    let keys: Vec<&str> = lines
        .iter()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "etcd Version",
            "Git SHA",
            "Go Version",
            "Go OS/Arch",
            "metastore Version",
            "Rust Version"
        ]
    );
    assert_eq!(lines[0], "etcd Version: 3.7.0");
    assert_eq!(lines[4], "metastore Version: 0.1.0");
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        assert_eq!(lines[3], "Go OS/Arch: linux/amd64");
    }
    assert_eq!(config("--version=false").name, "default");
    assert_eq!(
        fault(run("--version x", &[])).0,
        "\"x\" is not a valid flag"
    );
}

#[test]
fn flags_win_over_variables_and_variables_over_defaults() {
    let name = |args, env: &[&str]| started(run(args, env)).0.name;
    assert_eq!(name("", &[]), "default");
    assert_eq!(name("", &["ETCD_NAME=etcd"]), "etcd");
    assert_eq!(name("", &["METASTORE_NAME=ours"]), "ours");
    assert_eq!(name("", &["ETCD_NAME=etcd", "METASTORE_NAME=ours"]), "ours");
    assert_eq!(name("--name flag", &["ETCD_DATA_DIR=/d"]), "flag");
    assert_eq!(name("", &["ETCD_NAME="]), "default");
    assert_eq!(name("", &["METASTORE_NAME=", "ETCD_NAME=etcd"]), "etcd");
    assert_eq!(name("--name flag", &["ETCD_NAME="]), "flag");
    assert_eq!(name("--name=", &["ETCD_NAME=etcd"]), "etcd");
    assert!(
        started(run("", &["ETCD_UNSAFE_NO_FSYNC=true"]))
            .0
            .unsafe_no_fsync
    );
    assert_eq!(
        started(run("", &["ETCD_NAME=etcd", "METASTORE_NAME=ours"])).1,
        ["ETCD_NAME is ignored: METASTORE_NAME is set too"]
    );
}

#[test]
fn a_variable_shadowed_by_a_flag_stops_the_start() {
    for variable in ["ETCD_NAME", "METASTORE_NAME"] {
        let env = format!("{variable}=m2");
        assert_eq!(
            fault(run("--name m2", &[env.as_str()])),
            (
                format!(
                    "conflicting environment variable is shadowed by corresponding command-line flag: \
                     {variable} and --name are both set; unset one of them"
                ),
                1
            )
        );
    }
}

#[test]
fn variables_for_no_flag_are_only_warned_about() {
    let env = [
        "ETCD_NONSENSE=1",
        "METASTORE_NONSENSE=1",
        "ETCD_VERSION=3.5",
        "PATH=/bin",
        "ETCD_EMPTY=",
        "ETCD=x",
    ];
    assert_eq!(
        started(run("", &env)).1,
        [
            "unrecognized environment variable ETCD_NONSENSE is ignored",
            "unrecognized environment variable ETCD_VERSION is ignored",
            "unrecognized environment variable METASTORE_NONSENSE is ignored",
        ]
    );
}

#[test]
fn a_bad_variable_is_named_in_its_error() {
    assert_eq!(
        fault(run("", &["ETCD_MAX_TXN_OPS=many"])),
        (
            "invalid value \"many\" for --max-txn-ops (set by ETCD_MAX_TXN_OPS): \
             expected a whole number from 0 to 4294967295"
                .to_owned(),
            1
        )
    );
}

#[test]
fn every_flag_can_be_set_by_its_variable() {
    use flag_table::Kind;
    for flag in flag_table::flags().filter(|flag| !["version", "config-file"].contains(&flag.name))
    {
        let example = match flag.kind {
            _ if !flag.default.is_empty() => flag.default,
            Kind::ListenUrls => "http://127.0.0.1:7",
            Kind::Cluster => "default=http://127.0.0.1:7",
            Kind::Choice(words) => words[0],
            Kind::FeatureGates => "PriorityRequest=true",
            _ => "example",
        };
        for prefix in ["ETCD_", "METASTORE_"] {
            let variable = format!("{prefix}{}", flag.variable());
            // Only this one asks for another beside it.
            let beside = if flag.name == "listen-client-urls" {
                "ETCD_ADVERTISE_CLIENT_URLS"
            } else {
                "ETCD_NAME"
            };
            let value = if beside == "ETCD_NAME" {
                "m1"
            } else {
                "http://localhost:2379"
            };
            let mut env = vec![format!("{variable}={example}")];
            if flag.name != "name" {
                env.push(format!("{beside}={value}"));
            }
            let env: Vec<&str> = env.iter().map(String::as_str).collect();
            match run("", &env) {
                Ok(Startup { warnings, .. }) => assert!(
                    !warnings.iter().any(|warning| warning.contains(&variable)),
                    "{variable}: {warnings:?}"
                ),
                Err(ConfigError::Unsupported { setting, .. }) => {
                    assert_eq!(
                        setting,
                        Setting {
                            flag: flag.name,
                            origin: Origin::Variable(variable)
                        }
                    );
                }
                Err(other) => panic!("{variable}: {other}"),
            }
        }
    }
}

#[test]
fn harmless_flags_are_listed_in_one_warning_line() {
    let args = "--max-wals 7 --backend-batch-limit=3 --metrics extensive --enable-pprof --v --snapshot=9 \
                --feature-gates PriorityRequest=true --max-learners 2 --raft-read-timeout 5s";
    assert_eq!(
        warnings(args),
        [
            "accepted, but without effect in this version: --backend-batch-limit, --enable-pprof, --feature-gates, \
          --max-wals, --metrics, --snapshot, --v"
        ]
    );
    assert_eq!(
        warnings("--max-wals 5 --metrics basic"),
        Vec::<String>::new()
    );
}
