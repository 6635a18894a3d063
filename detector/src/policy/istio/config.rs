//! Owns Istio's mesh configuration, as far as policy depends on it.

use std::sync::Arc;

/// What `istio-system/istio`, key `mesh`, says. The defaults are those of Istio's pkg/config/mesh/mesh.go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshConfig {
    /// The namespace whose policies are for the whole mesh.
    pub root_namespace: Arc<str>,
    /// The trust domain of identities.
    pub trust_domain: Arc<str>,
    /// Other names of the trust domain, from before a migration.
    pub aliases: Box<[Arc<str>]>,
    /// Whether clients speak mTLS by themselves to servers that can.
    pub auto_mtls: bool,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            root_namespace: "istio-system".into(),
            trust_domain: "cluster.local".into(),
            aliases: Box::default(),
            auto_mtls: true,
        }
    }
}

impl MeshConfig {
    /// Whether a principal in the trust domain `domain` means identities of this mesh. `cluster.local` always does: it
    /// is a pointer to the mesh's own trust domain, whatever that is called (pilot/pkg/security/trustdomain/bundle.go,
    /// `ReplaceTrustDomainAliases`).
    #[must_use]
    pub fn is_own(&self, domain: &str) -> bool {
        domain == &*self.trust_domain
            || domain == "cluster.local"
            || self.aliases.iter().any(|alias| domain == &**alias)
    }
}
