//! When the server cannot start it says why in one line, ends with the right code, and touches nothing.

mod cluster;

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use cluster::etcd_programs::clean_command;
use cluster::server_process::{Ending, ServerProcess, program_under_test, run_to_exit};
use tempfile::TempDir;

/// What is in and below a folder, with the bytes of each file.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                found.push((path.clone(), Vec::new()));
                folders.push(path);
            } else {
                found.push((path.clone(), fs::read(&path).expect("a file")));
            }
        }
    }
    found.sort();
    found
}

/// The only line on stderr that is not a line of the log.
fn complaint(ending: &Ending) -> &str {
    let lines: Vec<_> = ending
        .stderr
        .lines()
        .filter(|line| !line.starts_with('{'))
        .collect();
    assert_eq!(lines.len(), 1, "one line was expected: {ending:?}");
    assert_eq!(ending.stdout, "", "stdout is for answers");
    lines[0]
}

#[test]
fn a_client_port_in_use_is_named_and_no_data_is_made() {
    let mut server = ServerProcess::metastore(&[]);
    let _in_the_way = TcpListener::bind(server.client_address()).expect("the port is free");
    let ending = server.run_to_refusal();
    let port = server.client_address().port().to_string();
    assert_eq!(ending.status.code(), Some(1), "{ending:?}");
    assert!(complaint(&ending).contains(&port), "{ending:?}");
    assert!(
        !server.data_dir().exists(),
        "data was made before the port was known to be free"
    );
}

#[test]
fn a_data_directory_in_use_is_named_and_its_owner_goes_on() {
    let mut owner = ServerProcess::metastore(&[]);
    owner.start();
    let flag = format!("--data-dir={}", owner.data_dir().display());
    let mut second = ServerProcess::metastore(&[&flag]);
    let ending = second.run_to_refusal();
    assert_eq!(ending.status.code(), Some(1), "{ending:?}");
    let path = owner.data_dir().display().to_string();
    assert!(complaint(&ending).contains(&path), "{ending:?}");
    owner.wait_until_healthy();
    assert!(owner.is_running(), "the owner must not notice");
}

#[test]
fn a_copy_of_a_data_directory_does_not_write_the_log_of_the_original() {
    let folder = TempDir::new().expect("a temporary folder");
    let log = folder.path().join("log");
    let log_flag = format!("--wal-dir={}", log.display());
    let mut owner = ServerProcess::metastore(&[&log_flag]);
    owner.start();
    let (original, copy) = (owner.data_dir(), folder.path().join("copy"));
    fs::create_dir(&copy).expect("a folder");
    for (path, bytes) in contents(&original) {
        let to = copy.join(path.strip_prefix(&original).expect("it is in the folder"));
        if path.is_dir() {
            fs::create_dir_all(to).expect("a folder");
        } else {
            fs::write(to, bytes).expect("a file");
        }
    }
    let mut second =
        ServerProcess::metastore(&[&log_flag, &format!("--data-dir={}", copy.display())]);
    let ending = second.run_to_refusal();
    assert_eq!(ending.status.code(), Some(1), "{ending:?}");
    let line = complaint(&ending);
    let named = line.contains(&log.display().to_string()) && line.contains("--wal-dir");
    assert!(named, "{ending:?}");
    owner.stop();
    owner.start();
}

#[test]
fn a_data_directory_that_cannot_be_made_is_named() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("a file");
    fs::write(&file, "not a folder").expect("a file");
    let before = contents(folder.path());
    // Nobody can make anything in /proc, not even root.
    for path in [
        file.clone(),
        file.join("below"),
        PathBuf::from("/proc/metastore"),
    ] {
        let flag = format!("--data-dir={}", path.display());
        let mut server = ServerProcess::metastore(&[&flag]);
        let ending = server.run_to_refusal();
        assert_eq!(ending.status.code(), Some(1), "{ending:?}");
        let named = path.display().to_string();
        let line = complaint(&ending);
        assert!(
            line.contains(&named) || line.contains(&file.display().to_string()),
            "{named} is not named: {ending:?}"
        );
    }
    assert_eq!(contents(folder.path()), before);
}

#[test]
fn an_unknown_flag_is_named_before_the_usage() {
    let mut server = ServerProcess::metastore(&["--no-such-flag=1"]);
    let ending = server.run_to_refusal();
    assert_eq!(ending.status.code(), Some(2), "{ending:?}");
    let first = ending.stderr.lines().next().unwrap_or_default();
    assert!(first.contains("-no-such-flag"), "{ending:?}");
    assert!(!server.data_dir().exists());
}

#[test]
fn a_word_that_is_no_flag_is_refused() {
    let mut server = ServerProcess::metastore(&["stray"]);
    let ending = server.run_to_refusal();
    assert_eq!(ending.status.code(), Some(1), "{ending:?}");
    assert!(
        ending
            .stderr
            .lines()
            .next()
            .unwrap_or_default()
            .contains("\"stray\" is not a valid flag"),
        "{ending:?}"
    );
    assert!(!server.data_dir().exists());
}

#[test]
fn a_listen_url_that_is_none_is_named_before_the_usage() {
    let mut server = ServerProcess::metastore(&["--listen-client-urls=nonsense"]);
    let ending = server.run_to_refusal();
    assert_eq!(ending.status.code(), Some(2), "{ending:?}");
    let first = ending.stderr.lines().next().unwrap_or_default();
    assert!(
        first.contains("--listen-client-urls") && first.contains("nonsense"),
        "{ending:?}"
    );
    assert!(!server.data_dir().exists());
}

#[test]
fn a_question_about_the_program_is_answered_on_stdout_and_starts_nothing() {
    let folder = TempDir::new().expect("a temporary folder");
    for (flag, start, part) in [
        ("--help", "Usage", "--listen-client-urls"),
        ("--version", "etcd Version: 3.7.0\n", "metastore Version: "),
    ] {
        let mut command = clean_command(&program_under_test());
        let ending = run_to_exit(command.arg(flag).current_dir(folder.path()));
        assert_eq!(ending.stderr, "", "{flag}");
        assert_eq!(ending.status.code(), Some(0), "{flag}");
        let answer = &ending.stdout;
        let answers = answer.starts_with(start) && answer.contains(part);
        assert!(answers, "{flag}: {answer}");
    }
    assert_eq!(contents(folder.path()), []);
}
