//! Owns the detector under test: the real program, on the host side of a node, as a user starts it.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    metrics::Scrape,
    node::{NODE_NAME, Node},
    process::Process,
    record::Record,
};

/// Where the daemon serves metrics and health. The network namespace is the node's own, so the port is free.
pub const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9464);

/// A daemon of a test leaves nothing behind, unless that is what is tested.
const UNPINNED: &str = "--pin=none";

/// Loading the programs takes the verifier a second or two; the rest is for a machine that has other things to do.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// The path of the program: `PLAINSIGHT_BIN`, or beside the running executable's profile folder.
///
/// # Errors
///
/// It has not been built.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("PLAINSIGHT_BIN") {
        return Ok(path.into());
    }
    let own = env::current_exe().context("find the running executable")?;
    let profile = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps"));
    let path = profile.unwrap_or(&own).join("plainsight");
    if !path.exists() {
        bail!(
            "{} is missing: build it with `cargo build -p detector`, or set PLAINSIGHT_BIN",
            path.display()
        );
    }
    Ok(path)
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon<'a> {
    node: &'a Node,
    process: Process,
}

impl<'a> Daemon<'a> {
    /// The arguments of `plainsight` for a folder of manifests.
    #[must_use]
    pub fn arguments(manifests: &Path) -> Vec<OsString> {
        let listen = ADMIN.to_string();
        let words =
            ["run", UNPINNED, "--log-flows", "--listen", &listen, "--node-name", NODE_NAME, "--manifests"];
        words.map(OsString::from).into_iter().chain([manifests.into()]).collect()
    }

    /// Starts the daemon, copies all that it writes to `log`, and waits until it says that it is ready.
    ///
    /// # Errors
    ///
    /// It cannot be started, or it is not ready in time.
    pub fn start(node: &'a Node, binary: &Path, manifests: &Path, log: Option<&Path>) -> Result<Self> {
        Self::start_with(node, binary, &Self::arguments(manifests), log)
    }

    /// [`Self::arguments`], with links and maps pinned at `pins`.
    #[must_use]
    pub fn pinned_arguments(manifests: &Path, pins: &Path) -> Vec<OsString> {
        let mut arguments = Self::arguments(manifests);
        arguments.retain(|argument| argument != UNPINNED);
        arguments.extend(["--pin".into(), pins.into()]);
        arguments
    }

    /// The arguments of `plainsight` for a kubeconfig.
    #[must_use]
    pub fn kubernetes_arguments(kubeconfig: &Path) -> Vec<OsString> {
        let listen = ADMIN.to_string();
        let words =
            ["run", UNPINNED, "--log-flows", "--listen", &listen, "--node-name", NODE_NAME, "--kubeconfig"];
        words.map(OsString::from).into_iter().chain([kubeconfig.into()]).collect()
    }

    /// [`Self::start`] with other arguments.
    ///
    /// # Errors
    ///
    /// It cannot be started, or it is not ready in time.
    pub fn start_with(
        node: &'a Node,
        binary: &Path,
        arguments: &[OsString],
        log: Option<&Path>,
    ) -> Result<Self> {
        Self::start_within(START, node, binary, arguments, log)
    }

    /// [`Self::start_with`], for one that has much to read before it is ready.
    ///
    /// # Errors
    ///
    /// It cannot be started, or it is not ready within `limit`.
    pub fn start_within(
        limit: Duration,
        node: &'a Node,
        binary: &Path,
        arguments: &[OsString],
        log: Option<&Path>,
    ) -> Result<Self> {
        let mut daemon = Self::spawn(node, binary, arguments, log)?;
        daemon.process.wait_while_running("readiness", limit, |_| {
            Ok(get(node, "/readyz").is_ok_and(|(status, _)| status == 200).then_some(()))
        })?;
        Ok(daemon)
    }

    /// Starts the daemon and waits for nothing: for one that does not answer in clear, or not at all.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn spawn(node: &'a Node, binary: &Path, arguments: &[OsString], log: Option<&Path>) -> Result<Self> {
        let mut command = node.netns().command(binary);
        command.args(arguments);
        let create = |path: &Path| File::create(path).with_context(|| format!("create {}", path.display()));
        let log = log.map(create).transpose()?;
        let process = Process::spawn_logged("plainsight".to_owned(), command, log.as_ref())?;
        Ok(Self { node, process })
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Stops to read what it writes, or goes on with it.
    pub fn hold_output(&self, held: bool) {
        self.process.hold_output(held);
    }

    /// Memory that it has resident, in KiB.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn resident(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// Memory that it has resident and that is no page of a file, in KiB: what a leak adds to. The pages of a
    /// program without optimisation come in by the MiB when code runs for the first time.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn anonymous(&self) -> Result<u64> {
        self.memory("RssAnon:")
    }

    fn memory(&self, key: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).context("read its status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("its status has no {key}"))
    }

    /// The metrics, to be summed.
    ///
    /// # Errors
    ///
    /// They cannot be had.
    pub fn scrape(&self) -> Result<Scrape> {
        self.metrics().map(Scrape::new)
    }

    /// Whether the daemon has ended.
    ///
    /// # Errors
    ///
    /// The kernel does not know the process.
    pub fn ended(&mut self) -> Result<bool> {
        Ok(self.process.ended()?.is_some())
    }

    /// Every line so far that is a flow or a finding.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let lines = self.process.stdout();
        lines.iter().filter_map(|line| Record::read(line)).collect()
    }

    /// Everything that the daemon wrote so far, for a search of what must not be in it.
    #[must_use]
    pub fn output(&self) -> String {
        [self.process.stdout(), self.process.stderr()].concat().join("\n")
    }

    /// Waits for a flow or finding, and gives the first that fits.
    ///
    /// # Errors
    ///
    /// None came within `limit`, or the daemon ended.
    pub fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        fits: impl Fn(&Record) -> bool,
    ) -> Result<Record> {
        let found = self.process.wait_while_running(what, limit, |process| {
            Ok(process.stdout().iter().filter_map(|line| Record::read(line)).find(&fits))
        });
        found.with_context(|| {
            let counted = self.metrics().unwrap_or_else(|error| format!("{error:#}"));
            let counted: Vec<_> = counted
                .lines()
                .filter(|line| line.starts_with("plainsight_kernel_events_total") && !line.ends_with(" 0"))
                .collect();
            format!("it counted\n{}\nit wrote\n{}", counted.join("\n"), self.process.stdout().join("\n"))
        })
    }

    /// What the daemon says of its readiness, its watches and the node's pods.
    ///
    /// # Errors
    ///
    /// It cannot be had.
    pub fn readiness(&self) -> Result<String> {
        Ok(get(self.node, "/readyz?verbose")?.1)
    }

    /// The metrics as text.
    ///
    /// # Errors
    ///
    /// They cannot be had.
    pub fn metrics(&self) -> Result<String> {
        let (status, body) = get(self.node, "/metrics")?;
        if status != 200 {
            bail!("/metrics answered {status}: {body}");
        }
        Ok(body)
    }

    /// Ends the daemon as nothing can be prepared for, and gives all that it wrote.
    ///
    /// # Errors
    ///
    /// It is gone already, or it does not end in time.
    pub fn kill(mut self) -> Result<String> {
        self.process.signal(Signal::SIGKILL)?;
        self.process.wait(STOP)?;
        Ok(self.output())
    }

    /// What the JSON API answers to `GET path`, if it answers with success.
    ///
    /// # Errors
    ///
    /// It cannot be had, or it is no JSON.
    pub fn api(&self, path: &str) -> Result<Value> {
        let (status, body) = get(self.node, path)?;
        if status != 200 {
            bail!("{path} answered {status}: {body}");
        }
        serde_json::from_str(&body).with_context(|| format!("{path} answered {body}"))
    }

    /// Ends the daemon as Kubernetes does, and gives all that it wrote.
    ///
    /// # Errors
    ///
    /// It does not end in time, or not with success.
    pub fn stop(self) -> Result<String> {
        Ok(self.end()?.output())
    }

    /// [`Self::stop`], for the flows and findings that it wrote.
    ///
    /// # Errors
    ///
    /// It does not end in time, or not with success.
    pub fn stop_with_records(self) -> Result<Vec<Record>> {
        Ok(self.end()?.records())
    }

    fn end(mut self) -> Result<Self> {
        let status = self.process.terminate(STOP)?;
        if !status.success() {
            bail!("plainsight ended with {status} on SIGTERM\n{}", self.output());
        }
        Ok(self)
    }
}

/// Asks the admin port for `path` from inside the node: status and body.
fn get(node: &Node, path: &str) -> Result<(u16, String)> {
    let limit = Duration::from_secs(5);
    let mut stream = node.netns().run(|| Ok(TcpStream::connect_timeout(&ADMIN, limit)?))?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {ADMIN}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("no status in {head:?}"))?, body.to_owned()))
}
