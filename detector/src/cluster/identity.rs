//! Owns the names that meshes and SPIRE give to a workload.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use super::objects::Pod;

/// The trust domain of the cluster's identities: as configured, or as discovered meanwhile.
#[derive(Clone, Debug)]
pub struct TrustDomain {
    configured: bool,
    name: Arc<RwLock<Arc<str>>>,
}

impl TrustDomain {
    /// What Istio, Linkerd and SPIRE's charts take where nothing else is said.
    pub const DEFAULT: &str = "cluster.local";

    /// The trust domain that the command line names, or the default until another is discovered.
    #[must_use]
    pub fn new(configured: Option<&str>) -> Self {
        let name = configured.unwrap_or(Self::DEFAULT);
        Self { configured: configured.is_some(), name: Arc::new(RwLock::new(name.into())) }
    }

    /// Takes what the cluster says, unless the command line has said it; whether that is news.
    pub fn discovered(&self, name: &str) -> bool {
        let mut current = self.name.write().unwrap_or_else(PoisonError::into_inner);
        let news = !self.configured && current.as_ref() != name;
        if news {
            *current = name.into();
        }
        news
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        Arc::clone(&self.name.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The SPIFFE id of a pod's service account: Istio's form, which is SPIRE's default too.
    #[must_use]
    pub fn spiffe_id(&self, pod: &Pod) -> String {
        format!("spiffe://{self}/ns/{}/sa/{}", pod.name.namespace, pod.service_account)
    }

    /// The identity that a pod's proxy shows: Linkerd's is a DNS name, all others are SPIFFE ids.
    #[must_use]
    pub fn identity(&self, pod: &Pod) -> String {
        let (namespace, account) = (&pod.name.namespace, &pod.service_account);
        let membership = pod.proxy.membership.as_ref();
        match membership.and_then(|membership| membership.control_plane.as_deref()) {
            Some(control_plane) => {
                format!("{account}.{namespace}.serviceaccount.identity.{control_plane}.{self}")
            }
            _ => self.spiffe_id(pod),
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// The trust domain in Istio's mesh configuration, the member `mesh` of the ConfigMap `istio`.
#[must_use]
pub fn trust_domain_of_mesh_config(mesh: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct MeshConfig {
        trust_domain: Option<String>,
    }
    let config: MeshConfig = serde_saphyr::from_str(mesh).ok()?;
    config.trust_domain.filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{TrustDomain, trust_domain_of_mesh_config};
    use crate::{
        cluster::Labels,
        policy::{MeshKind, PodMesh},
        testing,
    };

    #[test]
    fn what_is_configured_stands_against_what_is_discovered() {
        let configured = TrustDomain::new(Some("corp.example"));
        assert!(!configured.discovered("other.example"));
        assert_eq!(configured.to_string(), "corp.example");
        let open = TrustDomain::new(None);
        assert_eq!(open.to_string(), "cluster.local");
        assert!(open.discovered("other.example"));
        assert!(!open.discovered("other.example"));
        assert_eq!(open.to_string(), "other.example");
    }

    #[test]
    fn identities_have_the_form_of_their_mesh() {
        let domain = TrustDomain::new(Some("corp.example"));
        let mut pod = testing::pod("mcp", "tools", &[]);
        assert_eq!(domain.identity(&pod), "spiffe://corp.example/ns/mcp/sa/tools");
        let template = Arc::make_mut(&mut pod.template);
        let labels = Labels::default();
        template.proxy = PodMesh::once_in(MeshKind::Linkerd, &labels, &labels).into();
        assert_eq!(domain.identity(&pod), "tools.mcp.serviceaccount.identity.linkerd.corp.example");
    }

    #[test]
    fn the_mesh_configuration_names_the_trust_domain() {
        let mesh =
            "defaultConfig:\n  discoveryAddress: istiod.istio-system.svc:15012\ntrustDomain: corp.example\n";
        assert_eq!(trust_domain_of_mesh_config(mesh).as_deref(), Some("corp.example"));
        assert_eq!(trust_domain_of_mesh_config("rootNamespace: istio-system\n"), None);
        assert_eq!(trust_domain_of_mesh_config("trustDomain: \"\"\n"), None);
        assert_eq!(trust_domain_of_mesh_config("{ no yaml"), None);
    }
}
