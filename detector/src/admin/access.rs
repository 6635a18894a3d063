//! Owns the question who may read what, and who may change anything.
//!
//! Probes are open, for the kubelet shows nothing. The API names each caller of each server, and where
//! credentials go in clear: a map for whoever has broken in. Where clients can authenticate, they must, for
//! metrics too. Where they cannot, metrics are open and the API is for those who are on the node already, as
//! `kubectl port-forward` and `kubectl exec` are. A browser there must have asked for the node itself, for a
//! page of somebody else's may give its own name our address (DNS rebinding).

use std::net::IpAddr;

use hyper::{
    StatusCode,
    header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, WWW_AUTHENTICATE},
};

use super::{
    reply::{Reply, refusal},
    token::Token,
};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// From the loopback of this node.
    local: bool,
    /// With a certificate that our authority vouches for.
    certified: bool,
}

/// What clients must show.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    /// Whether a certificate can be shown.
    pub(super) certificates: bool,
    /// The token that can be shown.
    pub(super) token: Option<Token>,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The connection is not from this node's loopback.
    Remote,
    /// The request names another host than the one it was sent to.
    Host,
    /// Neither a certificate nor the token was shown.
    Anonymous,
    /// Nobody can authenticate, so nobody may change anything.
    Unauthenticated,
}

impl Refused {
    /// Why, and what to do.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Remote => {
                "only for clients on this node: use `kubectl port-forward`, or `kubectl exec` and the command line"
            }
            Self::Host => "the Host header must be localhost or a loopback address",
            Self::Anonymous => "show a client certificate, or the token as `Authorization: Bearer`",
            Self::Unauthenticated => {
                "only for clients that authenticate: run the daemon with --admin-client-ca or --admin-token-file"
            }
        }
    }

    pub(super) fn reply(self) -> Reply {
        let anonymous = self == Self::Anonymous;
        let status = if anonymous { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        let mut reply = refusal(status, self.as_str());
        if anonymous {
            reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        reply
    }
}

impl Peer {
    /// Somebody who connected from `address`.
    pub(super) fn at(address: IpAddr) -> Self {
        Self { local: address.to_canonical().is_loopback(), certified: false }
    }

    /// The same, with a certificate or without.
    pub(super) const fn certified(self, certified: bool) -> Self {
        Self { certified, ..self }
    }
}

impl Guard {
    /// Whether clients can authenticate, and so must.
    const fn is_up(&self) -> bool {
        self.certificates || self.token.is_some()
    }

    /// Whether metrics may be read.
    pub(super) fn may_scrape(&self, peer: Peer, headers: &HeaderMap) -> Result<(), Refused> {
        if self.is_up() { self.authenticated(peer, headers) } else { Ok(()) }
    }

    /// Whether the API may be read.
    pub(super) fn may_read(&self, peer: Peer, headers: &HeaderMap) -> Result<(), Refused> {
        if self.is_up() {
            return self.authenticated(peer, headers);
        }
        if !peer.local {
            return Err(Refused::Remote);
        }
        // A client without the header is no browser.
        let Some(host) = headers.get(HOST) else { return Ok(()) };
        if host.to_str().is_ok_and(is_here) { Ok(()) } else { Err(Refused::Host) }
    }

    /// Whether something may be changed.
    pub(super) fn may_change(&self, peer: Peer, headers: &HeaderMap) -> Result<(), Refused> {
        if self.is_up() { self.authenticated(peer, headers) } else { Err(Refused::Unauthenticated) }
    }

    fn authenticated(&self, peer: Peer, headers: &HeaderMap) -> Result<(), Refused> {
        let bearer = || headers.get(AUTHORIZATION).and_then(|value| bearer(value.as_bytes()));
        let token = || self.token.as_ref().zip(bearer()).is_some_and(|(token, shown)| token.is(shown));
        if peer.certified || token() { Ok(()) } else { Err(Refused::Anonymous) }
    }
}

/// The token of an `Authorization` header. The scheme's case is no matter, by RFC 9110, section 11.1.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Whether a `Host` header names this very machine.
fn is_here(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _port)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _port)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue};

    use super::{Guard, Peer, Refused, Token};

    #[test]
    fn the_api_is_for_those_on_the_node_who_asked_for_the_node() {
        let asked = |from: &str, host: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, HeaderValue::from_static(host));
            }
            Guard::default().may_read(Peer::at(from.parse().unwrap()), &headers)
        };
        let own = ["localhost", "LOCALHOST:9464", "127.0.0.1:9464", "[::1]:9464"];
        for host in own.into_iter().map(Some).chain([None]) {
            for from in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
                assert_eq!(asked(from, host), Ok(()), "{from} {host:?}");
            }
            for from in ["10.244.0.7", "192.0.2.1", "fe80::1", "::ffff:10.0.0.1"] {
                assert_eq!(asked(from, host), Err(Refused::Remote), "{from} {host:?}");
            }
        }
        for host in ["evil.example:9464", "localhost.evil.example", "10.0.0.1:9464", "[fe80::1]:9464", ""] {
            assert_eq!(asked("127.0.0.1", Some(host)), Err(Refused::Host), "{host}");
        }
    }

    #[test]
    fn where_clients_can_authenticate_they_must() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        let token = Token::open(file.path().to_owned()).unwrap();
        let local = Peer::at([127, 0, 0, 1].into());
        let none = HeaderMap::new();
        let with =
            |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
        let all = |guard: &Guard, peer, headers: &HeaderMap| {
            [guard.may_scrape(peer, headers), guard.may_read(peer, headers), guard.may_change(peer, headers)]
        };
        let open = Guard::default();
        assert_eq!(all(&open, local, &none), [Ok(()), Ok(()), Err(Refused::Unauthenticated)]);

        let by_token = Guard { certificates: false, token: Some(token.clone()) };
        let right = with("bearer 0123456789abcdef");
        for peer in [local, Peer::at([192, 0, 2, 1].into())] {
            assert_eq!(all(&by_token, peer, &none), [Err(Refused::Anonymous); 3]);
            for wrong in
                ["Bearer 0123456789abcdee", "Bearer 0123456789abcde", "Bearer ", "Basic 0123456789abcdef"]
            {
                assert_eq!(all(&by_token, peer, &with(wrong)), [Err(Refused::Anonymous); 3], "{wrong}");
            }
            assert_eq!(all(&by_token, peer, &right), [Ok(()); 3]);
        }
        let by_certificate = Guard { certificates: true, token: None };
        assert_eq!(all(&by_certificate, local, &right), [Err(Refused::Anonymous); 3]);
        assert_eq!(all(&by_certificate, local.certified(true), &none), [Ok(()); 3]);

        // The file is read again, and one that is emptied does not open the port.
        std::fs::write(file.path(), "").unwrap();
        token.reload();
        assert_eq!(by_token.may_read(local, &with("Bearer ")), Err(Refused::Anonymous));
        assert_eq!(by_token.may_read(local, &right), Ok(()));
        std::fs::write(file.path(), "another-token-of-ours").unwrap();
        token.reload();
        assert_eq!(by_token.may_read(local, &right), Err(Refused::Anonymous));
        assert_eq!(by_token.may_read(local, &with("Bearer another-token-of-ours")), Ok(()));
        assert!(Token::open("/nowhere".into()).is_err());
    }
}
