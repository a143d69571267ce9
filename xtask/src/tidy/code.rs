//! Rust text reduced to its code: comments and the contents of literals become spaces, lines stay
//! where they are. Enough of a lexer for rules about words and for counting braces.

/// The reduced text, by line.
#[derive(Debug, Default)]
pub(super) struct CodeView {
    lines: Vec<String>,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// Line of `fn`, from zero.
    pub(super) first_line: usize,
    /// Line of the closing brace, from zero.
    pub(super) last_line: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    /// Nesting depth.
    BlockComment(usize),
    Text,
    /// Number of `#`.
    RawText(usize),
    Char,
}

impl CodeView {
    pub(super) fn of(text: &str) -> Self {
        let chars: Vec<char> = text.chars().collect();
        let mut reduced = String::with_capacity(text.len());
        let (mut state, mut at) = (State::Code, 0);
        while let Some(&char) = chars.get(at) {
            let rest = chars.get(at..).unwrap_or_default();
            let (next, len) = step(state, rest, reduced.chars().next_back());
            let is_code = state == State::Code && next == State::Code;
            for &char in rest.iter().take(len) {
                reduced.push(if is_code || char == '\n' { char } else { ' ' });
            }
            debug_assert!(len > 0, "no progress at {char:?}");
            state = next;
            at += len;
        }
        Self {
            lines: reduced.lines().map(str::to_owned).collect(),
        }
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines.iter().map(String::as_str).enumerate()
    }

    /// Every function with a body, also nested ones.
    pub(super) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        // Functions whose body is open, with the depth of their brace.
        let mut open: Vec<(Function, usize)> = Vec::new();
        let mut announced: Option<Function> = None;
        let mut depth = 0;
        for (number, line) in self.lines() {
            for (at, char) in line.char_indices() {
                match char {
                    '{' => {
                        depth += 1;
                        open.extend(announced.take().map(|function| (function, depth)));
                    }
                    '}' => {
                        if open.last().is_some_and(|(_, brace)| *brace == depth)
                            && let Some((function, _)) = open.pop()
                        {
                            functions.push(Function {
                                last_line: number,
                                ..function
                            });
                        }
                        depth = depth.saturating_sub(1);
                    }
                    // A declaration without a body.
                    ';' if !is_inside_brackets(line, at) => announced = None,
                    'f' => {
                        if let Some(name) = function_name(line, at) {
                            let (first_line, last_line) = (number, number);
                            announced = Some(Function {
                                name,
                                first_line,
                                last_line,
                            });
                        }
                    }
                    _ => {}
                }
            }
        }
        functions
    }
}

/// Whether `word` stands at some place of `line` as a path or identifier of its own.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        let after = line
            .get(at + word.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// The state after the next characters, and how many they are.
fn step(state: State, rest: &[char], before: Option<char>) -> (State, usize) {
    let starts = |text: &str| {
        text.chars()
            .eq(rest.iter().copied().take(text.chars().count()))
    };
    match state {
        State::Code if starts("//") => (State::LineComment, 2),
        State::Code if starts("/*") => (State::BlockComment(1), 2),
        State::Code if starts("\"") => (State::Text, 1),
        State::Code
            if (starts("r") || starts("br"))
                && !before.is_some_and(|char| char.is_alphanumeric() || char == '_') =>
        {
            raw_text_start(rest).map_or((State::Code, 1), |(hashes, len)| {
                (State::RawText(hashes), len)
            })
        }
        // A lifetime has no quote after its first character.
        State::Code if starts("'\\") || (starts("'") && rest.get(2) == Some(&'\'')) => {
            (State::Char, 1)
        }
        State::LineComment if starts("\n") => (State::Code, 1),
        State::BlockComment(depth) if starts("/*") => (State::BlockComment(depth + 1), 2),
        State::BlockComment(1) if starts("*/") => (State::Code, 2),
        State::BlockComment(depth) if starts("*/") => (State::BlockComment(depth - 1), 2),
        State::Text | State::Char if starts("\\") => (state, 2),
        State::Text if starts("\"") => (State::Code, 1),
        State::Char if starts("'") => (State::Code, 1),
        State::RawText(hashes) if starts(&format!("\"{}", "#".repeat(hashes))) => {
            (State::Code, hashes + 1)
        }
        other => (other, 1),
    }
}

/// For text that starts with `r` or `br`: the number of `#` when a raw string begins here, and the
/// length of its beginning.
fn raw_text_start(rest: &[char]) -> Option<(usize, usize)> {
    let letters = if rest.first() == Some(&'b') { 2 } else { 1 };
    let hashes = rest
        .iter()
        .skip(letters)
        .take_while(|&&char| char == '#')
        .count();
    let quote = letters + hashes;
    (rest.get(quote) == Some(&'"')).then_some((hashes, quote + 1))
}

/// The `;` of `[u8; 4]` ends no declaration.
fn is_inside_brackets(line: &str, at: usize) -> bool {
    let before = line.get(..at).unwrap_or_default();
    before.matches('[').count() > before.matches(']').count()
}

/// The name after `fn` at this place.
fn function_name(line: &str, at: usize) -> Option<String> {
    let is_part = |char: char| char.is_alphanumeric() || char == '_';
    let before = line.get(..at)?.chars().next_back();
    let name = line.get(at..)?.strip_prefix("fn ")?;
    let name: String = name.chars().take_while(|&char| is_part(char)).collect();
    (!before.is_some_and(is_part) && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{CodeView, has_word};

    fn view(text: &str) -> String {
        CodeView::of(text).lines.join("\n")
    }

    fn words(text: &str) -> Vec<String> {
        view(text).split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn comments_and_literals_become_spaces_and_lines_stay() {
        let text =
            "a // tokio\n/* b /* c */\n */ d \"e \\\" f\" g r#\"h \" i\"# j br\"k\" l brew r#m";
        assert_eq!(words(text), ["a", "d", "g", "j", "l", "brew", "r#m"]);
        assert_eq!(view(text).lines().count(), 3);
    }

    #[test]
    fn quotes_of_characters_are_told_from_lifetimes() {
        let text = "let x: &'a str = f('\"', '\\'', b'{', 'é'); // gone\nnext('}')";
        let view = view(text);
        assert!(view.contains("&'a str") && view.contains("next("), "{view}");
        assert!(
            !view.contains('{') && !view.contains('}') && !view.contains("gone"),
            "{view}"
        );
    }

    #[test]
    fn words_are_found_whole() {
        assert!(has_word("use sled::Db;", "sled"));
        assert!(!has_word("unsled, sled_db", "sled"));
        assert!(has_word("let t = Instant::now();", "Instant::now"));
    }

    #[test]
    fn functions_are_found_with_their_lines() {
        let text = "trait T { fn declared(&self) -> [u8; 4]; }\nfn outer(\n    a: [u8; 4],\n) {\n    \
                    fn inner() {}\n    if x { y() }\n}\n";
        let functions = CodeView::of(text).functions();
        let found: Vec<_> = functions
            .iter()
            .map(|f| (f.name.as_str(), f.first_line, f.last_line))
            .collect();
        assert_eq!(found, [("inner", 4, 4), ("outer", 1, 6)]);
    }
}
