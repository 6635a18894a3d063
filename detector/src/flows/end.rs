//! Owns the end of a flow: from an address and the interface's word on it to an identity.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use detector_ebpf::edge::EdgeKey;

use crate::cluster::{
    Holder, Spoof, Store,
    objects::{Name, Pod, Service, Uid},
};

/// Who is at one end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A pod.
    Pod {
        /// The pod.
        pod: Arc<Pod>,
        /// The address it was seen with.
        address: IpAddr,
    },
    /// A service with several pods behind it, of which it is not known which one served.
    Service {
        /// The service.
        service: Arc<Service>,
        /// One of the pods behind it, where any is known.
        behind: Option<Arc<Pod>>,
        /// The address that was dialled.
        address: IpAddr,
    },
    /// A node: the kubelet, or a pod that shares the node's network.
    Node {
        /// The node's name, empty where it is not known.
        name: Arc<str>,
        /// The address it was seen with.
        address: IpAddr,
    },
    /// An address that is another pod's than the one whose interface it came from.
    Spoofed {
        /// The pod whose address it is.
        owner: Arc<Pod>,
        /// The pod whose interface it came from.
        sender: Arc<Pod>,
        /// The address.
        address: IpAddr,
    },
    /// An address outside the cluster.
    External {
        /// The address.
        address: IpAddr,
    },
    /// An address that should be the cluster's, and that nobody is known to have.
    Unknown {
        /// The address.
        address: IpAddr,
    },
}

/// What tells two ends apart.
#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndId {
    /// A pod, by uid.
    Pod(Uid),
    /// A service.
    Service(Name),
    /// A node, by name.
    Node(Arc<str>),
    /// A pod that sends with an address of another.
    Spoofed(Uid, IpAddr),
    /// An address that stands for itself.
    Address(IpAddr),
}

impl End {
    /// What tells this end from others.
    #[must_use]
    pub fn id(&self) -> EndId {
        match self {
            Self::Pod { pod, .. } => EndId::Pod(pod.uid),
            Self::Spoofed { sender, address, .. } => EndId::Spoofed(sender.uid, *address),
            Self::Service { service, .. } => EndId::Service(service.name.clone()),
            Self::Node { name, .. } if !name.is_empty() => EndId::Node(Arc::clone(name)),
            Self::Node { address, .. } | Self::External { address } | Self::Unknown { address } => {
                EndId::Address(*address)
            }
        }
    }

    /// The address it was seen with.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Pod { address, .. }
            | Self::Service { address, .. }
            | Self::Node { address, .. }
            | Self::Spoofed { address, .. }
            | Self::External { address }
            | Self::Unknown { address } => *address,
        }
    }

    /// The pod, or one of the pods behind the service.
    #[must_use]
    pub fn pod(&self) -> Option<&Pod> {
        match self {
            Self::Pod { pod, .. } => Some(pod),
            Self::Service { behind, .. } => behind.as_deref(),
            Self::Spoofed { sender, .. } => Some(sender),
            Self::Node { .. } | Self::External { .. } | Self::Unknown { .. } => None,
        }
    }

    /// The namespace of the pod or service.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Pod { pod, .. } | Self::Spoofed { sender: pod, .. } => Some(&pod.name.namespace),
            Self::Service { service, .. } => Some(&service.name.namespace),
            Self::Node { .. } | Self::External { .. } | Self::Unknown { .. } => None,
        }
    }
}

/// Both ends of an edge.
pub(super) struct Resolved {
    pub(super) client: End,
    pub(super) server: End,
    pub(super) port: u16,
    /// An end should be a pod's and is not known yet.
    pub(super) waiting: bool,
}

/// Who was at both ends of an edge.
pub(super) fn resolve(store: &Store, key: &EdgeKey) -> Resolved {
    let from_pod = key.flags & EdgeKey::FROM_POD != 0;
    let (mut client, client_waits) = identify(key.client, from_pod, |address| store.lookup(address));
    if from_pod && let Some(Spoof { owner, sender }) = store.spoof(client.address(), key.ifindex) {
        client = End::Spoofed { owner, sender, address: client.address() };
    }
    let dialled = |address| store.lookup_server(address, key.server_port);
    let (mut server, server_waits) = identify(key.server, !from_pod, dialled);
    let mut port = key.server_port;
    if let End::Service { service, behind, address } = &mut server {
        let backends = store.backends(service, port);
        match &backends[..] {
            // One pod alone can have served.
            [only] => {
                port = only.port;
                server = End::Pod { pod: Arc::clone(&only.pod), address: *address };
            }
            several => *behind = several.first().map(|backend| Arc::clone(&backend.pod)),
        }
    }
    Resolved { client, server, port, waiting: client_waits || server_waits }
}

/// Who has an address; `behind_interface` says that a pod must have it, for its interface showed it.
fn identify(
    address: [u8; 16],
    behind_interface: bool,
    lookup: impl FnOnce(IpAddr) -> Option<Holder>,
) -> (End, bool) {
    let address = Ipv6Addr::from(address).to_canonical();
    match lookup(address) {
        Some(Holder::Pod(pod)) => (End::Pod { pod, address }, false),
        Some(Holder::Service(service)) => (End::Service { service, behind: None, address }, false),
        Some(Holder::Node(name)) => (End::Node { name, address }, false),
        None if behind_interface || is_private(address) => (End::Unknown { address }, true),
        None => (End::External { address }, false),
    }
}

/// Whether an address is of a range that clusters give to pods, services and nodes.
pub(crate) fn is_private(address: IpAddr) -> bool {
    range(address) != GLOBAL
}

const GLOBAL: &str = "global";

/// The range that an address is of: what can be said of one that nobody is known to have.
///
/// RFC 1918 `private`, RFC 6598 `shared` (some clouds give it to pods), RFC 4193 `unique-local`, RFC 3927 and
/// RFC 4291 `link-local`, `loopback`; all others are `global`.
pub(crate) fn range(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(v4) if v4.is_private() => "private",
        IpAddr::V4(v4) if matches!(v4.octets(), [100, 64..=127, ..]) => "shared",
        IpAddr::V4(v4) if v4.is_link_local() => "link-local",
        IpAddr::V6(v6) if v6.is_unique_local() => "unique-local",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "link-local",
        _ if address.is_loopback() => "loopback",
        _ => GLOBAL,
    }
}

#[cfg(test)]
mod tests {
    use detector_ebpf::edge::EdgeKey;

    use super::{End, Store, is_private, resolve};
    use crate::{
        cluster::objects::Object,
        testing::{self, ip},
    };

    #[test]
    fn a_pod_that_sends_with_anothers_address_is_told_as_itself() {
        let mut store = Store::default();
        store.apply(Object::Pod(testing::pod("mcp", "victim", &["10.244.0.7"])));
        store.apply(Object::Pod(testing::pod("lab", "liar", &["10.244.0.8"])));
        store.apply(Object::Pod(testing::pod("mcp", "tools", &["10.244.0.9"])));
        let behind = [(6, [ip("10.244.0.7")].into()), (7, [ip("10.244.0.8")].into())];
        store.set_links(behind.into());
        let edge = testing::edge("10.244.0.7", "10.244.0.9", 8000);
        let sent = EdgeKey { flags: EdgeKey::FROM_POD, ..edge };
        let client = resolve(&store, &sent).client;
        assert!(matches!(&client, End::Spoofed { owner, .. } if &*owner.name.name == "victim"), "{client:?}");
        assert_eq!(client.pod().map(|pod| &*pod.name.name), Some("liar"));
        let received = resolve(&store, &edge).client;
        assert!(matches!(received, End::Pod { .. }), "where it is received, nothing tells");
    }

    #[test]
    fn cluster_ranges_are_told_from_the_world() {
        for (address, range) in [
            ("10.244.1.2", "private"),
            ("172.31.0.1", "private"),
            ("172.32.0.1", "global"),
            ("192.168.1.1", "private"),
            ("100.64.0.1", "shared"),
            ("100.128.0.1", "global"),
            ("169.254.169.254", "link-local"),
            ("127.0.0.1", "loopback"),
            ("8.8.8.8", "global"),
            ("fd00::1", "unique-local"),
            ("fe80::1", "link-local"),
            ("::1", "loopback"),
            ("2600::1", "global"),
        ] {
            assert_eq!(super::range(address.parse().unwrap()), range, "{address}");
            assert_eq!(is_private(address.parse().unwrap()), range != "global", "{address}");
        }
    }
}
