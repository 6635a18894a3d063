//! Owns names as YAML: Kubernetes lets an object be called `on` or `1e3`, which YAML takes for no text.

use std::borrow::Cow;

/// A name as a YAML scalar that is text whatever it is called.
pub(crate) fn scalar(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 12] =
        ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "infinity"];
    let plain = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
        && !WORDS.contains(&text);
    // Debug's escapes are those of JSON for all that a name can have.
    if plain { Cow::Borrowed(text) } else { Cow::Owned(format!("{text:?}")) }
}
