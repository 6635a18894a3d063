//! Owns what the process gives up once the programs are loaded: capabilities, files, system calls.
//!
//! All of it is by thread, so it is entered on the one thread that there is, and the others inherit it. What a
//! kernel does not have is said and done without. What stays, and why:
//!
//! | kept | for |
//! |---|---|
//! | `CAP_NET_ADMIN` | attaching to interfaces that appear later, and asking which programs sit on them |
//! | `CAP_BPF` | maps, links and `BPF_PROG_TEST_RUN` on kernels that close `bpf(2)` to everybody else |
//! | `CAP_NET_BIND_SERVICE` | an admin port below 1024 only |
//! | `CAP_DAC_READ_SEARCH` | a file of the command line that its owner alone may read, only |
//! | reading | the files of the command line, what DNS and TLS roots need, the list of processors, this process |
//! | writing | the folder of pins |
//! | system calls | those of `sandbox/calls.rs`; of `bpf(2)`, nothing that loads |

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
    /// It starts another program to get credentials, which needs what that one needs.
    pub runs_programs: bool,
}

/// How far the sandbox closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether no program that is started can have more privileges, or why it can.
    pub privileges: Result<(), String>,
    /// The capabilities that are left, or why the others could not be dropped.
    pub capabilities: Result<Vec<String>, String>,
    /// Whether files are closed off, or why not.
    pub files: Result<(), String>,
    /// Whether system calls are closed off, or why not.
    pub calls: Result<(), String>,
}

impl Sandbox {
    /// Whether everything closed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let Self { privileges, capabilities, files, calls } = self;
        privileges.is_ok() && capabilities.is_ok() && files.is_ok() && calls.is_ok()
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
            Ok(()) => write!(f, ", files closed off")?,
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
    let program = || Err("the kubeconfig runs a program for credentials".to_owned());
    let files = if needs.runs_programs { program() } else { files::close(needs) };
    let capabilities = capabilities::drop_all_but(needs);
    let calls = if needs.runs_programs { program() } else { calls::close() };
    Sandbox { privileges, capabilities, files, calls }
}
