//! Checks an image: that another folder makes the same bytes, that the archive holds what it says, and that the
//! binary in it does its work in a container as the DaemonSet asks for one.
//!
//! What it must see there is the demo's scenario, with the same expectations.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use detector_tests::{
    daemon::{ADMIN, Daemon},
    node::NODE_NAME,
    scenario::Scenario,
};
use serde_json::Value;

use super::{binary, binary::Architecture, layout::Archive, sbom, source::Commit, unpack::Image};
use crate::{json::at, process, process::step, setup, workspace::Workspace};

pub(super) fn run(
    workspace: &Workspace,
    architecture: Architecture,
    commit: &Commit,
    made: &Archive,
    bom: &[u8],
) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("plainsight-image-").tempdir();
    let folder = folder.context("make a folder for the second build")?;
    step("build it again, in another folder", || {
        again(workspace, architecture, commit, made, bom, folder.path())
    })?;
    let root = folder.path().join("root");
    let image = Image::read(&made.bytes)?;
    ensure!(image.digest == made.digest, "the archive names another image: {}", image.digest);
    for (what, labels) in
        [("manifest", at(&image.manifest, "/annotations")), ("config", at(&image.config, "/config/Labels"))]
    {
        ensure!(
            *at(labels, "/org.opencontainers.image.revision") == commit.revision(),
            "the {what} is not labelled with the commit"
        );
    }
    fs::create_dir(&root).context("make the container's root")?;
    image.unpack(&root)?;
    if architecture != Architecture::own() {
        eprintln!("    not run: this machine is of another architecture");
        return Ok(());
    }
    workspace.require_root("the image is run as a container would be", "image --check")?;
    setup::ensure(workspace)?;
    step("run the image on the demo's node", || in_container(workspace, &root))
}

/// Builds a copy of the source elsewhere, and compares.
fn again(
    workspace: &Workspace,
    architecture: Architecture,
    commit: &Commit,
    made: &Archive,
    bom: &[u8],
    folder: &Path,
) -> Result<()> {
    let source = folder.join("source");
    copy_source(workspace.root(), &source)?;
    // The tools are the machine's, not the source's.
    let tools = source.join("target/tools");
    fs::create_dir_all(source.join("target")).context("make the second target folder")?;
    symlink(workspace.tools(), &tools).context("share the tools")?;
    let binary = binary::build(&source, &source.join("target/image"), architecture)?;
    let bytes = fs::read(&binary).with_context(|| format!("read {}", binary.display()))?;
    let second = super::archive(workspace, architecture, commit, &bytes)?;
    if second.bytes != made.bytes {
        bail!("the second build is another image: {} and {}", made.digest, second.digest);
    }
    ensure!(sbom::make(&source, architecture, commit)? == bom, "the second SBOM is another one");
    eprintln!("    the same {} bytes: {}", made.bytes.len(), made.digest);
    Ok(())
}

/// Copies what git knows, and what it does not ignore.
fn copy_source(from: &Path, to: &Path) -> Result<()> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(from);
    for name in process::output(&mut git)?.split('\0').filter(|name| !name.is_empty()) {
        let (source, target) = (from.join(name), to.join(name));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        match fs::copy(&source, &target) {
            Ok(_) => {}
            // Removed, and git was not told yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("copy {name}")),
        }
    }
    Ok(())
}

/// Runs the demo's scenario with the image's binary in a root of its own, as the DaemonSet would have it run.
fn in_container(workspace: &Workspace, root: &Path) -> Result<()> {
    let context = Context::of_daemon_set(workspace)?;
    let version = process::output(Command::new("chroot").arg(root).args(["/plainsight", "--version"]))?;
    let expected = format!("plainsight {}", env!("CARGO_PKG_VERSION"));
    ensure!(version.trim() == expected, "the image says that it is {version:?}");

    let scenario = Scenario::start()?;
    for folder in ["proc", "sys", "manifests"] {
        fs::create_dir(root.join(folder)).with_context(|| format!("make /{folder} of the container"))?;
    }
    let (script, arguments) = context.command(root, &scenario.manifests());
    let words = ["-c".into(), script.into(), "container".into()].into_iter().chain(arguments);
    let words: Vec<OsString> = words.collect();
    let mut daemon = Daemon::start_with(scenario.node(), Path::new("sh"), &words, Some(&scenario.log()))?;
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).context("read its status")?;
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    ensure!(
        field("CapBnd:") == context.mask() && field("NoNewPrivs:") == "1",
        "the container is not as the DaemonSet says: {status}"
    );
    scenario.traffic()?;
    scenario.verify(&mut daemon)?;
    daemon.stop()?;
    Ok(())
}

/// What the DaemonSet says of its container.
struct Context {
    args: Vec<String>,
    capabilities: Vec<String>,
}

/// Numbers of the capabilities that the chart knows (`linux/capability.h`).
const CAPABILITIES: [(&str, u32); 5] =
    [("NET_ADMIN", 12), ("SYS_ADMIN", 21), ("SYS_RESOURCE", 24), ("PERFMON", 38), ("BPF", 39)];

impl Context {
    fn of_daemon_set(workspace: &Workspace) -> Result<Self> {
        let path: PathBuf = workspace.root().join("deploy/kustomize/base/daemonset.yaml");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let object: Value =
            serde_saphyr::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        let container = at(&object, "/spec/template/spec/containers/0");
        let security = at(container, "/securityContext");
        ensure!(
            *at(security, "/readOnlyRootFilesystem") == true
                && *at(security, "/allowPrivilegeEscalation") == false,
            "the check runs a container with a read-only root and no new privileges, and the DaemonSet has another"
        );
        let list = |value: &Value| -> Result<Vec<String>> {
            serde_json::from_value(value.clone()).with_context(|| format!("read {}", path.display()))
        };
        Ok(Self {
            args: list(at(container, "/args"))?,
            capabilities: list(at(security, "/capabilities/add"))?,
        })
    }

    /// The capabilities as `/proc/self/status` shows them.
    fn mask(&self) -> String {
        let known = CAPABILITIES.iter().filter(|(name, _)| self.capabilities.iter().any(|own| own == name));
        format!("{:016x}", known.fold(0_u64, |mask, (_, bit)| mask | 1 << bit))
    }

    /// A script for `sh -c`, and the arguments of plainsight, that start it as a runtime would: a mount namespace
    /// of its own with a read-only root, the runtime's own /proc and /sys, a BPF file system, no new privileges,
    /// and a bounding set with the DaemonSet's capabilities alone.
    fn command(&self, root: &Path, manifests: &Path) -> (String, Vec<OsString>) {
        let root = root.display();
        let own: String = self.capabilities.iter().map(|name| format!(",+{}", name.to_lowercase())).collect();
        // capsh changes the root and then gives up what it takes to do so.
        let script = format!(
            r#"set -e
exec unshare --mount --propagation private sh -ec '
mount --bind {root} {root}
mount -t proc -o nosuid,nodev,noexec proc {root}/proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs {root}/sys
mount -t bpf -o nosuid,nodev,noexec bpf {root}/sys/fs/bpf
mount --bind {manifests} {root}/manifests
mount -o remount,bind,ro {root}
exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all{own},+sys_chroot,+setpcap \
    capsh --chroot={root} --drop=cap_sys_chroot,cap_setpcap --shell=/plainsight -- "$@"
' container "$@"
"#,
            manifests = manifests.display(),
        );
        let listen = format!("--listen={ADMIN}");
        let ours = ["--log-flows", &listen, "--node-name", NODE_NAME, "--manifests", "/manifests"];
        // Of two values of a flag clap refuses: the address is the DaemonSet's, which holds the harness's too.
        let ours = ours.into_iter().filter(|word| !word.starts_with("--listen"));
        let arguments = self.args.iter().map(OsString::from).chain(ours.map(OsString::from)).collect();
        (script, arguments)
    }
}
