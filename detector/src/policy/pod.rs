//! Owns what a pod says of meshes: its membership, and the ports that its proxy leaves alone.
//!
//! What a pod has counts, not what its namespace wants: a pod that is older than the injection label has no
//! sidecar. Intent is asked apart, by [`intended`].
//!
//! Sources: labels, annotations and container names are those of Istio's pkg/kube/inject/inject.go, its
//! manifests/charts/istio-control/istio-discovery/files/injection-template.yaml and cni/pkg/util/podutil.go, and of
//! Linkerd's pkg/k8s/labels.go and charts/partials.

use std::net::IpAddr;

use super::matching::{Network, Ports};
use crate::cluster::Labels;

/// Ports of Istio's own: health, metrics and probes; a sidecar does not pass them on. What injects it excludes them
/// from what it captures (injection-template.yaml, `-d "15090,15021,…"` with the status port).
pub const ISTIO_PORTS: [u16; 3] = [15020, 15021, 15090];

/// Ports of Linkerd's own: tap, and metrics and probes (charts/linkerd-control-plane/values.yaml, `proxy.ports`).
pub const LINKERD_PORTS: [u16; 2] = [4190, 4191];

/// Annotations that are read, and so kept.
pub const ANNOTATIONS: [&str; 21] = [
    "ambient.istio.io/bypass-inbound-capture",
    "ambient.istio.io/redirection",
    "config.linkerd.io/default-inbound-policy",
    "config.linkerd.io/proxy-require-identity-inbound-ports",
    "config.linkerd.io/skip-inbound-ports",
    "config.linkerd.io/skip-outbound-ports",
    "config.linkerd.io/skip-subnets",
    "inject.istio.io/templates",
    "linkerd.io/inject",
    "linkerd.io/proxy-version",
    "prometheus.io/port",
    "prometheus.io/scrape",
    "sidecar.istio.io/inject",
    "sidecar.istio.io/interceptionMode",
    "sidecar.istio.io/status",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "traffic.sidecar.istio.io/includeOutboundPorts",
];

/// Which mesh.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub enum MeshKind {
    /// Istio, by a sidecar.
    Istio,
    /// Istio, by the node's proxy.
    Ambient,
    /// Linkerd.
    Linkerd,
}

impl MeshKind {
    /// The mesh's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Istio => "istio",
            Self::Ambient => "istio-ambient",
            Self::Linkerd => "linkerd",
        }
    }

    /// Whether both speak mTLS with each other.
    #[must_use]
    pub fn joins(self, other: Self) -> bool {
        (self == Self::Linkerd) == (other == Self::Linkerd)
    }
}

/// What a pod says of meshes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PodMesh {
    /// Its membership.
    pub membership: Option<Membership>,
    /// Its proxy is an init container that goes on running.
    pub native: bool,
    /// It passes on what others send: a gateway or a waypoint.
    pub intermediary: bool,
    /// It is Istio's gateway or waypoint: a proxy without an application. What its listeners take is what its
    /// `Gateway` says, and no `PeerAuthentication`.
    pub router: bool,
    /// It is a waypoint of the ambient mesh.
    pub waypoint: bool,
    /// Where it says that metrics may be fetched (`prometheus.io/port`).
    pub scrape_port: Option<u16>,
}

/// How a pod is in a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    /// Which mesh.
    pub mesh: MeshKind,
    /// Peers know that it takes mTLS (`security.istio.io/tlsMode`, Linkerd's control plane label).
    pub announced: bool,
    /// Linkerd's control plane.
    pub control_plane: Option<Box<str>>,
    /// Inbound ports that its proxy takes.
    pub include_inbound: Ports,
    /// Inbound ports that its proxy leaves alone.
    pub exclude_inbound: Ports,
    /// Outbound ports that its proxy leaves alone.
    pub exclude_outbound: Ports,
    /// Outbound ports that its proxy takes wherever they lead.
    pub include_outbound: Ports,
    /// Destinations that its proxy leaves alone.
    pub exclude_networks: Box<[Network]>,
    /// Destinations that its proxy takes, where not all.
    pub include_networks: Option<Box<[Network]>>,
    /// Everything inbound passes its proxy by.
    pub bypass_inbound: bool,
    /// Its own default inbound policy (Linkerd).
    pub default_policy: Option<Box<str>>,
    /// Ports that want a mesh identity whatever the policy says (Linkerd).
    pub require_identity: Ports,
    /// A waypoint stands before it (ambient).
    pub waypoint: bool,
}

/// What a pod is made of, for [`PodMesh::read`].
#[derive(Clone, Copy, Debug)]
pub struct PodParts<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// Its annotations.
    pub annotations: &'a Labels,
    /// Names of its containers.
    pub containers: &'a [&'a str],
    /// Names of its init containers.
    pub init_containers: &'a [&'a str],
    /// Whether it shares the node's network.
    pub host_network: bool,
}

impl PodMesh {
    /// What a pod says.
    #[must_use]
    pub fn read(parts: PodParts<'_>) -> Self {
        let PodParts { labels, annotations, containers, init_containers, .. } = parts;
        let scraped = annotations.value("prometheus.io/scrape") == Some("true");
        let port = annotations.value("prometheus.io/port").and_then(|port| port.parse().ok());
        // Istio's chart for gateways labels them `istio: <release>`, whatever that is called; what they all have is
        // the template that makes the proxy a router (manifests/charts/gateway/values.yaml, podAnnotations).
        let templates = annotations.value("inject.istio.io/templates").unwrap_or_default();
        let intermediary = labels.value("gateway.networking.k8s.io/gateway-name").is_some()
            || matches!(labels.value("istio"), Some("ingressgateway" | "egressgateway" | "eastwestgateway"))
            || templates.split(',').any(|template| template.trim() == "gateway");
        // Another maker's gateway may have a sidecar, which does enforce what is declared. The proxy that Istio
        // makes for its own is the one container (manifests/charts/istio-control/istio-discovery/files/
        // kube-gateway.yaml, waypoint.yaml, gateway-injection-template.yaml, agentgateway.yaml).
        let proxy_alone = containers == ["agentgateway"]
            || containers.contains(&"istio-proxy")
                && containers.iter().all(|container| container.starts_with("istio-"));
        Self {
            membership: membership(parts),
            native: init_containers.contains(&"istio-proxy") || init_containers.contains(&"linkerd-proxy"),
            intermediary,
            router: intermediary && proxy_alone,
            waypoint: matches!(
                labels.value("gateway.istio.io/managed"),
                Some("istio.io-mesh-controller" | "istio.io-agentgateway-waypoint-controller")
            ) || labels.value("gateway.networking.k8s.io/gateway-class-name")
                == Some("istio-waypoint"),
            scrape_port: port.filter(|_| scraped),
        }
    }

    /// What a pod would say, once an injector has put it in `mesh`.
    #[must_use]
    pub fn once_in(mesh: MeshKind, labels: &Labels, annotations: &Labels) -> Self {
        let (label, annotation, container) = match mesh {
            MeshKind::Istio => {
                (("security.istio.io/tlsMode", "istio"), ("sidecar.istio.io/status", "{}"), "istio-proxy")
            }
            MeshKind::Ambient => (("", ""), ("ambient.istio.io/redirection", "enabled"), ""),
            MeshKind::Linkerd => (
                ("linkerd.io/control-plane-ns", "linkerd"),
                ("linkerd.io/proxy-version", ""),
                "linkerd-proxy",
            ),
        };
        Self::read(PodParts {
            labels: &labels.iter().chain([label]).collect(),
            annotations: &annotations.iter().chain([annotation]).collect(),
            containers: &[container],
            init_containers: &[],
            host_network: false,
        })
    }

    /// The name of its mesh, and of how it is in it, in lines.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self.mesh() {
            None => "none",
            Some(MeshKind::Istio) if self.native => "istio-native-sidecar",
            Some(MeshKind::Istio) => "istio-sidecar",
            Some(MeshKind::Ambient) => "istio-ambient",
            Some(MeshKind::Linkerd) => "linkerd",
        }
    }

    /// The mesh that it is in.
    #[must_use]
    pub fn mesh(&self) -> Option<MeshKind> {
        self.membership.as_ref().map(|membership| membership.mesh)
    }
}

fn membership(parts: PodParts<'_>) -> Option<Membership> {
    let PodParts { labels, annotations, containers, init_containers, host_network } = parts;
    // Neither injector touches a pod that shares the node's network: Istio's inject.go, `injectRequired`; Linkerd's
    // pkg/inject/report.go, `hostNetworkEnabled`.
    if host_network {
        return None;
    }
    let has = |name: &str| containers.contains(&name) || init_containers.contains(&name);
    let announced = labels.value("security.istio.io/tlsMode") == Some("istio");
    let text = |key: &str| annotations.value(key).unwrap_or_default();
    let ports = |key: &str| Ports::read(text(key));
    let networks = |text: &str| text.split(',').filter_map(|network| network.trim().parse().ok()).collect();
    let base = |mesh| Membership {
        mesh,
        announced: false,
        control_plane: None,
        include_inbound: Ports::all(),
        exclude_inbound: Ports::default(),
        exclude_outbound: Ports::default(),
        include_outbound: Ports::default(),
        exclude_networks: Box::default(),
        include_networks: None,
        bypass_inbound: false,
        default_policy: None,
        require_identity: Ports::default(),
        waypoint: labels.value("istio.io/use-waypoint").is_some_and(|name| name != "none"),
    };
    if has("istio-proxy") && (announced || annotations.value("sidecar.istio.io/status").is_some()) {
        let include = annotations.value("traffic.sidecar.istio.io/includeInboundPorts");
        return Some(Membership {
            announced,
            include_inbound: include.map_or_else(Ports::all, Ports::read),
            exclude_inbound: ports("traffic.sidecar.istio.io/excludeInboundPorts"),
            exclude_outbound: ports("traffic.sidecar.istio.io/excludeOutboundPorts"),
            include_outbound: ports("traffic.sidecar.istio.io/includeOutboundPorts"),
            exclude_networks: networks(text("traffic.sidecar.istio.io/excludeOutboundIPRanges")),
            include_networks: annotations
                .value("traffic.sidecar.istio.io/includeOutboundIPRanges")
                .filter(|ranges| !ranges.split(',').any(|range| range.trim() == "*"))
                .map(networks),
            bypass_inbound: annotations.value("sidecar.istio.io/interceptionMode") == Some("NONE"),
            ..base(MeshKind::Istio)
        });
    }
    if let Some(control_plane) = labels.value("linkerd.io/control-plane-ns")
        && has("linkerd-proxy")
    {
        return Some(Membership {
            announced: true,
            control_plane: Some(control_plane.into()),
            exclude_inbound: ports("config.linkerd.io/skip-inbound-ports"),
            exclude_outbound: ports("config.linkerd.io/skip-outbound-ports"),
            exclude_networks: networks(text("config.linkerd.io/skip-subnets")),
            default_policy: annotations.value("config.linkerd.io/default-inbound-policy").map(Into::into),
            require_identity: ports("config.linkerd.io/proxy-require-identity-inbound-ports"),
            ..base(MeshKind::Linkerd)
        });
    }
    // `pending` is half done: the node's proxy does not know the pod yet (cni/pkg/util/podutil.go, `PodFullyEnrolled`).
    if annotations.value("ambient.istio.io/redirection") == Some("enabled") {
        return Some(Membership {
            announced: true,
            bypass_inbound: is_true(text("ambient.istio.io/bypass-inbound-capture")),
            ..base(MeshKind::Ambient)
        });
    }
    None
}

/// A boolean as Go's `strconv.ParseBool` takes it, by which Istio's CNI reads annotations (cni/pkg/util/podutil.go).
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

impl Membership {
    /// Why its proxy leaves an inbound port alone, as the field of the pod that says so.
    ///
    /// As Istio sets up iptables (tools/istio-iptables/pkg/capture/run.go, `handleInboundPortsInclude`): what is
    /// excluded counts where all is included, and a list of what is included by itself. The values that a mesh has
    /// for pods without annotations are not read. Linkerd's proxy-init has the exclusions alone.
    #[must_use]
    pub fn passes_by(&self, port: u16) -> Option<&'static str> {
        if self.bypass_inbound {
            return Some(match self.mesh {
                MeshKind::Ambient => "metadata.annotations[ambient.istio.io/bypass-inbound-capture]",
                _ => "metadata.annotations[sidecar.istio.io/interceptionMode]",
            });
        }
        if self.exclude_inbound.contains(port) && self.include_inbound.is_all() {
            return Some(match self.mesh {
                MeshKind::Linkerd => "metadata.annotations[config.linkerd.io/skip-inbound-ports]",
                _ => "metadata.annotations[traffic.sidecar.istio.io/excludeInboundPorts]",
            });
        }
        (!self.include_inbound.contains(port))
            .then_some("metadata.annotations[traffic.sidecar.istio.io/includeInboundPorts]")
    }

    /// Why its proxy leaves an outbound connection alone, as the field of the pod that says so: in the order of the
    /// rules that `Run` of the same file makes, of which the first that matches counts.
    #[must_use]
    pub fn leaves_out(&self, address: IpAddr, port: u16) -> Option<&'static str> {
        if self.exclude_outbound.contains(port) {
            return Some(match self.mesh {
                MeshKind::Linkerd => "metadata.annotations[config.linkerd.io/skip-outbound-ports]",
                _ => "metadata.annotations[traffic.sidecar.istio.io/excludeOutboundPorts]",
            });
        }
        let any = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        if any(&self.exclude_networks) {
            return Some(match self.mesh {
                MeshKind::Linkerd => "metadata.annotations[config.linkerd.io/skip-subnets]",
                _ => "metadata.annotations[traffic.sidecar.istio.io/excludeOutboundIPRanges]",
            });
        }
        if self.include_outbound.contains(port) {
            return None;
        }
        self.include_networks
            .as_ref()
            .is_some_and(|networks| !any(networks))
            .then_some("metadata.annotations[traffic.sidecar.istio.io/includeOutboundIPRanges]")
    }
}

/// The mesh that a pod is meant to be in, by its own labels and annotations and those of its namespace.
///
/// Of Istio by its webhook's selectors (manifests/charts/istio-control/istio-discovery/templates/
/// mutatingwebhook.yaml) and `injectRequired`. One thing more counts as a wish: the deprecated annotation
/// `sidecar.istio.io/inject: "true"` in a namespace without a label, which no selector of the webhook matches.
#[must_use]
pub fn intended(
    labels: &Labels,
    annotations: &Labels,
    namespace_labels: &Labels,
    namespace_annotations: &Labels,
    host_network: bool,
) -> Option<MeshKind> {
    if host_network {
        return None;
    }
    let ambient =
        labels.value("istio.io/dataplane-mode").or_else(|| namespace_labels.value("istio.io/dataplane-mode"));
    // The label beats the deprecated annotation.
    let own =
        labels.value("sidecar.istio.io/inject").or_else(|| annotations.value("sidecar.istio.io/inject"));
    let revision = labels.value("istio.io/rev").is_some() || namespace_labels.value("istio.io/rev").is_some();
    let sidecar = match (namespace_labels.value("istio-injection"), own) {
        (_, Some("false")) | (Some("disabled"), _) => false,
        (_, Some("true")) | (Some("enabled"), _) => true,
        _ => revision,
    };
    if sidecar {
        return Some(MeshKind::Istio);
    }
    let linkerd =
        annotations.value("linkerd.io/inject").or_else(|| namespace_annotations.value("linkerd.io/inject"));
    if matches!(linkerd, Some("enabled" | "ingress")) {
        return Some(MeshKind::Linkerd);
    }
    (ambient == Some("ambient")).then_some(MeshKind::Ambient)
}

#[cfg(test)]
mod tests;
