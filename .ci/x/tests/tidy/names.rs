//! What files, modules and tests may be called.

use crate::Finding;
use crate::source::{self, is_word};
use crate::tree::Tree;

/// Words that say nothing about what is inside.
const EMPTY_WORDS: &[&str] = &[
    "util", "utils", "helper", "helpers", "common", "misc", "manager", "impl", "base",
];

/// Files and folders with an empty word in their name.
pub(crate) fn files(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in tree.paths() {
        let parts = path
            .split('/')
            .map(|part| part.split('.').next().unwrap_or(part));
        let mut words = parts.flat_map(|part| part.split(['_', '-']));
        if let Some(word) = words.find(|word| EMPTY_WORDS.contains(word)) {
            let message =
                format!("{word:?} is a drawer without a label: name what it keeps or decides");
            findings.push(Finding::at(path, 0, message));
        }
    }
    findings
}

/// Functions whose name begins with `test_`.
pub(crate) fn tests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        for function in source::functions(&source::code(text)) {
            if function.name.starts_with("test_") {
                let message = format!("{}: the name of a test is the fact it holds", function.name);
                findings.push(Finding::at(path, function.line, message));
            }
        }
    }
    findings
}

/// Attributes that ignore a test without a word about why.
pub(crate) fn ignored(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        let code = source::code(text);
        for (start, _) in code.match_indices("#[") {
            let length = code[start..].find(']').unwrap_or(0);
            let attribute = &code[start..start + length];
            for (at, word) in attribute.match_indices("ignore") {
                let after = &attribute[at + word.len()..];
                let whole = !attribute[..at].ends_with(is_word) && !after.starts_with(is_word);
                if whole && !after.trim_start().starts_with('=') {
                    let line = source::line_of(&code, start);
                    findings.push(Finding::at(path, line, "ignored without a reason"));
                }
            }
        }
        for (line, text) in text.lines().enumerate() {
            if text.trim_start().starts_with(r#"#[ignore = ""#) && text.contains(r#"= """#) {
                findings.push(Finding::at(path, line + 1, "ignored with an empty reason"));
            }
        }
    }
    findings
}

/// Files under a `src` folder that no `mod` line leads to: the compiler never sees them.
pub(crate) fn unreachable(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, _) in tree.rust() {
        let Some((folder, file)) = path.rsplit_once('/') else {
            continue;
        };
        let inside_src = folder.ends_with("/src") || folder.contains("/src/");
        let is_root = ["lib.rs", "main.rs", "mod.rs"].contains(&file) || folder.ends_with("/bin");
        if !inside_src || is_root {
            continue;
        }
        let stem = file.trim_end_matches(".rs");
        let parents = [
            format!("{folder}.rs"),
            format!("{folder}/mod.rs"),
            format!("{folder}/lib.rs"),
            format!("{folder}/main.rs"),
        ];
        let mut texts = parents.iter().filter_map(|parent| tree.text(parent));
        if !texts.any(|text| declares(&source::code(text), stem)) {
            let message = format!("no `mod {stem};` leads here: it is never compiled");
            findings.push(Finding::at(path, 0, message));
        }
    }
    findings
}

fn declares(code: &str, module: &str) -> bool {
    code.match_indices("mod ").any(|(at, word)| {
        let rest = code[at + word.len()..].strip_prefix(module);
        !code[..at].ends_with(is_word) && rest.is_some_and(|rest| rest.starts_with(';'))
    })
}

#[cfg(test)]
mod tests {
    use super::{EMPTY_WORDS, files, ignored, tests as test_names, unreachable};
    use crate::tree::Tree;

    #[test]
    fn an_empty_word_is_found_wherever_it_stands_in_a_name() {
        for word in EMPTY_WORDS {
            for path in [
                "W.rs",
                "core/src/W.rs",
                "core/src/lease_W.rs",
                "core/src/W/lease.rs",
            ] {
                let path = path.replace('W', word);
                assert_eq!(files(&Tree::of(&[(&path, "")])).len(), 1, "{path}");
            }
        }
        for fine in [
            "core/src/base64.rs",
            "core/src/database.rs",
            "shell/src/implicit.rs",
        ] {
            assert_eq!(files(&Tree::of(&[(fine, "")])), []);
        }
    }

    #[test]
    fn a_test_called_test_is_found() {
        let count = |text| test_names(&Tree::of(&[("a.rs", text)])).len();
        assert_eq!(count("#[test]\nfn test_a() {\n}\n"), 1);
        assert_eq!(count("// fn test_a() {}\nfn latest_a() {}\n"), 0);
    }

    #[test]
    fn an_ignored_test_without_a_reason_is_found() {
        let count = |text| ignored(&Tree::of(&[("a.rs", text)])).len();
        assert_eq!(count("#[ignore]\nfn a() {}"), 1);
        assert_eq!(count("#[cfg_attr(miri, ignore)]\nfn a() {}"), 1);
        assert_eq!(count("#[ignore = \"\"]\nfn a() {}"), 1);
        assert_eq!(
            count("#[ignore = \"measures, does not judge\"]\nfn a() {}"),
            0
        );
        assert_eq!(count("// #[ignore]\n#[arg(ignore_case)]\nfn a() {}"), 0);
    }

    #[test]
    fn a_file_without_a_mod_line_is_found() {
        let count = |lib| {
            let tree = Tree::of(&[
                ("core/src/lib.rs", lib),
                ("core/src/a.rs", "mod b;"),
                ("core/src/a/b.rs", ""),
            ]);
            unreachable(&tree).len()
        };
        assert_eq!(count("pub mod a;"), 0);
        assert_eq!(count("// mod a;"), 1);
        assert_eq!(count("mod ab;"), 1);
    }
}
