//! Owns the writing of JSON that a terminal may be shown.
//!
//! JSON must escape control characters below U+0020 and nothing else. Terminals obey others too, and some hide or
//! turn what stands beside them: those are escaped as well, and a reader gets the same text back.

use serde::Serialize;

use crate::printable::is_hostile;

/// A value on one line.
///
/// # Errors
///
/// A map has keys that are no text.
pub fn to_vec(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let bytes = serde_json::to_vec(value)?;
    if is_plain(&bytes) {
        return Ok(bytes);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(escape(&text).into_bytes()),
        // It writes UTF-8.
        Err(error) => Ok(error.into_bytes()),
    }
}

/// A value on several lines.
///
/// # Errors
///
/// A map has keys that are no text.
pub fn to_string_pretty(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    Ok(if is_plain(text.as_bytes()) { text } else { escape(&text) })
}

/// Most text is this, and quickly known.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii() && *byte != 0x7f)
}

/// Outside of strings JSON is ASCII and line feeds; inside of them these escapes mean the same characters.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c == '\n' || !is_hostile(c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{to_string_pretty, to_vec};

    #[test]
    fn the_text_comes_back_and_a_terminal_sees_escapes() {
        for hostile in ["\u{9b}31m", "\u{7f}", "a\u{202e}b", "\u{e0041}", "\x1b[2J\n", "東京 \u{feff}"] {
            for text in
                [String::from_utf8(to_vec(&hostile).unwrap()).unwrap(), to_string_pretty(&hostile).unwrap()]
            {
                assert_eq!(serde_json::from_str::<String>(&text).unwrap(), hostile);
                assert!(!text.chars().any(crate::printable::is_hostile), "{text:?}");
            }
        }
        assert_eq!(to_vec(&"東京").unwrap(), "\"東京\"".as_bytes(), "what is harmless stays");
    }
}
