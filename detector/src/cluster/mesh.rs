//! Owns the question which mesh a pod is in, and how.
//!
//! What counts is what was done to the pod, not what its namespace asks for: an injector leaves its
//! container and its annotation, ambient mode its redirection.

use super::selector::Labels;

/// The mesh that a pod is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mesh {
    /// None.
    #[default]
    None,
    /// Istio, by a container beside the application.
    IstioSidecar,
    /// Istio, by an init container that goes on running.
    IstioNativeSidecar,
    /// Istio, by the node's ztunnel.
    IstioAmbient,
    /// Linkerd, by its proxy.
    Linkerd,
}

/// Annotations that are kept of a pod: what the meshes' interception and policy depend on.
const KEPT: &[&str] = &[
    "ambient.istio.io/bypass-inbound-capture",
    "ambient.istio.io/redirection",
    "config.linkerd.io/default-inbound-policy",
    "config.linkerd.io/opaque-ports",
    "config.linkerd.io/proxy-require-identity-inbound-ports",
    "config.linkerd.io/skip-inbound-ports",
    "config.linkerd.io/skip-outbound-ports",
    "config.linkerd.io/skip-subnets",
    "linkerd.io/inject",
    "prometheus.io/port",
    "prometheus.io/scrape",
    "sidecar.istio.io/inject",
    "sidecar.istio.io/interceptionMode",
    "sidecar.istio.io/rewriteAppHTTPProbers",
    "traffic.sidecar.istio.io/excludeInboundPorts",
    "traffic.sidecar.istio.io/excludeInterfaces",
    "traffic.sidecar.istio.io/excludeOutboundIPRanges",
    "traffic.sidecar.istio.io/excludeOutboundPorts",
    "traffic.sidecar.istio.io/includeInboundPorts",
    "traffic.sidecar.istio.io/includeOutboundIPRanges",
    "traffic.sidecar.istio.io/includeOutboundPorts",
];

/// What the detection looks at.
pub(super) struct Signs<'a> {
    pub(super) labels: &'a Labels,
    pub(super) annotation: &'a dyn Fn(&str) -> Option<&'a str>,
    pub(super) container: &'a dyn Fn(&str) -> bool,
    pub(super) init_container: &'a dyn Fn(&str) -> bool,
}

impl Mesh {
    /// The name in metrics and lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::IstioSidecar => "istio-sidecar",
            Self::IstioNativeSidecar => "istio-native-sidecar",
            Self::IstioAmbient => "istio-ambient",
            Self::Linkerd => "linkerd",
        }
    }

    /// Whether this is Istio, in whichever way.
    #[must_use]
    pub const fn is_istio(self) -> bool {
        matches!(self, Self::IstioSidecar | Self::IstioNativeSidecar | Self::IstioAmbient)
    }

    pub(super) fn of_pod(signs: &Signs<'_>) -> Self {
        let Signs { labels, annotation, container, init_container } = signs;
        if annotation("sidecar.istio.io/status").is_some() {
            if init_container("istio-proxy") {
                return Self::IstioNativeSidecar;
            }
            if container("istio-proxy") {
                return Self::IstioSidecar;
            }
        }
        // The control plane's label is what gives an endpoint its identity in Linkerd's discovery.
        if labels.value("linkerd.io/control-plane-ns").is_some()
            && (container("linkerd-proxy") || init_container("linkerd-proxy"))
        {
            return Self::Linkerd;
        }
        if annotation("ambient.istio.io/redirection") == Some("enabled") {
            return Self::IstioAmbient;
        }
        Self::None
    }
}

/// Whether an annotation is kept.
pub(super) fn is_kept(annotation: &str) -> bool {
    KEPT.binary_search(&annotation).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{KEPT, Labels, Mesh, Signs};

    fn mesh(
        labels: &[(&str, &str)],
        annotations: &[(&str, &str)],
        containers: &[&str],
        init: &[&str],
    ) -> Mesh {
        Mesh::of_pod(&Signs {
            labels: &Labels::from_iter(labels.iter().copied()),
            annotation: &|wanted| annotations.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value),
            container: &|wanted| containers.contains(&wanted),
            init_container: &|wanted| init.contains(&wanted),
        })
    }

    #[test]
    fn kept_annotations_are_sorted() {
        assert!(KEPT.is_sorted());
    }

    #[test]
    fn membership_is_what_was_done_to_the_pod() {
        let injected = [("sidecar.istio.io/status", "{}")];
        let linkerd = [("linkerd.io/control-plane-ns", "linkerd")];
        assert_eq!(mesh(&[], &injected, &["app", "istio-proxy"], &["istio-init"]), Mesh::IstioSidecar);
        assert_eq!(mesh(&[], &injected, &["app"], &["istio-init", "istio-proxy"]), Mesh::IstioNativeSidecar);
        assert_eq!(mesh(&[], &injected, &["app"], &[]), Mesh::None, "status without a proxy");
        assert_eq!(mesh(&[], &[("ambient.istio.io/redirection", "enabled")], &[], &[]), Mesh::IstioAmbient);
        assert_eq!(mesh(&[], &[("ambient.istio.io/redirection", "pending")], &[], &[]), Mesh::None);
        assert_eq!(mesh(&linkerd, &[], &["linkerd-proxy", "app"], &[]), Mesh::Linkerd);
        assert_eq!(mesh(&linkerd, &[], &["app"], &["linkerd-proxy"]), Mesh::Linkerd);
        assert_eq!(mesh(&[], &[("linkerd.io/inject", "enabled")], &["app"], &[]), Mesh::None, "intent alone");
    }
}
