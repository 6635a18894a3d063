//! Owns what Linkerd's objects say: which ports want an identity, and whose.
//!
//! The defaults are those of Linkerd's charts/linkerd-control-plane/values.yaml.

pub mod authorization;
pub mod server;

pub use self::{
    authorization::{
        Access, AuthorizationPolicy, Client, MeshTlsAuthentication, NetworkAuthentication,
        ServerAuthorization, Target,
    },
    server::{Port, Server},
};

use std::sync::Arc;

use super::matching::{Network, Ports};

/// Linkerd's values, as far as policy depends on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkerdConfig {
    /// The trust domain of identities.
    pub trust_domain: Arc<str>,
    /// The default inbound policy of the cluster.
    pub default_policy: Access,
    /// The networks that `cluster-*` policies mean.
    pub cluster_networks: Box<[Network]>,
    /// Ports that every proxy leaves alone.
    pub ignore_inbound: Ports,
}

impl Default for LinkerdConfig {
    fn default() -> Self {
        let networks = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8"];
        Self {
            trust_domain: "cluster.local".into(),
            default_policy: Access::AllUnauthenticated,
            cluster_networks: networks.iter().filter_map(|network| network.parse().ok()).collect(),
            ignore_inbound: Ports::read("4567,4568"),
        }
    }
}
