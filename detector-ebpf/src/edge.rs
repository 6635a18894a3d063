//! Owns the edge: the unit that verdicts are counted in, and that user space hears of.
//!
//! An edge is everything that the kernel needs to tell two kinds of connection apart: where they were seen,
//! both ends without the client's port, and their class. A connection that turns out to be more than it
//! seemed (HTTP that carries MCP) leaves one edge for another; `entered` and `left` only ever grow, and the
//! connections that an edge holds in the end are their difference.

use crate::{
    evidence::Evidence,
    method::Methods,
    verdict::{Protocol, UnknownCode, Verdict},
};

/// What identifies an edge. Addresses are IPv6, IPv4 ones mapped (`::ffff:a.b.c.d`), in network order.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq)]
#[repr(C)]
pub struct EdgeKey {
    /// Address of the side that opened the connection.
    pub client: [u8; 16],
    /// Address of the side that accepted it.
    pub server: [u8; 16],
    /// Index of the interface that the connection was seen on, in the detector's network namespace.
    pub ifindex: u32,
    /// 32-bit hash of the TLS server name, 0 without one.
    pub sni_hash: u32,
    /// The server's port, in host order.
    pub server_port: u16,
    /// A [`Verdict`].
    pub verdict: u8,
    /// A [`Protocol`].
    pub protocol: u8,
    /// A set of [`EdgeKey::FROM_POD`] and its siblings.
    pub flags: u8,
    /// An ALPN class, see [`crate::tls::Alpn`].
    pub alpn: u8,
    /// A TLS version class, see [`crate::tls::Version`].
    pub tls_version: u8,
    /// Zero.
    pub _pad: u8,
}

const _: () = assert!(size_of::<EdgeKey>() == 48);

impl EdgeKey {
    /// The key of no edge: all zeros.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            client: [0; 16],
            server: [0; 16],
            ifindex: 0,
            sni_hash: 0,
            server_port: 0,
            verdict: 0,
            protocol: 0,
            flags: 0,
            alpn: 0,
            tls_version: 0,
            _pad: 0,
        }
    }

    /// The client is the pod behind the interface: its first packet came from the pod.
    pub const FROM_POD: u8 = 1 << 0;
    /// The connection was not seen from its start.
    pub const PICKED_UP: u8 = 1 << 1;
    /// Credentials were seen in clear.
    pub const CREDENTIALS: u8 = 1 << 2;

    /// The verdict of the edge.
    ///
    /// # Errors
    ///
    /// The byte names no verdict: the map was written by another version.
    pub fn verdict(&self) -> Result<Verdict, UnknownCode> {
        Verdict::try_from(self.verdict)
    }

    /// The protocol of a plaintext edge.
    ///
    /// # Errors
    ///
    /// The byte names no protocol: the map was written by another version.
    pub fn protocol(&self) -> Result<Protocol, UnknownCode> {
        Protocol::try_from(self.protocol)
    }
}

/// What was counted and found on an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EdgeValue {
    /// Connections that were ever counted here.
    pub entered: u64,
    /// Connections that were counted here and then moved to a richer edge.
    pub left: u64,
    /// Connections whose plaintext the other side answered with payload.
    pub answered: u64,
    /// Connections whose plaintext the other side refused, by RST or by FIN without payload.
    pub refused: u64,
    /// All evidence that was found, see [`Evidence`].
    pub evidence: u64,
    /// All MCP methods that were found, see [`Methods`].
    pub methods: u64,
    /// Time of the first verdict, in nanoseconds of `CLOCK_MONOTONIC`.
    pub first_ns: u64,
    /// Time of the last message or verdict, in nanoseconds of `CLOCK_MONOTONIC`.
    pub last_ns: u64,
}

const _: () = assert!(size_of::<EdgeValue>() == 64);

impl EdgeValue {
    /// The evidence as a set.
    #[must_use]
    pub const fn evidence(&self) -> Evidence {
        Evidence(self.evidence)
    }

    /// The MCP methods as a set.
    #[must_use]
    pub const fn methods(&self) -> Methods {
        Methods(self.methods)
    }
}

// SAFETY: repr(C), no padding (asserted by the sizes above), any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for EdgeKey {}

// SAFETY: repr(C), no padding (asserted by the sizes above), any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for EdgeValue {}
