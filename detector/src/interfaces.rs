//! Owns the question which interfaces lead to pods, answered from rtnetlink as they come and go.
//!
//! Notifications make it quick; a dump every half minute makes it true. One that follows a change at a short
//! distance finds what the CNI did after it, however many changes follow, and one follows at once where the
//! kernel says that it had no room for a notification. What is told downstream is the difference to what was told
//! before, so a listener sees each interface added once and removed once.

mod link;
mod pattern;
mod schedule;
mod topology;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    io,
    net::IpAddr,
};

use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::LinkMessage,
    },
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

pub use self::{
    link::{Link, decide},
    pattern::{Pattern, PatternError, Select},
    topology::{LinkKind, Topology},
};
use self::{schedule::Schedule, topology::has_xdp};
use crate::readiness::BlockReady;

/// News about interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A pod interface is there.
    Added {
        /// Its index.
        ifindex: u32,
        /// Its name.
        name: String,
    },
    /// A pod interface is called otherwise.
    Renamed {
        /// Its index.
        ifindex: u32,
        /// Its new name.
        name: String,
    },
    /// A pod interface is none any more.
    Removed {
        /// Its index.
        ifindex: u32,
        /// Whether it is gone from this network namespace.
        gone: bool,
    },
    /// The links, and the addresses behind each.
    Topology(Topology),
    /// The host's own addresses, all of them.
    LocalAddresses(Vec<IpAddr>),
    /// All interfaces that were there at the start have been told.
    Synced,
}

/// Interfaces cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum InterfacesError {
    /// No netlink socket.
    #[error("open a netlink socket")]
    Socket(#[source] io::Error),
    /// The dump failed.
    #[error("list {what} by netlink")]
    Dump {
        /// What was asked for.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: rtnetlink::Error,
    },
    /// The kernel closed the socket.
    #[error("netlink notifications ended")]
    Ended,
}

/// Watches interfaces and tells their changes.
#[derive(Debug)]
pub struct Watcher {
    select: Select,
    known: BTreeMap<u32, String>,
    addresses: BTreeSet<IpAddr>,
    topology: Topology,
    out: mpsc::Sender<Change>,
}

impl Watcher {
    /// Changes that wait for the listener before the watcher waits with them.
    pub const QUEUE: usize = 64;

    /// A watcher that tells `out` of the interfaces that `select` picks.
    #[must_use]
    pub fn new(select: Select, out: mpsc::Sender<Change>) -> Self {
        Self {
            select,
            known: BTreeMap::new(),
            addresses: BTreeSet::new(),
            topology: Topology::default(),
            out,
        }
    }

    /// Watches until cancelled or until nobody listens.
    ///
    /// # Errors
    ///
    /// Netlink cannot be used at all, or ends.
    pub async fn run(mut self, cancel: CancellationToken, ready: BlockReady) -> Result<(), InterfacesError> {
        // Notifications first, so that nothing falls between the dump and them.
        let (connection, handle, mut messages) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ])
        .map_err(InterfacesError::Socket)?;
        let connection = tokio::spawn(connection);
        let mut ready = Some(ready);
        let mut schedule = Schedule::new(Instant::now());
        let result = loop {
            let told = tokio::select! {
                () = cancel.cancelled() => break Ok(()),
                () = sleep_until(schedule.next()) => {
                    // What changes while it is read may not be in it.
                    schedule.read(Instant::now());
                    match self.resync(&handle).await {
                        Ok(changes) => self.tell(changes).await,
                        // The first dump must work; a later one that fails is tried again.
                        Err(error) if ready.is_some() => break Err(error),
                        Err(error) => {
                            tracing::warn!(error = &error as &dyn Error, "interfaces not listed");
                            true
                        }
                    }
                },
                message = messages.next() => match message {
                    Some((message, _)) => {
                        if let NetlinkPayload::Overrun(_) = message.payload {
                            tracing::info!("the kernel had no room to tell of interfaces; listing them");
                            schedule.lost(Instant::now());
                        }
                        let changes = self.notified(&message);
                        if !changes.is_empty() {
                            schedule.changed(Instant::now());
                        }
                        self.tell(changes).await
                    }
                    None => break Err(InterfacesError::Ended),
                },
            };
            if let (true, Some(ready)) = (told, ready.take()) {
                if !self.tell(vec![Change::Synced]).await {
                    break Ok(());
                }
                drop(ready);
            }
            if !told {
                break Ok(());
            }
        };
        connection.abort();
        result
    }

    async fn tell(&self, changes: Vec<Change>) -> bool {
        for change in changes {
            if self.out.send(change).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn resync(&mut self, handle: &Handle) -> Result<Vec<Change>, InterfacesError> {
        let messages: Vec<LinkMessage> = handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|source| InterfacesError::Dump { what: "interfaces", source })?;
        let links: Vec<Link> = messages.iter().map(Link::from).collect();
        let addresses: Vec<AddressMessage> = handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|source| InterfacesError::Dump { what: "addresses", source })?;
        let topology = Topology::read(handle, messages)
            .await
            .map_err(|source| InterfacesError::Dump { what: "routes and neighbours", source })?;
        let mut changes = self.replace_links(&links);
        if topology != self.topology {
            self.topology = topology.clone();
            changes.push(Change::Topology(topology));
        }
        let addresses: BTreeSet<IpAddr> = addresses.iter().filter_map(address_of).collect();
        if addresses != self.addresses {
            self.addresses = addresses;
            // Addresses first: a node that is known later than its traffic would pass for a stranger.
            changes.insert(0, self.local_addresses());
        }
        Ok(changes)
    }

    fn replace_links(&mut self, links: &[Link]) -> Vec<Change> {
        let there: BTreeSet<u32> = links.iter().map(|link| link.ifindex).collect();
        let gone: Vec<u32> = self.known.keys().copied().filter(|ifindex| !there.contains(ifindex)).collect();
        let mut changes: Vec<Change> =
            gone.into_iter().filter_map(|ifindex| self.forget(ifindex, true)).collect();
        changes.extend(links.iter().filter_map(|link| self.saw(link)));
        changes
    }

    fn notified(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) -> Vec<Change> {
        let NetlinkPayload::InnerMessage(message) = &message.payload else { return Vec::new() };
        match message {
            // When a port joins or leaves a bridge, the same messages come of family AF_BRIDGE, without the
            // attributes that tell a veth, and a `DelLink` of it deletes nothing.
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)
                if link.header.interface_family != AddressFamily::Unspec =>
            {
                Vec::new()
            }
            RouteNetlinkMessage::NewLink(link) => {
                let changed = self.saw(&Link::from(link));
                changed.into_iter().chain(self.saw_xdp(link)).collect()
            }
            RouteNetlinkMessage::DelLink(link) => self.forget(link.header.index, true).into_iter().collect(),
            RouteNetlinkMessage::NewAddress(address) => {
                let fresh = address_of(address).is_some_and(|address| self.addresses.insert(address));
                fresh.then(|| self.local_addresses()).into_iter().collect()
            }
            RouteNetlinkMessage::DelAddress(address) => {
                let gone = address_of(address).is_some_and(|address| self.addresses.remove(&address));
                gone.then(|| self.local_addresses()).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// A link as it is now: news if it became a pod interface, is called otherwise, or ceased to be one.
    fn saw(&mut self, link: &Link) -> Option<Change> {
        let ifindex = link.ifindex;
        let Some(name) = decide(link, &self.select) else { return self.forget(ifindex, false) };
        let name = name.to_owned();
        match self.known.insert(ifindex, name.clone()) {
            None => Some(Change::Added { ifindex, name }),
            Some(before) if before != name => {
                if let Some((known, _)) = self.topology.links.get_mut(&ifindex) {
                    known.clone_from(&name);
                }
                Some(Change::Renamed { ifindex, name })
            }
            Some(_same) => None,
        }
    }

    /// An XDP program that came to a link that is known, or went. One that comes by a link of BPF, and not by
    /// netlink, is not told of, and is found by the next dump.
    fn saw_xdp(&mut self, link: &LinkMessage) -> Option<Change> {
        let ifindex = link.header.index;
        let Topology { links, xdp, .. } = &mut self.topology;
        let changed = links.contains_key(&ifindex)
            && match has_xdp(link)? {
                true => xdp.insert(ifindex),
                false => xdp.remove(&ifindex),
            };
        changed.then(|| Change::Topology(self.topology.clone()))
    }

    fn forget(&mut self, ifindex: u32, gone: bool) -> Option<Change> {
        self.known.remove(&ifindex)?;
        if gone {
            // The listener forgets it too. One that comes back as it was is news.
            self.topology.links.remove(&ifindex);
            self.topology.behind.remove(&ifindex);
            self.topology.xdp.remove(&ifindex);
        }
        Some(Change::Removed { ifindex, gone })
    }

    fn local_addresses(&self) -> Change {
        Change::LocalAddresses(self.addresses.iter().copied().collect())
    }
}

fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let mut peer = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link `Address` is the peer's, `Local` is ours.
            AddressAttribute::Local(address) => return Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            _ => {}
        }
    }
    peer
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
    use tokio::sync::mpsc;

    use super::{
        AddressFamily, BTreeSet, Change, Link, LinkKind, NetlinkMessage, RouteNetlinkMessage, Select,
        Topology, Watcher,
    };

    fn veth(ifindex: u32, name: &str) -> Link {
        Link { ifindex, name: name.to_owned(), veth: true, peer_elsewhere: true }
    }

    fn watcher(select: &str) -> Watcher {
        Watcher::new(select.parse::<Select>().unwrap(), mpsc::channel(1).0)
    }

    #[test]
    fn each_interface_is_told_once_when_it_comes_and_once_when_it_goes() {
        let mut watcher = watcher("auto");
        let added = Change::Added { ifindex: 3, name: "veth3".to_owned() };
        assert_eq!(watcher.saw(&veth(3, "veth3")), Some(added));
        assert_eq!(watcher.saw(&veth(3, "veth3")), None);
        assert_eq!(watcher.forget(3, true), Some(Change::Removed { ifindex: 3, gone: true }));
        assert_eq!(watcher.forget(3, true), None);
    }

    #[test]
    fn what_was_behind_an_interface_goes_with_it_so_that_its_return_is_news() {
        let mut watcher = watcher("auto");
        watcher.saw(&veth(3, "veth3"));
        watcher.topology.links.insert(3, ("veth3".to_owned(), LinkKind::Veth));
        watcher.topology.behind.insert(3, BTreeSet::from(["10.244.0.3".parse().unwrap()]));
        watcher.saw(&veth(3, "other"));
        assert_eq!(watcher.topology.links[&3].0, "other");
        watcher.forget(3, true);
        assert_eq!(watcher.topology, Topology::default());
    }

    #[test]
    fn a_dump_heals_what_notifications_missed() {
        let mut watcher = watcher("auto");
        watcher.saw(&veth(3, "veth3"));
        assert_eq!(
            watcher.replace_links(&[veth(4, "veth4")]),
            [
                Change::Removed { ifindex: 3, gone: true },
                Change::Added { ifindex: 4, name: "veth4".to_owned() }
            ]
        );
    }

    #[test]
    fn a_port_that_leaves_a_bridge_is_still_there() {
        let mut watcher = watcher("auto");
        watcher.saw(&veth(3, "veth3"));
        let mut link = LinkMessage::default();
        link.header.index = 3;
        link.header.interface_family = AddressFamily::Bridge;
        for message in [RouteNetlinkMessage::NewLink(link.clone()), RouteNetlinkMessage::DelLink(link)] {
            assert_eq!(watcher.notified(&NetlinkMessage::from(message)), []);
        }
    }

    #[test]
    fn an_xdp_program_is_told_when_it_comes_and_when_it_goes() {
        let mut watcher = watcher("auto");
        watcher.topology.links.insert(3, ("veth3".to_owned(), LinkKind::Veth));
        let mut link = LinkMessage::default();
        link.header.index = 3;
        assert_eq!(watcher.saw_xdp(&link), None, "the message says nothing of it");
        for (mode, told) in [
            (XdpAttached::None, None),
            (XdpAttached::Driver, Some(BTreeSet::from([3]))),
            (XdpAttached::SocketBuffer, None),
            (XdpAttached::None, Some(BTreeSet::new())),
        ] {
            link.attributes = vec![LinkAttribute::Xdp(vec![LinkXdp::Attached(mode)])];
            let change = watcher.saw_xdp(&link).map(|change| match change {
                Change::Topology(topology) => topology.xdp,
                other => panic!("{other:?}"),
            });
            assert_eq!(change, told, "{mode:?}");
        }
        link.header.index = 4;
        link.attributes = vec![LinkAttribute::Xdp(vec![LinkXdp::Attached(XdpAttached::Driver)])];
        assert_eq!(watcher.saw_xdp(&link), None, "a link that is not known yet comes with the next dump");
    }

    #[test]
    fn an_interface_that_is_renamed_out_of_the_pattern_is_removed() {
        let mut watcher = watcher("pod-*");
        assert!(watcher.saw(&veth(3, "pod-a")).is_some());
        let renamed = Change::Renamed { ifindex: 3, name: "pod-b".to_owned() };
        assert_eq!(watcher.saw(&veth(3, "pod-b")), Some(renamed));
        assert_eq!(watcher.saw(&veth(3, "pod-b")), None);
        assert_eq!(watcher.saw(&veth(3, "other")), Some(Change::Removed { ifindex: 3, gone: false }));
    }
}
