//! Owns what the process gives up once the programs are loaded: capabilities, files, TCP ports, system calls.
//!
//! All of it is by thread, so it is entered on the one thread that there is, and the others inherit it. What a
//! kernel does not have is said and done without. What stays, and why:
//!
//! | kept | for |
//! |---|---|
//! | `CAP_NET_ADMIN` | attaching to interfaces that appear later, and asking which programs sit on them |
//! | `CAP_BPF` | before Linux 5.19 only, where a kernel may close all of `bpf(2)` to whoever has it not |
//! | `CAP_NET_BIND_SERVICE` | an admin port below 1024 only |
//! | `CAP_DAC_READ_SEARCH` | a file of the command line that its owner alone may read, only |
//! | reading | the files of the command line, what DNS and TLS roots need, the list of processors, this process |
//! | writing | the folder of pins |
//! | TCP | listening on the admin port; connecting, where identities come from Kubernetes |
//! | system calls | those of `sandbox/calls.rs`; of `bpf(2)`, nothing that loads |
//!
//! What is refused fails with an error, EPERM for a call and a capability, EACCES for a file and a port, and whoever
//! tried it says so; nothing is killed.

mod calls;
mod capabilities;
mod files;

use std::{fmt, path::PathBuf};

/// What this process will still need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files and folders that are read again while it runs.
    pub reads: Vec<PathBuf>,
    /// The folder of pins.
    pub pins: Option<PathBuf>,
    /// The port that it will listen on.
    pub listen: u16,
    /// It connects to others.
    pub connects: bool,
    /// It starts another program to get credentials, which needs what that one needs.
    pub runs_programs: bool,
    /// The kernel's major and minor version, if it is known.
    pub kernel: Option<(u32, u32)>,
}

/// How far the sandbox closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether no program that is started can have more privileges, or why it can.
    pub privileges: Result<(), String>,
    /// The capabilities that are left, or why the others could not be dropped.
    pub capabilities: Result<Vec<String>, String>,
    /// What is not closed off beside files, for the kernel is too old for it, or why files are not.
    pub files: Result<Vec<&'static str>, String>,
    /// Whether system calls are closed off, or why not.
    pub calls: Result<(), String>,
}

impl Sandbox {
    /// Whether everything closed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let Self { privileges, capabilities, files, calls } = self;
        let files = files.as_ref().is_ok_and(Vec::is_empty);
        privileges.is_ok() && capabilities.is_ok() && files && calls.is_ok()
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { privileges, capabilities, files, calls } = self;
        match privileges {
            Ok(()) => write!(f, "no new privileges, ")?,
            Err(why) => write!(f, "new privileges ({why}), ")?,
        }
        match capabilities {
            Ok(kept) if kept.is_empty() => write!(f, "no capabilities")?,
            Ok(kept) => write!(f, "capabilities {}", kept.join(" "))?,
            Err(why) => write!(f, "all capabilities ({why})")?,
        }
        match files {
            Ok(open) if open.is_empty() => write!(f, ", files closed off")?,
            Ok(open) => write!(f, ", files closed off but not {}", open.join(", "))?,
            Err(why) => write!(f, ", all files ({why})")?,
        }
        match calls {
            Ok(()) => write!(f, ", system calls closed off"),
            Err(why) => write!(f, ", all system calls ({why})"),
        }
    }
}

/// Closes off the calling thread, and those that it will start.
#[must_use]
pub fn enter(needs: &Needs) -> Sandbox {
    let privileges = nix::sys::prctl::set_no_new_privs().map_err(|errno| errno.to_string());
    // A program that gives credentials runs under what is left: it keeps files and system calls.
    let program = || "the kubeconfig runs a program for credentials".to_owned();
    let files = if needs.runs_programs { Err(program()) } else { files::close(needs) };
    let capabilities = capabilities::drop_all_but(needs);
    let calls = if needs.runs_programs { Err(program()) } else { calls::close() };
    Sandbox { privileges, capabilities, files, calls }
}

#[cfg(test)]
mod tests {
    use super::Sandbox;

    #[test]
    fn what_did_not_close_is_told() {
        let whole = Sandbox {
            privileges: Ok(()),
            capabilities: Ok(vec!["CAP_NET_ADMIN".to_owned()]),
            files: Ok(Vec::new()),
            calls: Ok(()),
        };
        assert!(whole.is_whole());
        assert_eq!(
            whole.to_string(),
            "no new privileges, capabilities CAP_NET_ADMIN, files closed off, system calls closed off"
        );
        let old = Sandbox { files: Ok(vec!["TCP ports (Linux 6.7)"]), ..whole.clone() };
        assert!(!old.is_whole());
        assert!(old.to_string().contains("files closed off but not TCP ports (Linux 6.7)"), "{old}");
        let none = Sandbox { files: Err("no Landlock".to_owned()), ..whole };
        assert!(!none.is_whole());
        assert!(none.to_string().contains("all files (no Landlock)"), "{none}");
    }
}
