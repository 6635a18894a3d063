//! The programs that the demo and the tests start: looked for first, installed by apt-get as root.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::{Done, announce, log};
use crate::{
    process::{on_path, quiet},
    workspace::{self, Workspace},
};

/// A program, Debian's packages for it, and a command that succeeds where it is fit for use.
struct Program {
    name: &'static str,
    packages: &'static [&'static str],
    probe: &'static [&'static str],
}

const PROGRAMS: &[Program] = &[
    Program { name: "ip", packages: &["iproute2"], probe: &["ip", "-V"] },
    Program { name: "capsh", packages: &["libcap2-bin"], probe: &["capsh", "--current"] },
    Program { name: "nft", packages: &["nftables"], probe: &["nft", "--version"] },
    Program { name: "curl", packages: &["curl"], probe: &["curl", "--version"] },
    Program { name: "openssl", packages: &["openssl"], probe: &["openssl", "version"] },
    Program {
        // The lower bound is the MCP SDK's, here and for node.
        name: "python3 (3.10 or newer, with venv)",
        packages: &["python3", "python3-venv"],
        probe: &["python3", "-c", "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))"],
    },
    Program {
        name: "node (18 or newer)",
        packages: &["nodejs"],
        probe: &["node", "-e", "process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)"],
    },
    Program {
        name: "chromium",
        // Without a font it ends at the first page.
        packages: &["chromium", "fonts-dejavu-core"],
        probe: &["chromium", "--version"],
    },
    Program { name: "npm", packages: &["npm"], probe: &["npm", "--version"] },
];

/// What `cargo xtask vm` takes beyond them.
const MACHINES: [Program; 3] = [
    Program {
        name: "qemu-system-x86_64",
        packages: &["qemu-system-x86"],
        probe: &["qemu-system-x86_64", "--version"],
    },
    Program {
        // Debian 12's; from Debian 13 on it is in the package virtiofsd.
        name: "virtiofsd",
        packages: &["qemu-system-common"],
        probe: &["sh", "-c", "test -x /usr/lib/qemu/virtiofsd || test -x /usr/libexec/virtiofsd"],
    },
    Program { name: "xz", packages: &["xz-utils"], probe: &["xz", "--version"] },
];

pub(super) fn ensure(workspace: &Workspace) -> Result<Done> {
    ensure_all(workspace, PROGRAMS)
}

pub(super) fn ensure_vm(workspace: &Workspace) -> Result<Done> {
    ensure_all(workspace, &MACHINES)
}

fn ensure_all(workspace: &Workspace, programs: &'static [Program]) -> Result<Done> {
    let missing = missing(programs);
    if missing.is_empty() {
        return Ok(Done::Already);
    }
    let packages: Vec<&str> = missing.iter().flat_map(|program| program.packages).copied().collect();
    let wanted = packages.join(" ");
    if !on_path("apt-get") {
        bail!("install with the system's package manager: {}", names(&missing));
    }
    if !workspace::is_root() {
        bail!("{} missing: run `sudo apt-get install {wanted}`", names(&missing));
    }
    announce(&wanted, "by apt-get, into the system");
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        command
    };
    // Old lists may still serve, so that the install decides.
    let _lists = quiet("apt-get update", &mut apt(&["update"]), &log(workspace, "apt-update"));
    let mut install = apt(&["install", "--yes", "--no-install-recommends"]);
    quiet("apt-get install", install.args(&packages), &log(workspace, "apt-install"))
        .with_context(|| format!("install by hand, then run again: {wanted}"))?;
    let missing = self::missing(programs);
    if !missing.is_empty() {
        bail!("apt-get has no fit package; install by hand: {}", names(&missing));
    }
    Ok(Done::Installed)
}

fn missing(programs: &'static [Program]) -> Vec<&'static Program> {
    programs.iter().filter(|program| !works(program.probe)).collect()
}

fn works(probe: &[&str]) -> bool {
    let [program, args @ ..] = probe else { return false };
    let mut command = Command::new(program);
    let status = command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn names(programs: &[&Program]) -> String {
    programs.iter().map(|program| program.name).collect::<Vec<_>>().join(", ")
}
