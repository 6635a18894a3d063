//! Owns what is known of a flow's TLS: classes of versions and of ALPN, over all its connections.

use detector_ebpf::{
    edge::EdgeKey,
    tls::{Alpn, Version},
};

/// Classes that were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsSeen {
    versions: u8,
    alpns: u8,
}

impl TlsSeen {
    /// One connection's classes.
    #[must_use]
    pub const fn of(version: Version, alpn: Alpn) -> Self {
        Self { versions: 1 << version as u8, alpns: 1 << alpn as u8 }
    }

    pub(super) fn of_edge(key: &EdgeKey) -> Self {
        let bit = |code: u8| 1_u8.checked_shl(code.into()).unwrap_or(0);
        Self { versions: bit(key.tls_version), alpns: bit(key.alpn) }
    }

    /// Both together.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self { versions: self.versions | other.versions, alpns: self.alpns | other.alpns }
    }

    /// Whether a hello was read: a connection that was picked up in the middle has shown none.
    #[must_use]
    pub const fn has_hello(self) -> bool {
        self.versions & !(1 << Version::Unknown as u8) != 0
    }

    /// Whether a version was all that was offered that nobody should offer any more.
    #[must_use]
    pub const fn is_weak(self) -> bool {
        self.versions & (1 << Version::Weak as u8) != 0
    }

    /// Whether an ALPN of this class was offered.
    #[must_use]
    pub const fn has(self, alpn: Alpn) -> bool {
        self.alpns & (1 << alpn as u8) != 0
    }
}
