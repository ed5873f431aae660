//! How long files and functions may be. What is longer is listed with its exact length, so that
//! it cannot grow, and has to be listed anew when it shrinks.

use crate::Finding;
use crate::source;
use crate::tree::Tree;

/// Lines a file of Rust may have, its blank and comment lines included.
const FILE_LINES_MAX: usize = 800;
/// Lines a function may have, from its `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// `listed`: path and lines.
pub(crate) fn files(tree: &Tree, listed: &[(&str, usize)]) -> Vec<Finding> {
    let measured = tree.rust().map(|(path, text)| Measured {
        path: path.to_owned(),
        item: path.to_owned(),
        line: 1,
        lines: text.lines().count(),
    });
    judge(measured.collect(), listed, FILE_LINES_MAX)
}

/// `listed`: `path::function` and lines. Functions of one name in one file share an entry, that
/// of the longest.
pub(crate) fn functions(tree: &Tree, listed: &[(&str, usize)]) -> Vec<Finding> {
    let mut measured: Vec<Measured> = Vec::new();
    for (path, text) in tree.rust() {
        for function in source::functions(&source::code(text)) {
            measured.push(Measured {
                path: path.to_owned(),
                item: format!("{path}::{}", function.name),
                line: function.line,
                lines: function.lines,
            });
        }
    }
    measured.sort_by(|a, b| (&a.item, b.lines).cmp(&(&b.item, a.lines)));
    measured.dedup_by(|later, first| later.item == first.item);
    judge(measured, listed, FUNCTION_LINES_MAX)
}

struct Measured {
    path: String,
    item: String,
    line: usize,
    lines: usize,
}

fn judge(measured: Vec<Measured>, listed: &[(&str, usize)], limit: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    for it in &measured {
        let allowed = listed.iter().find(|(item, _)| *item == it.item);
        let message = match allowed {
            None if it.lines > limit => format!("{} lines, {limit} are allowed", it.lines),
            Some(_) if it.lines <= limit => {
                format!("{} lines: take it off the list of long ones", it.lines)
            }
            Some((_, lines)) if *lines != it.lines => {
                format!(
                    "{} lines, {lines} are listed; the list only goes down",
                    it.lines
                )
            }
            _ => continue,
        };
        findings.push(Finding::at(
            &it.path,
            it.line,
            format!("{}: {message}", it.item),
        ));
    }
    for (item, _) in listed {
        if !measured.iter().any(|it| it.item == *item) {
            findings.push(Finding::at(item, 0, "listed as long, but not there"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::{FILE_LINES_MAX, FUNCTION_LINES_MAX, files, functions};
    use crate::tree::Tree;

    fn file_of(lines: usize) -> Tree {
        Tree::of(&[("a.rs", "x\n".repeat(lines).as_str())])
    }

    fn function_of(lines: usize) -> Tree {
        let body = "    b();\n".repeat(lines - 2);
        Tree::of(&[("a.rs", format!("fn a() {{\n{body}}}\n").as_str())])
    }

    #[test]
    fn one_line_too_many_is_found() {
        assert_eq!(files(&file_of(FILE_LINES_MAX), &[]), []);
        assert_eq!(files(&file_of(FILE_LINES_MAX + 1), &[]).len(), 1);
        assert_eq!(functions(&function_of(FUNCTION_LINES_MAX), &[]), []);
        assert_eq!(
            functions(&function_of(FUNCTION_LINES_MAX + 1), &[]).len(),
            1
        );
    }

    #[test]
    fn a_listed_length_is_exact() {
        let count = |lines, listed| files(&file_of(lines), &[("a.rs", listed)]).len();
        assert_eq!(count(900, 900), 0);
        assert_eq!(count(901, 900), 1);
        assert_eq!(count(899, 900), 1);
        let count = |lines, listed| functions(&function_of(lines), &[("a.rs::a", listed)]).len();
        assert_eq!(count(90, 90), 0);
        assert_eq!(count(91, 90), 1);
        assert_eq!(count(89, 90), 1);
    }

    #[test]
    fn an_entry_that_allows_nothing_is_found() {
        assert_eq!(files(&file_of(10), &[("a.rs", 10)]).len(), 1);
        assert_eq!(files(&file_of(10), &[("gone.rs", 900)]).len(), 1);
        assert_eq!(functions(&function_of(10), &[("a.rs::gone", 90)]).len(), 1);
    }
}
