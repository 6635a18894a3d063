//! Owns the metrics: their names, labels and how many series each may have.
//!
//! No call site sees a label array, and the registry is our own. Labels are bounded: words of ours, or names
//! of the cluster behind a cap, past which everything is counted under `overflow`. Never an address or a port.

mod capped;
mod kernel;
mod watches;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus::{
    Encoder as _, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::kernel::{Fill, KernelReading};
use self::{
    capped::{Capped, Labels},
    kernel::KernelCollector,
    watches::WatchCollector,
};
use crate::{
    cluster::{Census, kubernetes::Health},
    coverage::{PodCoverage, Reason},
    findings::{FindingId, Severity},
    flows::{End, Update},
};

/// Which hook of an interface the programs sit on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TCX, Linux 6.6 and later.
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    connections: Capped<ConnectionLabels>,
    findings: IntCounterVec,
    active: IntGaugeVec,
    interfaces: IntGaugeVec,
    attach_failures: IntCounter,
    restored: IntCounter,
    forgotten: IntCounterVec,
    pods: IntGaugeVec,
    flows: IntGauge,
    identities: IntGaugeVec,
    manifest_errors: IntGauge,
}

impl Metrics {
    /// Series that a metric with names of the cluster may have.
    pub const MAX_SERIES: usize = 4096;

    /// Registers every metric; `kernel` is asked at each scrape.
    ///
    /// # Errors
    ///
    /// Two metrics have the same name.
    pub fn new(
        kernel: impl Fn() -> KernelReading + Send + Sync + 'static,
        lines_lost: Arc<AtomicU64>,
    ) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Self {
            connections: Capped::new(
                "plainsight_connections_total",
                "Connections by what they are and who is at either end.",
                Self::MAX_SERIES,
                &registry,
            )?,
            findings: counters(
                &registry,
                "plainsight_findings_total",
                "Findings told, each again when it gets worse or has new evidence.",
                &["id", "severity"],
            )?,
            active: gauges(
                &registry,
                "plainsight_findings_active",
                "Findings that stand, by id and severity.",
                &["id", "severity"],
            )?,
            interfaces: gauges(
                &registry,
                "plainsight_interfaces_attached",
                "Pod interfaces that are observed, by hook.",
                &["hook"],
            )?,
            attach_failures: counter(
                &registry,
                "plainsight_interface_attach_failures_total",
                "Pod interfaces that could not be observed.",
            )?,
            restored: counter(
                &registry,
                "plainsight_attachments_restored_total",
                "Times that another program had taken our place on an interface.",
            )?,
            forgotten: counters(
                &registry,
                "plainsight_forgotten_total",
                "What the daemon before had in its maps, and this one could not take over, by map.",
                &["map"],
            )?,
            pods: gauges(
                &registry,
                "plainsight_node_pods",
                "Pods of this node: `observed`, or why not.",
                &["coverage"],
            )?,
            flows: gauge(&registry, "plainsight_flows", "Flows that are remembered.")?,
            identities: gauges(
                &registry,
                "plainsight_identities",
                "Objects in the identity store, by kind.",
                &["kind"],
            )?,
            manifest_errors: gauge(
                &registry,
                "plainsight_manifest_errors",
                "Documents that the last reading of the manifests could not use.",
            )?,
            registry,
        };
        metrics.registry.register(Box::new(KernelCollector::new(kernel)?))?;
        metrics.registry.register(Box::new(kernel::LinesLost::new(lines_lost)?))?;
        gauges(
            &metrics.registry,
            "plainsight_build_info",
            "Always 1; says which build this is.",
            &["version"],
        )?
        .with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1);
        // A series that is not there yet cannot be told from one that never will be.
        metrics.forgotten(0, 0);
        for hook in [Hook::Tcx, Hook::Clsact] {
            metrics.interfaces.with_label_values(&[hook.name()]).set(0);
        }
        for id in FindingId::ALL {
            for severity in Severity::ALL {
                metrics.findings.with_label_values(&[id.as_str(), severity.as_str()]).reset();
            }
        }
        Ok(metrics)
    }

    /// Registers the metrics of the watches on the Kubernetes API.
    ///
    /// # Errors
    ///
    /// They are registered already.
    pub fn watches(&self, health: Health) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(WatchCollector::new(health)?))
    }

    /// Counts the connections of an update.
    pub fn flow(&self, update: &Update) {
        if update.new_connections > 0 {
            self.connections.add(ConnectionLabels::of(update), update.new_connections);
        }
    }

    /// Counts a finding that was told.
    pub fn finding(&self, id: FindingId, severity: Severity) {
        self.findings.with_label_values(&[id.as_str(), severity.as_str()]).inc();
    }

    /// Sets which findings stand.
    pub fn active(&self, active: &HashMap<(FindingId, Severity), u64>) {
        for id in FindingId::ALL {
            for severity in Severity::ALL {
                let count = active.get(&(*id, severity)).copied().unwrap_or(0);
                self.active.with_label_values(&[id.as_str(), severity.as_str()]).set(signed(count));
            }
        }
    }

    /// Sets how many flows are remembered.
    pub fn flows(&self, flows: usize) {
        self.flows.set(signed(flows as u64));
    }

    /// Counts an interface that came or went.
    pub fn interface(&self, hook: Hook, attached: bool) {
        self.interfaces.with_label_values(&[hook.name()]).add(if attached { 1 } else { -1 });
    }

    /// Counts an interface that could not be observed.
    pub fn attach_failed(&self) {
        self.attach_failures.inc();
    }

    /// Counts an attachment that had to be put back in its place.
    pub fn attachment_restored(&self) {
        self.restored.inc();
    }

    /// Counts what of the maps of a daemon before could not be taken over.
    pub fn forgotten(&self, flows: u64, edges: u64) {
        for (map, count) in [("flows", flows), ("edges", edges)] {
            self.forgotten.with_label_values(&[map]).inc_by(count);
        }
    }

    /// Sets how many pods of the node are observed, and how many are not for which reason.
    pub fn coverage(&self, report: &[PodCoverage]) {
        let count = |reason| report.iter().filter(|pod| pod.reason == reason).count() as u64;
        self.pods.with_label_values(&["observed"]).set(signed(count(None)));
        for reason in Reason::ALL {
            self.pods.with_label_values(&[reason.as_str()]).set(signed(count(Some(*reason))));
        }
    }

    /// Sets what the identity store holds.
    pub fn identities(&self, census: Census) {
        let Census { pods, services, nodes, expected_sources } = census;
        for (kind, count) in
            [("pod", pods), ("service", services), ("node", nodes), ("expected_sources", expected_sources)]
        {
            self.identities.with_label_values(&[kind]).set(signed(count as u64));
        }
    }

    /// Sets how many documents could not be used.
    pub fn manifest_errors(&self, errors: usize) {
        self.manifest_errors.set(signed(errors as u64));
    }

    /// Every metric in Prometheus' text format.
    ///
    /// # Errors
    ///
    /// A metric is malformed.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// The content type of [`Metrics::render`].
    pub const CONTENT_TYPE: &'static str = prometheus::TEXT_FORMAT;
}

impl Hook {
    const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// The labels of `plainsight_connections_total`.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct ConnectionLabels {
    verdict: &'static str,
    protocol: &'static str,
    source: EndLabels,
    destination: EndLabels,
}

/// An end as labels; empty where there is nothing to say.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
struct EndLabels {
    kind: &'static str,
    namespace: Arc<str>,
    workload: Arc<str>,
    service_account: Arc<str>,
}

impl ConnectionLabels {
    fn of(update: &Update) -> Self {
        let flow = &update.flow;
        Self {
            verdict: flow.verdict.name(),
            protocol: flow.protocol.name(),
            source: EndLabels::of(&flow.client),
            destination: EndLabels::of(&flow.server),
        }
    }
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
}

impl Labels for ConnectionLabels {
    const NAMES: &'static [&'static str] = &[
        "verdict",
        "protocol",
        "source_kind",
        "source_namespace",
        "source_workload",
        "source_service_account",
        "destination_kind",
        "destination_namespace",
        "destination_workload",
        "destination_service_account",
    ];

    fn values(&self) -> Vec<&str> {
        let Self { verdict, protocol, source, destination } = self;
        let mut values = vec![*verdict, *protocol];
        for end in [source, destination] {
            values.extend([end.kind, &*end.namespace, &*end.workload, &*end.service_account]);
        }
        values
    }

    fn overflow(&self) -> Self {
        let over = || EndLabels {
            kind: "overflow",
            namespace: "overflow".into(),
            workload: "overflow".into(),
            service_account: "overflow".into(),
        };
        // The verdict stays: an alert on plaintext must not go blind when names run out.
        Self { verdict: self.verdict, protocol: self.protocol, source: over(), destination: over() }
    }
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let metric = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let metric = IntCounter::new(name, help)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    let metric = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let metric = IntGauge::new(name, help)?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
