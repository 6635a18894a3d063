//! Owns what TLS clients say in clear: server names and protocols, as far as they are worth keeping.
//!
//! The names come from whoever opens a connection, so they are bounded in number and length, and what is not
//! printable ASCII is replaced before anything else sees it.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

use detector_ebpf::tls::Hello;

/// Names of one kind that are kept for a flow.
const KEPT: usize = 8;
/// Hellos whose edge has not been heard of yet, by default: an event follows its hello at once.
const PENDING: usize = 1024;

/// What the clients of a flow have said in their hellos.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsNames {
    /// Server names (SNI).
    pub server_names: BTreeSet<String>,
    /// Protocols (ALPN).
    pub protocols: BTreeSet<String>,
}

impl TlsNames {
    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.server_names.is_empty() && self.protocols.is_empty()
    }

    pub(super) fn add(&mut self, hello: &Hello) {
        keep(&mut self.server_names, hello.server_name());
        for protocol in hello.protocols() {
            keep(&mut self.protocols, protocol);
        }
    }

    pub(super) fn merge(&mut self, other: Self) {
        let Self { server_names, protocols } = other;
        for (names, more) in [(&mut self.server_names, server_names), (&mut self.protocols, protocols)] {
            names.extend(more);
            while names.len() > KEPT {
                names.pop_last();
            }
        }
    }
}

fn keep(names: &mut BTreeSet<String>, name: &[u8]) {
    if !name.is_empty() && names.len() < KEPT {
        names.insert(printable(name));
    }
}

fn printable(name: &[u8]) -> String {
    name.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '\u{fffd}' }).collect()
}

/// Hellos that wait for the event of their edge.
#[derive(Debug)]
pub(super) struct Pending<K> {
    names: HashMap<K, TlsNames>,
    room: usize,
}

impl<K> Default for Pending<K> {
    fn default() -> Self {
        Self::with_room(PENDING)
    }
}

impl<K> Pending<K> {
    pub(super) fn with_room(room: usize) -> Self {
        Self { names: HashMap::new(), room }
    }
}

impl<K: Eq + Hash> Pending<K> {
    pub(super) fn put(&mut self, key: K, hello: &Hello) {
        if self.names.len() >= self.room {
            // Their events were lost to a full ring buffer; the edges come without names.
            self.names.clear();
        }
        self.names.entry(key).or_default().add(hello);
    }

    pub(super) fn take(&mut self, key: &K) -> Option<TlsNames> {
        self.names.remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(name: &[u8]) -> Hello {
        let mut hello = Hello::new();
        hello.sni[..name.len()].copy_from_slice(name);
        hello.sni_len = u16::try_from(name.len()).unwrap();
        hello.alpn[..9].copy_from_slice(b"\x02h2\x05istio");
        hello.alpn_len = 9;
        hello
    }

    #[test]
    fn names_are_printable_and_few() {
        let mut names = TlsNames::default();
        names.add(&hello(b"a.example\x1b[31m\n<b>"));
        assert_eq!(names.server_names.first().unwrap(), "a.example\u{fffd}[31m\u{fffd}<b>");
        assert_eq!(names.protocols.iter().collect::<Vec<_>>(), ["h2", "istio"]);
        for index in 0..100_u8 {
            names.add(&hello(&[b'n', index]));
        }
        assert_eq!(names.server_names.len(), KEPT);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut pending = Pending::default();
        for key in 0..5000_u32 {
            pending.put(key, &hello(b"a"));
            assert!(pending.names.len() <= PENDING);
        }
        assert!(pending.take(&4999).is_some());
        assert!(pending.take(&4999).is_none());
    }
}
