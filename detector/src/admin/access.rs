//! Owns the question who may read what.
//!
//! Probes and metrics are open. The API names each caller of each server, and where credentials go in clear: a
//! map for whoever has broken in. It is for those who are on the node already, as `kubectl port-forward` and
//! `kubectl exec` are. A browser there must have asked for the node itself, for a page of somebody else's may
//! give its own name our address (DNS rebinding).

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    local: bool,
}

/// Why somebody may not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The connection is not from this node's loopback.
    Remote,
    /// The request names another host than the one it was sent to.
    Host,
}

impl Refused {
    /// Why, and what to do.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Remote => {
                "only for clients on this node: use `kubectl port-forward`, or `kubectl exec` and the command line"
            }
            Self::Host => "the Host header must be localhost or a loopback address",
        }
    }
}

impl Peer {
    /// Somebody who connected from `address`.
    pub(super) fn at(address: IpAddr) -> Self {
        Self { local: address.to_canonical().is_loopback() }
    }

    /// Whether the API may be read.
    pub(super) fn may_read(self, headers: &HeaderMap) -> Result<(), Refused> {
        if !self.local {
            return Err(Refused::Remote);
        }
        // A client without the header is no browser.
        let Some(host) = headers.get(HOST) else { return Ok(()) };
        if host.to_str().is_ok_and(is_here) { Ok(()) } else { Err(Refused::Host) }
    }
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
    use hyper::header::{HOST, HeaderMap, HeaderValue};

    use super::{Peer, Refused};

    #[test]
    fn the_api_is_for_those_on_the_node_who_asked_for_the_node() {
        let asked = |from: &str, host: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(host) = host {
                headers.insert(HOST, HeaderValue::from_static(host));
            }
            Peer::at(from.parse().unwrap()).may_read(&headers)
        };
        for host in
            [None, Some("localhost"), Some("LOCALHOST:9464"), Some("127.0.0.1:9464"), Some("[::1]:9464")]
        {
            for from in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
                assert_eq!(asked(from, host), Ok(()), "{from} {host:?}");
            }
            for from in ["10.244.0.7", "192.0.2.1", "fe80::1", "::ffff:10.0.0.1"] {
                assert_eq!(asked(from, host), Err(Refused::Remote), "{from} {host:?}");
            }
        }
        for host in
            ["evil.example:9464", "localhost.evil.example", "10.0.0.1:9464", "[fe80::1]:9464", "", "[::1"]
        {
            let expected = if host == "[::1" { Ok(()) } else { Err(Refused::Host) };
            assert_eq!(asked("127.0.0.1", Some(host)), expected, "{host}");
        }
    }
}
