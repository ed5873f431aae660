//! What prose may say: paths that exist, and nothing about the machine it was written on.

use crate::Finding;
use crate::tree::Tree;

/// The documents that show a reader around.
pub(crate) const DOCUMENTS: &[&str] = &[
    ".ci/clients/README.md",
    "ARCHITECTURE.md",
    "README.md",
    "benches/RESULTS.md",
    "fuzz/README.md",
    "sim/BUGS.md",
    "sim/README.md",
];
/// Endings by which a word in backticks is taken for a file.
const ENDINGS: &[&str] = &[".rs", ".toml", ".md", ".proto", ".yml"];

/// Folders in which somebody's working copy, and nothing of the project, lives.
const MACHINE_FOLDERS: &[&str] = &[
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/tmp/", "wt"),
];

/// Files and folders of the project that a document names and that are not there.
pub(crate) fn missing_paths(tree: &Tree) -> Vec<Finding> {
    let tops: Vec<&str> = tree
        .paths()
        .filter_map(|path| path.split_once('/').map(|(top, _)| top))
        .chain(["core", "proto", "shell", "sim", "benches", "fuzz"])
        .collect();
    let mut findings = Vec::new();
    for document in DOCUMENTS {
        let Some(text) = tree.text(document) else {
            continue;
        };
        for (line, word) in words(text) {
            let top = word.split_once('/').map(|(top, _)| top);
            let is_ours = top.is_some_and(|top| tops.contains(&top));
            let is_file = ENDINGS
                .iter()
                .any(|end| word.ends_with(end) && word != *end);
            if (is_ours || is_file) && !exists(tree, &word) {
                findings.push(Finding::at(
                    document,
                    line,
                    format!("{word} does not exist"),
                ));
            }
        }
    }
    findings
}

/// Absolute paths that hold on one machine only.
pub(crate) fn machine_paths(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.iter() {
        for (index, line) in text.lines().enumerate() {
            for folder in MACHINE_FOLDERS {
                let absolute = |at: usize| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|it| it.is_alphanumeric() || "_-.~/}".contains(it))
                };
                if line.match_indices(folder).any(|(at, _)| absolute(at)) {
                    let message = format!("{folder} is a folder of one machine");
                    findings.push(Finding::at(path, index + 1, message));
                }
            }
        }
    }
    findings
}

/// Whether `word` is a file or a folder, given from the root or, as a document that has just
/// named the folder may, by its last parts.
fn exists(tree: &Tree, word: &str) -> bool {
    let word = word.trim_end_matches('/');
    let folder = format!("{word}/");
    tree.paths().any(|path| {
        let ends = path
            .strip_suffix(word)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
        ends || path.starts_with(&folder)
    })
}

/// The words of a document that could be paths: in backticks, in fenced blocks, in links.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let mut pieces: Vec<&str> = Vec::new();
        if fenced {
            pieces.push(line);
        } else {
            pieces.extend(line.split('`').skip(1).step_by(2));
            let links = line.split("](").skip(1);
            pieces.extend(links.filter_map(|rest| rest.split([')', '#']).next()));
        }
        let is_path = |it: char| it.is_ascii_alphanumeric() || "._-/".contains(it);
        for word in pieces.iter().flat_map(|piece| piece.split_whitespace()) {
            let word = word.trim_matches([',', ';', ':', '(', ')', '"']);
            let word = word
                .strip_prefix("./")
                .unwrap_or(word)
                .trim_end_matches('.');
            if !word.is_empty() && word.chars().all(is_path) && !word.starts_with('/') {
                found.push((index + 1, word.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{DOCUMENTS, MACHINE_FOLDERS, machine_paths, missing_paths};
    use crate::tree::Tree;

    fn count(text: &str) -> usize {
        let in_each = DOCUMENTS.iter().map(|document| {
            let files = [(*document, text), ("core/src/a/b.rs", ""), (".ci/run", "")];
            missing_paths(&Tree::of(&files)).len()
        });
        in_each.max().unwrap_or(0)
    }

    #[test]
    fn a_path_that_does_not_exist_is_found() {
        for text in [
            "see `core/src/gone.rs`",
            "see `gone.rs`, which",
            "see [it](core/gone.md)",
            "the folder `fuzz/`",
            "run\n```sh\n.ci/gone now\n```\n",
            "```\ncore/  the core\nsim/gone.rs  gone\n```",
        ] {
            assert_eq!(count(text), 1, "{text}");
        }
    }

    #[test]
    fn a_path_that_exists_or_is_no_path_of_ours_is_not_found() {
        for text in [
            "see `core/src/a/b.rs` and `a/b.rs` and `b.rs`, in `core/` and `core/src`",
            "run `.ci/run` or `./.ci/run`",
            "`application/json`, `/v3/kv/put`, `https://example.org/a.md`, `and/or`",
            "plain words such as gone.rs are prose",
            "built to `target/release/metastore`",
            "```sh\ncurl http://127.0.0.1:2379/version\n```",
        ] {
            assert_eq!(count(text), 0, "{text}");
        }
    }

    #[test]
    fn a_folder_of_one_machine_is_found() {
        for folder in MACHINE_FOLDERS {
            let count = |text: String| machine_paths(&Tree::of(&[("a.md", &text)])).len();
            assert_eq!(count(format!("see {folder}a")), 1, "{folder}");
            assert_eq!(count(format!("\"{folder}\"")), 1, "{folder}");
            assert_eq!(count(format!("some{folder}a")), 0, "{folder}");
        }
    }
}
