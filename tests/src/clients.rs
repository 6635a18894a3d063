//! Owns the programs that make the traffic: real MCP servers and clients of the published SDKs, curl and
//! openssl.
//!
//! The SDKs are installed by `cargo xtask` under `target/tools`; the programs themselves are in
//! `tests/clients`.

use std::{
    env,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    node::{Node, Pod},
    process::Process,
    wait,
};

/// A Python program that loads an SDK takes seconds on a slow machine, and several start at once.
const START: Duration = Duration::from_secs(30);
/// Longest run of a client.
pub const RUN: Duration = Duration::from_secs(40);

/// A published MCP SDK, as server or as client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// PyPI `mcp` 2: protocol revision 2026-07-28, stateless Streamable HTTP.
    Python2,
    /// PyPI `mcp` 1: the older revisions, Streamable HTTP with sessions.
    Python1,
    /// PyPI `mcp` 1 over HTTP+SSE, the transport of 2024-11-05.
    Python1Sse,
    /// npm `@modelcontextprotocol/sdk` 1: Streamable HTTP with sessions.
    Node,
}

impl Sdk {
    /// The command that runs `server` or `client` of the SDK in a pod.
    fn command(self, pod: &Pod, role: &str) -> Result<Command> {
        let tools = tools()?;
        let programs = programs();
        let (interpreter, program) = match self {
            Self::Python2 => (tools.join("venv-mcp2/bin/python"), format!("{role}2.py")),
            Self::Python1 | Self::Python1Sse => (tools.join("venv-mcp1/bin/python"), format!("{role}1.py")),
            Self::Node => (PathBuf::from("node"), format!("node_{role}.mjs")),
        };
        let mut command = pod.command(interpreter);
        // No traces of a run in the source tree, and output line by line.
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1");
        // A proxy of the machine is not reachable from a pod.
        for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(name);
        }
        command.env("MCP_NODE_HOME", tools.join("node")).arg(programs.join(program));
        if self == Self::Python1Sse {
            command.args(["--transport", "sse"]);
        }
        Ok(command)
    }

    /// Path of the endpoint on a server of this SDK.
    fn endpoint(self) -> &'static str {
        if self == Self::Python1Sse { "/sse" } else { "/mcp" }
    }

    /// Starts an MCP server in a pod, on `address`, behind TLS if there is a certificate. It offers one
    /// tool, `add`, and answers `GET /healthz`. [`wait_for_server`] tells when it serves.
    ///
    /// # Errors
    ///
    /// The program cannot be started, or the SDK has no TLS here.
    pub fn serve(self, pod: &Pod, address: SocketAddr, certificate: Option<&Certificate>) -> Result<Process> {
        let mut command = self.command(pod, "server")?;
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        match (self, certificate) {
            (Self::Node, None) => {
                command.args([host, port]);
            }
            (Self::Node, Some(_)) => bail!("the node server has no TLS"),
            (_, certificate) => {
                command.args(["--host", &host, "--port", &port]);
                if let Some(Certificate { certificate, key, .. }) = certificate {
                    command.arg("--cert").arg(certificate).arg("--key").arg(key);
                }
            }
        }
        pod.spawn(command)
    }

    /// Starts an MCP client in a pod, which lists the tools of the server and calls one.
    ///
    /// # Errors
    ///
    /// The program cannot be started, or the SDK has no TLS here.
    pub fn call(self, pod: &Pod, target: &Target<'_>) -> Result<Call> {
        let scheme = if target.certificate.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}{}", target.address, self.endpoint());
        let mut command = self.command(pod, "client")?;
        if self == Self::Node {
            if target.certificate.is_some() {
                bail!("the node client has no TLS");
            }
            command.arg(url).args(target.token);
        } else {
            command.args(["--url", &url]);
            command.args(target.token.map(|token| format!("--token={token}")));
            if let Some(certificate) = target.certificate {
                command.arg("--ca").arg(&certificate.certificate);
            }
        }
        Ok(Call(pod.spawn(command)?))
    }
}

/// What a client calls, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The server.
    pub address: SocketAddr,
    /// The bearer token to send.
    pub token: Option<&'a str>,
    /// The certificate to trust; without one the client speaks plain HTTP.
    pub certificate: Option<&'a Certificate>,
}

impl<'a> Target<'a> {
    /// A server in the clear.
    #[must_use]
    pub fn clear(ip: IpAddr, port: u16) -> Self {
        Self { address: SocketAddr::new(ip, port), token: None, certificate: None }
    }

    /// Sends a bearer token.
    #[must_use]
    pub fn token(self, token: &'a str) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Speaks TLS.
    #[must_use]
    pub fn tls(self, certificate: &'a Certificate) -> Self {
        Self { certificate: Some(certificate), ..self }
    }
}

/// An MCP client that runs.
#[derive(Debug)]
pub struct Call(Process);

impl Call {
    /// Waits for the client's end.
    ///
    /// # Errors
    ///
    /// It failed, or it did not get the right answer from the tool.
    pub fn finish(self) -> Result<()> {
        let output = self.0.succeed(RUN)?;
        let reply: Value =
            serde_json::from_str(&output).with_context(|| format!("the client wrote {output:?}"))?;
        if reply.get("result").and_then(Value::as_str) != Some("42") {
            bail!("the client got {reply}");
        }
        Ok(())
    }
}

/// Waits until a server in a pod listens.
///
/// # Errors
///
/// It ended, or it did not listen in time.
pub fn wait_for_server(pod: &Pod, server: &mut Process, port: u16) -> Result<()> {
    server.wait_while_running(&format!("listening port {port}"), START, |_| {
        Ok(pod.netns().listens(port)?.then_some(()))
    })
}

/// Starts a plain HTTP server in a pod that answers every GET.
///
/// # Errors
///
/// The program cannot be started.
pub fn serve_health(pod: &Pod, address: SocketAddr) -> Result<Process> {
    let mut command = pod.command("python3");
    command.arg(programs().join("health.py"));
    command.args(["--host", &address.ip().to_string(), "--port", &address.port().to_string()]);
    pod.spawn(command)
}

/// Starts a TLS server of openssl in a pod that answers every GET with its own status page.
///
/// # Errors
///
/// The program cannot be started.
pub fn serve_openssl(pod: &Pod, port: u16, certificate: &Certificate) -> Result<Process> {
    let mut command = pod.command("openssl");
    command.args(["s_server", "-quiet", "-www", "-accept", &port.to_string()]);
    command.arg("-cert").arg(&certificate.certificate).arg("-key").arg(&certificate.key);
    pod.spawn(command)
}

/// Fetches a URL with curl, from a pod.
///
/// # Errors
///
/// curl cannot be started.
pub fn curl(pod: &Pod, url: &str, options: &[&str]) -> Result<Process> {
    pod.spawn(curl_command(pod.command("curl"), url, options))
}

/// Fetches a URL with curl, from the host side of the node, as the kubelet's probes come.
///
/// # Errors
///
/// curl cannot be started.
pub fn curl_from_node(node: &Node, url: &str, options: &[&str]) -> Result<Process> {
    node.spawn("curl", curl_command(node.netns().command("curl"), url, options))
}

/// Looks at the web page of the node's admin port with a browser, as `clients/page.mjs` has it.
///
/// # Errors
///
/// node or what it needs is missing.
pub fn look_at_page(node: &Node, url: &str) -> Result<Process> {
    let mut command = node.netns().command("node");
    command.arg(programs().join("page.mjs")).arg(url).env("MCP_NODE_HOME", tools()?.join("node"));
    node.spawn("page.mjs", command)
}

fn curl_command(mut command: Command, url: &str, options: &[&str]) -> Command {
    let seconds = (20 * wait::patience()).to_string();
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", &seconds]);
    command.args(options).arg(url);
    command
}

/// A certificate that vouches for itself, and its key.
#[derive(Debug)]
pub struct Certificate {
    folder: tempfile::TempDir,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Makes one with openssl, for the addresses of a pod.
    ///
    /// # Errors
    ///
    /// openssl is missing or refuses.
    pub fn new(pod: &Pod) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("plainsight-")
            .tempdir()
            .context("make a folder for a certificate")?;
        let (certificate, key) = (folder.path().join("certificate.pem"), folder.path().join("key.pem"));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", "/CN=plainsight-tests"])
            .args(["-addext", "basicConstraints=critical,CA:TRUE"])
            .args(["-addext", &format!("subjectAltName=IP:{},IP:{}", pod.ip(), pod.ipv6())])
            .arg("-out")
            .arg(&certificate)
            .arg("-keyout")
            .arg(&key)
            .output()
            .context("run `openssl`: install the package openssl")?;
        if !output.status.success() {
            bail!("openssl makes no certificate: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Self { folder, certificate, key })
    }

    /// The certificate.
    pub(crate) fn path(&self) -> &Path {
        &self.certificate
    }

    /// The key.
    pub(crate) fn key(&self) -> &Path {
        &self.key
    }

    /// The folder that holds certificate and key.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Where set-up installs things: `PLAINSIGHT_TOOLS`, or `tools` in the target folder of this build.
pub(crate) fn tools() -> Result<PathBuf> {
    if let Some(path) = env::var_os("PLAINSIGHT_TOOLS") {
        return Ok(path.into());
    }
    let own = env::current_exe().context("find the running executable")?;
    let found = own.ancestors().map(|folder| folder.join("tools")).find(|tools| tools.is_dir());
    found.with_context(|| format!("no folder `tools` above {}: run `cargo xtask setup`", own.display()))
}

/// Where the programs that make traffic are.
pub(crate) fn programs() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/clients"))
}
