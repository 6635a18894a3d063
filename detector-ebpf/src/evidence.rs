//! Owns the evidence bits: what the scan of a plaintext flow found, as numbers, never as bytes.
//!
//! A bit says that a token stood where its protocol puts it. It carries no value: `AUTH_BEARER` says that
//! a bearer token was sent, not which.

use crate::verdict::Protocol;

/// A set of evidence bits.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Evidence(pub u64);

macro_rules! evidence {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $label:literal;)*) => {
        impl Evidence {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            /// Every evidence bit with its name in logs and tables.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $label)),*];
        }
    };
}

evidence! {
    /// An HTTP/1 request line.
    HTTP_REQUEST = 0, "http-request";
    /// An HTTP/1 status line.
    HTTP_RESPONSE = 1, "http-response";
    /// The HTTP/2 connection preface.
    H2C_PREFACE = 2, "h2c-preface";
    /// A JSON-RPC 2.0 member `"jsonrpc"` in a body or a line.
    JSONRPC = 3, "jsonrpc";
    /// JSON-RPC without HTTP: lines of JSON on the TCP stream.
    RAW_JSON = 4, "raw-json";
    /// Base-protocol framing of the Language Server Protocol (`Content-Length:` before JSON).
    LSP_FRAMING = 5, "lsp-framing";
    /// A JSON-RPC method that some other protocol than MCP defines (Ethereum, LSP, A2A).
    OTHER_METHOD = 6, "other-jsonrpc-method";
    /// An `A2A-Version` header or an A2A media type.
    A2A = 7, "a2a";
    /// Server-sent events: `text/event-stream` as a response's type.
    EVENT_STREAM = 8, "event-stream";
    /// An `Accept` that lists `application/json`.
    ACCEPT_JSON = 9, "accept-json";
    /// An `Accept` that lists `text/event-stream`.
    ACCEPT_EVENT_STREAM = 10, "accept-event-stream";
    /// A body of type `application/json`.
    JSON_BODY = 11, "json-body";
    /// A `User-Agent` of the kubelet's probes.
    KUBE_PROBE = 12, "kube-probe";

    /// An `Mcp-Session-Id` header (2025-03-26 to 2025-11-25). It is a credential as well.
    MCP_SESSION = 16, "mcp-session-id";
    /// An `Mcp-Protocol-Version` header.
    MCP_VERSION = 17, "mcp-protocol-version";
    /// An `Mcp-Method`, `Mcp-Name` or `Mcp-Param-…` header (2026-07-28).
    MCP_METHOD = 18, "mcp-method";
    /// The event `endpoint` of the HTTP+SSE transport (2024-11-05).
    MCP_ENDPOINT_EVENT = 19, "sse-endpoint-event";
    /// `Sec-WebSocket-Protocol: mcp`.
    MCP_WEBSOCKET = 20, "mcp-websocket";
    /// A member of MCP's own namespace (`io.modelcontextprotocol/…`) in a body.
    MCP_NAMESPACE = 21, "mcp-namespace";
    /// A member `"protocolVersion"` that names an MCP revision.
    MCP_REVISION = 22, "mcp-revision";
    /// A JSON-RPC method that MCP alone defines.
    MCP_BODY_METHOD = 23, "mcp-body-method";
    /// A method that MCP shares with others (`initialize`, `ping`, `tasks/…`).
    SHARED_METHOD = 24, "shared-method";

    /// An `Authorization` header of the scheme `Bearer`.
    AUTH_BEARER = 32, "authorization-bearer";
    /// An `Authorization` header of the scheme `Basic`.
    AUTH_BASIC = 33, "authorization-basic";
    /// An `Authorization` header of another scheme.
    AUTH_OTHER = 34, "authorization-other";
    /// A `Cookie` header.
    COOKIE = 35, "cookie";
    /// A `Set-Cookie` header.
    SET_COOKIE = 36, "set-cookie";
    /// An API key header (`X-Api-Key`, `Api-Key`, `X-Auth-Token`, …).
    API_KEY = 37, "api-key";
    /// A `Proxy-Authorization` header.
    PROXY_AUTHORIZATION = 38, "proxy-authorization";
    /// A login that gives its password or token as it is, in another protocol than HTTP (FTP's `PASS`, a simple
    /// bind of LDAP, Redis' `AUTH`, …).
    PASSWORD = 39, "password";

    /// TLS: the client offers TLS 1.3.
    OFFERS_TLS13 = 40, "offers-tls1.3";
    /// TLS: the client's hello says 1.2. One that offers 1.3 says so too, even 1.3 alone (RFC 8446 §4.1.2).
    OFFERS_TLS12 = 41, "offers-tls1.2";
    /// TLS: the client offers nothing above TLS 1.1.
    OFFERS_WEAK = 42, "offers-weak-tls";
    /// TLS: the server chose TLS 1.3.
    CHOSE_TLS13 = 43, "chose-tls1.3";
    /// TLS: the server chose TLS 1.2.
    CHOSE_TLS12 = 44, "chose-tls1.2";
    /// TLS: the server chose TLS 1.1 or less.
    CHOSE_WEAK = 45, "chose-weak-tls";
    /// TLS: the server answered with an alert.
    TLS_ALERT = 46, "tls-alert";

    /// The other side answered a plaintext message with payload.
    ANSWERED = 48, "answered";
    /// The other side refused: RST or FIN without any payload.
    REFUSED = 49, "refused";

    /// TLS: a server name.
    SNI = 56, "sni";
    /// TLS: a server name of Istio's form (`outbound_.…`).
    SNI_ISTIO = 57, "sni-istio";
    /// TLS: a server name that is a Linkerd identity.
    SNI_LINKERD = 58, "sni-linkerd";
    /// TLS: an ALPN of Istio.
    ALPN_ISTIO = 59, "alpn-istio";
    /// TLS: an ALPN of Linkerd.
    ALPN_LINKERD = 60, "alpn-linkerd";
    /// TLS: an ALPN of Kuma.
    ALPN_KUMA = 61, "alpn-kuma";
    /// TLS: the ALPN `h2`.
    ALPN_H2 = 62, "alpn-h2";
    /// TLS: an ALPN of no mesh.
    ALPN_OTHER = 63, "alpn-other";
}

impl Evidence {
    /// No evidence.
    pub const NONE: Self = Self(0);

    /// Bits each of which is enough to call a message MCP: a header or an event that MCP alone defines.
    pub const MCP_DECISIVE: Self = Self(
        Self::MCP_SESSION.0
            | Self::MCP_VERSION.0
            | Self::MCP_METHOD.0
            | Self::MCP_ENDPOINT_EVENT.0
            | Self::MCP_WEBSOCKET.0,
    );

    /// Bits that a server adds to a client's hello.
    pub const CHOSEN: Self =
        Self(Self::CHOSE_TLS13.0 | Self::CHOSE_TLS12.0 | Self::CHOSE_WEAK.0 | Self::TLS_ALERT.0);

    /// Bits each of which makes a JSON-RPC message MCP.
    pub const MCP_MEMBER: Self = Self(Self::MCP_NAMESPACE.0 | Self::MCP_REVISION.0 | Self::MCP_BODY_METHOD.0);

    /// Bits that say a credential was sent in clear.
    pub const CREDENTIALS: Self = Self(
        Self::MCP_SESSION.0
            | Self::AUTH_BEARER.0
            | Self::AUTH_BASIC.0
            | Self::AUTH_OTHER.0
            | Self::COOKIE.0
            | Self::SET_COOKIE.0
            | Self::API_KEY.0
            | Self::PROXY_AUTHORIZATION.0
            | Self::PASSWORD.0,
    );

    /// What the evidence of one message says that its protocol is.
    ///
    /// The bias is to the lesser claim: JSON-RPC is MCP only by something that MCP alone defines, and a
    /// method that others have too is believed only where the head speaks MCP's content types.
    #[inline(always)]
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        if self.any(Self::MCP_DECISIVE) {
            return Protocol::Mcp;
        }
        let foreign = self.any(Self::A2A.or(Self::LSP_FRAMING));
        // A request whose `"jsonrpc"` stands behind 20 KB of arguments has shown its method all the same.
        if self.any(Self::MCP_BODY_METHOD) && !foreign {
            return Protocol::Mcp;
        }
        if self.any(Self::JSONRPC) {
            let shared = Self::SHARED_METHOD.or(Self::ACCEPT_JSON).or(Self::ACCEPT_EVENT_STREAM);
            if !foreign && (self.any(Self::MCP_MEMBER) || self.all(shared)) {
                return Protocol::Mcp;
            }
            return Protocol::JsonRpc;
        }
        if self.any(Self::H2C_PREFACE) {
            return Protocol::H2c;
        }
        if self.any(Self::HTTP_REQUEST.or(Self::HTTP_RESPONSE)) {
            return Protocol::Http1;
        }
        Protocol::None
    }

    /// Whether any bit of `other` is set.
    #[must_use]
    pub const fn any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every bit of `other` is set.
    #[must_use]
    pub const fn all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names of the bits that are set, in bit order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().filter(move |(bit, _)| self.any(*bit)).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::Evidence;

    #[test]
    fn every_bit_is_one_bit_and_stands_alone() {
        let mut seen = 0_u64;
        for (bit, name) in Evidence::ALL {
            assert_eq!(bit.0.count_ones(), 1, "{name}");
            assert_eq!(seen & bit.0, 0, "{name}");
            seen |= bit.0;
        }
        assert!(
            Evidence(seen).all(Evidence::MCP_DECISIVE.or(Evidence::MCP_MEMBER).or(Evidence::CREDENTIALS))
        );
    }

    #[test]
    fn names_follow_the_bits() {
        let found = Evidence::JSONRPC.or(Evidence::AUTH_BEARER);
        assert_eq!(found.names().collect::<Vec<_>>(), ["jsonrpc", "authorization-bearer"]);
    }
}
