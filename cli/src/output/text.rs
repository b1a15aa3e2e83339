//! Text of others, made safe for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

/// True for characters that a terminal would obey, or by which text would look like other text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}'
        )
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

/// `text` with what a terminal would obey written out: `\n`, `\u{1b}`. A name or a value of another program cannot move the
/// cursor, change colours, or turn the direction of writing.
pub(crate) fn safe(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if is_unsafe(c) => {
                let _never_fails = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// `json` with the characters that JSON allows in text and a terminal would obey, as JSON escapes. It stays the same JSON: outside
/// of text they are not there.
pub(crate) fn safe_json(json: &str) -> Cow<'_, str> {
    // Line ends stand between the lines of a pretty print.
    let escapes = |c: char| is_unsafe(c) && c != '\n';
    if !json.contains(escapes) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 8);
    for c in json.chars() {
        if escapes(c) {
            // All of them have four digits at most.
            let _never_fails = write!(shown, "\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// At most `count_max` characters of `text`, with `...` for those left out.
pub(crate) fn cut(text: &str, count_max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(count_max) {
        Some((at, _)) => Cow::Owned(format!("{}...", &text[..at])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_a_terminal_that_it_would_obey() {
        assert_eq!(safe("camera/größe 🦀"), "camera/größe 🦀");
        assert_eq!(safe("a\u{1b}[2Jb\n\tc\u{9b}"), "a\\u{1b}[2Jb\\n\\tc\\u{9b}");
        assert_eq!(safe("\u{202e}evil"), "\\u{202e}evil");
    }

    #[test]
    fn safe_json_is_the_same_json() {
        let value = serde_json::json!({"a\u{7f}": "\u{9b}31m\u{2028}x\u{1b}"});
        let text = serde_json::to_string(&value).unwrap();
        let shown = safe_json(&text);
        assert!(shown.is_ascii(), "{shown}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
            value
        );
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("größe", 3), "grö...");
        assert_eq!(cut("größe", 5), "größe");
    }
}
