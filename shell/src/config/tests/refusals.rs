//! What the server does not start with.

use super::*;

#[test]
fn settings_that_would_be_dangerous_to_ignore_are_refused_by_name() {
    let cases = [
        ("--cert-file c.pem", "--cert-file", "TLS"),
        ("--key-file k.pem", "--key-file", "TLS"),
        ("--client-cert-auth", "--client-cert-auth", "TLS"),
        ("--trusted-ca-file ca.pem", "--trusted-ca-file", "TLS"),
        ("--client-cert-file c", "--client-cert-file", "TLS"),
        ("--client-key-file k", "--client-key-file", "TLS"),
        ("--client-crl-file r", "--client-crl-file", "TLS"),
        (
            "--client-cert-allowed-hostname h",
            "--client-cert-allowed-hostname",
            "TLS",
        ),
        ("--auto-tls", "--auto-tls", "TLS"),
        ("--peer-cert-file c", "--peer-cert-file", "TLS"),
        ("--peer-key-file k", "--peer-key-file", "TLS"),
        (
            "--peer-client-cert-auth=true",
            "--peer-client-cert-auth",
            "TLS",
        ),
        ("--peer-trusted-ca-file ca", "--peer-trusted-ca-file", "TLS"),
        (
            "--peer-client-cert-file c",
            "--peer-client-cert-file",
            "TLS",
        ),
        ("--peer-client-key-file k", "--peer-client-key-file", "TLS"),
        ("--peer-crl-file r", "--peer-crl-file", "TLS"),
        ("--peer-auto-tls", "--peer-auto-tls", "TLS"),
        ("--peer-cert-allowed-cn n", "--peer-cert-allowed-cn", "TLS"),
        (
            "--peer-cert-allowed-hostname h",
            "--peer-cert-allowed-hostname",
            "TLS",
        ),
        (
            "--peer-skip-client-san-verification",
            "--peer-skip-client-san-verification",
            "TLS",
        ),
        (
            "--cipher-suites TLS_AES_128_GCM_SHA256",
            "--cipher-suites",
            "TLS",
        ),
        ("--tls-min-version TLS1.3", "--tls-min-version", "TLS"),
        ("--tls-max-version TLS1.2", "--tls-max-version", "TLS"),
        ("--cors http://a", "--cors", "browsers"),
        (
            "--host-whitelist example.com",
            "--host-whitelist",
            "browsers",
        ),
        (
            "--auth-token jwt,sign-method=RS256",
            "--auth-token",
            "simple",
        ),
        (
            "--discovery-srv example.com",
            "--discovery-srv",
            "list them in --initial-cluster",
        ),
        (
            "--discovery-token t",
            "--discovery-token",
            "list them in --initial-cluster",
        ),
        (
            "--discovery-endpoints http://a:1",
            "--discovery-endpoints",
            "list them in --initial-cluster",
        ),
        (
            "--discovery-dial-timeout 9s",
            "--discovery-dial-timeout",
            "list them in --initial-cluster",
        ),
    ];
    for (args, flag, remedy) in cases {
        let (text, code) = fault(run(args, &[]));
        assert!(
            text.starts_with(&format!("{flag} is not supported yet: ")),
            "{args}: {text}"
        );
        assert!(text.contains(remedy), "{args}: {text}");
        assert_eq!(code, 1, "{args}");
    }
    let refused =
        flag_table::flags().filter(|flag| matches!(flag.support, flag_table::Support::Refused(_)));
    for flag in refused.filter(|flag| !flag.name.starts_with("discovery-")) {
        assert!(
            cases.iter().any(|(_, name, _)| name[2..] == *flag.name),
            "--{} has no case here",
            flag.name
        );
    }
}

#[test]
fn refused_flags_may_spell_out_their_defaults() {
    let args = "--client-cert-auth=false --auto-tls=false --auth-token simple --initial-cluster-state new --cors * \
                --host-whitelist=* --force-new-cluster=false --tls-min-version TLS1.2 --cert-file= \
                --discovery-dial-timeout 2000ms --discovery-fallback exit";
    let (config, warnings) = started(run(args, &[]));
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.security.client_tls, Tls::default());
    assert_eq!(config.auth.token, AuthToken::Simple);
}

#[test]
fn refused_variables_are_named_beside_their_flag() {
    assert_eq!(
        fault(run("", &["ETCD_CERT_FILE=c.pem"])).0,
        "--cert-file (set by ETCD_CERT_FILE) is not supported yet: TLS is not built yet and traffic would be in \
         plain text; unset it and keep the ports on a trusted network"
    );
}

#[test]
fn some_values_of_supported_flags_are_refused() {
    let tls = "TLS is not built; use http:// on a trusted network";
    let sockets = "unix sockets are not built; use http:// with an address and a port";
    let client = "--advertise-client-urls http://localhost:2379 --listen-client-urls";
    let cases = [
        (
            format!("{client} https://localhost:2379"),
            format!("--listen-client-urls: https://localhost:2379 is not supported yet: {tls}"),
        ),
        (
            format!("{client} unix:///run/m.sock"),
            format!("--listen-client-urls: unix:///run/m.sock is not supported yet: {sockets}"),
        ),
        (
            "--listen-peer-urls https://10.0.0.1:2380".to_owned(),
            format!("--listen-peer-urls: https://10.0.0.1:2380 is not supported yet: {tls}"),
        ),
        (
            "--listen-metrics-urls unixs://m".to_owned(),
            format!("--listen-metrics-urls: unixs://m is not supported yet: {sockets}"),
        ),
        (
            "--advertise-client-urls https://a:1".to_owned(),
            format!("--advertise-client-urls: https://a:1 is not supported yet: {tls}"),
        ),
        (
            "--initial-advertise-peer-urls https://a:1".to_owned(),
            format!("--initial-advertise-peer-urls: https://a:1 is not supported yet: {tls}"),
        ),
        (
            "--initial-cluster default=https://a:1".to_owned(),
            format!("--initial-cluster: https://a:1 is not supported yet: {tls}"),
        ),
    ];
    for (args, text) in cases {
        assert_eq!(fault(run(&args, &[])), (text, 1), "{args}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let cases = [
        (
            "--listen-client-urls http://10.0.0.1:2379",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--listen-peer-urls http://example.com:2380",
            "--listen-peer-urls: expected IP in URL for binding (http://example.com:2380); \
             use an IP address or localhost instead of a name",
        ),
        (
            "--listen-client-http-urls http://localhost:2379",
            "http://localhost:2379 is in both --listen-client-http-urls and --listen-client-urls; give each its own port",
        ),
        (
            "--election-timeout 499",
            "--election-timeout (499 ms) must be at least 5 times --heartbeat-interval (100 ms)",
        ),
        (
            "--heartbeat-interval 0",
            "--heartbeat-interval must be above 0 ms",
        ),
        (
            "--election-timeout 0",
            "--election-timeout must be above 0 ms",
        ),
        (
            "--election-timeout 50001",
            "--election-timeout (50001 ms) must be at most 50000 ms",
        ),
        (
            "--max-request-bytes 134217729",
            "--max-request-bytes (134217729) must be at most 134217728 (128 MiB)",
        ),
        (
            "--initial-cluster a=http://b:1 --discovery-srv example.com",
            "only one of --initial-cluster, --discovery-srv and --discovery-endpoints may be set",
        ),
        (
            "--listen-peer-urls ,",
            "--listen-peer-urls is empty; give it at least one URL",
        ),
    ];
    for (args, text) in cases {
        assert_eq!(fault(run(args, &[])), (text.to_owned(), 1), "{args}");
    }
    assert_eq!(
        config("--election-timeout 50000").election_timeout,
        Duration::from_secs(50)
    );
    assert_eq!(
        config("--max-request-bytes 134217728").max_request_bytes,
        128 << 20
    );
    assert_eq!(
        config("--election-timeout 500").election_timeout,
        Duration::from_millis(500)
    );
}

#[test]
fn a_new_member_must_be_in_its_initial_cluster_with_its_urls() {
    assert!(config("--name m1").check_bootstrap().is_ok());
    assert!(
        config("--initial-cluster default=http://127.0.0.1:2380")
            .check_bootstrap()
            .is_ok()
    );
    let fault = |args| config(args).check_bootstrap().unwrap_err().to_string();
    assert_eq!(
        fault("--name m1 --initial-cluster m2=http://localhost:2380"),
        "--initial-cluster does not list this member: add \"m1\" with its URLs, or set --name"
    );
    assert_eq!(
        fault("--initial-cluster default=http://10.0.0.1:2380"),
        "--initial-cluster gives http://10.0.0.1:2380 for this member, but --initial-advertise-peer-urls is \
         http://localhost:2380; make them equal"
    );
}
