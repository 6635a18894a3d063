//! Owns the labels that hold names of the cluster: who is at either end.

use std::sync::Arc;

use super::{
    capped::Labels,
    catalogue::{self, Family},
};
use crate::{
    findings::{FindingId, Severity, Standing},
    flows::{End, Flow},
};

/// The value that stands in for names when there are too many.
const OVERFLOW: &str = "overflow";

/// A workload as labels name it.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct WorkloadName<'a> {
    pub(super) namespace: &'a str,
    pub(super) workload: &'a str,
}

/// An end as labels; empty where there is nothing to say.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub(super) struct EndLabels {
    kind: &'static str,
    namespace: Arc<str>,
    workload: Arc<str>,
    service_account: Arc<str>,
}

impl EndLabels {
    fn of(end: &End) -> Self {
        let kind = match end {
            End::Pod { .. } => "pod",
            End::Service { .. } => "service",
            End::Node { .. } => "node",
            End::Spoofed { .. } => "spoofed",
            End::External { .. } => "external",
            End::Unknown { .. } => "unknown",
        };
        match (end, end.pod()) {
            (_, Some(pod)) => Self {
                kind,
                namespace: Arc::clone(&pod.name.namespace),
                workload: Arc::clone(&pod.workload.name),
                service_account: Arc::clone(&pod.service_account),
            },
            (End::Service { service, .. }, None) => {
                Self { kind, namespace: Arc::clone(&service.name.namespace), ..Self::default() }
            }
            _ => Self { kind, ..Self::default() },
        }
    }

    fn overflow() -> Self {
        let over = || Arc::from(OVERFLOW);
        Self { kind: OVERFLOW, namespace: over(), workload: over(), service_account: over() }
    }

    fn workload(&self) -> Option<WorkloadName<'_>> {
        let Self { kind: _, namespace, workload, service_account: _ } = self;
        (!workload.is_empty()).then_some(WorkloadName { namespace, workload })
    }

    fn with_account(&self) -> [&str; 4] {
        [self.kind, &self.namespace, &self.workload, &self.service_account]
    }

    fn without_account(&self) -> [&str; 3] {
        [self.kind, &self.namespace, &self.workload]
    }
}

/// The labels of `plainsight_connections_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(super) struct ConnectionLabels {
    verdict: &'static str,
    protocol: &'static str,
    source: EndLabels,
    destination: EndLabels,
}

impl ConnectionLabels {
    pub(super) fn of(flow: &Flow) -> Self {
        Self {
            verdict: flow.verdict.name(),
            protocol: flow.protocol.name(),
            source: EndLabels::of(&flow.client),
            destination: EndLabels::of(&flow.server),
        }
    }
}

impl Labels for ConnectionLabels {
    const FAMILY: Family = catalogue::CONNECTIONS;

    fn values(&self) -> Vec<&str> {
        let Self { verdict, protocol, source, destination } = self;
        [&[*verdict, *protocol][..], &source.with_account(), &destination.with_account()].concat()
    }

    fn overflow(&self) -> Self {
        let (source, destination) = (EndLabels::overflow(), EndLabels::overflow());
        // The verdict stays: an alert on plaintext must not go blind when names run out.
        Self { verdict: self.verdict, protocol: self.protocol, source, destination }
    }

    fn workloads(&self) -> [Option<WorkloadName<'_>>; 2] {
        [self.source.workload(), self.destination.workload()]
    }
}

/// The labels of `plainsight_connections_with_credentials_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(super) struct CredentialLabels {
    protocol: &'static str,
    source: EndLabels,
    destination: EndLabels,
}

impl CredentialLabels {
    pub(super) fn of(flow: &Flow) -> Self {
        Self {
            protocol: flow.protocol.name(),
            source: EndLabels::of(&flow.client),
            destination: EndLabels::of(&flow.server),
        }
    }
}

impl Labels for CredentialLabels {
    const FAMILY: Family = catalogue::CREDENTIALS;

    fn values(&self) -> Vec<&str> {
        let Self { protocol, source, destination } = self;
        [&[*protocol][..], &source.with_account(), &destination.with_account()].concat()
    }

    fn overflow(&self) -> Self {
        let (source, destination) = (EndLabels::overflow(), EndLabels::overflow());
        Self { protocol: self.protocol, source, destination }
    }

    fn workloads(&self) -> [Option<WorkloadName<'_>>; 2] {
        [self.source.workload(), self.destination.workload()]
    }
}

/// The labels of `plainsight_last_plaintext_timestamp_seconds`.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(super) struct DestinationLabels(EndLabels);

impl DestinationLabels {
    /// `None` where no workload is known to have taken it.
    pub(super) fn of(flow: &Flow) -> Option<Self> {
        let end = EndLabels::of(&flow.server);
        end.workload().is_some().then_some(Self(end))
    }
}

impl Labels for DestinationLabels {
    const FAMILY: Family = catalogue::LAST_PLAINTEXT;

    fn values(&self) -> Vec<&str> {
        vec![&self.0.namespace, &self.0.workload]
    }

    fn overflow(&self) -> Self {
        Self(EndLabels::overflow())
    }

    fn workloads(&self) -> [Option<WorkloadName<'_>>; 2] {
        [self.0.workload(), None]
    }
}

/// The labels of `plainsight_workload_findings_active`.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub(super) struct FindingLabels {
    id: FindingId,
    severity: Severity,
    source: EndLabels,
    destination: EndLabels,
}

impl FindingLabels {
    pub(super) fn of(finding: &Standing<'_>) -> Self {
        let Standing { id, severity, client, server } = finding;
        Self {
            id: *id,
            severity: *severity,
            source: EndLabels::of(client),
            destination: EndLabels::of(server),
        }
    }
}

impl Labels for FindingLabels {
    const FAMILY: Family = catalogue::WORKLOAD_ACTIVE;

    fn values(&self) -> Vec<&str> {
        let Self { id, severity, source, destination } = self;
        [&[id.as_str(), severity.as_str()][..], &source.without_account(), &destination.without_account()]
            .concat()
    }

    fn overflow(&self) -> Self {
        let (source, destination) = (EndLabels::overflow(), EndLabels::overflow());
        Self { id: self.id, severity: self.severity, source, destination }
    }

    fn workloads(&self) -> [Option<WorkloadName<'_>>; 2] {
        [self.source.workload(), self.destination.workload()]
    }
}
