//! Owns the account of connections that bear another pod's address, so that they are not told as that pod's.
//!
//! The sender's interface gives a forged address away; on the server's interface the same packets look like
//! the pod's whose address they bear. What the sender's interface has shown is taken off what the server's
//! has.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use detector_ebpf::verdict::{Protocol, Verdict};

use super::{End, EndId, FlowId, FlowKey};

/// What a forged flow and the flow of the pod whose address it bears have in common.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Borne {
    client: IpAddr,
    server: EndId,
    port: u16,
    verdict: Verdict,
    protocol: Protocol,
}

impl Borne {
    fn of(key: &FlowKey, client: IpAddr) -> Self {
        let FlowKey { client: _, server, port, verdict, protocol } = key;
        Self { client, server: server.clone(), port: *port, verdict: *verdict, protocol: *protocol }
    }
}

/// The flows with forged addresses.
#[derive(Debug, Default)]
pub(super) struct Forged(HashMap<Borne, HashSet<FlowId>>);

impl Forged {
    /// Takes in a new flow, if its address is forged.
    pub(super) fn note(&mut self, key: &FlowKey, client: &End, id: FlowId) {
        if let End::Spoofed { address, .. } = client {
            self.0.entry(Borne::of(key, *address)).or_default().insert(id);
        }
    }

    /// The flows that bear an address of this flow's client, and are not its own.
    pub(super) fn of(&self, key: &FlowKey, client: &End) -> impl Iterator<Item = FlowId> {
        let pod = match client {
            End::Pod { pod, .. } if !self.0.is_empty() => Some(pod),
            _ => None,
        };
        let addresses = pod.into_iter().flat_map(|pod| pod.addresses.iter());
        addresses.filter_map(|address| self.0.get(&Borne::of(key, address))).flatten().copied()
    }

    /// Forgets flows that are not remembered any more.
    pub(super) fn retain(&mut self, remembered: impl Fn(FlowId) -> bool) {
        self.0.retain(|_, ids| {
            ids.retain(|id| remembered(*id));
            !ids.is_empty()
        });
    }
}
