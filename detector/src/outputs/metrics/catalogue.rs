//! Owns what is exported: every metric's name, type, labels and help.
//!
//! Registration takes them from here, and so do the reference page and the checks of alerts and dashboards:
//! what is not here is not exported.

use prometheus::{Counter, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for a restart.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// The type as the text format has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its labels' names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    /// Whether labels hold names of the cluster, so that its series are capped.
    pub capped: bool,
}

impl Family {
    pub(super) fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    pub(super) fn counters(&self) -> Result<IntCounterVec, prometheus::Error> {
        IntCounterVec::new(self.opts(), self.labels)
    }

    pub(super) fn gauges(&self) -> Result<IntGaugeVec, prometheus::Error> {
        IntGaugeVec::new(self.opts(), self.labels)
    }

    pub(super) fn single_counter(&self) -> Result<IntCounter, prometheus::Error> {
        IntCounter::with_opts(self.opts())
    }

    pub(super) fn single_seconds(&self) -> Result<Counter, prometheus::Error> {
        Counter::with_opts(self.opts())
    }

    pub(super) fn single_gauge(&self) -> Result<IntGauge, prometheus::Error> {
        IntGauge::with_opts(self.opts())
    }

    const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, labels, help, capped: false }
    }

    const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, labels, help, capped: false }
    }

    const fn capped(self) -> Self {
        Self { capped: true, ..self }
    }
}

macro_rules! families {
    ($($constant:ident = $family:expr;)*) => {
        $(pub(super) const $constant: Family = $family;)*

        /// Every metric, in the order of the reference page.
        pub const FAMILIES: &[Family] = &[$($constant),*];
    };
}

families! {
    CONNECTIONS = Family::counter(
        "plainsight_connections_total",
        &[
            "verdict", "protocol",
            "source_kind", "source_namespace", "source_workload", "source_service_account",
            "destination_kind", "destination_namespace", "destination_workload",
            "destination_service_account",
        ],
        "Connections by what they are and who is at either end.",
    ).capped();
    CREDENTIALS = Family::counter(
        "plainsight_connections_with_credentials_total",
        &[
            "protocol",
            "source_kind", "source_namespace", "source_workload", "source_service_account",
            "destination_kind", "destination_namespace", "destination_workload",
            "destination_service_account",
        ],
        "Plaintext connections that carried credentials; they are in plainsight_connections_total too.",
    ).capped();
    LAST_PLAINTEXT = Family::gauge(
        "plainsight_last_plaintext_timestamp_seconds",
        &["destination_namespace", "destination_workload"],
        "When a workload last took plaintext, probes of the kubelet and ports of the mesh's proxy left out.",
    ).capped();
    FINDINGS = Family::counter(
        "plainsight_findings_total",
        &["id", "severity"],
        "Findings told, each again when it gets worse or has new evidence.",
    );
    ACTIVE = Family::gauge(
        "plainsight_findings_active",
        &["id", "severity"],
        "Findings whose traffic was seen within --finding-window.",
    );
    WORKLOAD_ACTIVE = Family::gauge(
        "plainsight_workload_findings_active",
        &[
            "id", "severity",
            "source_kind", "source_namespace", "source_workload",
            "destination_kind", "destination_namespace", "destination_workload",
        ],
        "Those of plainsight_findings_active that are worse than info, by who is at either end.",
    ).capped();
    PODS = Family::gauge(
        "plainsight_node_pods",
        &["coverage"],
        "Pods of this node: observed, or why not.",
    );
    INTERFACES = Family::gauge(
        "plainsight_interfaces_attached",
        &["hook"],
        "Pod interfaces that are observed, by hook.",
    );
    ATTACH_FAILURES = Family::counter(
        "plainsight_interface_attach_failures_total",
        &[],
        "Times that a pod interface could not be observed.",
    );
    RESTORED = Family::counter(
        "plainsight_attachments_restored_total",
        &[],
        "Times that another program had taken our place on an interface.",
    );
    DISPLACED = Family::counter(
        "plainsight_displaced_seconds_total",
        &[],
        "Seconds in which another program may have hidden packets from ours, summed over interfaces.",
    );
    FORGOTTEN = Family::counter(
        "plainsight_forgotten_total",
        &["map"],
        "What the daemon before had in its maps and this one could not take over, by map.",
    );
    KERNEL_EVENTS = Family::counter(
        "plainsight_kernel_events_total",
        &["reason"],
        "Early exits, losses and steps of the kernel programs, by reason.",
    );
    MAP_ENTRIES = Family::gauge(
        "plainsight_map_entries",
        &["map"],
        "Entries in a kernel map.",
    );
    MAP_CAPACITY = Family::gauge(
        "plainsight_map_capacity",
        &["map"],
        "Entries that a kernel map can hold.",
    );
    PROGRAM_SECONDS = Family::counter(
        "plainsight_program_run_seconds_total",
        &["program"],
        "Time that a kernel program ran, where the kernel keeps statistics (--kernel-statistics).",
    );
    PROGRAM_RUNS = Family::counter(
        "plainsight_program_runs_total",
        &["program"],
        "Times that a kernel program ran, where the kernel keeps statistics (--kernel-statistics).",
    );
    FLOWS = Family::gauge("plainsight_flows", &[], "Flows that are remembered.");
    IDENTITIES = Family::gauge(
        "plainsight_identities",
        &["kind"],
        "Objects in the identity store, by kind.",
    );
    MANIFEST_ERRORS = Family::gauge(
        "plainsight_manifest_errors",
        &[],
        "Documents that the last reading of the manifests could not use.",
    );
    WATCH_STATE = Family::gauge(
        "plainsight_kubernetes_watch_state",
        &["resource", "state"],
        "1 for the state that the watch of a resource is in.",
    );
    STALE = Family::gauge(
        "plainsight_kubernetes_stale_seconds",
        &["resource"],
        "Time since the API server last said anything of a resource; a bookmark is due each minute.",
    );
    LISTS = Family::counter(
        "plainsight_kubernetes_lists_total",
        &["resource"],
        "Whole lists of a resource that came in.",
    );
    WATCH_FAILURES = Family::counter(
        "plainsight_kubernetes_failures_total",
        &["resource", "kind"],
        "Requests and watches that failed, by resource and kind of failure.",
    );
    UNREADABLE = Family::counter(
        "plainsight_kubernetes_unreadable_objects_total",
        &["resource"],
        "Objects that could not be read.",
    );
    WRITES = Family::counter(
        "plainsight_kubernetes_writes_total",
        &["kind"],
        "Events, words of their repetitions, reports and removals of reports that the API server has taken.",
    );
    WRITE_FAILURES = Family::counter(
        "plainsight_kubernetes_write_failures_total",
        &["kind", "reason"],
        "Attempts to write that failed, by kind of failure.",
    );
    WRITES_SUPPRESSED = Family::counter(
        "plainsight_kubernetes_writes_suppressed_total",
        &["kind", "reason"],
        "Findings that were left out of Events and reports, by rate or for want of room.",
    );
    LINES_LOST = Family::counter(
        "plainsight_lines_lost_total",
        &[],
        "Findings and flows that were not written because nobody read standard output.",
    );
    OVERFLOW = Family::counter(
        "plainsight_series_overflow_total",
        &["metric"],
        "Times that a metric had no room for a new series and took the labels overflow instead.",
    );
    BUILD_INFO = Family::gauge(
        "plainsight_build_info",
        &["version"],
        "Always 1; says which build this is.",
    );
    CPU = Family::counter(
        "process_cpu_seconds_total",
        &[],
        "Time that user space took of the CPUs, in user and system mode.",
    );
    RESIDENT = Family::gauge(
        "process_resident_memory_bytes",
        &[],
        "Memory that user space has resident.",
    );
    START = Family::gauge(
        "process_start_time_seconds",
        &[],
        "When the process started, in seconds since 1970.",
    );
}
