//! Owns the command line. Every flag can come from the environment too, so that a DaemonSet needs no
//! templated arguments. Nothing past `main` sees these types: [`crate::config`] takes over.

mod admin;
mod posture;

use std::{num::NonZeroU32, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::PossibleValue};

pub use self::{
    admin::{AdminArgs, ClientArgs, ListenArgs},
    posture::{AuditArgs, DeclaredArgs, ExplainArgs, ExplainFormat, ReadinessArgs, ReportFormat, SeenArgs},
};
use crate::{config, datapath::HookChoice, findings::Severity, interfaces::Select};

/// Finds plaintext MCP, and who speaks it, on the wire of a Kubernetes node.
///
/// Plainsight tells for every TCP connection of every pod on a node whether it is mesh mTLS, other TLS,
/// plaintext or opaque, who is at either end, and whether the cluster's declared policy expects the caller.
/// It watches with eBPF and never changes a packet's fate. No payload leaves the kernel: what is reported is
/// addresses, a verdict, and which tokens were seen, never their values.
#[derive(Debug, Parser)]
#[command(name = "plainsight", version, max_term_width = 110, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch the pods of this node and report
    ///
    /// Findings, and flows with --log-flows, go to standard output as JSON, one object a line; the log goes
    /// to standard error. Ends with status 0 on SIGTERM and Ctrl-C, 1 on a failure, 64 on wrong usage; a
    /// second Ctrl-C ends it at once.
    Run(Box<RunArgs>),
    /// Say what declared policy leaves open, workload by workload, without looking at traffic
    ///
    /// Needs no privileges. Ends with status 0; with --fail-on 2 when something as bad or worse was found, else
    /// 1 when an object could not be read.
    Audit(Box<AuditArgs>),
    /// Say what holds for a pod and its ports, who is expected there, and which object decided each
    Explain(ExplainArgs),
    /// Remove everything that daemons have left on this node: programs, links, maps
    ///
    /// A daemon that ends leaves its programs on the interfaces, so that the next one goes on without a gap.
    /// This takes them away, also after a crash. It refuses while a daemon runs. Needs CAP_NET_ADMIN and CAP_BPF.
    Detach(DetachArgs),
    /// Say which workloads may go to STRICT, and what would break
    ///
    /// Joins what is declared with what daemons or Prometheus saw. A yes needs a quiet time without a call that
    /// STRICT would refuse, in which every pod was observed. Ends with status 0 when all may, 2 when not, 1
    /// when something could not be read.
    Readiness(Box<ReadinessArgs>),
    /// Print the definitions of Plainsight's own resources, for `kubectl apply -f -`
    Crds,
    /// Read a capture file and report what `run` would have reported
    ///
    /// Reads pcap and pcapng of Ethernet, Linux cooked (`tcpdump -i any`) and raw IP, in flat memory, and
    /// needs no privileges. Ends with status 0; with 2 if --fail-on found something; with 1 if the capture
    /// could not be read to its end, which is said after the report of what came before; with 64 on wrong
    /// usage.
    Replay(ReplayArgs),

    /// List the pods of this node: observed, or not and why
    ///
    /// Asks the daemon that runs on this node. The list stands after the lines on readiness and on the watches.
    Coverage(CoverageArgs),
    /// Show the flows and findings of this node, live
    ///
    /// In a terminal a table that changes, with its keys under `?`; elsewhere one snapshot as text, or one each
    /// --interval.
    Top(TopArgs),
}

/// Flags of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// What to show first
    #[arg(
        long,
        value_name = "VIEW",
        default_value = "findings",
        env = "PLAINSIGHT_VIEW",
        help_heading = "What to show"
    )]
    pub view: TopView,

    /// Seconds between two looks [default: 2 in a terminal; elsewhere one look]
    #[arg(long, value_name = "SECONDS", env = "PLAINSIGHT_INTERVAL", help_heading = "What to show")]
    pub interval: Option<NonZeroU32>,

    /// Whom to ask.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// What `top` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TopView {
    /// Who talks to whom.
    Flows,
    /// What is wrong with it.
    Findings,
}

/// Flags of `detach`.
#[derive(Debug, Args)]
pub struct DetachArgs {
    /// Where the daemon pinned its links and maps
    #[arg(
        long,
        value_name = "PATH",
        default_value = config::DEFAULT_PIN,
        env = "PLAINSIGHT_PIN",
        help_heading = "What to remove"
    )]
    pub pin: PathBuf,
}

/// Flags of `coverage`.
#[derive(Debug, Args)]
pub struct CoverageArgs {
    /// Whom to ask.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Flags of `run`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RunArgs {
    /// Which interfaces lead to pods: `auto`, or name patterns such as `cali*,eni*`
    ///
    /// `auto` takes every veth whose peer is in another network namespace. Interfaces that appear later are
    /// taken as they come.
    #[arg(
        long,
        value_name = "auto|PATTERN[,PATTERN]",
        default_value = "auto",
        env = "PLAINSIGHT_INTERFACES",
        help_heading = "What to watch"
    )]
    pub interfaces: Select,

    /// Where it is known from who has which address
    ///
    /// `kubernetes` watches the API server, `manifests` reads files. In a cluster it is the API server, unless
    /// --manifests is given.
    #[arg(long, value_name = "SOURCE", env = "PLAINSIGHT_IDENTITIES", help_heading = "Who is who")]
    pub identities: Option<IdentitySource>,

    /// Reach the API server by this kubeconfig [default: the pod's service account; outside a cluster
    /// KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE", env = "PLAINSIGHT_KUBECONFIG", help_heading = "Who is who")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", env = "PLAINSIGHT_CONTEXT", help_heading = "Who is who")]
    pub context: Option<String>,

    /// Read pods, services, nodes and policy from Kubernetes YAML or JSON
    ///
    /// A file, or a folder with all *.yaml, *.yml and *.json below it; what `kubectl get -o yaml` prints,
    /// lists and multi-document files included. Read again when a file changes. Can be given more than once.
    /// A document that is wrong is reported and the others count.
    #[arg(long, value_name = "PATH", env = "PLAINSIGHT_MANIFESTS", help_heading = "Who is who")]
    pub manifests: Vec<PathBuf>,

    /// Name of this node [default: the host name]
    #[arg(long, value_name = "NAME", env = "PLAINSIGHT_NODE_NAME", help_heading = "Who is who")]
    pub node_name: Option<String>,

    /// Trust domain of the cluster's SPIFFE ids [default: Istio's where its configuration can be read, else
    /// cluster.local]
    #[arg(long, value_name = "DOMAIN", env = "PLAINSIGHT_TRUST_DOMAIN", help_heading = "Who is who")]
    pub trust_domain: Option<String>,

    /// Where links and maps outlive the daemon, or `none` [default: /sys/fs/bpf/plainsight where a BPF file
    /// system is mounted]
    ///
    /// The programs stay on the interfaces when the daemon ends, and the next one takes them over: a connection
    /// that is opened meanwhile is seen. `plainsight detach` removes them.
    #[arg(long, value_name = "PATH|none", env = "PLAINSIGHT_PIN", help_heading = "What to watch")]
    pub pin: Option<PathBuf>,

    /// Keep all privileges after the start
    ///
    /// Without this the daemon gives up every capability, file and system call that it does not need any more.
    #[arg(long, env = "PLAINSIGHT_NO_SANDBOX", help_heading = "Limits")]
    pub no_sandbox: bool,

    /// Attach by filters of clsact where the kernel has TCX too: for tests
    #[arg(
        long,
        hide = true,
        value_name = "best|clsact",
        default_value = "best",
        env = "PLAINSIGHT_HOOK",
        help_heading = "What to watch"
    )]
    pub hook: HookChoice,

    /// Write a JSON line for each flow too, not for findings alone
    #[arg(long, env = "PLAINSIGHT_LOG_FLOWS", help_heading = "What to report")]
    pub log_flows: bool,

    /// Report plaintext that is neither MCP nor carries credentials as a finding
    ///
    /// Without this it is counted in the metrics and shown by --log-flows.
    #[arg(long, env = "PLAINSIGHT_REPORT_OTHER_PLAINTEXT", help_heading = "What to report")]
    pub report_other_plaintext: bool,

    /// Seconds after the last of its traffic for which a finding stands
    ///
    /// What stands is in `plainsight_findings_active`, which alerts go by: a remedy shows after this time. A
    /// pair that speaks less often than this shows as coming and going.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "600",
        env = "PLAINSIGHT_FINDING_WINDOW",
        help_heading = "What to report"
    )]
    pub finding_window: NonZeroU32,

    /// Have the kernel measure each run of the programs, for `plainsight_program_run_seconds_total`
    ///
    /// It costs each run of every eBPF program on the node two looks at the clock, and takes CAP_SYS_ADMIN.
    /// Without this the metric is there where `sysctl kernel.bpf_stats_enabled` is 1.
    #[arg(long, env = "PLAINSIGHT_KERNEL_STATISTICS", help_heading = "What to report")]
    pub kernel_statistics: bool,

    /// Write a Kubernetes Event on the pod of each finding [default: on in a cluster, off elsewhere]
    ///
    /// Needs --identities kubernetes, and `create` and `patch` on events.events.k8s.io. Each node writes of its
    /// own pods. Repetitions raise the count of the Event's series; rates are limited.
    #[arg(
        long,
        value_name = "on|off",
        env = "PLAINSIGHT_KUBERNETES_EVENTS",
        help_heading = "What to report"
    )]
    pub kubernetes_events: Option<Switch>,

    /// Keep a PolicyReport of what stands for each pod [default: on in a cluster, off elsewhere]
    ///
    /// Needs --identities kubernetes; written where the CRD is installed: policyreports.wgpolicyk8s.io, or
    /// reports.openreports.io. A report goes with its last finding, and with its pod.
    #[arg(long, value_name = "on|off", env = "PLAINSIGHT_POLICY_REPORTS", help_heading = "What to report")]
    pub policy_reports: Option<Switch>,

    /// The admin port.
    #[command(flatten)]
    pub listen: ListenArgs,

    /// What to log: a level, or directives such as `info,detector::flows=debug`
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "info",
        env = "PLAINSIGHT_LOG",
        help_heading = "What to report"
    )]
    pub log: String,

    /// How to write the log
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        env = "PLAINSIGHT_LOG_FORMAT",
        help_heading = "What to report"
    )]
    pub log_format: LogFormat,

    /// Share of each core, in percent, that the programs may take beyond the look at settled packets
    ///
    /// A ceiling at any load, by the time that packets really take. What it skips is counted, and a packet that
    /// was passed over never turns into a verdict. Flows that keep saying the same get an eighth of it, new
    /// connections the rest. 100 is no limit.
    #[arg(
        long,
        value_name = "PERCENT",
        default_value_t = 1.0,
        env = "PLAINSIGHT_SCAN_BUDGET",
        help_heading = "Limits"
    )]
    pub scan_budget: f64,

    /// Bytes of each plaintext message that are read
    ///
    /// A bearer token of 1.4 KB puts what follows it at byte 1,700; 4 KiB leave room.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 4096,
        value_parser = clap::value_parser!(u32).range(256..=65_535),
        env = "PLAINSIGHT_SCAN_WINDOW",
        help_heading = "Limits"
    )]
    pub scan_window: u32,

    /// Look at one in N packets of flows that were open before the detector started
    #[arg(
        long,
        value_name = "N",
        default_value = "1024",
        env = "PLAINSIGHT_SAMPLE_ONE_IN",
        help_heading = "Limits"
    )]
    pub sample_one_in: NonZeroU32,

    /// Flows that are followed at once; a settled flow is not followed
    ///
    /// When there are more, new ones get no verdict and are counted; the others keep theirs.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 32_768,
        value_parser = clap::value_parser!(u32).range(64..=16_777_216),
        env = "PLAINSIGHT_MAX_FLOWS",
        help_heading = "Limits"
    )]
    pub max_flows: u32,

    /// Edges (client, server, port, verdict) that are counted apart
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16_384,
        value_parser = clap::value_parser!(u32).range(64..=4_194_304),
        env = "PLAINSIGHT_MAX_EDGES",
        help_heading = "Limits"
    )]
    pub max_edges: u32,

    /// Seconds after which an idle flow is no longer followed
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "300",
        env = "PLAINSIGHT_FLOW_IDLE",
        help_heading = "Limits"
    )]
    pub flow_idle: NonZeroU32,
}

/// Flags of `replay`.
#[derive(Debug, Args)]
#[command(after_help = REPLAY_AFTER_HELP)]
pub struct ReplayArgs {
    /// The capture; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Read pods, services, nodes and policy from Kubernetes YAML or JSON, as of the time of the capture
    ///
    /// Without this, ends are addresses, and findings that need identities are left out. Can be given more
    /// than once.
    #[arg(long, value_name = "PATH", help_heading = "Who is who")]
    pub manifests: Vec<PathBuf>,

    /// Trust domain of the cluster's SPIFFE ids
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", help_heading = "Who is who")]
    pub trust_domain: String,

    /// Write JSON, one object a line: the flows and findings of `run`, and a summary as the last
    #[arg(long, help_heading = "What to report")]
    pub json: bool,

    /// Report plaintext that is neither MCP nor carries credentials as a finding
    #[arg(long, help_heading = "What to report")]
    pub report_other_plaintext: bool,

    /// End with status 2 if there is a finding of this severity or a worse one
    #[arg(long, value_name = "SEVERITY", help_heading = "What to report")]
    pub fail_on: Option<Severity>,

    /// Bytes of each plaintext message that are read
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = 4096,
        value_parser = clap::value_parser!(u32).range(256..=65_535),
        help_heading = "Limits"
    )]
    pub scan_window: u32,

    /// Connections that are followed at once; a settled connection is not followed
    ///
    /// When there are more, new ones get no verdict and are counted.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 262_144,
        value_parser = clap::value_parser!(u32).range(64..=16_777_216),
        help_heading = "Limits"
    )]
    pub max_flows: u32,

    /// Edges (client, server, port, verdict) that are counted apart
    #[arg(
        long,
        value_name = "N",
        default_value_t = 65_536,
        value_parser = clap::value_parser!(u32).range(64..=4_194_304),
        help_heading = "Limits"
    )]
    pub max_edges: u32,
}

impl ValueEnum for Severity {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.as_str()))
    }
}

/// Where identities come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdentitySource {
    /// The Kubernetes API.
    Kubernetes,
    /// Files.
    Manifests,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

const AFTER_HELP: &str = "\
Examples:
  # Who is who from a dump, findings on the terminal:
  kubectl get pods,services,endpointslices,nodes,replicasets -A -o yaml > cluster.yaml
  plainsight run --manifests cluster.yaml

  # Plaintext MCP only, as a table:
  plainsight run --manifests cluster.yaml |
    jq -r 'select(.id == \"plaintext-mcp\") | [.severity, .client.pod, .server.pod, .port] | @tsv'

Needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, the node's network (hostNetwork: true), and Linux 5.10 or later.
What is missing is said at the start.";

const REPLAY_AFTER_HELP: &str = "\
Examples:
  # What is plaintext in a capture from a node?
  tcpdump -i any -w node.pcap tcp
  plainsight replay node.pcap

  # Who is who, from a dump of the cluster that was taken at the same time:
  plainsight replay node.pcap --manifests cluster.yaml

  # A CI job that fails if a test run spoke MCP in the clear; 2 is a finding, 1 a broken capture:
  zcat run.pcapng.gz | plainsight replay --fail-on high -";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::{Cli, Command, HookChoice};
    use crate::findings::Severity;

    #[test]
    fn the_definition_is_sound_and_every_flag_has_its_variable() {
        let command = Cli::command();
        command.clone().debug_assert();
        // Those that run in a pod; the others are for a person at a terminal.
        let daemon = command
            .get_subcommands()
            .filter(|command| ["run", "coverage", "detach", "top"].contains(&command.get_name()));
        let arguments = daemon.flat_map(|command| command.get_arguments());
        for argument in arguments.filter(|argument| argument.get_id() != "help") {
            let expected =
                format!("PLAINSIGHT_{}", argument.get_long().unwrap().replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().unwrap().to_str(), Some(expected.as_str()));
            assert!(argument.get_help_heading().is_some(), "{expected}");
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for flags in [
            &["--interfaces", "a/b"][..],
            &["--listen", "9464"],
            &["--sample-one-in", "0"],
            &["--max-flows", "1"],
            &["--scan-window", "1"],
            &["--log-format", "xml"],
            &["--hook", "xdp"],
            &["--admin-tls-cert", "a"],
            &["--admin-tls-key", "a"],
            &["--admin-token-file", "a"],
            &["--admin-client-ca", "a"],
            &["--unknown"],
        ] {
            let line = ["plainsight", "run"].iter().chain(flags);
            assert!(Cli::try_parse_from(line).is_err(), "{flags:?}");
        }
    }

    #[test]
    fn replay_wants_a_file_and_a_severity_that_is_one() {
        let parse = |flags: &[&str]| Cli::try_parse_from(["plainsight", "replay"].iter().chain(flags));
        for flags in [&[][..], &["a", "b"], &["a", "--fail-on", "worst"], &["a", "--fail-on"]] {
            assert!(parse(flags).is_err(), "{flags:?}");
        }
        let command = parse(&["-", "--fail-on", "medium"]).unwrap().command;
        let Command::Replay(replay) = command else { panic!("{command:?}") };
        assert_eq!((replay.file.to_str(), replay.fail_on), (Some("-"), Some(Severity::Medium)));
    }

    #[test]
    fn the_defaults_are_those_of_the_design() {
        let command = Cli::try_parse_from(["plainsight", "run"]).unwrap().command;
        let Command::Run(run) = command else { panic!("{command:?}") };
        assert_eq!((run.interfaces.to_string().as_str(), run.hook), ("auto", HookChoice::Best));
        assert_eq!((run.scan_window, run.sample_one_in.get()), (4096, 1024));
        assert_eq!((run.finding_window.get(), run.kernel_statistics), (600, false));
        assert!((run.scan_budget - 1.0).abs() < f64::EPSILON);
    }
}
