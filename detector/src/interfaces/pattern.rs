//! Owns the choice of interfaces that a user makes: `auto`, or name patterns.

use std::{fmt, str::FromStr};

/// Which interfaces are observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// Every veth whose peer is in another network namespace.
    Auto,
    /// Every interface with a name like one of these.
    Patterns(Vec<Pattern>),
}

/// A name pattern: `*` stands for any characters, `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// A pattern that can match no interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is empty.
    #[error("a pattern is empty; expected `auto` or names like `veth*,cali*`")]
    Empty,
    /// `auto` stands beside other patterns.
    #[error("`auto` cannot stand beside patterns")]
    AutoAmongPatterns,
    /// It holds a character that no interface name has.
    #[error("{0:?} holds a character that no interface name has")]
    Character(String),
    /// It is longer than any interface name.
    #[error("{0:?} is longer than an interface name can be (15 bytes)")]
    TooLong(String),
}

impl Pattern {
    /// Whether `name` is like this pattern.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        matches(self.0.as_bytes(), name.as_bytes())
    }
}

/// Greedy with one point to come back to, so linear in practice and never exponential.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(from) {
        match pattern.get(at) {
            Some(b'*') => {
                back = Some((at, from));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                at += 1;
                from += 1;
            }
            _ => match back {
                Some((star, taken)) => {
                    at = star + 1;
                    from = taken + 1;
                    back = Some((star, from));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at).all(|byte| *byte == b'*')
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        // IFNAMSIZ of linux/if.h, less the final zero.
        const LONGEST: usize = 15;
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
            return Err(PatternError::Character(text.to_owned()));
        }
        if text.bytes().filter(|byte| *byte != b'*').count() > LONGEST {
            return Err(PatternError::TooLong(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Select {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let patterns: Vec<&str> = text.split(',').map(str::trim).collect();
        if patterns.contains(&"auto") {
            return Err(PatternError::AutoAmongPatterns);
        }
        Ok(Self::Patterns(patterns.into_iter().map(Pattern::from_str).collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Patterns(patterns) => {
                for (index, Pattern(pattern)) in patterns.iter().enumerate() {
                    write!(f, "{}{pattern}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, PatternError, Select};

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, name, like) in [
            ("veth*", "veth1a2b", true),
            ("veth*", "veth", true),
            ("veth*", "eth0", false),
            ("*0", "eth0", true),
            ("*0", "eth01", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("eth?", "eth0", true),
            ("eth?", "eth", false),
            ("eth0", "eth0", true),
            ("*", "anything", true),
        ] {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(name), like, "{pattern} {name}");
        }
    }

    #[test]
    fn bad_choices_are_refused_with_a_reason() {
        for (text, error) in [
            ("", PatternError::Empty),
            ("veth*,", PatternError::Empty),
            ("veth*,auto", PatternError::AutoAmongPatterns),
            ("a/b", PatternError::Character("a/b".to_owned())),
            ("a-name-of-sixteen", PatternError::TooLong("a-name-of-sixteen".to_owned())),
        ] {
            assert_eq!(text.parse::<Select>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_choice_prints_as_it_was_written() {
        for text in ["auto", "veth*", "cali*,eni*"] {
            assert_eq!(text.parse::<Select>().unwrap().to_string(), text);
        }
    }
}
