//! Owns what is told of TLS: version classes, ALPN classes, and the names in a hello.

use crate::{evidence::Evidence, verdict::UnknownCode};

/// ALPN class of a TLS connection, as far as it tells who made it.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Alpn {
    /// No ALPN, or the hello was not read.
    #[default]
    None = 0,
    /// An ALPN of no mesh.
    Other = 1,
    /// `istio`, `istio-…`: Envoy of an Istio sidecar.
    Istio = 2,
    /// `transport.l5d.io/…`: a Linkerd proxy.
    Linkerd = 3,
    /// Port 15008: HBONE, of Istio's ambient mode and of others.
    Hbone = 4,
    /// `kuma`: Kuma's Envoy.
    Kuma = 5,
    /// None of a mesh, and a Linkerd identity as the server name: a Linkerd proxy in transparent mode.
    LinkerdName = 6,
}

/// Port of HBONE (Istio's `HBONE_PORT`).
pub const HBONE_PORT: u16 = 15_008;

impl Alpn {
    /// The class of a hello by its evidence and the server's port.
    #[must_use]
    pub const fn of(hello: Evidence, server_port: u16) -> Self {
        if server_port == HBONE_PORT {
            Self::Hbone
        } else if hello.any(Evidence::ALPN_ISTIO) {
            Self::Istio
        } else if hello.any(Evidence::ALPN_LINKERD) {
            Self::Linkerd
        } else if hello.any(Evidence::ALPN_KUMA) {
            Self::Kuma
        } else if hello.any(Evidence::SNI_LINKERD) {
            Self::LinkerdName
        } else if hello.any(Evidence::ALPN_H2.or(Evidence::ALPN_OTHER)) {
            Self::Other
        } else {
            Self::None
        }
    }

    /// Whether a mesh's proxy has made the connection.
    #[must_use]
    pub const fn is_mesh(self) -> bool {
        !matches!(self, Self::None | Self::Other)
    }

    /// The class's name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Other => "other",
            Self::Istio => "istio",
            Self::Linkerd | Self::LinkerdName => "linkerd",
            Self::Hbone => "hbone",
            Self::Kuma => "kuma",
        }
    }
}

impl TryFrom<u8> for Alpn {
    type Error = UnknownCode;

    fn try_from(code: u8) -> Result<Self, UnknownCode> {
        Ok(match code {
            0 => Self::None,
            1 => Self::Other,
            2 => Self::Istio,
            3 => Self::Linkerd,
            4 => Self::Hbone,
            5 => Self::Kuma,
            6 => Self::LinkerdName,
            _ => return Err(UnknownCode(code)),
        })
    }
}

/// TLS version class.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Version {
    /// The hello was not read.
    #[default]
    Unknown = 0,
    /// SSL 2.0 or 3.0, TLS 1.0 or 1.1 at the most.
    Weak = 1,
    /// TLS 1.2 at the most.
    Tls12 = 2,
    /// TLS 1.3 is offered.
    Tls13 = 3,
}

impl Version {
    /// The class of what a client offers.
    #[must_use]
    pub const fn offered(hello: Evidence) -> Self {
        if hello.any(Evidence::OFFERS_TLS13) {
            Self::Tls13
        } else if hello.any(Evidence::OFFERS_TLS12) {
            Self::Tls12
        } else if hello.any(Evidence::OFFERS_WEAK) {
            Self::Weak
        } else {
            Self::Unknown
        }
    }

    /// The class's name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Weak => "weak",
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

impl TryFrom<u8> for Version {
    type Error = UnknownCode;

    fn try_from(code: u8) -> Result<Self, UnknownCode> {
        Ok(match code {
            0 => Self::Unknown,
            1 => Self::Weak,
            2 => Self::Tls12,
            3 => Self::Tls13,
            _ => return Err(UnknownCode(code)),
        })
    }
}

/// Bytes of a server name that are kept (RFC 1035 §2.3.4).
pub const SNI_MAX: usize = 255;
/// Bytes of the ALPN list that are kept.
pub const ALPN_MAX: usize = 64;

/// What a ClientHello says in clear, for user space: it is public, and nothing else of a payload travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Hello {
    /// The server name.
    pub sni: [u8; SNI_MAX + 1],
    /// The protocol names, each behind its length.
    pub alpn: [u8; ALPN_MAX],
    /// Length of the server name.
    pub sni_len: u16,
    /// Length of the protocol names as they stand in `alpn`.
    pub alpn_len: u16,
    /// Zero.
    pub _pad: [u8; 4],
}

const _: () = assert!(size_of::<Hello>() == 328);

impl Hello {
    /// A hello that says nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { sni: [0; SNI_MAX + 1], alpn: [0; ALPN_MAX], sni_len: 0, alpn_len: 0, _pad: [0; 4] }
    }

    /// The server name's bytes.
    #[must_use]
    pub fn server_name(&self) -> &[u8] {
        self.sni.get(..usize::from(self.sni_len)).unwrap_or(&self.sni)
    }

    /// The protocol names' bytes, in the client's order; the last may be cut short.
    pub fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.alpn.get(..usize::from(self.alpn_len)).unwrap_or(&self.alpn);
        core::iter::from_fn(move || {
            let (length, tail) = rest.split_first()?;
            let (name, tail) = tail.split_at(usize::from(*length).min(tail.len()));
            rest = tail;
            Some(name)
        })
    }
}

impl Default for Hello {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: repr(C), no padding (asserted by the size above), any bit pattern is valid.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Hello {}
