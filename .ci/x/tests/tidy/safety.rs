//! Every crate forbids unsafe code, or is listed with the reason why it cannot.

use crate::Finding;
use crate::source;
use crate::tree::Tree;

/// `listed`: the root file of a crate, and why it needs unsafe code.
pub(crate) fn findings(tree: &Tree, listed: &[(&str, &str)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let roots: Vec<&str> = tree.paths().filter(|path| is_root(tree, path)).collect();
    for root in &roots {
        let code: String = source::code(tree.text(root).unwrap_or_default())
            .split_whitespace()
            .collect();
        let forbids = code.contains("#![forbid(unsafe_code)]");
        let excepted = listed.iter().any(|(path, _)| path == root);
        let message = match (forbids, excepted) {
            (false, false) => "does not forbid unsafe code",
            (true, true) => "forbids unsafe code: drop the exception",
            _ => continue,
        };
        findings.push(Finding::at(root, 1, message));
    }
    for (path, why) in listed {
        assert!(!why.is_empty(), "an exception has a reason");
        if !roots.contains(path) {
            findings.push(Finding::at(path, 0, "listed, but the root of no crate"));
        }
    }
    findings
}

/// Whether `path` is where a library or a binary of some package begins.
fn is_root(tree: &Tree, path: &str) -> bool {
    let Some((package, inside)) = path.split_once("/src/") else {
        return false;
    };
    let manifest = tree
        .text(&format!("{package}/Cargo.toml"))
        .unwrap_or_default();
    let is_binary = |rest: &str| rest.ends_with(".rs") && !rest.contains('/');
    manifest.contains("[package]")
        && (["lib.rs", "main.rs"].contains(&inside)
            || inside.strip_prefix("bin/").is_some_and(is_binary))
}

#[cfg(test)]
mod tests {
    use super::findings;
    use crate::tree::Tree;

    fn count(root: &str, listed: &[(&str, &str)]) -> usize {
        let files = [
            ("a/Cargo.toml", "[package]\nname = \"a\""),
            ("a/src/lib.rs", root),
            ("a/src/other.rs", ""),
        ];
        findings(&Tree::of(&files), listed).len()
    }

    #[test]
    fn a_crate_that_allows_unsafe_code_is_found() {
        assert_eq!(count("//! a\n#![forbid(unsafe_code)]\n", &[]), 0);
        assert_eq!(count("//! a\n", &[]), 1);
        assert_eq!(count("// #![forbid(unsafe_code)]\n", &[]), 1);
        assert_eq!(count("#![deny(unsafe_code)]\n", &[]), 1);
    }

    #[test]
    fn an_exception_has_to_be_needed() {
        let listed = [("a/src/lib.rs", "calls the operating system")];
        assert_eq!(count("", &listed), 0);
        assert_eq!(count("#![forbid(unsafe_code)]", &listed), 1);
        assert_eq!(count("", &[listed[0], ("b/src/lib.rs", "gone")]), 1);
    }

    #[test]
    fn binaries_are_crates_too() {
        let files = [
            ("a/Cargo.toml", "[package]"),
            ("a/src/main.rs", ""),
            ("a/src/bin/b.rs", ""),
            ("a/src/bin/b/part.rs", ""),
        ];
        assert_eq!(findings(&Tree::of(&files), &[]).len(), 2);
    }
}
