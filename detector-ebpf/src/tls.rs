//! Owns what is told of TLS: version classes and ALPN classes.

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
    /// `h2` on port 15008: HBONE.
    Hbone = 4,
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
