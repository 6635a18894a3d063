//! Owns the metrics: their names, labels and how many series each may have.
//!
//! No call site sees a label array, and the registry is our own. Labels are bounded: words of ours, or names
//! of the cluster behind a cap, past which everything is counted under `overflow`. Never an address or a port.

mod capped;
mod catalogue;
mod kernel;
mod labels;
mod process;
mod watches;
mod writes;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus::{
    Counter, Encoder as _, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
    core::Collector,
};

use self::{
    capped::{Capped, Labels, Vector},
    kernel::{KernelCollector, KernelReader},
    labels::{ConnectionLabels, CredentialLabels, DestinationLabels, FindingLabels, WorkloadName},
    process::ProcessCollector,
    watches::WatchCollector,
};
pub use self::{
    catalogue::{FAMILIES, Family, Kind},
    kernel::{Fill, KernelReading, Runs},
    writes::Writes,
};
use crate::{
    cluster::{Census, kubernetes::Health, objects::Pod},
    coverage::{PodCoverage, Reason},
    findings::{FindingId, Severity, Standing, is_plaintext_traffic},
    flows::Update,
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
    kernel: KernelReader,
    connections: Capped<ConnectionLabels, IntCounterVec>,
    credentials: Capped<CredentialLabels, IntCounterVec>,
    last_plaintext: Capped<DestinationLabels, IntGaugeVec>,
    workload_active: Capped<FindingLabels, IntGaugeVec>,
    findings: IntCounterVec,
    active: IntGaugeVec,
    interfaces: IntGaugeVec,
    attach_failures: IntCounter,
    restored: IntCounter,
    displaced: Counter,
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
        let overflow = registered(&registry, catalogue::OVERFLOW.counters()?)?;
        let metrics = Self {
            connections: capped(&registry, &overflow)?,
            credentials: capped(&registry, &overflow)?,
            last_plaintext: capped(&registry, &overflow)?,
            workload_active: capped(&registry, &overflow)?,
            findings: registered(&registry, catalogue::FINDINGS.counters()?)?,
            active: registered(&registry, catalogue::ACTIVE.gauges()?)?,
            interfaces: registered(&registry, catalogue::INTERFACES.gauges()?)?,
            attach_failures: registered(&registry, catalogue::ATTACH_FAILURES.single_counter()?)?,
            restored: registered(&registry, catalogue::RESTORED.single_counter()?)?,
            displaced: registered(&registry, catalogue::DISPLACED.single_seconds()?)?,
            forgotten: registered(&registry, catalogue::FORGOTTEN.counters()?)?,
            pods: registered(&registry, catalogue::PODS.gauges()?)?,
            flows: registered(&registry, catalogue::FLOWS.single_gauge()?)?,
            identities: registered(&registry, catalogue::IDENTITIES.gauges()?)?,
            manifest_errors: registered(&registry, catalogue::MANIFEST_ERRORS.single_gauge()?)?,
            registry,
            kernel: KernelReader::new(kernel),
        };
        metrics.registry.register(Box::new(KernelCollector::new(metrics.kernel.clone())?))?;
        metrics.registry.register(Box::new(kernel::LinesLost::new(lines_lost)?))?;
        metrics.registry.register(Box::new(ProcessCollector::new()?))?;
        registered(&metrics.registry, catalogue::BUILD_INFO.gauges()?)?
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

    /// Registers the metrics of what is written to Kubernetes.
    ///
    /// # Errors
    ///
    /// They are registered already.
    pub fn writes(&self) -> Result<Writes, prometheus::Error> {
        Writes::register(&self.registry)
    }

    /// Counts the connections of an update.
    pub fn flow(&self, update: &Update) {
        let Update { flow, new_connections, new_with_credentials, .. } = update;
        if *new_connections > 0 {
            self.connections.with(ConnectionLabels::of(flow), |count| count.inc_by(*new_connections));
        }
        if *new_with_credentials > 0 {
            self.credentials.with(CredentialLabels::of(flow), |count| count.inc_by(*new_with_credentials));
        }
        if is_plaintext_traffic(flow)
            && let Some(destination) = DestinationLabels::of(flow)
        {
            let seen = signed(flow.last_seen.0 / 1_000_000_000);
            self.last_plaintext.with(destination, |last| last.set(last.get().max(seen)));
        }
    }

    /// Counts a finding that was told.
    pub fn finding(&self, id: FindingId, severity: Severity) {
        self.findings.with_label_values(&[id.as_str(), severity.as_str()]).inc();
    }

    /// Sets which findings stand.
    pub fn standing(&self, standing: &[Standing<'_>]) {
        let mut counts: HashMap<(FindingId, Severity), i64> = HashMap::new();
        let mut workloads: HashMap<FindingLabels, i64> = HashMap::new();
        for finding in standing {
            *counts.entry((finding.id, finding.severity)).or_insert(0) += 1;
            if finding.severity > Severity::Info {
                *workloads.entry(FindingLabels::of(finding)).or_insert(0) += 1;
            }
        }
        for id in FindingId::ALL {
            for severity in Severity::ALL {
                let count = counts.get(&(*id, severity)).copied().unwrap_or(0);
                self.active.with_label_values(&[id.as_str(), severity.as_str()]).set(count);
            }
        }
        self.workload_active.replace(workloads);
    }

    /// Removes series of workloads that are gone and have been quiet for fifteen calls. To be called once a
    /// minute with all pods that there are.
    pub fn sweep<'a>(&self, pods: impl Iterator<Item = &'a Arc<Pod>>) {
        let mut gone: HashMap<String, HashSet<String>> = HashMap::new();
        let mut doubt = |name: WorkloadName<'_>| {
            gone.entry(name.namespace.to_owned()).or_default().insert(name.workload.to_owned());
        };
        self.connections.doubted(&mut doubt);
        self.credentials.doubted(&mut doubt);
        self.last_plaintext.doubted(&mut doubt);
        if gone.is_empty() {
            return;
        }
        for pod in pods {
            if let Some(workloads) = gone.get_mut(&*pod.name.namespace) {
                workloads.remove(&*pod.workload.name);
            }
        }
        let is_gone = |name: WorkloadName<'_>| {
            gone.get(name.namespace).is_some_and(|workloads| workloads.contains(name.workload))
        };
        self.connections.sweep(is_gone);
        self.credentials.sweep(is_gone);
        self.last_plaintext.sweep(is_gone);
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

    /// Counts time in which another program may have sat in front of ours on an interface: from a look that found
    /// ours first, or was the last, to the next.
    pub fn displaced(&self, lasting: Duration) {
        self.displaced.inc_by(lasting.as_secs_f64());
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

    /// What the kernel half says of itself now.
    #[must_use]
    pub fn kernel(&self) -> KernelReading {
        self.kernel.read()
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

fn registered<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: M,
) -> Result<M, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn capped<L: Labels, V: Vector>(
    registry: &Registry,
    overflow: &IntCounterVec,
) -> Result<Capped<L, V>, prometheus::Error> {
    let overflow = overflow.with_label_values(&[L::FAMILY.name]);
    Capped::new(Metrics::MAX_SERIES, overflow, registry)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
