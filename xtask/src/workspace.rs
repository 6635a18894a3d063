//! Where the workspace's files lie, and who runs the command.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::ebpf;

/// The checkout that the command works on.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self> {
        // Cargo sets it at run time too, which stays right when the checkout was moved after the build.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest).parent().context("xtask lies in no workspace")?.to_owned();
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What set-up installs lies here.
    pub(crate) fn tools(&self) -> PathBuf {
        ebpf::tools(&self.root)
    }

    /// What is built lies here.
    pub(crate) fn target(&self) -> PathBuf {
        ebpf::target(&self.root)
    }

    /// A binary of the dev profile.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        ebpf::target(&self.root).join("debug").join(name)
    }

    /// The cargo that runs this, in the workspace's root.
    ///
    /// What cargo tells this program of itself is kept from it: build scripts that ask for it (ring's) would run
    /// again, and all that depends on them be built again, whenever cargo was started from here after it was
    /// started from a shell, or the other way round.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        command.args(args).current_dir(&self.root);
        for (name, _) in env::vars_os() {
            let of_this_program = name.to_str().is_some_and(|name| {
                name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "OUT_DIR"
            });
            if of_this_program {
                command.env_remove(name);
            }
        }
        command
    }

    /// Fails unless run as root; `why` becomes the error.
    pub(crate) fn require_root(&self, why: &str, command: &str) -> Result<()> {
        if !is_root() {
            bail!("{why}: run it as root: {}", as_root(command));
        }
        Ok(())
    }
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether a continuous integration runs this.
pub(crate) fn is_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

/// How to run a command of ours as root with this user's toolchain.
pub(crate) fn as_root(command: &str) -> String {
    format!("sudo -E env \"PATH=$PATH\" cargo xtask {command}")
}
