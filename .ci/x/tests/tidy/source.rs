//! Just enough of Rust's grammar to tell code from comments and literals, and to find functions.

/// The code of `text`: comments, strings and character literals are blanked, lines stay lines.
pub(crate) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let length = blank_length(&chars, at);
        if length == 0 {
            out.push(chars[at]);
            at += 1;
        } else {
            let blanked = &chars[at..(at + length).min(chars.len())];
            out.extend(
                blanked
                    .iter()
                    .map(|it| if *it == '\n' { '\n' } else { ' ' }),
            );
            at += length;
        }
    }
    out
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// The line of its `fn`, counted from one.
    pub(crate) line: usize,
    /// From its `fn` to its closing brace.
    pub(crate) lines: usize,
}

/// Every function with a body in `code`, in order.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        if code[..start].ends_with(is_word) {
            continue;
        }
        let name: String = code[start + 3..]
            .chars()
            .take_while(|it| is_word(*it))
            .collect();
        if name.is_empty() {
            continue;
        }
        if let Some(end) = end_of_body(code, start) {
            let before = code[..start].matches('\n').count();
            let inside = code[start..end].matches('\n').count();
            found.push(Function {
                name,
                line: before + 1,
                lines: inside + 1,
            });
        }
    }
    found
}

/// The line of a byte of `text`, counted from one.
pub(crate) fn line_of(text: &str, byte: usize) -> usize {
    text[..byte].matches('\n').count() + 1
}

pub(crate) fn is_word(it: char) -> bool {
    it.is_alphanumeric() || it == '_'
}

/// Where the body of the function whose `fn` is at `start` closes; none for a signature alone.
fn end_of_body(code: &str, start: usize) -> Option<usize> {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for (at, it) in code[start..].char_indices() {
        match it {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            ';' if round == 0 && curly == 0 => return None,
            '{' => curly += 1,
            '}' => {
                curly -= 1;
                if curly == 0 && round == 0 {
                    return Some(start + at);
                }
            }
            _ => {}
        }
    }
    None
}

/// How many characters from `at` on are a comment or a literal; zero when code begins there.
fn blank_length(chars: &[char], at: usize) -> usize {
    let next = |ahead: usize| chars.get(at + ahead).copied().unwrap_or('\0');
    match (next(0), next(1)) {
        ('/', '/') => run(chars, at, |it| it != '\n'),
        ('/', '*') => block_comment(chars, at),
        ('"', _) => string(chars, at),
        ('r', '"' | '#') if !follows_word(chars, at) => raw_string(chars, at),
        ('\'', '\\') => 2 + run(chars, at + 3, |it| it != '\'') + 2,
        ('\'', _) if next(2) == '\'' => 3,
        _ => 0,
    }
}

/// Whether the character before `at` continues a word; the `b` and `c` of literals do not count.
fn follows_word(chars: &[char], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map(|at| chars[at]);
    match before(1) {
        Some('b' | 'c') => before(2).is_some_and(is_word),
        Some(it) => is_word(it),
        None => false,
    }
}

fn run(chars: &[char], at: usize, belongs: impl Fn(char) -> bool) -> usize {
    chars.iter().skip(at).take_while(|it| belongs(**it)).count()
}

fn block_comment(chars: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at - start
}

fn string(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1 - start
}

/// Zero when what begins here is a raw identifier.
fn raw_string(chars: &[char], start: usize) -> usize {
    let hashes = run(chars, start + 1, |it| it == '#');
    if chars.get(start + 1 + hashes) != Some(&'"') {
        return 0;
    }
    let mut at = start + 2 + hashes;
    while at < chars.len() {
        if chars[at] == '"' && run(chars, at + 1, |it| it == '#') >= hashes {
            return at + 1 + hashes - start;
        }
        at += 1;
    }
    at - start
}

#[cfg(test)]
mod tests {
    use super::{code, functions};

    #[test]
    fn comments_and_literals_are_not_code() {
        let check = |text: &str, expected: &str| {
            let squeezed: Vec<String> = code(text).split_whitespace().map(str::to_owned).collect();
            assert_eq!(squeezed.join(" "), expected, "{text}");
        };
        check("a // b\nc", "a c");
        check("a /* b /* c */ d */ e", "a e");
        check(r#"a("b \" { // c", d)"#, "a( , d)");
        check("a(r#\"b \" {\"#, d)", "a( , d)");
        check("a(b'{', '\\'', '}', '\\u{7b}', c)", "a(b , , , , c)");
        check(
            "fn a<'b>(c: &'b str) -> &'b r#type {}",
            "fn a<'b>(c: &'b str) -> &'b r#type {}",
        );
        check("for '\"' and \"'\" x", "for and x");
    }

    #[test]
    fn lines_stay_where_they_are() {
        let text = "a /* b\n c */ \"d\n e\" f";
        assert_eq!(code(text).lines().count(), 3);
        assert!(code(text).ends_with(" f"));
    }

    #[test]
    fn a_function_ends_at_its_own_brace() {
        let text = "trait A {\n  fn sign(&self) -> [u8; 2];\n  fn a(&self) {\n    if b { '}' } else {\n \
                    }\n  }\n}\nconst fn c(d: fn (u8)) {}\n";
        let found: Vec<(String, usize, usize)> = functions(&code(text))
            .into_iter()
            .map(|it| (it.name, it.line, it.lines))
            .collect();
        assert_eq!(found, [("a".to_owned(), 3, 4), ("c".to_owned(), 8, 1)]);
    }
}
