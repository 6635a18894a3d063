//! Owns the question which addresses are behind which interface, from what the kernel routes and switches by.
//!
//! Where a CNI routes, a host route leads to the pod's interface. Where it bridges, the neighbour table gives
//! the pod's MAC on the bridge, and the bridge's forwarding table the port. Where an eBPF datapath does both,
//! neither is there: then traffic tells, and that is not this module's part.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use futures::TryStreamExt as _;
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily,
        link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage, LinkXdp, XdpAttached},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    },
};

/// The links of the node, and the addresses behind them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Each link's name and kind, by index.
    pub links: BTreeMap<u32, (String, LinkKind)>,
    /// The addresses behind a link, by index.
    pub behind: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// The links that have an XDP program, by index.
    pub xdp: BTreeSet<u32>,
}

/// The kind of a link, as far as it matters for observing pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A veth: its host side can be observed.
    Veth,
    /// A netkit device: its programs run inside the device, before ours would.
    Netkit,
    /// Any other.
    Other,
}

type Mac = Vec<u8>;

/// What the kernel said.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) links: Vec<LinkMessage>,
    pub(super) routes: Vec<RouteMessage>,
    pub(super) neighbours: Vec<NeighbourMessage>,
    pub(super) forwarding: Vec<NeighbourMessage>,
}

impl Topology {
    /// Reads it from the kernel, but for the links, which have been read.
    ///
    /// # Errors
    ///
    /// Netlink refuses.
    pub async fn read(handle: &Handle, links: Vec<LinkMessage>) -> Result<Self, rtnetlink::Error> {
        let mut tables = Tables { links, ..Tables::default() };
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut wanted = RouteMessage::default();
            wanted.header.address_family = family;
            let routes: Vec<RouteMessage> = handle.route().get(wanted).execute().try_collect().await?;
            tables.routes.extend(routes);
        }
        tables.neighbours = handle.neighbours().get().execute().try_collect().await?;
        let forwarding = handle.neighbours().get().set_address_family(AddressFamily::Bridge).execute();
        // A kernel without bridges has no such table.
        tables.forwarding = forwarding.try_collect().await.unwrap_or_default();
        Ok(Self::of(&tables))
    }

    pub(super) fn of(tables: &Tables) -> Self {
        let Tables { links, routes, neighbours, forwarding } = tables;
        let mut topology = Self::default();
        for link in links {
            let (name, kind) = describe(link);
            topology.links.insert(link.header.index, (name, kind));
            if has_xdp(link) == Some(true) {
                topology.xdp.insert(link.header.index);
            }
        }
        for (address, link) in routes.iter().filter_map(host_route) {
            topology.behind.entry(link).or_default().insert(address);
        }
        // A MAC is behind the port that the bridge learned it on; the bridge's own entries name the bridge.
        let ports: HashMap<Mac, u32> = forwarding
            .iter()
            .filter(|entry| topology.links.contains_key(&entry.header.ifindex))
            .filter_map(|entry| Some((mac(entry)?, entry.header.ifindex)))
            .collect();
        for neighbour in neighbours {
            if matches!(neighbour.header.state, NeighbourState::Failed | NeighbourState::Incomplete) {
                continue;
            }
            let (Some(address), Some(mac)) = (address(neighbour), mac(neighbour)) else { continue };
            let usable = match address {
                IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast(),
                IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_unicast_link_local(),
            };
            if usable {
                let link = ports.get(&mac).copied().unwrap_or(neighbour.header.ifindex);
                topology.behind.entry(link).or_default().insert(address);
            }
        }
        topology
    }

    /// The link that an address is behind, if it is behind one alone.
    #[must_use]
    pub fn link_of(&self, address: IpAddr) -> Option<u32> {
        let mut links = self.behind.iter().filter(|(_, addresses)| addresses.contains(&address));
        let (link, _) = links.next()?;
        links.next().is_none().then_some(*link)
    }
}

/// Whether a link has an XDP program, in whichever mode; nothing if the message does not say.
pub(super) fn has_xdp(link: &LinkMessage) -> Option<bool> {
    let xdp = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    })?;
    xdp.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(mode) => Some(*mode != XdpAttached::None),
        _ => None,
    })
}

fn describe(link: &LinkMessage) -> (String, LinkKind) {
    let (mut name, mut kind) = (String::new(), LinkKind::Other);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name.clone_from(text),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(InfoKind::Veth) => kind = LinkKind::Veth,
                        LinkInfo::Kind(InfoKind::Netkit) => kind = LinkKind::Netkit,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (name, kind)
}

/// A route to one address alone, in whichever table: AWS keeps them in the main one, others in their own.
fn host_route(route: &RouteMessage) -> Option<(IpAddr, u32)> {
    let whole = match route.header.address_family {
        AddressFamily::Inet => 32,
        AddressFamily::Inet6 => 128,
        _ => return None,
    };
    if route.header.destination_prefix_length != whole || route.header.kind != RouteType::Unicast {
        return None;
    }
    let (mut destination, mut link) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => destination = Some(IpAddr::V4(*v4)),
            RouteAttribute::Destination(RouteAddress::Inet6(v6)) => destination = Some(IpAddr::V6(*v6)),
            RouteAttribute::Oif(index) => link = Some(*index),
            // Behind a gateway there is another node.
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) => return None,
            _ => {}
        }
    }
    Some((destination?, link?))
}

fn address(neighbour: &NeighbourMessage) -> Option<IpAddr> {
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}

fn mac(neighbour: &NeighbourMessage) -> Option<Mac> {
    neighbour.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(mac) if mac.iter().any(|byte| *byte != 0) => Some(mac.clone()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: InfoKind) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes =
            vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
        link
    }

    fn route(address: [u8; 4], length: u8, link: u32) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.destination_prefix_length = length;
        route.header.kind = RouteType::Unicast;
        route.attributes =
            vec![RouteAttribute::Destination(RouteAddress::Inet(address.into())), RouteAttribute::Oif(link)];
        route
    }

    fn neighbour(link: u32, address: Option<[u8; 4]>, last: u8) -> NeighbourMessage {
        let mut neighbour = NeighbourMessage::default();
        neighbour.header.ifindex = link;
        neighbour.header.state = NeighbourState::Reachable;
        neighbour.attributes = vec![NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, last])];
        if let Some(address) = address {
            neighbour
                .attributes
                .push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address.into())));
        }
        neighbour
    }

    #[test]
    fn host_routes_lead_to_the_interface_and_networks_do_not() {
        let mut far = route([10, 244, 2, 9], 32, 2);
        far.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet([192, 0, 2, 11].into())));
        let topology = Topology::of(&Tables {
            links: vec![link(7, "cali1", InfoKind::Veth), link(8, "nk0", InfoKind::Netkit)],
            routes: vec![
                route([10, 244, 1, 5], 32, 7),
                route([10, 244, 1, 0], 24, 3),
                route([10, 244, 1, 6], 32, 8),
                far,
            ],
            ..Tables::default()
        });
        assert_eq!(topology.link_of([10, 244, 1, 5].into()), Some(7));
        assert_eq!(topology.link_of([10, 244, 1, 6].into()), Some(8));
        assert_eq!(topology.link_of([10, 244, 1, 0].into()), None);
        assert_eq!(topology.link_of([10, 244, 2, 9].into()), None, "on another node");
        assert_eq!(topology.links[&8], ("nk0".to_owned(), LinkKind::Netkit));
    }

    #[test]
    fn on_a_bridge_the_forwarding_table_leads_on_from_the_neighbour() {
        let topology = Topology::of(&Tables {
            links: vec![link(3, "cni0", InfoKind::Bridge), link(7, "veth1", InfoKind::Veth)],
            neighbours: vec![neighbour(3, Some([10, 244, 1, 5]), 5), neighbour(3, Some([10, 244, 1, 6]), 6)],
            forwarding: vec![neighbour(7, None, 5)],
            ..Tables::default()
        });
        assert_eq!(topology.link_of([10, 244, 1, 5].into()), Some(7));
        assert_eq!(topology.link_of([10, 244, 1, 6].into()), Some(3), "the bridge, until it learns");
    }

    #[test]
    fn an_xdp_program_is_one_in_any_mode_and_none_is_none() {
        let with = |index, mode| {
            let mut link = link(index, "veth", InfoKind::Veth);
            link.attributes.push(LinkAttribute::Xdp(vec![LinkXdp::Attached(mode)]));
            link
        };
        let links = vec![
            link(1, "lo", InfoKind::Dummy),
            with(2, XdpAttached::None),
            with(3, XdpAttached::Driver),
            with(4, XdpAttached::SocketBuffer),
            with(5, XdpAttached::Multiple),
        ];
        assert_eq!(has_xdp(&links[0]), None);
        assert_eq!(has_xdp(&links[1]), Some(false));
        let topology = Topology::of(&Tables { links, ..Tables::default() });
        assert_eq!(topology.xdp, BTreeSet::from([3, 4, 5]));
    }

    #[test]
    fn a_neighbour_that_does_not_answer_is_nobody() {
        let mut failed = neighbour(7, Some([10, 244, 1, 5]), 5);
        failed.header.state = NeighbourState::Failed;
        let topology = Topology::of(&Tables { neighbours: vec![failed], ..Tables::default() });
        assert_eq!(topology.link_of([10, 244, 1, 5].into()), None);
    }
}
