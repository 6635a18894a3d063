//! Owns the escaping of names for text that people read.
//!
//! What Kubernetes calls a name is harmless, but annotations, reasons, server names and files are anybody's
//! words: a line feed would forge a line, an escape sequence would command the terminal, and a sign that turns
//! the direction of writing would show another name than the one that is there.

use std::{borrow::Cow, fmt};

/// A text in which nothing commands a terminal, ends a line, or hides.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hostile(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// [`printable`] for several lines: line feeds stay.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && is_hostile(c)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(printable).collect::<Vec<_>>().join("\n"))
}

/// [`printable`] for what is formatted.
#[must_use]
pub fn printed(text: impl fmt::Display) -> String {
    printable(&text.to_string()).into_owned()
}

/// Whether a character is none to show: control characters, separators of lines and paragraphs, signs without
/// width, and those that turn the direction of writing (Unicode's Bidi_Control).
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The beginning of a text, of `most` bytes at most; what is cut off shows.
#[must_use]
pub fn fit(text: &str, most: usize) -> Cow<'_, str> {
    const MORE: &str = "…";
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let room = most.saturating_sub(MORE.len());
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= room).last().unwrap_or(0);
    Cow::Owned(format!("{}{MORE}", text.get(..end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::{fit, printable, printable_lines};

    #[test]
    fn what_commands_a_terminal_or_forges_a_line_is_escaped() {
        assert_eq!(printable("a\x1b[31mb"), "a\\u{1b}[31mb");
        assert_eq!(printable("a\nb\r\tc\0"), "a\\u{a}b\\u{d}\\u{9}c\\u{0}");
        assert_eq!(printable("\u{9b}31m\u{7f}"), "\\u{9b}31m\\u{7f}", "C1 too");
        assert_eq!(printable("good\u{202e}live\u{2066}\u{200b}"), "good\\u{202e}live\\u{2066}\\u{200b}");
    }

    #[test]
    fn what_is_harmless_stays() {
        let harmless = "mcp/tools-0 (Größe 東京) <b>&\"'";
        assert!(matches!(printable(harmless), std::borrow::Cow::Borrowed(text) if text == harmless));
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(printable_lines("a\nb\x1bc\r\n"), "a\nb\\u{1b}c\\u{d}\n");
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(fit("tools", 5), "tools");
        assert_eq!(fit("ääää", 7), "ää…");
        for most in 3..40 {
            assert!(fit("a東京b東京c東京d東京", most).len() <= most);
        }
    }
}
