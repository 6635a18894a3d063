//! Owns `Server`: the ports of pods that have a policy of their own.
//!
//! Source: Linkerd's policy-controller/k8s/index/src/inbound/index.rs, `reindex_servers`: a server takes the place of
//! the default at its port, and of several the oldest, then the first by name.

use std::sync::Arc;

use super::Access;
use crate::{
    cluster::{Labels, Selector},
    policy::{
        decision::{Kind, ObjectKey},
        index::{Meta, Selects},
    },
};

/// A port, by number or by the name that the pod gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// By number.
    Number(u16),
    /// By name.
    Name(Arc<str>),
}

/// A `Server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its metadata.
    pub meta: Meta,
    /// Its own labels: a `ServerAuthorization` selects by them.
    pub labels: Labels,
    /// The pods that it selects. `None` for one that selects what is no pod.
    pub pods: Option<Selector>,
    /// The port on them.
    pub port: Port,
    /// `accessPolicy`: who is admitted without another word.
    pub access: Access,
    /// `proxyProtocol`.
    pub protocol: Box<str>,
}

impl Selects for Server {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn selector(&self) -> Option<&Selector> {
        self.pods.as_ref()
    }
}

impl Server {
    /// Names it.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: Kind::Server, name: self.meta.name.clone() }
    }

    /// Whether it is about `port` of a pod with these named ports.
    #[must_use]
    pub fn is_for(&self, port: u16, named: &[(Arc<str>, u16)]) -> bool {
        self.pods.is_some()
            && match &self.port {
                Port::Number(number) => *number == port,
                Port::Name(name) => named.iter().any(|(known, number)| known == name && *number == port),
            }
    }
}
