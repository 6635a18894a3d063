//! Owns the answer to whom a finding is about, and so to which node writes of it.
//!
//! The server's pod, where the server is a pod: its port is what is open. Else the client's, for a service
//! stands for no single pod and an address outside the cluster for none. A forged address is the matter of
//! whoever sends with it.

use crate::{
    cluster::objects::{Name, Uid},
    findings::{Finding, FindingId},
    flows::End,
};

/// The pod that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The pod's uid.
    pub uid: Uid,
    /// Its namespace and name, which the API server would admit: they stand in paths.
    pub name: Name,
}

impl Subject {
    /// The pod that a finding is about, if it is one of `node`.
    #[must_use]
    pub fn of(finding: &Finding, node: &str) -> Option<Self> {
        let flow = &finding.flow;
        let pod = match (finding.id, &flow.client, &flow.server) {
            (FindingId::SpoofedSource, client, _) => client.pod(),
            (_, _, End::Pod { pod, .. }) => Some(&**pod),
            (_, End::Pod { pod, .. } | End::Spoofed { sender: pod, .. }, _) => Some(&**pod),
            _ => None,
        }?;
        let here = pod.node.as_deref() == Some(node);
        let Name { namespace, name } = &pod.name;
        // RFC 1123: what the API server admits. Anything else did not come from one, and stays out of paths.
        let named = namespace.len() <= 63 && is_label(namespace);
        let named = named && name.len() <= 253 && name.split('.').all(is_label);
        (here && named).then(|| Self { uid: pod.uid, name: pod.name.clone() })
    }
}

/// Whether a text is a label of a DNS name, in lower case.
pub(super) fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Subject;
    use crate::{
        cluster::objects::Pod,
        findings::{Finding, FindingId},
        flows::End,
        testing::{self, ip},
    };

    fn pod(name: &str, node: &str) -> Arc<Pod> {
        Arc::new(Pod { node: Some(node.into()), ..testing::pod("mcp", name, &["10.244.0.9"]) })
    }

    fn end(pod: &Arc<Pod>) -> End {
        End::Pod { pod: Arc::clone(pod), address: ip("10.244.0.9") }
    }

    fn about(id: FindingId, client: End, server: End, node: &str) -> Option<String> {
        let flow = crate::flows::Flow { client, server, ..testing::mcp_flow() };
        let finding = Finding { id, ..testing::finding(flow) };
        Subject::of(&finding, node).map(|subject| subject.name.to_string())
    }

    #[test]
    fn of_all_nodes_one_writes() {
        use FindingId::{PlaintextMcp, SpoofedSource};
        let (client, server) = (pod("client", "node1"), pod("tools", "node2"));
        let service: Arc<_> = testing::service("tools", "10.96.0.1").into();
        let service = End::Service { service, behind: Some(Arc::clone(&server)), address: ip("10.96.0.1") };
        let world = End::External { address: ip("192.0.2.1") };
        let node = End::Node { name: "node2".into(), address: ip("192.0.2.2") };
        let spoofed = End::Spoofed {
            owner: pod("victim", "node3"),
            sender: Arc::clone(&client),
            address: ip("10.0.0.1"),
        };
        for (id, from, to, writer, subject) in [
            (PlaintextMcp, end(&client), end(&server), "node2", "mcp/tools"),
            (PlaintextMcp, world.clone(), end(&server), "node2", "mcp/tools"),
            (PlaintextMcp, end(&client), service.clone(), "node1", "mcp/client"),
            (PlaintextMcp, end(&client), world, "node1", "mcp/client"),
            (PlaintextMcp, end(&client), node.clone(), "node1", "mcp/client"),
            (PlaintextMcp, spoofed.clone(), end(&server), "node2", "mcp/tools"),
            (SpoofedSource, spoofed, end(&server), "node1", "mcp/client"),
        ] {
            for at in ["node1", "node2", "node3"] {
                let expected = (at == writer).then(|| subject.to_owned());
                assert_eq!(about(id, from.clone(), to.clone(), at), expected, "{from:?} {to:?} on {at}");
            }
        }
        assert_eq!(about(PlaintextMcp, node, service, "node2"), None, "no pod, nothing to write it on");
    }

    #[test]
    fn what_no_api_server_would_admit_is_not_written_of() {
        for name in ["../secrets/x", "a b", "A", "-a", "a-", "", "a..b", "\x1b[31m", "a/b", "ä"] {
            let server = pod(name, "node1");
            assert_eq!(about(FindingId::PlaintextMcp, end(&server), end(&server), "node1"), None, "{name:?}");
        }
        let long = pod(&"a".repeat(254), "node1");
        assert_eq!(about(FindingId::PlaintextMcp, end(&long), end(&long), "node1"), None);
        let longest = pod(&"a".repeat(253), "node1");
        assert!(about(FindingId::PlaintextMcp, end(&longest), end(&longest), "node1").is_some());
    }
}
