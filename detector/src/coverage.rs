//! Owns the account of every pod on the node: observed, or not, and then why.
//!
//! No pod is left out in silence. What is known of interfaces and attachments is told by those who know;
//! pods come from the identity store at the time of asking.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    cluster::{
        Store,
        objects::{Name, Pod},
    },
    interfaces::{LinkKind, Topology},
    printable::{printable, printed},
};

/// Why a pod is not observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It shares the node's network and has no interface of its own.
    HostNetwork,
    /// No interface is known to lead to it.
    NoInterface,
    /// Its interface is a netkit device.
    Netkit,
    /// Its interface is of a kind, or has a name, that is not watched.
    NotSelected,
    /// The kernel has nothing to attach by.
    KernelFeatureMissing,
    /// The kernel refused the attachment.
    AttachRefused,
    /// Another program sits in front and may hide packets.
    Displaced,
    /// An XDP program gets what the pod sends before ours and may hide it. What the pod receives is seen.
    Xdp,
}

impl Reason {
    /// All reasons.
    pub const ALL: &[Self] = &[
        Self::HostNetwork,
        Self::NoInterface,
        Self::Netkit,
        Self::NotSelected,
        Self::KernelFeatureMissing,
        Self::AttachRefused,
        Self::Displaced,
        Self::Xdp,
    ];

    /// The label in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HostNetwork => "host-network",
            Self::NoInterface => "no-interface",
            Self::Netkit => "netkit",
            Self::NotSelected => "not-selected",
            Self::KernelFeatureMissing => "kernel-feature-missing",
            Self::AttachRefused => "attach-refused",
            Self::Displaced => "displaced",
            Self::Xdp => "xdp",
        }
    }

    /// What to do about it, or why nothing can be done.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::HostNetwork => {
                "shares the node's network: what others say to it is seen on their interfaces"
            }
            Self::NoInterface => "no route, neighbour or traffic leads to an interface of it",
            Self::Netkit => "its netkit device runs the CNI's programs before ours",
            Self::NotSelected => "its interface is not among --interfaces",
            Self::KernelFeatureMissing => {
                "the kernel has neither TCX (6.6) nor clsact with BPF filters (modules sch_ingress and cls_bpf)"
            }
            Self::AttachRefused => "the kernel refused the programs: see the log",
            Self::Displaced => "another program sits in front of ours on its interface",
            Self::Xdp => {
                "an XDP program on its interface may take or change what it sends before it is seen; what it receives is seen"
            }
        }
    }
}

/// Whether a pod is observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCoverage {
    /// The pod.
    pub pod: Name,
    /// Its interface on the host, where it is known.
    pub interface: Option<String>,
    /// Why it is not observed; `None` if it is.
    pub reason: Option<Reason>,
}

impl fmt::Display for PodCoverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pod = printed(&self.pod);
        let interface = printable(self.interface.as_deref().unwrap_or("-"));
        match self.reason {
            None => write!(f, "observed      {pod} on {interface}"),
            Some(reason) => {
                write!(f, "not observed  {pod} on {interface}: {}, {}", reason.as_str(), reason.advice())
            }
        }
    }
}

/// How an interface's attachment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The programs are attached.
    Attached,
    /// The kernel has nothing to attach them by.
    Unsupported,
    /// The kernel refused them.
    Refused,
    /// They are attached behind another program.
    Displaced,
}

/// What is known of interfaces and attachments.
#[derive(Clone, Debug, Default)]
pub struct Coverage(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    topology: Topology,
    standing: BTreeMap<u32, Standing>,
    /// Which interface an address was seen to send on, where the kernel's tables do not say.
    seen: HashMap<IpAddr, u32>,
}

impl Coverage {
    /// Takes in the node's links, and the addresses behind them.
    pub fn topology(&self, topology: Topology) {
        let mut state = self.state();
        let State { seen, .. } = &mut *state;
        // Indices are not used again, so what a link that is gone has shown is of no use.
        seen.retain(|_, link| topology.links.contains_key(link));
        state.topology = topology;
    }

    /// Takes in how an interface's attachment stands; `None` when it is gone.
    pub fn standing(&self, ifindex: u32, standing: Option<Standing>) {
        let mut state = self.state();
        match standing {
            Some(standing) => drop(state.standing.insert(ifindex, standing)),
            None => drop(state.standing.remove(&ifindex)),
        }
    }

    /// Takes in that a link is gone, before the node's tables are read again.
    pub fn gone(&self, ifindex: u32) {
        let mut state = self.state();
        state.standing.remove(&ifindex);
        state.topology.links.remove(&ifindex);
        state.topology.behind.remove(&ifindex);
        state.topology.xdp.remove(&ifindex);
        state.seen.retain(|_, link| *link != ifindex);
    }

    /// Takes in that a link has another name.
    pub fn renamed(&self, ifindex: u32, name: &str) {
        if let Some((known, _)) = self.state().topology.links.get_mut(&ifindex) {
            name.clone_into(known);
        }
    }

    /// Takes in that addresses sent on interfaces; what was on one that is not attached any more is old.
    pub fn seen(&self, senders: impl IntoIterator<Item = (IpAddr, u32)>) {
        let mut state = self.state();
        let State { seen, standing, .. } = &mut *state;
        // Edges outlive the interface that they were counted on.
        seen.extend(senders.into_iter().filter(|(_, link)| standing.contains_key(link)));
    }

    /// Every pod of this node, by name.
    #[must_use]
    pub fn report(&self, store: &Store) -> Vec<PodCoverage> {
        let state = self.state();
        let local = store.local_node();
        let mut report: Vec<PodCoverage> = store
            .pods()
            .filter(|pod| pod.node.as_deref() == Some(local))
            // An ended pod has no network any more; one that has not begun has none yet.
            .filter(|pod| pod.host_network || !pod.addresses.is_empty())
            .map(|pod| state.assess(pod))
            .collect();
        report.sort_by(|a, b| a.pod.cmp(&b.pod));
        report
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn assess(&self, pod: &Pod) -> PodCoverage {
        let covered = |interface, reason| PodCoverage { pod: pod.name.clone(), interface, reason };
        if pod.host_network {
            return covered(None, Some(Reason::HostNetwork));
        }
        let by_tables = |address| self.topology.link_of(address);
        let by_traffic = |address| self.seen.get(&address).copied();
        let link =
            pod.addresses.iter().find_map(by_tables).or_else(|| pod.addresses.iter().find_map(by_traffic));
        let Some(link) = link else { return covered(None, Some(Reason::NoInterface)) };
        let (name, kind) = match self.topology.links.get(&link) {
            Some((name, kind)) => (Some(name.clone()), *kind),
            None => (None, LinkKind::Other),
        };
        let reason = match (self.standing.get(&link), kind) {
            (Some(Standing::Attached), _) if self.topology.xdp.contains(&link) => Some(Reason::Xdp),
            (Some(Standing::Attached), _) => None,
            (Some(Standing::Displaced), _) => Some(Reason::Displaced),
            (Some(Standing::Unsupported), _) => Some(Reason::KernelFeatureMissing),
            (Some(Standing::Refused), _) => Some(Reason::AttachRefused),
            (None, LinkKind::Netkit) => Some(Reason::Netkit),
            (None, _) => Some(Reason::NotSelected),
        };
        covered(name, reason)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Coverage, LinkKind, Reason, Standing, Store, Topology};
    use crate::{
        cluster::objects::Object,
        testing::{self, ip},
    };

    fn topology() -> Topology {
        let link = |index, name: &str, kind| (index, (name.to_owned(), kind));
        let behind = |index, address| (index, BTreeSet::from([ip(address)]));
        Topology {
            links: [
                link(7, "veth7", LinkKind::Veth),
                link(8, "veth8", LinkKind::Veth),
                link(9, "nk9", LinkKind::Netkit),
                link(10, "veth10", LinkKind::Veth),
                link(11, "veth11", LinkKind::Veth),
                link(12, "veth12", LinkKind::Veth),
                link(13, "veth13", LinkKind::Veth),
            ]
            .into(),
            behind: [
                behind(7, "10.244.0.7"),
                behind(8, "10.244.0.8"),
                behind(9, "10.244.0.9"),
                behind(12, "10.244.0.14"),
                behind(13, "10.244.0.15"),
            ]
            .into(),
            xdp: [12, 13].into(),
        }
    }

    #[test]
    fn every_pod_of_the_node_is_observed_or_has_a_reason() {
        let mut store = Store::default();
        store.set_local_node("node1");
        for (name, address) in [
            ("a-routed", "10.244.0.7"),
            ("b-refused", "10.244.0.8"),
            ("c-netkit", "10.244.0.9"),
            ("d-by-traffic", "10.244.0.10"),
            ("e-nowhere", "10.244.0.12"),
            ("g-old-kernel", "10.244.0.14"),
            ("j-xdp", "10.244.0.15"),
        ] {
            store.apply(Object::Pod(testing::pod("mcp", name, &[address])));
        }
        let mut host = testing::pod("mcp", "f-host", &["192.0.2.10"]);
        std::sync::Arc::make_mut(&mut host.template).host_network = true;
        store.apply(Object::Pod(host));
        let mut elsewhere = testing::pod("mcp", "h-elsewhere", &["10.244.0.13"]);
        elsewhere.node = Some("node2".into());
        store.apply(Object::Pod(elsewhere));
        store.apply(Object::Pod(testing::pod("mcp", "i-ended", &[])));

        let coverage = Coverage::default();
        coverage.topology(topology());
        coverage.standing(7, Some(Standing::Attached));
        coverage.standing(8, Some(Standing::Refused));
        coverage.standing(10, Some(Standing::Displaced));
        coverage.standing(12, Some(Standing::Unsupported));
        coverage.standing(13, Some(Standing::Attached));
        coverage.seen([(ip("10.244.0.10"), 10)]);
        let report: Vec<_> = coverage
            .report(&store)
            .into_iter()
            .map(|pod| (pod.pod.name.to_string(), pod.interface, pod.reason))
            .collect();
        let line = |name: &str, interface: Option<&str>, reason| {
            (name.to_owned(), interface.map(str::to_owned), reason)
        };
        assert_eq!(
            report,
            [
                line("a-routed", Some("veth7"), None),
                line("b-refused", Some("veth8"), Some(Reason::AttachRefused)),
                line("c-netkit", Some("nk9"), Some(Reason::Netkit)),
                line("d-by-traffic", Some("veth10"), Some(Reason::Displaced)),
                line("e-nowhere", None, Some(Reason::NoInterface)),
                line("f-host", None, Some(Reason::HostNetwork)),
                line("g-old-kernel", Some("veth12"), Some(Reason::KernelFeatureMissing)),
                line("j-xdp", Some("veth13"), Some(Reason::Xdp)),
            ]
        );
    }

    #[test]
    fn a_link_that_goes_takes_what_was_behind_it_with_it_and_one_that_is_renamed_keeps_it() {
        let mut store = Store::default();
        store.set_local_node("node1");
        store.apply(Object::Pod(testing::pod("mcp", "a", &["10.244.0.7"])));
        let coverage = Coverage::default();
        coverage.topology(topology());
        coverage.standing(7, Some(Standing::Attached));
        coverage.renamed(7, "other");
        let report = coverage.report(&store);
        assert_eq!((report[0].interface.as_deref(), report[0].reason), (Some("other"), None));
        coverage.gone(7);
        coverage.seen([(ip("10.244.0.7"), 7)]);
        let report = coverage.report(&store);
        assert_eq!((report[0].interface.as_deref(), report[0].reason), (None, Some(Reason::NoInterface)));
    }

    #[test]
    fn what_a_link_that_is_gone_has_shown_is_forgotten() {
        let mut store = Store::default();
        store.set_local_node("node1");
        store.apply(Object::Pod(testing::pod("mcp", "a", &["10.244.0.11"])));
        let coverage = Coverage::default();
        coverage.topology(topology());
        coverage.standing(11, Some(Standing::Attached));
        coverage.seen([(ip("10.244.0.11"), 11)]);
        assert_eq!(coverage.report(&store)[0].reason, None);
        coverage.topology(Topology::default());
        assert_eq!(coverage.report(&store)[0].reason, Some(Reason::NoInterface));
    }
}
