//! Owns what is declared: workloads, services, namespaces and policy, from one reading of a source.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    cluster::{
        Labels, Selector,
        objects::{Namespace, Object, Pod, PodTemplate, Service, TargetPort},
    },
    flows::Timestamp,
    policy::{Decider, MeshKind, PodMesh, PolicyObject, PolicySet, PortMode, pod::intended},
};

/// Everything that is declared.
#[derive(Debug, Default)]
pub struct Inventory {
    members: Vec<Member>,
    /// Services, by namespace.
    services: HashMap<String, Vec<Service>>,
    namespaces: HashMap<String, Namespace>,
    policy: PolicySet,
}

/// A pod, or what a workload would run.
#[derive(Clone, Debug)]
pub struct Member {
    /// The pod.
    pub pod: Pod,
    /// Whether it speaks MCP.
    pub mcp: bool,
    /// The mesh that it is meant to be in.
    pub intended: Option<MeshKind>,
    /// Ports that it is known to have.
    pub ports: BTreeSet<u16>,
}

impl Inventory {
    /// What `objects` and `templates` declare. A template counts where none of its pods is there.
    #[must_use]
    pub fn new(
        objects: impl IntoIterator<Item = Object>,
        templates: impl IntoIterator<Item = Pod>,
        mcp: Option<&Selector>,
    ) -> Self {
        let mut inventory = Self::default();
        let mut pods = Vec::new();
        for object in objects {
            match object {
                Object::Pod(pod) => pods.push(pod),
                Object::Service(service) => {
                    inventory.services.entry(service.name.namespace.to_string()).or_default().push(service);
                }
                Object::Namespace(namespace) => {
                    inventory.namespaces.insert(namespace.name.to_string(), namespace);
                }
                Object::Policy(object) => {
                    inventory.policy.apply(*object);
                }
                Object::ExpectedSources(sources) => {
                    inventory.policy.apply(PolicyObject::ExpectedSources(sources));
                }
                _ => {}
            }
        }
        let running: BTreeSet<_> =
            pods.iter().map(|pod| (Arc::clone(&pod.name.namespace), pod.workload.clone())).collect();
        for mut pod in templates {
            if running.contains(&(Arc::clone(&pod.name.namespace), pod.workload.clone())) {
                continue;
            }
            // Nobody has injected it yet; what it is meant to be is what it will be.
            if let Some(mesh) = inventory.intended(&pod) {
                // Linkerd's injector copies its settings from the namespace to pods that have none.
                let settings = inventory.namespace(&pod.name.namespace).into_iter();
                let settings = settings.flat_map(|namespace| namespace.annotations.iter());
                let settings = settings.filter(|(key, _)| {
                    key.starts_with("config.linkerd.io/") && pod.annotations.value(key).is_none()
                });
                let annotations: Labels = pod.annotations.iter().chain(settings).collect();
                let proxy = PodMesh::once_in(mesh, &pod.labels, &annotations).into();
                pod.template = Arc::new(PodTemplate { proxy, ..PodTemplate::clone(&pod.template) });
            }
            pods.push(pod);
        }
        inventory.members = pods.into_iter().map(|pod| inventory.member(pod, mcp)).collect();
        inventory.members.sort_by(|a, b| a.pod.name.cmp(&b.pod.name));
        inventory
    }

    fn intended(&self, pod: &Pod) -> Option<MeshKind> {
        let namespace = self.namespaces.get(&*pod.name.namespace);
        let default = Namespace::default();
        let Namespace { labels, annotations, .. } = namespace.unwrap_or(&default);
        intended(&pod.labels, &pod.annotations, labels, annotations, pod.host_network)
    }

    fn member(&self, pod: Pod, selector: Option<&Selector>) -> Member {
        let mut ports: BTreeSet<u16> = pod.named_ports.iter().map(|(_, port)| *port).collect();
        let mut mcp = selector.is_some_and(|selector| selector.matches(&pod.labels));
        for service in self.services_of(&pod) {
            for port in &service.ports {
                let number = match &port.target {
                    TargetPort::Number(number) => Some(*number),
                    TargetPort::Name(name) => {
                        pod.named_ports.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
                    }
                };
                ports.extend(number);
                mcp |= says_mcp(port.app_protocol.as_deref(), &port.name);
            }
        }
        Member { intended: self.intended(&pod), pod, mcp, ports }
    }

    /// The services before a pod.
    pub fn services_of<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a Service> {
        self.services
            .get(&*pod.name.namespace)
            .into_iter()
            .flatten()
            .filter(|service| service.selector.as_ref().is_some_and(|selector| selector.matches(&pod.labels)))
    }

    /// All services.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().flatten()
    }

    /// Has pods that `speaks` tells of count as speaking MCP, beside those of which something declared says so.
    pub fn heed(&mut self, speaks: impl Fn(&Pod) -> bool) {
        for member in &mut self.members {
            member.mcp |= speaks(&member.pod);
        }
    }

    /// What set a deadline of PERMISSIVE for a pod that is past at `now`: an annotation of the object that
    /// decided, or of the namespace.
    #[must_use]
    pub fn overdue(&self, pod: &Pod, mode: &PortMode, now: Timestamp) -> Option<Decider> {
        const FIELD: &str = "metadata.annotations[plainsight.dev/permissive-until]";
        let now = i64::try_from(now.0 / 1_000_000_000).unwrap_or(i64::MAX);
        if mode.permissive_until.is_some_and(|until| until < now) {
            return Some(mode.decided_by.object()?.field(FIELD));
        }
        let namespace = self.namespace(&pod.name.namespace)?;
        let text = namespace.annotations.value("plainsight.dev/permissive-until")?;
        let until = crate::cluster::deadline(text)?;
        (until < now).then(|| Decider::namespace(&namespace.name, FIELD))
    }

    /// The pods, by name.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// A namespace.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// The declared policy.
    #[must_use]
    pub fn policy(&self) -> &PolicySet {
        &self.policy
    }

    /// Whether there is a mesh at all.
    #[must_use]
    pub fn has_mesh(&self) -> bool {
        self.members.iter().any(|member| member.pod.proxy.mesh().is_some() || member.intended.is_some())
    }

    /// The workloads, by namespace, kind and name, and whether each speaks MCP.
    #[must_use]
    pub fn workloads(&self) -> BTreeMap<(&str, &str, &str), bool> {
        let mut workloads = BTreeMap::new();
        for Member { pod, mcp, .. } in &self.members {
            let key = (&*pod.name.namespace, pod.workload.kind.as_str(), &*pod.workload.name);
            *workloads.entry(key).or_insert(false) |= mcp;
        }
        workloads
    }
}

/// Whether a port of a service says that it speaks MCP: `appProtocol: kgateway.dev/mcp`, or a name such as
/// `mcp` or `http-mcp`.
pub(super) fn says_mcp(app_protocol: Option<&str>, name: &str) -> bool {
    let word = |text: &str| text.split(['/', '-', '.', '_']).any(|part| part.eq_ignore_ascii_case("mcp"));
    app_protocol.is_some_and(word) || word(name)
}
