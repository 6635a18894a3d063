//! Owns what our own objects say: declared exceptions. `ExpectedSources` is in `cluster::objects`.

use std::{net::IpAddr, sync::Arc};

use super::{
    decision::{Kind, ObjectKey},
    index::{Meta, Selects},
    istio::Identity,
    matching::Network,
};
use crate::{
    cluster::{Labels, Selector},
    flows::Timestamp,
};

/// A `TrafficException`: traffic that somebody answers for, for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrafficException {
    /// Its metadata.
    pub meta: Meta,
    /// The servers, pods of its namespace.
    pub selector: Selector,
    /// The ports of the pods; none means all.
    pub ports: Box<[u16]>,
    /// The clients; none means all.
    pub peers: Box<[Peer]>,
    /// The findings that it is about, by id; none means all that an exception can lower.
    pub findings: Box<[Box<str>]>,
    /// Why it is there.
    pub reason: Arc<str>,
    /// Who answers for it.
    pub owner: Arc<str>,
    /// When it ends.
    pub expires: Timestamp,
}

/// A client of an exception. Fields that are there must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its namespace.
    pub namespace: Option<Arc<str>>,
    /// Its service account.
    pub service_account: Option<Arc<str>>,
    /// Its network.
    pub network: Option<Network>,
}

impl Selects for TrafficException {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn selector(&self) -> Option<&Selector> {
        Some(&self.selector)
    }
}

impl TrafficException {
    /// Names it.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: Kind::TrafficException, name: self.meta.name.clone() }
    }

    /// Whether it has ended at `now`.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires <= now
    }

    /// Whether it is about this traffic, ended or not. Traffic whose port is hidden is that of any.
    #[must_use]
    pub fn covers(
        &self,
        server: &Labels,
        port: Option<u16>,
        client: Option<Identity<'_>>,
        address: IpAddr,
    ) -> bool {
        (self.ports.is_empty() || port.is_none_or(|port| self.ports.contains(&port)))
            && (self.peers.is_empty() || self.peers.iter().any(|peer| peer.is(client, address)))
            && self.selector.matches(server)
    }

    /// Whether it is about a finding.
    #[must_use]
    pub fn is_about(&self, id: &str) -> bool {
        self.findings.is_empty() || self.findings.iter().any(|listed| &**listed == id)
    }
}

impl Peer {
    fn is(&self, client: Option<Identity<'_>>, address: IpAddr) -> bool {
        let Self { namespace, service_account, network } = self;
        let name = |wanted: &Option<Arc<str>>, is: fn(Identity<'_>) -> &str| {
            wanted.as_deref().is_none_or(|wanted| client.is_some_and(|client| is(client) == wanted))
        };
        name(namespace, |client| client.namespace)
            && name(service_account, |client| client.service_account)
            && network.is_none_or(|network| network.contains(address))
    }
}
