//! Owns the flags of the subcommands that look once: whom they ask, and how they answer.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use hyper::Uri;

use super::ClientArgs;
use crate::{cluster::Selector, findings::Severity};

/// Flags of `audit`.
#[derive(Debug, Args)]
#[command(after_help = AUDIT_HELP)]
pub struct AuditArgs {
    /// What is declared.
    #[command(flatten)]
    pub declared: DeclaredArgs,

    /// What was seen: what speaks MCP on the wire comes first.
    #[command(flatten)]
    pub seen: SeenArgs,

    /// How to write the report
    #[arg(long, value_name = "FORMAT", default_value = "table", env = "PLAINSIGHT_FORMAT")]
    pub format: ReportFormat,

    /// End with status 2 if there is a finding of this severity or a worse one
    #[arg(long, value_name = "SEVERITY", env = "PLAINSIGHT_FAIL_ON")]
    pub fail_on: Option<Severity>,

    /// Labels of pods that speak MCP, such as `mcp=true,tier=tools`
    ///
    /// Beside those whose Service says so by `appProtocol` or by a port called mcp.
    #[arg(long, value_name = "LABEL=VALUE[,…]", value_parser = selector, env = "PLAINSIGHT_MCP_SELECTOR")]
    pub mcp_selector: Option<Selector>,
}

/// Flags of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The pod, or a workload: NAME or NAMESPACE/NAME
    #[arg(value_name = "[NAMESPACE/]POD")]
    pub pod: String,

    /// The port of the pod [default: all that are known]
    #[arg(value_name = "PORT")]
    pub port: Option<u16>,

    /// The namespace of the pod
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default", env = "PLAINSIGHT_NAMESPACE")]
    pub namespace: String,

    /// What is declared.
    #[command(flatten)]
    pub declared: DeclaredArgs,

    /// How to write the answer
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "PLAINSIGHT_FORMAT")]
    pub format: ExplainFormat,
}

/// Flags of `readiness`.
#[derive(Debug, Args)]
#[command(after_help = READINESS_HELP)]
pub struct ReadinessArgs {
    /// What is declared.
    #[command(flatten)]
    pub declared: DeclaredArgs,

    /// What was seen.
    #[command(flatten)]
    pub seen: SeenArgs,

    /// Only this namespace
    #[arg(short, long, value_name = "NAMESPACE", env = "PLAINSIGHT_NAMESPACE")]
    pub namespace: Option<String>,

    /// How long a workload must have had no call that STRICT would refuse: 45s, 30m, 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = time_span, env = "PLAINSIGHT_QUIET")]
    pub quiet: Duration,

    /// How to write the answer
    #[arg(long, value_name = "FORMAT", default_value = "text", env = "PLAINSIGHT_FORMAT")]
    pub format: ExplainFormat,

    /// Labels of pods that speak MCP, such as `mcp=true,tier=tools`
    #[arg(long, value_name = "LABEL=VALUE[,…]", value_parser = selector, env = "PLAINSIGHT_MCP_SELECTOR")]
    pub mcp_selector: Option<Selector>,
}

/// Where what is declared is read from.
#[derive(Debug, Args)]
pub struct DeclaredArgs {
    /// Kubernetes YAML or JSON, files or folders: pods or workloads, services, namespaces, policy [default: the
    /// cluster as it is now]
    #[arg(long, value_name = "PATH", env = "PLAINSIGHT_MANIFESTS")]
    pub manifests: Vec<PathBuf>,

    /// Reach the API server by this kubeconfig [default: the pod's service account; outside a cluster
    /// KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE", env = "PLAINSIGHT_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME", env = "PLAINSIGHT_CONTEXT")]
    pub context: Option<String>,
}

/// Whom to ask for what was seen.
#[derive(Debug, Args)]
#[command(next_help_heading = "Whom to ask for what was seen")]
pub struct SeenArgs {
    /// Admin port of a daemon, by `kubectl port-forward`; can be given more than once
    #[arg(long, value_name = "ADDR:PORT", env = "PLAINSIGHT_ADMIN", value_delimiter = ',')]
    pub admin: Vec<SocketAddr>,

    /// How the daemons let clients in.
    #[command(flatten)]
    pub how: ClientArgs,

    /// A Prometheus that scrapes the daemons
    #[arg(long, value_name = "URL", env = "PLAINSIGHT_PROMETHEUS", value_parser = url)]
    pub prometheus: Option<Uri>,

    /// A file with the bearer token for it
    #[arg(long, value_name = "FILE", requires = "prometheus", env = "PLAINSIGHT_PROMETHEUS_TOKEN_FILE")]
    pub prometheus_token_file: Option<PathBuf>,
}

impl SeenArgs {
    /// Whether nobody is to be asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.admin.is_empty() && self.prometheus.is_none()
    }
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For a terminal.
    Table,
    /// For programs.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// For a comment or a wiki, with the fixes.
    Markdown,
}

/// How an explanation is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// In words.
    Text,
    /// For programs.
    Json,
}

fn time_span(text: &str) -> Result<Duration, String> {
    let unit = |unit: char| match unit {
        's' => Some(1),
        'm' => Some(60),
        'h' => Some(3_600),
        'd' => Some(86_400),
        _ => None,
    };
    let parsed = text.chars().next_back().and_then(unit).and_then(|unit: u64| {
        let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
        number.checked_mul(unit)
    });
    // A hundred years, so that times can be added up.
    match parsed.filter(|seconds| (1..=100 * 366 * 86_400).contains(seconds)) {
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err(format!("{text:?}: expected a time such as 45s, 30m, 12h or 7d")),
    }
}

fn url(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(_)) => Ok(uri),
        _ => Err("expected http://… or https://…".to_owned()),
    }
}

fn selector(text: &str) -> Result<Selector, String> {
    let label = |part: &str| match part.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("{part:?}: expected label=value")),
    };
    let labels: Vec<(String, String)> = text.split(',').map(label).collect::<Result<_, _>>()?;
    Ok(Selector { match_labels: labels.into_iter().collect(), ..Selector::default() })
}

const READINESS_HELP: &str = "\
Examples:
  # By a Prometheus that scrapes the daemons, for the cluster of the kubeconfig:
  plainsight readiness --prometheus http://localhost:9090 --quiet 7d

  # By one daemon, for its node; each pod of a workload must be on a node that was asked:
  kubectl -n plainsight port-forward pod/plainsight-x7k2p 9464 &
  plainsight readiness --admin 127.0.0.1:9464 --quiet 12h --namespace mcp-production";

const AUDIT_HELP: &str = "\
Examples:
  # What is in the repository, as a gate:
  plainsight audit --manifests deploy/ --fail-on high

  # What is in the cluster, MCP that was seen on the wire first:
  plainsight audit --prometheus http://localhost:9090

  # What was in the cluster:
  kubectl get pods,services,namespaces,configmaps,peerauthentications,destinationrules,\
authorizationpolicies.security.istio.io -A -o yaml > cluster.yaml
  plainsight audit --manifests cluster.yaml --format markdown";

#[cfg(test)]
mod tests {
    use super::{time_span, url};

    #[test]
    fn the_quiet_time_is_that_of_the_admin_port() {
        use clap::Parser as _;
        let cli = crate::args::Cli::try_parse_from(["plainsight", "readiness"]).unwrap();
        let crate::args::Command::Readiness(args) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!(args.quiet, crate::migration::QUIET);
    }

    #[test]
    fn times_are_a_number_and_a_unit() {
        for (text, seconds) in [("45s", 45), ("30m", 1_800), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(time_span(text).unwrap().as_secs(), seconds);
        }
        for text in ["", "d", "0s", "7", "7w", "-1d", "1.5h", "7 d", "40000d", "99999999999999999999s", "7é"]
        {
            assert!(time_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_prometheus_has_a_scheme_and_a_host() {
        for text in ["http://localhost:9090", "https://prometheus.example/prefix/"] {
            assert!(url(text).is_ok(), "{text}");
        }
        for text in ["localhost:9090", "ftp://x", "/path", "http://"] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
