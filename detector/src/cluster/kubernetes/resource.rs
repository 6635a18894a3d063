//! Owns the resources that are watched: where they are, in which form, and which right they need.

use super::super::objects::{Kind, OwnerKind};
use crate::policy::Kind as PolicyKind;

/// The name of the resource without which nothing else helps.
pub(super) const PODS: &str = "pods";

/// A resource that is watched in all namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The API group, empty for the core.
    pub group: &'static str,
    /// The versions that are understood, the preferred one first.
    pub versions: &'static [&'static str],
    /// The kind of its objects.
    pub kind: &'static str,
    /// Its name in paths.
    pub plural: &'static str,
    /// Whether metadata is enough: it is a fraction of the whole.
    pub metadata_only: bool,
    /// Whether it comes with a CRD, which may not be installed.
    pub custom: bool,
}

impl Resource {
    /// The name that kubectl and RBAC know it by: `pods`, `replicasets.apps`.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The group and version of objects of one of its versions.
    pub(super) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    pub(super) fn path(&self, version: &str) -> String {
        let prefix = if self.group.is_empty() { "/api" } else { "/apis" };
        format!("{prefix}/{}/{}", self.api_version(version), self.plural)
    }

    /// The rule that a ClusterRole needs, as one line of YAML.
    #[must_use]
    pub fn rule(&self) -> String {
        format!(
            "{{apiGroups: [{:?}], resources: [{:?}], verbs: [\"list\", \"watch\"]}}",
            self.group, self.plural
        )
    }
}

/// What identities are made of. Owners come first, so that pods find theirs.
pub(super) fn identities() -> Vec<(Resource, Kind)> {
    let base =
        Resource { group: "", versions: &["v1"], kind: "", plural: "", metadata_only: false, custom: false };
    let core = |kind, plural| Resource { kind, plural, ..base.clone() };
    let metadata = |resource| Resource { metadata_only: true, ..resource };
    vec![
        (
            Resource { group: "apps", ..metadata(core("ReplicaSet", "replicasets")) },
            Kind::Owner(OwnerKind::ReplicaSet),
        ),
        (Resource { group: "batch", ..metadata(core("Job", "jobs")) }, Kind::Owner(OwnerKind::Job)),
        (metadata(core("Namespace", "namespaces")), Kind::Namespace),
        (metadata(core("ServiceAccount", "serviceaccounts")), Kind::ServiceAccount),
        (core("Node", "nodes"), Kind::Node),
        (core("Service", "services"), Kind::Service),
        (
            Resource { group: "discovery.k8s.io", ..core("EndpointSlice", "endpointslices") },
            Kind::EndpointSlice,
        ),
        (core("Pod", PODS), Kind::Pod),
        (
            Resource {
                group: "plainsight.dev",
                versions: &["v1alpha1"],
                custom: true,
                ..core("ExpectedSources", "expectedsources")
            },
            Kind::ExpectedSources,
        ),
    ]
}

/// What policy is declared by. All come with CRDs, of meshes and our own, that may not be installed.
pub(super) fn policies() -> Vec<(Resource, Kind)> {
    use PolicyKind::*;
    let istio = &["v1", "v1beta1"][..];
    let alpha = &["v1alpha1"][..];
    [
        (istio, "peerauthentications", PeerAuthentication),
        (istio, "authorizationpolicies", AuthorizationPolicy),
        (&["v1", "v1beta1", "v1alpha3"], "destinationrules", DestinationRule),
        (&["v1beta3", "v1beta2", "v1beta1", "v1alpha1"], "servers", Server),
        (&["v1beta1", "v1alpha1"], "serverauthorizations", ServerAuthorization),
        (alpha, "authorizationpolicies", LinkerdAuthorizationPolicy),
        (alpha, "meshtlsauthentications", MeshTlsAuthentication),
        (alpha, "networkauthentications", NetworkAuthentication),
        (alpha, "trafficexceptions", TrafficException),
    ]
    .into_iter()
    .map(|(versions, plural, kind)| {
        let (group, name) = (kind.group(), kind.as_str());
        let resource = Resource { group, versions, kind: name, plural, metadata_only: false, custom: true };
        (resource, Kind::Policy(kind))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::{identities, policies};

    #[test]
    fn resources_are_where_the_api_server_has_them() {
        let paths: Vec<String> =
            identities().iter().map(|(resource, _)| resource.path(resource.versions[0])).collect();
        assert!(paths.contains(&"/api/v1/pods".to_owned()));
        assert!(paths.contains(&"/apis/discovery.k8s.io/v1/endpointslices".to_owned()));
        assert!(paths.contains(&"/apis/batch/v1/jobs".to_owned()));
    }

    #[test]
    fn policies_are_where_their_definitions_put_them() {
        let names: Vec<String> = policies().iter().map(|(resource, _)| resource.full_name()).collect();
        assert!(names.contains(&"peerauthentications.security.istio.io".to_owned()));
        assert!(names.contains(&"authorizationpolicies.policy.linkerd.io".to_owned()));
        assert!(names.contains(&"trafficexceptions.plainsight.dev".to_owned()));
        assert!(policies().iter().all(|(resource, _)| resource.custom));
    }

    #[test]
    fn a_rule_can_be_pasted_into_a_cluster_role() {
        let (sets, _) = &identities()[0];
        assert_eq!(
            sets.rule(),
            "{apiGroups: [\"apps\"], resources: [\"replicasets\"], verbs: [\"list\", \"watch\"]}"
        );
    }
}
