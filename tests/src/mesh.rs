//! Owns an MCP platform in a mesh: a gateway, a tool executor and an audit service, a batch job without a
//! sidecar and a stranger, with proxies that do on the wire what those of Istio and Linkerd do.

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    clients::{self, Certificate, Sdk, Target},
    daemon::Daemon,
    nat::Translation,
    node::{Node, Pod, PodSpec},
    process::Process,
    record::Record,
};

/// The namespace of the platform.
pub const NAMESPACE: &str = "mcp-production";

/// Where the tool executor serves MCP.
pub const MCP: u16 = 8080;

/// Where the tool executor tells that it is well.
pub const HEALTH: u16 = 8081;

/// The port that Linkerd's proxies take all of their mesh's traffic at.
pub const LINKERD_INBOUND: u16 = 4143;

/// Where the application listens, behind its proxy.
const APPLICATION: u16 = 18_080;

/// The address and port of the tool executor's service.
const SERVICE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)), 80);

/// Which mesh the platform is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mesh {
    /// Istio, by sidecars.
    Istio,
    /// Linkerd.
    Linkerd,
}

/// What the server's proxy does with plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// It refuses it.
    Refused,
    /// It serves it.
    Served,
}

/// How a client's proxy dials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// The server name.
    pub sni: String,
    /// The protocols.
    pub alpn: &'static str,
    /// The port of the server's pod.
    pub port: u16,
}

impl Dial {
    /// As Istio's sidecars dial the tool executor.
    #[must_use]
    pub fn istio() -> Self {
        Self {
            sni: format!("outbound_.80_._.tool-executor.{NAMESPACE}.svc.cluster.local"),
            alpn: "istio-http/1.1,istio,http/1.1",
            port: MCP,
        }
    }

    /// As Linkerd's proxies dial a pod of a service account in its transparent mode.
    #[must_use]
    pub fn linkerd(account: &str) -> Self {
        let sni = format!("{account}.{NAMESPACE}.serviceaccount.identity.linkerd.cluster.local");
        Self { sni, alpn: "", port: MCP }
    }

    /// As Linkerd's proxies dial by default since 2.18, with the port inside of the encryption.
    #[must_use]
    pub fn linkerd_tunnel(account: &str) -> Self {
        Self { alpn: "transport.l5d.io/v1", port: LINKERD_INBOUND, ..Self::linkerd(account) }
    }
}

/// A finding as the test tells it from others: id, severity, client.
pub type Told = (String, String, String);

/// The platform.
#[derive(Debug)]
pub struct Platform {
    // Dropped in this order: programs, pods, node.
    programs: RefCell<Vec<Process>>,
    certificate: Certificate,
    folder: tempfile::TempDir,
    /// The tool executor.
    pub tools: Pod,
    /// The gateway, which may call it.
    pub gateway: Pod,
    /// The audit service, which may call it.
    pub audit: Pod,
    /// A batch job without a sidecar.
    pub batch: Pod,
    /// A pod of the mesh that nobody expects.
    pub stranger: Pod,
    node: Node,
}

impl Platform {
    /// Makes the node and its pods, and starts the tool executor behind its proxy.
    ///
    /// # Errors
    ///
    /// Not root, or something that the platform needs is missing.
    pub fn start(
        mesh: Mesh,
        plaintext: Plaintext,
        policy: &str,
        tools: impl FnOnce(PodSpec) -> PodSpec,
    ) -> Result<Self> {
        let mut node = Node::new()?;
        let spec = |name: &str| PodSpec::new(NAMESPACE, name).service_account(name);
        let meshed = |name: &str| match mesh {
            Mesh::Istio => spec(name)
                .label("security.istio.io/tlsMode", "istio")
                .annotation("sidecar.istio.io/status", "{}")
                .container("istio-proxy"),
            Mesh::Linkerd => {
                spec(name).label("linkerd.io/control-plane-ns", "linkerd").container("linkerd-proxy")
            }
        };
        let tools = node.pod(tools(meshed("tool-executor").port("http", MCP).port("health", HEALTH)))?;
        let gateway = node.pod(meshed("gateway"))?;
        let audit = node.pod(meshed("audit"))?;
        let batch = node.pod(spec("batch"))?;
        let stranger = node.pod(meshed("stranger"))?;
        node.translate(&[Translation::new(SERVICE, &[SocketAddr::new(tools.ip(), MCP)])])?;
        let folder = tempfile::Builder::new()
            .prefix("plainsight-")
            .tempdir()
            .context("make a folder for the manifests")?;
        let certificate = Certificate::new(&tools)?;
        let platform = Self {
            programs: RefCell::default(),
            certificate,
            folder,
            tools,
            gateway,
            audit,
            batch,
            stranger,
            node,
        };
        platform.declare(policy)?;
        platform.serve(mesh, plaintext)?;
        Ok(platform)
    }

    /// Writes the manifests, with `policy` beside the pods and the service.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn declare(&self, policy: &str) -> Result<()> {
        let service = format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{namespace: {NAMESPACE}, name: tool-executor}}\nspec:\n  clusterIP: {}\n  selector: {{app: tool-executor}}\n  ports: [{{name: http-mcp, appProtocol: kgateway.dev/mcp, port: {}, targetPort: http}}]\n---\n",
            SERVICE.ip(),
            SERVICE.port(),
        );
        self.node.manifests(self.folder.path(), &(service + policy))
    }

    fn serve(&self, mesh: Mesh, plaintext: Plaintext) -> Result<()> {
        let start = |mut process: Process, port| -> Result<()> {
            clients::wait_for_server(&self.tools, &mut process, port)?;
            self.programs.borrow_mut().push(process);
            Ok(())
        };
        let application = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), APPLICATION);
        start(Sdk::Python2.serve(&self.tools, application, None)?, APPLICATION)?;
        let any = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        start(clients::serve_health(&self.tools, any(HEALTH))?, HEALTH)?;
        let (ports, alpn): (&[u16], _) = match mesh {
            Mesh::Istio => (&[MCP], "istio-http/1.1,istio,http/1.1"),
            Mesh::Linkerd => (&[MCP, LINKERD_INBOUND], "transport.l5d.io/v1"),
        };
        for port in ports {
            let mut command = self.proxy(&self.tools, "inbound", any(*port), application, alpn);
            command.args((plaintext == Plaintext::Refused).then_some("--strict"));
            start(self.tools.spawn(command)?, *port)?;
        }
        Ok(())
    }

    fn proxy(&self, pod: &Pod, direction: &str, listen: SocketAddr, to: SocketAddr, alpn: &str) -> Command {
        let mut command = pod.command("python3");
        command.arg(clients::programs().join("sidecar.py")).arg(direction);
        command.args(["--listen", &listen.to_string(), "--to", &to.to_string(), "--alpn", alpn]);
        command.arg("--cert").arg(self.certificate.path()).arg("--key").arg(self.certificate.key());
        command
    }

    /// Has a pod call a tool over its mesh's TLS, through a proxy of its own.
    ///
    /// # Errors
    ///
    /// The call did not get its answer.
    pub fn call_meshed(&self, pod: &Pod, dial: &Dial) -> Result<()> {
        let listen = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 15_001);
        let to = SocketAddr::new(self.tools.ip(), dial.port);
        let mut command = self.proxy(pod, "outbound", listen, to, dial.alpn);
        command.args(["--sni", &dial.sni]);
        let mut proxy = pod.spawn(command)?;
        clients::wait_for_server(pod, &mut proxy, listen.port())?;
        Sdk::Python2.call(pod, &Target::clear(listen.ip(), listen.port()))?.finish()
    }

    /// Has a pod call a tool in the clear: at the pod's address as a sidecar would, or at the service's.
    ///
    /// # Errors
    ///
    /// The client cannot be started, or it fared otherwise than it should.
    pub fn call_clear(&self, pod: &Pod, by_service: bool, expected: Plaintext) -> Result<()> {
        let to = if by_service { SERVICE } else { SocketAddr::new(self.tools.ip(), MCP) };
        let outcome = Sdk::Python2.call(pod, &Target::clear(to.ip(), to.port()))?.finish();
        match expected {
            Plaintext::Served => outcome,
            Plaintext::Refused if outcome.is_ok() => anyhow::bail!("a call was served that should not be"),
            Plaintext::Refused => Ok(()),
        }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The folder of the manifests.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Starts the detector.
    ///
    /// # Errors
    ///
    /// It does not get ready.
    pub fn detector(&self, binary: &Path) -> Result<Daemon<'_>> {
        Daemon::start(&self.node, binary, &self.manifests(), None)
    }
}

/// What was found, as it was told last of each edge: evidence and outcome come one after the other.
#[must_use]
pub fn found(records: &[Record]) -> Vec<Told> {
    let mut last = std::collections::BTreeMap::new();
    for record in records.iter().filter(|record| record.is_finding()) {
        let key = (record.client.name().to_owned(), record.port, record.text("id").to_owned());
        last.insert(key, record.text("severity").to_owned());
    }
    let short = |client: &str| client.strip_prefix(&format!("{NAMESPACE}/")).unwrap_or(client).to_owned();
    last.into_iter().map(|((client, _, id), severity)| (id, severity, short(&client))).collect()
}
