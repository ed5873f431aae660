//! The files of the project as text, read once per test.

use std::collections::BTreeMap;
use std::path::Path;

/// Every text file by its path from the root, with `/` between the parts.
#[derive(Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the project this test was built in.
    pub(crate) fn read() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.ancestors().nth(2).expect("x is two folders down");
        let mut tree = Self::default();
        tree.read_folder(root, "");
        tree
    }

    /// A made-up tree, to show that a rule can fail.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let owned = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
        Self {
            files: files.iter().map(owned).collect(),
        }
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub(crate) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter(|(path, _)| path.ends_with(".rs"))
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) {
        let entries = std::fs::read_dir(folder).expect("a folder of the project can be read");
        for entry in entries {
            let entry = entry.expect("a folder of the project can be listed");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type().expect("a file has a kind");
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) && !name.ends_with(".etcd") {
                self.read_folder(&entry.path(), &format!("{path}/"));
            } else if kind.is_file() {
                let bytes = std::fs::read(entry.path()).expect("a file can be read");
                if let Ok(text) = String::from_utf8(bytes) {
                    self.files.insert(path, text);
                }
            }
        }
    }
}

/// What is not written by hand: build results, the history, what tests and fuzzers leave behind.
const SKIPPED: &[&str] = &[
    "target",
    ".git",
    "proptest-regressions",
    "corpus",
    "artifacts",
];
