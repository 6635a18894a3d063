//! Owns other people's programs on a pod's interface: small ones that the kernel takes as they stand here, put
//! where a CNI or another agent would put theirs.
//!
//! Interfaces are looked for in the network namespace that is named. What is attached by a link goes when the
//! link is dropped.

#[path = "../../detector/src/datapath/bpf.rs"]
mod bpf;

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::{Context as _, Result};
use nix::net::if_::if_nametoindex;

use crate::netns::NetNs;

/// Commands of `enum bpf_cmd`.
mod command {
    pub(super) const PROG_LOAD: i32 = 5;
    pub(super) const LINK_GET_FD_BY_ID: i32 = 30;
    pub(super) const LINK_DETACH: i32 = 34;
}

/// `BPF_PROG_TYPE_SCHED_CLS`.
const SCHED_CLS: u32 = 3;
/// `BPF_PROG_TYPE_XDP`.
const XDP: u32 = 6;
/// `BPF_XDP` of `enum bpf_attach_type`.
const ON_XDP: u32 = 37;
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
        match self {
            Self::Next => give(-1),
            Self::Pass => give(0),
            Self::Drop => give(2),
            Self::DropSome => [
                // The first member of `struct __sk_buff` is the length.
                vec![instruction(0x61, 0x10, 0, 0)],
                // What of it the mask leaves, compared with 1.
                vec![instruction(0x57, 0, 0, 3)],
                vec![instruction(0x15, 0, 2, 1)],
                give(-1),
                give(2),
            ]
            .concat(),
        }
    }
}

/// The end of a program, with what it answers.
fn give(value: i32) -> Vec<[u8; 8]> {
    vec![instruction(0xb7, 0, 0, value), instruction(0x95, 0, 0, 0)]
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
            Self::Ingress => bpf::INGRESS,
            Self::Egress => bpf::EGRESS,
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

/// What an XDP program does with frames, as `enum xdp_action` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// It drops them.
    Drop = 1,
    /// It lets them pass.
    Pass = 2,
}

/// Where XDP runs, as `XDP_FLAGS_…_MODE` of linux/if_link.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xdp {
    /// Before the packet's `sk_buff`, at the head of the stack.
    Generic = 1 << 1,
    /// In the driver.
    Native = 1 << 2,
}

/// A program that is loaded.
#[derive(Debug)]
pub struct Neighbour(OwnedFd);

/// A program's place on a hook; it is left when this is dropped.
#[derive(Debug)]
#[must_use = "the program leaves the hook when this is dropped"]
pub struct Link(OwnedFd);

impl Neighbour {
    /// Loads a program for a hook.
    ///
    /// # Errors
    ///
    /// Not root, or the kernel refuses it.
    pub fn load(answer: Answer) -> Result<Self> {
        Self::load_as(SCHED_CLS, answer.instructions())
    }

    /// Loads a program for XDP, which has the same answer to every frame.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn load_xdp(answer: Frames) -> Result<Self> {
        Self::load_as(XDP, give(answer as i32))
    }

    fn load_as(prog_type: u32, instructions: Vec<[u8; 8]>) -> Result<Self> {
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
        let mut load = Load {
            prog_type,
            insn_cnt: u32::try_from(instructions.len())?,
            insns: instructions.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
            prog_name: *b"neighbour\0\0\0\0\0\0\0",
            ..Load::default()
        };
        // SAFETY: the structure is laid out as the kernel's; instructions and licence outlive the call.
        let program = unsafe { bpf::descriptor(command::PROG_LOAD, &mut load) }.context("load a program")?;
        Ok(Self(program))
    }

    /// Attaches it by a TCX link.
    ///
    /// # Errors
    ///
    /// The interface is not there, the hook is full, or the program is on it already.
    pub fn attach(&self, netns: &NetNs, interface: &str, hook: Hook, position: Position) -> Result<Link> {
        netns.run(|| {
            let ifindex = if_nametoindex(interface).with_context(|| format!("find {interface}"))?;
            let flags = match position {
                Position::Head => bpf::BEFORE,
                Position::Tail => AFTER,
            };
            let link = bpf::link(&self.0, ifindex, hook.attach_type(), flags)
                .with_context(|| format!("attach to {} of {interface}", hook.name()))?;
            Ok(Link(link))
        })
    }

    /// Attaches it to XDP by a link.
    ///
    /// # Errors
    ///
    /// The interface is not there, or has one already.
    pub fn attach_xdp(&self, netns: &NetNs, interface: &str, mode: Xdp) -> Result<Link> {
        netns.run(|| {
            let ifindex = if_nametoindex(interface).with_context(|| format!("find {interface}"))?;
            let link = bpf::link(&self.0, ifindex, ON_XDP, mode as u32);
            Ok(Link(link.with_context(|| format!("attach to XDP of {interface}"))?))
        })
    }

    /// Pins it, for `tc filter add … bpf direct-action object-pinned`.
    ///
    /// # Errors
    ///
    /// The path is taken, or on no BPF file system.
    pub fn pin(&self, path: &Path) -> Result<()> {
        bpf::pin(&self.0, path).with_context(|| format!("pin {}", path.display()))
    }
}

impl Link {
    /// Its number, by which others know it.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub fn id(&self) -> Result<u32> {
        bpf::link_id(&self.0).context("ask for the number of a link")
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
    netns.run(|| {
        let ifindex = if_nametoindex(interface).with_context(|| format!("find {interface}"))?;
        let all = bpf::programs(ifindex, hook.attach_type())
            .with_context(|| format!("list the programs on {} of {interface}", hook.name()))?;
        Ok(all.into_iter().map(|(program, link)| Attached { program, link }).collect())
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
    // SAFETY: both structures are laid out as the kernel's and have no pointers.
    unsafe {
        let link = bpf::descriptor(command::LINK_GET_FD_BY_ID, &mut by_id).context("open a link")?;
        let mut fd = link.as_raw_fd();
        bpf::call(command::LINK_DETACH, &mut fd).context("detach a link")?;
    }
    Ok(())
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
