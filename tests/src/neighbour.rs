//! Owns other people's programs on a pod's interface: small ones that the kernel takes as they stand here, put
//! where a CNI or another agent would put theirs.
//!
//! Interfaces are looked for in the network namespace that is named. What is attached by a link goes when the
//! link is dropped.

use std::{
    fs, io,
    mem::size_of,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result};
use nix::{libc, net::if_::if_nametoindex};

use crate::netns::NetNs;

/// Commands of `enum bpf_cmd`.
mod command {
    pub(super) const PROG_LOAD: i32 = 5;
    pub(super) const OBJ_PIN: i32 = 6;
    pub(super) const PROG_QUERY: i32 = 16;
    pub(super) const LINK_CREATE: i32 = 28;
    pub(super) const LINK_GET_FD_BY_ID: i32 = 30;
    pub(super) const LINK_DETACH: i32 = 34;
}

/// `BPF_PROG_TYPE_SCHED_CLS`.
const SCHED_CLS: u32 = 3;
/// `BPF_F_BEFORE`: without a program that it refers to, at the head.
const BEFORE: u32 = 1 << 3;
/// `BPF_F_AFTER`, at the end.
const AFTER: u32 = 1 << 4;
/// Programs that the kernel lets a hook have: of the `BPF_MPROG_MAX` places, one is kept free.
pub const HOOK_MAX: usize = 63;

/// What a program answers to each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The next program decides.
    Next,
    /// The packet passes, and no program after this one sees it.
    Pass,
    /// The packet is dropped.
    Drop,
    /// A packet whose length leaves 1 when divided by 4 is dropped; the next program decides on the others.
    DropSome,
}

impl Answer {
    /// The program, as instructions of eight bytes each: operation, registers, offset, constant.
    fn instructions(self) -> Vec<[u8; 8]> {
        let give = |value: i32| [instruction(0xb7, 0, 0, value), instruction(0x95, 0, 0, 0)].concat();
        let code = match self {
            Self::Next => give(-1),
            Self::Pass => give(0),
            Self::Drop => give(2),
            Self::DropSome => [
                // The first member of `struct __sk_buff` is the length.
                instruction(0x61, 0x10, 0, 0).to_vec(),
                // What of it the mask leaves, compared with 1.
                instruction(0x57, 0, 0, 3).to_vec(),
                instruction(0x15, 0, 2, 1).to_vec(),
                give(-1),
                give(2),
            ]
            .concat(),
        };
        code.as_chunks().0.to_vec()
    }
}

fn instruction(operation: u8, registers: u8, offset: i16, constant: i32) -> [u8; 8] {
    let ([a, b], [c, d, e, f]) = (offset.to_ne_bytes(), constant.to_ne_bytes());
    [operation, registers, a, b, c, d, e, f]
}

/// A direction of an interface, as the host side has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What the pod sends.
    Ingress,
    /// What the pod receives.
    Egress,
}

impl Hook {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    /// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS`.
    const fn attach_type(self) -> u32 {
        match self {
            Self::Ingress => 46,
            Self::Egress => 47,
        }
    }

    /// What `tc` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Where among the programs of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// First.
    Head,
    /// Last.
    Tail,
}

/// A program that is loaded.
#[derive(Debug)]
pub struct Neighbour(OwnedFd);

/// A program's place on a hook; it is left when this is dropped.
#[derive(Debug)]
#[must_use = "the program leaves the hook when this is dropped"]
pub struct Link(OwnedFd);

impl Neighbour {
    /// Loads a program.
    ///
    /// # Errors
    ///
    /// Not root, or the kernel refuses it.
    pub fn load(answer: Answer) -> Result<Self> {
        #[repr(C)]
        #[derive(Default)]
        struct Load {
            prog_type: u32,
            insn_cnt: u32,
            insns: u64,
            license: u64,
            log_level: u32,
            log_size: u32,
            log_buf: u64,
            kern_version: u32,
            prog_flags: u32,
            prog_name: [u8; 16],
        }
        let instructions = answer.instructions();
        let mut load = Load {
            prog_type: SCHED_CLS,
            insn_cnt: u32::try_from(instructions.len())?,
            insns: instructions.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
            prog_name: *b"neighbour\0\0\0\0\0\0\0",
            ..Load::default()
        };
        let program = descriptor(command::PROG_LOAD, &mut load).context("load a program")?;
        Ok(Self(program))
    }

    /// Attaches it by a TCX link.
    ///
    /// # Errors
    ///
    /// The interface is not there, the hook is full, or the program is on it already.
    pub fn attach(&self, netns: &NetNs, interface: &str, hook: Hook, position: Position) -> Result<Link> {
        #[repr(C)]
        #[derive(Default)]
        struct Create {
            prog_fd: u32,
            target_ifindex: u32,
            attach_type: u32,
            flags: u32,
            relative: u32,
            _pad: u32,
            expected_revision: u64,
        }
        netns.run(|| {
            let mut create = Create {
                prog_fd: self.0.as_raw_fd().cast_unsigned(),
                target_ifindex: if_nametoindex(interface).with_context(|| format!("find {interface}"))?,
                attach_type: hook.attach_type(),
                flags: match position {
                    Position::Head => BEFORE,
                    Position::Tail => AFTER,
                },
                ..Create::default()
            };
            let link = descriptor(command::LINK_CREATE, &mut create)
                .with_context(|| format!("attach to {} of {interface}", hook.name()))?;
            Ok(Link(link))
        })
    }

    /// Pins it, for `tc filter add … bpf direct-action object-pinned`.
    ///
    /// # Errors
    ///
    /// The path is taken, or on no BPF file system.
    pub fn pin(&self, path: &Path) -> Result<()> {
        #[repr(C)]
        struct Pin {
            pathname: u64,
            bpf_fd: u32,
            file_flags: u32,
        }
        let name =
            std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).context("a path with a zero")?;
        let mut pin =
            Pin { pathname: name.as_ptr() as u64, bpf_fd: self.0.as_raw_fd().cast_unsigned(), file_flags: 0 };
        bpf(command::OBJ_PIN, &mut pin).with_context(|| format!("pin {}", path.display()))?;
        Ok(())
    }
}

impl Link {
    /// Its number, by which others know it.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub fn id(&self) -> Result<u32> {
        let path = format!("/proc/self/fdinfo/{}", self.0.as_raw_fd());
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let number = text.lines().find_map(|line| line.strip_prefix("link_id:")?.trim().parse().ok());
        number.with_context(|| format!("no number of a link in {text}"))
    }
}

/// A program on a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The program's id.
    pub program: u32,
    /// The link's id.
    pub link: u32,
}

/// The programs on a hook, first to last.
///
/// # Errors
///
/// The interface is not there, or the kernel has no TCX.
pub fn attached(netns: &NetNs, interface: &str, hook: Hook) -> Result<Vec<Attached>> {
    #[repr(C)]
    #[derive(Default)]
    struct Query {
        target_ifindex: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        count: u32,
        _pad: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    netns.run(|| {
        let (mut programs, mut links) = ([0_u32; HOOK_MAX], [0_u32; HOOK_MAX]);
        let mut query = Query {
            target_ifindex: if_nametoindex(interface).with_context(|| format!("find {interface}"))?,
            attach_type: hook.attach_type(),
            prog_ids: programs.as_mut_ptr() as u64,
            link_ids: links.as_mut_ptr() as u64,
            count: u32::try_from(HOOK_MAX)?,
            ..Query::default()
        };
        bpf(command::PROG_QUERY, &mut query)
            .with_context(|| format!("list the programs on {} of {interface}", hook.name()))?;
        let all = programs.into_iter().zip(links).map(|(program, link)| Attached { program, link });
        Ok(all.take(query.count as usize).collect())
    })
}

/// Takes whoever's program from its hook, by the number of its link, as root can.
///
/// # Errors
///
/// There is no such link.
pub fn detach_foreign(link: u32) -> Result<()> {
    #[repr(C)]
    struct ById {
        link_id: u32,
        next_id: u32,
        open_flags: u32,
    }
    let mut by_id = ById { link_id: link, next_id: 0, open_flags: 0 };
    let link = descriptor(command::LINK_GET_FD_BY_ID, &mut by_id).context("open a link")?;
    let mut fd = link.as_raw_fd();
    bpf(command::LINK_DETACH, &mut fd).context("detach a link")?;
    Ok(())
}

/// A command whose answer is a file descriptor.
fn descriptor<T>(command: i32, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The system call; `attributes` is the head of `union bpf_attr` as the command wants it.
fn bpf<T>(command: i32, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the structure lives through the call and its size is given; what it points to does too, as each
    // caller holds it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *mut T, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::Answer;

    #[test]
    fn a_program_is_whole_instructions_and_ends() {
        for answer in [Answer::Next, Answer::Pass, Answer::Drop, Answer::DropSome] {
            let code = answer.instructions();
            assert_eq!(code.last(), Some(&[0x95, 0, 0, 0, 0, 0, 0, 0]), "{answer:?}");
        }
        assert_eq!(Answer::Pass.instructions(), [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]]);
        assert_eq!(Answer::DropSome.instructions().len(), 7);
    }
}
