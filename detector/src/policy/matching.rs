//! Owns the matching of values: Istio's strings with one wildcard, networks, and lists of ports.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// A string with at most one wildcard, at an end (`StringMatch` of Istio's authorization,
/// pilot/pkg/security/authz/matcher/string.go, and Linkerd's identities with `*` in front,
/// policy-controller/core/src/identity_match.rs).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    /// `*`: anything but the empty string.
    Any,
    /// `prefix*`.
    Prefix(Box<str>),
    /// `*suffix`.
    Suffix(Box<str>),
    /// The string itself.
    Exact(Box<str>),
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        if text == "*" {
            Self::Any
        } else if let Some(prefix) = text.strip_suffix('*') {
            Self::Prefix(prefix.into())
        } else if let Some(suffix) = text.strip_prefix('*') {
            Self::Suffix(suffix.into())
        } else {
            Self::Exact(text.into())
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Prefix(text) => write!(f, "{text}*"),
            Self::Suffix(text) => write!(f, "*{text}"),
            Self::Exact(text) => f.write_str(text),
        }
    }
}

impl Text {
    /// Whether `text` is meant.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => !text.is_empty(),
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::Exact(exact) => text == &**exact,
        }
    }

    /// Whether the parts, one after the other, are meant; allocates nothing.
    #[must_use]
    pub fn matches_parts(&self, parts: &[&str]) -> bool {
        let bytes = || parts.iter().flat_map(|part| part.bytes());
        match self {
            Self::Any => parts.iter().any(|part| !part.is_empty()),
            Self::Exact(exact) => bytes().eq(exact.bytes()),
            Self::Prefix(prefix) => {
                let mut text = bytes();
                prefix.bytes().all(|byte| text.next() == Some(byte))
            }
            Self::Suffix(suffix) => {
                let mut text = parts.iter().rev().flat_map(|part| part.bytes().rev());
                suffix.bytes().rev().all(|byte| text.next() == Some(byte))
            }
        }
    }
}

/// Whether `text` matches `pattern`, in which every `*` stands for any characters: Istio makes namespaces of a policy
/// into an expression so (pilot/pkg/security/authz/model/generator.go, `srcNamespaceGenerator`).
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some((last, middle)) =
        parts.collect::<Vec<_>>().split_last().map(|(last, middle)| (*last, middle.to_vec()))
    else {
        return rest.is_empty();
    };
    let mut rest = rest;
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

/// A network, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    address: u128,
    mask: u128,
    v4: bool,
}

/// Text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address and no network")]
pub struct NoNetwork(String);

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let refuse = || NoNetwork(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_no_number| refuse())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_no_address| refuse())?;
        let (width, offset) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let bits = bits.unwrap_or(width);
        if bits > width {
            return Err(refuse());
        }
        let mask = u128::MAX.checked_shl(128 - (bits + offset)).unwrap_or(0);
        Ok(Self { address: number(address) & mask, mask, v4: address.is_ipv4() })
    }
}

impl Network {
    /// Whether it holds `address`.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.v4 && number(address) & self.mask == self.address
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => Ipv6Addr::to_bits(v6),
    }
}

/// A list of ports as annotations have it: `8080,9000-9010`, or `*`. Ranges are Linkerd's (pkg/util/parsing.go).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ports(Box<[(u16, u16)]>);

impl Ports {
    /// Every port.
    #[must_use]
    pub fn all() -> Self {
        Self([(0, u16::MAX)].into())
    }

    /// The list in `text`. What is no port is left out: a mesh refuses it at injection.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let read = |item: &str| -> Option<(u16, u16)> {
            if item == "*" {
                return Some((0, u16::MAX));
            }
            match item.split_once('-') {
                Some((from, to)) => Some((from.trim().parse().ok()?, to.trim().parse().ok()?)),
                None => item.parse().ok().map(|port| (port, port)),
            }
        };
        Self(text.split(',').filter_map(|item| read(item.trim())).collect())
    }

    /// Whether `port` is in it.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&port))
    }

    /// Whether every port is in it.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::all()
    }

    /// Whether no port is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (from, to)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match (*from, *to) {
                (0, u16::MAX) => f.write_str("*")?,
                (from, to) if from == to => write!(f, "{from}")?,
                (from, to) => write!(f, "{from}-{to}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Network, Ports, Text, glob};

    #[test]
    fn strings_have_one_wildcard_at_an_end() {
        for (pattern, text, matches) in [
            ("*", "a", true),
            ("*", "", false),
            ("a/*", "a/b", true),
            ("a/*", "a/", true),
            ("a/*", "b/a/", false),
            ("*/sa/x", "td/ns/n/sa/x", true),
            ("*/sa/x", "td/ns/n/sa/y", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
        ] {
            assert_eq!(Text::from(pattern).matches(text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn globs_have_wildcards_anywhere() {
        for (pattern, text, matches) in [
            ("prod", "prod", true),
            ("prod", "production", false),
            ("prod*", "production", true),
            ("*-prod", "mcp-prod", true),
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        for (network, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "fd00::1", false),
            ("::/0", "fd00::1", true),
            ("::/0", "10.0.0.1", false),
            ("fd00::/8", "fd12::1", true),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), holds, "{network:?} {address}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "10.0.0.0/x"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn ports_are_lists_ranges_or_all() {
        let ports = Ports::read("8080, 9000-9010,x");
        assert!([8080, 9000, 9005, 9010].iter().all(|port| ports.contains(*port)));
        assert!(![80, 8999, 9011].iter().any(|port| ports.contains(*port)));
        assert_eq!(ports.to_string(), "8080,9000-9010");
        assert!(Ports::read("*").contains(1));
        assert!(Ports::read("").is_empty());
    }

    proptest! {
        #[test]
        fn parts_match_as_their_whole(pattern in "[ab*/]{0,6}", parts in proptest::collection::vec("[ab/]{0,3}", 0..4)) {
            let text = Text::from(pattern.as_str());
            let pieces: Vec<&str> = parts.iter().map(String::as_str).collect();
            prop_assert_eq!(text.matches_parts(&pieces), text.matches(&parts.concat()));
        }
    }
}
