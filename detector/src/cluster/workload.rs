//! Owns the question what runs a pod: the deployment, stateful set, … that an operator knows it by.
//!
//! A pod names only its direct owner. A replica set's own owner decides where the replica set is known;
//! where it is not, the hash in the replica set's name tells that a deployment made it.

use std::sync::Arc;

use super::selector::Labels;

/// What runs a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// Its kind.
    pub kind: WorkloadKind,
    /// Its name, in the pod's namespace.
    pub name: Arc<str>,
}

/// The kind of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkloadKind {
    /// A deployment.
    Deployment,
    /// A replica set that no deployment made.
    ReplicaSet,
    /// A stateful set.
    StatefulSet,
    /// A daemon set.
    DaemonSet,
    /// A job.
    Job,
    /// A cron job.
    CronJob,
    /// A pod that nothing runs.
    Pod,
    /// Any other controller.
    Other(Arc<str>),
}

impl WorkloadKind {
    /// The kind as Kubernetes writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::CronJob => "CronJob",
            Self::Pod => "Pod",
            Self::Other(kind) => kind,
        }
    }
}

impl From<&str> for WorkloadKind {
    fn from(kind: &str) -> Self {
        match kind {
            "Deployment" => Self::Deployment,
            "ReplicaSet" => Self::ReplicaSet,
            "StatefulSet" => Self::StatefulSet,
            "DaemonSet" => Self::DaemonSet,
            "Job" => Self::Job,
            "CronJob" => Self::CronJob,
            "Pod" => Self::Pod,
            other => Self::Other(other.into()),
        }
    }
}

impl Workload {
    /// What runs a pod, by its controller (kind and name) and its labels.
    pub(super) fn of_pod(controller: Option<(&str, &str)>, pod: &str, labels: &Labels) -> Self {
        let Some((kind, name)) = controller else {
            return Self { kind: WorkloadKind::Pod, name: pod.into() };
        };
        match WorkloadKind::from(kind) {
            // The deployment controller names a replica set `<deployment>-<hash>` and labels its pods with
            // that hash; a replica set that a person made has no such label.
            WorkloadKind::ReplicaSet => {
                let deployment = labels
                    .value("pod-template-hash")
                    .and_then(|hash| name.strip_suffix(hash))
                    .and_then(|name| name.strip_suffix('-'))
                    .filter(|name| !name.is_empty());
                match deployment {
                    Some(name) => Self { kind: WorkloadKind::Deployment, name: name.into() },
                    None => Self { kind: WorkloadKind::ReplicaSet, name: name.into() },
                }
            }
            kind => Self { kind, name: name.into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Labels, Workload, WorkloadKind};

    fn workload(kind: WorkloadKind, name: &str) -> Workload {
        Workload { kind, name: name.into() }
    }

    #[test]
    fn a_replica_set_with_the_template_hash_is_its_deployments() {
        let labels = Labels::from_iter([("pod-template-hash", "6466c575fd")]);
        assert_eq!(
            Workload::of_pod(Some(("ReplicaSet", "mcp-tools-6466c575fd")), "mcp-tools-6466c575fd-x", &labels),
            workload(WorkloadKind::Deployment, "mcp-tools")
        );
    }

    #[test]
    fn a_replica_set_without_the_hash_stays_one() {
        let labels = Labels::from_iter([("pod-template-hash", "6466c575fd")]);
        for labels in [Labels::default(), labels] {
            assert_eq!(
                Workload::of_pod(Some(("ReplicaSet", "plain-set")), "plain-set-x", &labels),
                workload(WorkloadKind::ReplicaSet, "plain-set")
            );
        }
    }

    #[test]
    fn a_pod_without_a_controller_is_its_own_workload() {
        assert_eq!(Workload::of_pod(None, "debug", &Labels::default()), workload(WorkloadKind::Pod, "debug"));
    }

    #[test]
    fn other_controllers_are_named_as_they_are() {
        let rollout = Workload::of_pod(Some(("Rollout", "canary")), "canary-x", &Labels::default());
        assert_eq!((rollout.kind.as_str(), rollout.name.as_ref()), ("Rollout", "canary"));
    }
}
