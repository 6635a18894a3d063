//! Owns the scenario that the demo shows and the tests assert: its pods, its traffic, and what the detector
//! must say of it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    clients::{self, Certificate, Sdk, Target},
    daemon::Daemon,
    node::{Node, Pod, PodSpec},
    process::Process,
    wait,
};

mod expected;

pub use self::expected::{FINDINGS, FLOWS, Flow, forbidden, missing};

/// The bearer token that crosses the node in the clear. It may appear nowhere in what the detector says.
pub const TOKEN: &str = "canary-5f0c1d3e9b7a4628";

/// From the last packet to the last line: the detector needs milliseconds, a busy machine needs time.
const SETTLE: Duration = Duration::from_secs(10);

const MCP: u16 = 8000;
const MCP_TLS: u16 = 8443;
const HEALTH: u16 = 8080;

/// Declares who may call the tool executor: the gateway and the legacy agent.
const POLICY: &str = "\
---
apiVersion: plainsight.dev/v1alpha1
kind: ExpectedSources
metadata:
  namespace: mcp-production
  name: tool-executor
spec:
  selector:
    matchLabels:
      app: tool-executor
  serviceAccounts:
  - namespace: mcp-production
    name: gateway
  - namespace: mcp-production
    name: legacy-agent
";

/// The node, its pods and their servers.
#[derive(Debug)]
pub struct Scenario {
    // Dropped in this order: programs, pods, node.
    #[expect(dead_code, reason = "held, so that they run as long as the scenario")]
    servers: Vec<Process>,
    certificate: Certificate,
    folder: tempfile::TempDir,
    tool_executor: Pod,
    secure_tools: Pod,
    gateway: Pod,
    legacy_agent: Pod,
    debug_shell: Pod,
    web: Pod,
    uptime: Pod,
    node: Node,
}

impl Scenario {
    /// Makes the node and its pods, writes their manifests and starts the servers.
    ///
    /// # Errors
    ///
    /// Not root, or something that the scenario needs is missing.
    pub fn start() -> Result<Self> {
        let mut node = Node::new()?;
        let mut pod = |namespace: &str, name: &str, ports: &[(&str, u16)]| {
            let spec = PodSpec::new(namespace, name).service_account(name);
            node.pod(ports.iter().fold(spec, |spec, (name, port)| spec.port(name, *port)))
        };
        let tool_executor = pod("mcp-production", "tool-executor", &[("mcp", MCP)])?;
        let secure_tools = pod("mcp-production", "secure-tools", &[("mcp-tls", MCP_TLS)])?;
        let gateway = pod("mcp-production", "gateway", &[])?;
        let legacy_agent = pod("mcp-production", "legacy-agent", &[])?;
        let debug_shell = pod("default", "debug-shell", &[])?;
        let web = pod("default", "web", &[("http", HEALTH)])?;
        let uptime = pod("monitoring", "uptime", &[])?;

        let folder = tempfile::Builder::new()
            .prefix("plainsight-")
            .tempdir()
            .context("make a folder for the manifests")?;
        let manifests = folder.path().join("manifests");
        std::fs::create_dir(&manifests).context("make a folder for the manifests")?;
        node.manifests(&manifests, POLICY)?;
        let certificate = Certificate::new(&secure_tools)?;

        let mut servers = [
            (&tool_executor, Sdk::Python2.serve(&tool_executor, any(MCP), None)?, MCP),
            (&secure_tools, Sdk::Python2.serve(&secure_tools, any(MCP_TLS), Some(&certificate))?, MCP_TLS),
            (&web, clients::serve_health(&web, any(HEALTH))?, HEALTH),
        ];
        for (pod, server, port) in &mut servers {
            clients::wait_for_server(pod, server, *port)?;
        }
        let servers = servers.into_iter().map(|(_, server, _)| server).collect();
        Ok(Self {
            servers,
            certificate,
            folder,
            tool_executor,
            secure_tools,
            gateway,
            legacy_agent,
            debug_shell,
            web,
            uptime,
            node,
        })
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The folder of its manifests.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.folder.path().join("manifests")
    }

    /// The pod that nobody expects.
    #[must_use]
    pub fn debug_shell(&self) -> &Pod {
        &self.debug_shell
    }

    /// The address of the MCP server in the clear.
    #[must_use]
    pub fn clear_server(&self) -> SocketAddr {
        SocketAddr::new(self.tool_executor.ip(), MCP)
    }

    /// The file that the detector's output is copied to.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("plainsight.log")
    }

    /// Starts the detector.
    ///
    /// # Errors
    ///
    /// It does not get ready.
    pub fn detector(&self, binary: &Path) -> Result<Daemon<'_>> {
        Daemon::start(&self.node, binary, &self.manifests(), Some(&self.log()))
    }

    /// Makes all of the traffic, and returns when it is over.
    ///
    /// # Errors
    ///
    /// A program failed, or did not get the answer that it should.
    pub fn traffic(&self) -> Result<()> {
        let tools = self.tool_executor.ip();
        let secure = Target::clear(self.secure_tools.ip(), MCP_TLS).tls(&self.certificate);
        let probes = [
            clients::curl(&self.uptime, &format!("http://{}:{HEALTH}/healthz", self.web.ip()), &[])?,
            clients::curl_from_node(
                &self.node,
                &format!("http://{tools}:{MCP}/healthz"),
                &["--user-agent", "kube-probe/1.36"],
            )?,
        ];
        let calls = [
            Sdk::Python2.call(&self.gateway, &Target::clear(tools, MCP).token(TOKEN))?,
            Sdk::Python2.call(&self.gateway, &secure.token(TOKEN))?,
            Sdk::Python1.call(&self.legacy_agent, &Target::clear(tools, MCP).token(TOKEN))?,
            Sdk::Python2.call(&self.debug_shell, &Target::clear(tools, MCP))?,
        ];
        for probe in probes {
            probe.succeed(clients::RUN)?;
        }
        for call in calls {
            call.finish()?;
        }
        Ok(())
    }

    /// Waits until the detector has said all that it must of the traffic.
    ///
    /// # Errors
    ///
    /// Something is missing in the end, or something was said that must not be.
    pub fn verify(&self, daemon: &mut Daemon<'_>) -> Result<()> {
        let waited = wait::until("word of all the traffic", SETTLE, || {
            Ok(missing(&daemon.records()).is_empty().then_some(()))
        });
        let records = daemon.records();
        let faults = [missing(&records), forbidden(&records)].concat();
        if !faults.is_empty() {
            bail!("the detector's word is not what it should be:\n  {}", faults.join("\n  "));
        }
        waited
    }
}

fn any(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), port)
}
