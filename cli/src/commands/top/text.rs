//! Text that comes from other programs, made fit for a terminal.

use std::borrow::Cow;

/// True for what can move the cursor, change colours, or turn the direction of what follows.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// `text` on one line, in which nothing can control a terminal: such characters are written as escapes.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_unsafe(c) {
            true => safe.extend(c.escape_default()),
            false => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// As [`shown`], for a terminal that knows ASCII only.
pub(crate) fn ascii(text: &str) -> String {
    let safe = shown(text);
    safe.chars()
        .map(|c| if c.is_ascii() { c } else { '?' })
        .collect()
}

/// A type without the paths to its names: `Vec<Add>` for `alloc::vec::Vec<counter::Add>`.
pub(crate) fn short_type(name: &str) -> String {
    let mut short = String::new();
    let mut word_at = 0;
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        if c == ':' && rest.peek() == Some(&':') {
            rest.next();
            short.truncate(word_at);
        } else {
            short.push(c);
            if !c.is_alphanumeric() && c != '_' {
                word_at = short.len();
            }
        }
    }
    short
}

/// True if the environment says that the terminal shows UTF-8.
pub(crate) fn terminal_has_utf8() -> bool {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = variable("LC_ALL")
        .or_else(|| variable("LC_CTYPE"))
        .or_else(|| variable("LANG"));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_controls_the_terminal() {
        assert_eq!(shown("camera/frames"), "camera/frames");
        assert_eq!(shown("a\u{1b}[2Jb\n\u{9b}1m"), "a\\u{1b}[2Jb\\n\\u{9b}1m");
        assert_eq!(shown("x\u{202e}y"), "x\\u{202e}y");
        assert_eq!(shown("größe"), "größe");
        assert_eq!(ascii("größe\u{7}"), "gr??e\\u{7}");
    }

    #[test]
    fn types_lose_their_paths() {
        assert_eq!(short_type("alloc::vec::Vec<counter::Add>"), "Vec<Add>");
        assert_eq!(short_type("(a::B, [c::d::E; 3])"), "(B, [E; 3])");
        assert_eq!(short_type("timer"), "timer");
        assert_eq!(short_type("a::"), "");
    }
}
