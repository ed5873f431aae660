//! What each folder may know: paths that may not be imported or named there.

use crate::Finding;
use crate::source::{self, is_word};
use crate::tree::Tree;

/// Paths that are banned in some files.
struct Ban {
    /// Where the ban holds: beginnings of paths of files.
    inside: &'static [&'static str],
    /// Where it does not, although `inside` says so.
    except: &'static [&'static str],
    paths: &'static [&'static str],
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        inside: &["core/"],
        except: &[],
        paths: &[
            "tokio",
            "tonic",
            "hyper",
            "std::thread",
            "std::net",
            "std::fs",
            "std::env",
            "std::process",
            "std::time::SystemTime",
            "std::time::Instant",
            "std::collections::HashMap",
            "std::collections::HashSet",
            "std::collections::hash_map",
            "std::collections::hash_set",
        ],
        why: "the core is a function of its inputs",
    },
    Ban {
        inside: &[""],
        except: &["core/src/raft.rs", "core/src/raft/"],
        paths: &["openraft", "openraft_rt"],
        why: "openraft ends at core/src/raft",
    },
    Ban {
        inside: &[""],
        except: &["core/src/codec.rs", "core/src/codec/"],
        paths: &["bincode"],
        why: "one module knows bincode: core/src/codec.rs",
    },
    Ban {
        inside: &["shell/src/"],
        except: &["shell/src/logging.rs", "shell/src/logging/"],
        paths: &["std::time::SystemTime"],
        why: "a clock that is set must change nothing",
    },
    Ban {
        inside: &[""],
        except: &["sim/"],
        paths: &["madsim", "madsim_tokio"],
        why: "the simulator does not leak into the product",
    },
];

/// One allowed breach.
pub(crate) struct Exception {
    pub(crate) file: &'static str,
    pub(crate) path: &'static str,
    /// Why the rule's purpose is kept all the same.
    pub(crate) why: &'static str,
}

pub(crate) fn findings(tree: &Tree, exceptions: &[Exception]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut needed = vec![false; exceptions.len()];
    for (file, text) in tree.rust() {
        for named in named_paths(&source::code(text)) {
            for (banned, why) in breaches(file, &named) {
                let exception = exceptions
                    .iter()
                    .position(|it| it.file == file && it.path == banned);
                match exception {
                    Some(index) => needed[index] = true,
                    None => {
                        let message = format!("names {} ({banned}): {why}", named.path);
                        findings.push(Finding::at(file, named.line, message));
                    }
                }
            }
        }
    }
    for (exception, needed) in exceptions.iter().zip(needed) {
        assert!(!exception.why.is_empty(), "an exception has a reason");
        if !needed {
            let message = format!("no longer names {}: drop the exception", exception.path);
            findings.push(Finding::at(exception.file, 0, message));
        }
    }
    findings
}

/// A path as some file names it.
#[derive(Debug)]
struct Named {
    path: String,
    line: usize,
    imported: bool,
}

fn breaches(file: &str, named: &Named) -> Vec<(&'static str, &'static str)> {
    let begins = |starts: &[&str]| starts.iter().any(|start| file.starts_with(start));
    let mut found = Vec::new();
    for ban in BANS
        .iter()
        .filter(|it| begins(it.inside) && !begins(it.except))
    {
        for banned in ban.paths {
            // Importing a module whole opens everything below it, under names not seen here.
            let opens = named.imported && is_within(banned, &named.path);
            if is_within(&named.path, banned) || opens {
                found.push((*banned, ban.why));
            }
        }
    }
    found
}

/// Whether `path` is `outer` or lies below it.
fn is_within(path: &str, outer: &str) -> bool {
    let rest = path.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path that `code` imports or names in full, imports taken apart.
fn named_paths(code: &str) -> Vec<Named> {
    let mut found = Vec::new();
    for (line, text) in statements(code) {
        let text = text.trim();
        let import = ["use ", "extern crate "]
            .iter()
            .find_map(|word| after_word(text, word));
        match import {
            Some(tree) => flatten("", tree, &mut |path| {
                found.push(Named {
                    path,
                    line,
                    imported: true,
                });
            }),
            None => {
                for path in text.split(|it| !is_word(it) && it != ':') {
                    let path = path.trim_matches(':');
                    if path.contains("::") {
                        let path = path.to_owned();
                        found.push(Named {
                            path,
                            line,
                            imported: false,
                        });
                    }
                }
            }
        }
    }
    found
}

/// What follows `word` in a statement that is an import, public or not.
fn after_word<'a>(statement: &'a str, word: &str) -> Option<&'a str> {
    let at = statement.find(word)?;
    let before = statement[..at].trim();
    let is_start = before.is_empty() || before.ends_with([']', '}', '{', ')']);
    let is_public = before.ends_with("pub");
    (is_start || is_public).then(|| &statement[at + word.len()..])
}

/// `code` cut at its semicolons, and at every line that is no import.
fn statements(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut pending: Option<(usize, String)> = None;
    for (index, line) in code.lines().enumerate() {
        let (start, mut text) = pending.take().unwrap_or((index + 1, String::new()));
        text.push_str(line);
        text.push(' ');
        let imports = ["use ", "extern crate "];
        let open = imports
            .iter()
            .any(|word| after_word(text.trim(), word).is_some());
        if open && !text.contains(';') {
            pending = Some((start, text));
        } else {
            found.extend(text.split(';').map(|part| (start, part.to_owned())));
        }
    }
    found.extend(pending);
    found
}

/// Calls `give` with each path of a use tree.
fn flatten(prefix: &str, tree: &str, give: &mut dyn FnMut(String)) {
    let tree = tree.trim().trim_start_matches("::");
    let join = |rest: &str| match (prefix, rest) {
        ("", rest) => rest.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, rest) => format!("{prefix}::{rest}"),
    };
    if let Some((head, group)) = tree.split_once('{') {
        let head = join(head.trim().trim_end_matches("::"));
        let group = group.trim().trim_end_matches('}');
        let closing = tree.matches('{').count() - 1;
        let group = format!("{group}{}", "}".repeat(closing));
        for part in split_top(&group) {
            flatten(&head, part, give);
        }
        return;
    }
    let path = tree.split(" as ").next().unwrap_or(tree).trim();
    let path = path.trim_end_matches('*').trim_end_matches("::");
    give(join(if path == "self" { "" } else { path }));
}

/// The parts between the commas that are in no braces; empty ones are dropped.
fn split_top(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0_i32, 0, Vec::new());
    for (at, it) in group.char_indices() {
        match it {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::{Exception, findings};
    use crate::tree::Tree;

    fn count(file: &str, text: &str) -> usize {
        findings(&Tree::of(&[(file, text)]), &[]).len()
    }

    #[test]
    fn a_banned_path_is_found_however_it_is_written() {
        for text in [
            "use tokio::sync::mpsc;",
            "use tokio as t;",
            "extern crate tokio;",
            "pub(crate) use std::thread;",
            "use std::{cell::Cell, net::{self, IpAddr}};",
            "use std::{\n    cell::Cell,\n    time::{\n        Duration,\n        SystemTime,\n    },\n};",
            "use std::time::{Duration, Instant};",
            "fn a() { let b = std::time::Instant::now(); }",
            "fn a() { use std::fs; }",
            "use std::collections::{BTreeMap, HashMap as Map};",
            "#[cfg(test)]\nuse std::env;",
            "type A = std::collections::hash_map::Entry<u8, u8>;",
        ] {
            assert_ne!(count("core/src/a.rs", text), 0, "{text}");
            assert_eq!(count("benches/src/a.rs", text), 0, "{text}");
        }
    }

    #[test]
    fn a_module_may_not_be_opened_around_a_ban() {
        for text in [
            "use std::time;",
            "use std::collections::*;",
            "use std::time::{self};",
        ] {
            assert_ne!(count("core/src/a.rs", text), 0, "{text}");
        }
    }

    #[test]
    fn what_is_not_banned_is_not_found() {
        for text in [
            "use std::time::Duration;",
            "use std::collections::{BTreeMap, btree_map::{Entry, Range}, VecDeque};",
            "use std::{cell::Cell, rc::Rc};",
            "// use tokio::sync;\nconst A: &str = \"std::fs::read\";",
            "fn a(tokio: u8) -> u8 { tokio }",
            "Instant::now()",
        ] {
            assert_eq!(count("core/src/a.rs", text), 0, "{text}");
        }
    }

    #[test]
    fn a_library_is_named_in_its_own_room_only() {
        for (library, home) in [
            ("openraft", "core/src/raft/types.rs"),
            ("openraft", "core/src/raft.rs"),
            ("bincode", "core/src/codec.rs"),
            ("madsim", "sim/src/net.rs"),
        ] {
            let text = format!("use {library}::Thing;");
            assert_eq!(count(home, &text), 0, "{library} in {home}");
            for elsewhere in [
                "core/src/lib.rs",
                "shell/src/driver.rs",
                "benches/src/main.rs",
            ] {
                assert_eq!(count(elsewhere, &text), 1, "{library} in {elsewhere}");
            }
        }
    }

    #[test]
    fn an_exception_allows_one_path_in_one_file_and_has_to_be_needed() {
        let exception = |path| Exception {
            file: "core/src/a.rs",
            path,
            why: "shown",
        };
        let tree = Tree::of(&[("core/src/a.rs", "use std::thread::ThreadId;")]);
        assert_eq!(findings(&tree, &[exception("std::thread")]), []);
        assert_eq!(findings(&tree, &[exception("std::fs")]).len(), 2);
    }
}
