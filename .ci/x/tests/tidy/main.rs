//! The rules of the house, held over every file of the tree. `exceptions.rs` lists what may break
//! one and why; a listed exception that is no longer needed is itself a finding.

#![forbid(unsafe_code)]

mod documents;
mod exceptions;
mod imports;
mod lengths;
mod names;
mod safety;
mod source;
mod tree;

use std::fmt;

use tree::Tree;

/// One breach of one rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from one; none where the file as a whole is meant.
    line: usize,
    message: String,
}

impl Finding {
    fn at(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Fails with every finding on a line of its own.
#[track_caller]
fn expect_none(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert!(findings.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn the_tree_that_is_looked_at_is_the_whole_project() {
    let tree = Tree::read();
    for path in [
        "Cargo.toml",
        ".ci/run",
        "core/src/lib.rs",
        "shell/src/main.rs",
    ] {
        assert!(tree.text(path).is_some(), "{path} is not seen");
    }
    assert!(tree.rust().count() > 40, "too few files of Rust are seen");
    assert_eq!(tree.paths().find(|path| path.contains("target/")), None);
}

#[test]
fn files_are_short() {
    expect_none(&lengths::files(&Tree::read(), exceptions::LONG_FILES));
}

#[test]
fn functions_fit_a_screen() {
    expect_none(&lengths::functions(
        &Tree::read(),
        exceptions::LONG_FUNCTIONS,
    ));
}

#[test]
fn files_are_named_for_what_they_keep_or_decide() {
    expect_none(&names::files(&Tree::read()));
}

#[test]
fn tests_are_named_as_facts() {
    expect_none(&names::tests(&Tree::read()));
}

#[test]
fn every_ignored_test_says_why() {
    expect_none(&names::ignored(&Tree::read()));
}

#[test]
fn each_folder_knows_only_what_it_may() {
    expect_none(&imports::findings(&Tree::read(), exceptions::IMPORTS));
}

#[test]
fn every_crate_forbids_unsafe_code() {
    expect_none(&safety::findings(&Tree::read(), exceptions::UNSAFE_CRATES));
}

#[test]
fn every_module_file_is_part_of_a_crate() {
    expect_none(&names::unreachable(&Tree::read()));
}

#[test]
fn every_path_the_documents_name_exists() {
    let tree = Tree::read();
    for document in documents::DOCUMENTS {
        assert!(tree.text(document).is_some(), "{document} is not there");
    }
    expect_none(&documents::missing_paths(&tree));
}

#[test]
fn nothing_mentions_the_machine_it_was_written_on() {
    expect_none(&documents::machine_paths(&Tree::read()));
}
