//! Owns the configuration: what the command line said, checked, in the types that the rest uses.

use std::{fs, io, net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use crate::{
    admin::TlsFiles,
    app::announce::Kinds,
    args::{IdentitySource, ListenArgs, LogFormat, ReplayArgs, RunArgs, Switch},
    cluster::kubernetes::Access,
    datapath::HookChoice,
    findings::Rules,
    interfaces::Select,
    replay,
};

/// The effective configuration of `run`.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which interfaces are observed.
    pub interfaces: Select,
    /// Where identities and policy are read from.
    pub identities: Identities,
    /// Where links and maps outlive the daemon.
    pub pin: Pin,
    /// Whether privileges are given up after the start.
    pub sandbox: bool,
    /// This node's name.
    pub node_name: String,
    /// Trust domain of SPIFFE ids, where it is given.
    pub trust_domain: Option<String>,
    /// Whether flows are written.
    pub log_flows: bool,
    /// Whether plaintext of no special kind is a finding.
    pub report_other_plaintext: bool,
    /// The admin port.
    pub admin: AdminPort,
    /// How long after the last of its traffic a finding stands.
    pub finding_window: Duration,
    /// Whether the kernel is asked to measure the programs' runs.
    pub kernel_statistics: bool,
    /// What the programs are attached by.
    pub hooks: HookChoice,
    /// What is logged.
    pub log: String,
    /// A file that says what is logged, while it does.
    pub log_filter_file: Option<PathBuf>,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Nanoseconds of each millisecond of a core that packets may take beyond settled ones.
    pub budget_ns_per_ms: u32,
    /// Bytes of a message that are read.
    pub scan_window: u32,
    /// One in how many packets of unknown flows is looked at.
    pub sample_one_in: NonZeroU32,
    /// Capacity for flows.
    pub max_flows: u32,
    /// Capacity for edges.
    pub max_edges: u32,
    /// After how long an idle flow is dropped.
    pub flow_idle: Duration,
    /// What is written to Kubernetes.
    pub announce: Kinds,
}

/// The admin port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPort {
    /// Its address.
    pub listen: SocketAddr,
    /// Its certificate, where it speaks TLS.
    pub tls: Option<TlsFiles>,
    /// The token that clients may show.
    pub token: Option<PathBuf>,
}

/// Where links and maps are pinned if nothing else is said.
pub const DEFAULT_PIN: &str = "/sys/fs/bpf/plainsight";

/// Where links and maps outlive the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// At [`DEFAULT_PIN`] where that can be, else nowhere.
    Usual,
    /// Nowhere: they end with the process.
    Nowhere,
    /// Here, or there is no start.
    At(PathBuf),
}

impl From<Option<PathBuf>> for Pin {
    fn from(path: Option<PathBuf>) -> Self {
        match path {
            None => Self::Usual,
            Some(path) if path.as_os_str() == "none" => Self::Nowhere,
            Some(path) => Self::At(path),
        }
    }
}

/// Where identities and policy are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identities {
    /// Nowhere.
    None,
    /// Files and folders.
    Manifests(Vec<PathBuf>),
    /// The Kubernetes API.
    Kubernetes(Access),
}

/// A value that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The budget is no percentage.
    #[error("--scan-budget {0}: expected a percentage above 0, up to 100")]
    ScanBudget(f64),
    /// The trust domain has characters that none may have.
    #[error("--trust-domain {0:?}: expected lower-case letters, digits, dots, dashes and underscores")]
    TrustDomain(String),
    /// Identities are to come from files, and none are named.
    #[error("--identities manifests needs --manifests")]
    NoManifests,
    /// Files are named, and identities are to come from elsewhere.
    #[error("--manifests does not go with --identities kubernetes")]
    ManifestsUnused,
    /// A way to the API server is named, and identities are to come from elsewhere.
    #[error("--kubeconfig and --context do not go with manifests")]
    KubeconfigUnused,
    /// Something is to be written to Kubernetes, and identities come from elsewhere.
    #[error("--kubernetes-events on and --policy-reports on need --identities kubernetes")]
    NothingToWriteTo,
    /// The log filter cannot be parsed.
    #[error("--log {filter:?}")]
    Log {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// No node name was given and the host has none.
    #[error("--node-name is not given, and the host name cannot be read")]
    HostName(#[source] io::Error),
}

impl TryFrom<RunArgs> for Config {
    type Error = ConfigError;

    fn try_from(args: RunArgs) -> Result<Self, ConfigError> {
        let RunArgs {
            interfaces,
            pin,
            no_sandbox,
            hook,
            identities,
            kubeconfig,
            context,
            manifests,
            node_name,
            trust_domain,
            log_flows,
            report_other_plaintext,
            finding_window,
            kernel_statistics,
            kubernetes_events,
            policy_reports,
            listen,
            log,
            log_format,
            scan_budget,
            scan_window,
            sample_one_in,
            max_flows,
            max_edges,
            flow_idle,
        } = args;
        let ListenArgs {
            listen,
            admin_tls_cert,
            admin_tls_key,
            admin_client_ca,
            admin_token_file,
            log_filter_file,
        } = listen;
        let tls = admin_tls_cert.zip(admin_tls_key).map(|(certificate, key)| TlsFiles {
            certificate,
            key,
            client_ca: admin_client_ca,
        });
        let trust_domain = trust_domain.map(checked_trust_domain).transpose()?;
        let in_cluster = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let identities = identities_from(identities, manifests, kubeconfig, context, in_cluster)?;
        let announce = announced(kubernetes_events, policy_reports, &identities)?;
        if let Err(source) = log.parse::<tracing_subscriber::filter::Targets>() {
            return Err(ConfigError::Log { filter: log, source });
        }
        let node_name = match node_name {
            Some(name) => name,
            None => fs::read_to_string("/proc/sys/kernel/hostname")
                .map_err(ConfigError::HostName)?
                .trim()
                .to_owned(),
        };
        Ok(Self {
            interfaces,
            pin: pin.into(),
            sandbox: !no_sandbox,
            identities,
            node_name,
            trust_domain,
            log_flows,
            report_other_plaintext,
            admin: AdminPort { listen, tls, token: admin_token_file },
            finding_window: Duration::from_secs(finding_window.get().into()),
            kernel_statistics,
            hooks: hook,
            log,
            log_filter_file,
            log_format,
            budget_ns_per_ms: nanoseconds_per_millisecond(scan_budget)?,
            scan_window,
            sample_one_in,
            max_flows,
            max_edges,
            flow_idle: Duration::from_secs(flow_idle.get().into()),
            announce,
        })
    }
}

impl TryFrom<ReplayArgs> for replay::Options {
    type Error = ConfigError;

    fn try_from(args: ReplayArgs) -> Result<Self, ConfigError> {
        let ReplayArgs {
            file,
            manifests,
            trust_domain,
            json,
            report_other_plaintext,
            fail_on,
            scan_window,
            max_flows,
            max_edges,
        } = args;
        Ok(Self {
            file,
            manifests,
            trust_domain: checked_trust_domain(trust_domain)?,
            rules: Rules { plaintext_other: report_other_plaintext },
            json,
            fail_on,
            limits: replay::Limits {
                max_flows: max_flows as usize,
                max_edges: max_edges as usize,
                scan_window,
            },
        })
    }
}

/// A trust domain as the SPIFFE ID standard has it, section 2.1.
fn checked_trust_domain(trust_domain: String) -> Result<String, ConfigError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if trust_domain.is_empty() || !trust_domain.chars().all(allowed) {
        return Err(ConfigError::TrustDomain(trust_domain));
    }
    Ok(trust_domain)
}

fn identities_from(
    source: Option<IdentitySource>,
    manifests: Vec<PathBuf>,
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    in_cluster: bool,
) -> Result<Identities, ConfigError> {
    let named = kubeconfig.is_some() || context.is_some();
    let source = source.or(match (manifests.is_empty(), named || in_cluster) {
        (false, _) => Some(IdentitySource::Manifests),
        (true, true) => Some(IdentitySource::Kubernetes),
        (true, false) => None,
    });
    match source {
        None => Ok(Identities::None),
        Some(IdentitySource::Manifests) if manifests.is_empty() => Err(ConfigError::NoManifests),
        Some(IdentitySource::Manifests) if named => Err(ConfigError::KubeconfigUnused),
        Some(IdentitySource::Manifests) => Ok(Identities::Manifests(manifests)),
        Some(IdentitySource::Kubernetes) if !manifests.is_empty() => Err(ConfigError::ManifestsUnused),
        Some(IdentitySource::Kubernetes) if in_cluster && !named => {
            Ok(Identities::Kubernetes(Access::InCluster))
        }
        Some(IdentitySource::Kubernetes) => {
            Ok(Identities::Kubernetes(Access::Kubeconfig { path: kubeconfig, context }))
        }
    }
}

/// What is written to Kubernetes: by default all in a cluster. Whoever watches one from outside did not ask to
/// write into it.
fn announced(
    events: Option<Switch>,
    reports: Option<Switch>,
    identities: &Identities,
) -> Result<Kinds, ConfigError> {
    let in_cluster = matches!(identities, Identities::Kubernetes(Access::InCluster));
    let on = |switch: Option<Switch>| switch.map_or(in_cluster, |switch| switch == Switch::On);
    let kinds = Kinds { events: on(events), reports: on(reports) };
    if kinds.any() && !matches!(identities, Identities::Kubernetes(_)) {
        return Err(ConfigError::NothingToWriteTo);
    }
    Ok(kinds)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 100 percent it is below 400 million"
)]
fn nanoseconds_per_millisecond(percent: f64) -> Result<u32, ConfigError> {
    if !(percent > 0.0 && percent <= 100.0) {
        return Err(ConfigError::ScanBudget(percent));
    }
    Ok((percent / 100.0 * 1e6).ceil() as u32)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use detector_ebpf::budget::Budget;

    use super::{Config, ConfigError, Identities, announced, identities_from};
    use crate::{
        app::announce::Kinds,
        args::{Cli, Command, IdentitySource, Switch},
        cluster::kubernetes::Access,
    };

    fn config(flags: &[&str]) -> Result<Config, ConfigError> {
        let line = ["plainsight", "run"].iter().chain(flags);
        let command = Cli::try_parse_from(line).unwrap().command;
        let Command::Run(run) = command else { panic!("{command:?}") };
        Config::try_from(*run)
    }

    #[test]
    fn the_scan_budget_is_a_share_of_the_time() {
        assert_eq!(config(&["--scan-budget", "2"]).unwrap().budget_ns_per_ms, 20_000);
        assert_eq!(config(&["--scan-budget", "100"]).unwrap().budget_ns_per_ms, Budget::UNLIMITED);
    }

    #[test]
    fn values_that_cannot_be_are_named_with_their_flag() {
        for (flags, text) in [
            (["--scan-budget", "0"], "--scan-budget 0: expected a percentage above 0, up to 100"),
            (["--scan-budget", "NaN"], "--scan-budget NaN: expected a percentage above 0, up to 100"),
            (
                ["--trust-domain", "Not A Domain"],
                "--trust-domain \"Not A Domain\": expected lower-case letters, digits, dots, dashes and underscores",
            ),
            (["--log", "detector=loud"], "--log \"detector=loud\""),
        ] {
            assert_eq!(config(&flags).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn identities_come_from_the_cluster_one_is_in_unless_files_are_named() {
        let kubernetes = Some(IdentitySource::Kubernetes);
        let files = || vec!["dump.yaml".into()];
        let kubeconfig = |path: Option<&str>, context: Option<&str>| {
            Identities::Kubernetes(Access::Kubeconfig {
                path: path.map(Into::into),
                context: context.map(Into::into),
            })
        };
        let from = |source, files, path: Option<&str>, context: Option<&str>, in_cluster| {
            identities_from(source, files, path.map(Into::into), context.map(Into::into), in_cluster)
                .map_err(|error| error.to_string())
        };
        assert_eq!(from(None, vec![], None, None, false), Ok(Identities::None));
        assert_eq!(from(None, vec![], None, None, true), Ok(Identities::Kubernetes(Access::InCluster)));
        assert_eq!(from(None, files(), None, None, true), Ok(Identities::Manifests(files())));
        assert_eq!(from(None, vec![], Some("k"), None, true), Ok(kubeconfig(Some("k"), None)));
        assert_eq!(from(None, vec![], None, Some("c"), false), Ok(kubeconfig(None, Some("c"))));
        assert_eq!(from(kubernetes, vec![], None, None, false), Ok(kubeconfig(None, None)));
        assert!(from(kubernetes, files(), None, None, true).is_err());
        assert!(from(Some(IdentitySource::Manifests), vec![], None, None, true).is_err());
        assert!(from(None, files(), Some("k"), None, true).is_err());
    }

    #[test]
    fn writing_to_a_cluster_is_for_those_who_are_in_it_or_say_so() {
        let inside = Identities::Kubernetes(Access::InCluster);
        let outside = Identities::Kubernetes(Access::Kubeconfig { path: None, context: None });
        let both = Kinds { events: true, reports: true };
        let of = |events, reports, identities| announced(events, reports, identities).ok();
        assert_eq!(of(None, None, &inside), Some(both));
        assert_eq!(of(Some(Switch::Off), None, &inside), Some(Kinds { events: false, ..both }));
        assert_eq!(of(None, None, &outside), Some(Kinds::default()));
        assert_eq!(of(Some(Switch::On), Some(Switch::On), &outside), Some(both));
        assert_eq!(of(None, None, &Identities::None), Some(Kinds::default()));
        assert_eq!(of(Some(Switch::On), None, &Identities::None), None);
        assert_eq!(of(None, Some(Switch::On), &Identities::Manifests(vec![])), None);
    }

    #[test]
    fn the_host_name_stands_in_for_the_nodes() {
        assert!(!config(&[]).unwrap().node_name.is_empty());
        assert_eq!(config(&["--node-name", "node1"]).unwrap().node_name, "node1");
    }
}
