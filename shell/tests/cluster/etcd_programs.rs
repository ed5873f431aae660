//! Where the real etcd and etcdctl are, when this machine has them.

use std::{env, path::PathBuf, process::Command};

/// The program named by `variable`, or `None` with the reason printed for the log of the run.
fn program_from(variable: &str, test: &str) -> Option<PathBuf> {
    let Some(path) = env::var_os(variable).map(PathBuf::from) else {
        eprintln!("SKIPPED {test}: {variable} is not set, so there is no program to run");
        return None;
    };
    assert!(
        path.is_file(),
        "{variable}={} is not a file",
        path.display()
    );
    Some(path)
}

/// The real etcd that `METASTORE_TEST_ETCD` names. `test` appears in the printed reason for skipping.
pub(crate) fn etcd(test: &str) -> Option<PathBuf> {
    program_from("METASTORE_TEST_ETCD", test)
}

/// The real etcdctl that `METASTORE_TEST_ETCDCTL` names.
pub(crate) fn etcdctl(test: &str) -> Option<PathBuf> {
    program_from("METASTORE_TEST_ETCDCTL", test)
}

/// A command with a clean slate: variables of the caller never change what a server or tool does.
pub(crate) fn clean_command(program: &std::path::Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("ETCD_") || shown.starts_with("ETCDCTL_") {
            command.env_remove(&name);
        }
    }
    command
}
