//! Owns the question which program sits first on a hook.
//!
//! aya's own query opens every program that it finds, which takes CAP_SYS_ADMIN (`bpf_prog_get_fd_by_id`);
//! the numbers alone take CAP_NET_ADMIN, which we have.

use std::{io, mem::size_of};

use nix::libc;

/// `BPF_PROG_QUERY` of `enum bpf_cmd`.
const PROG_QUERY: libc::c_int = 16;
/// `BPF_TCX_INGRESS` of `enum bpf_attach_type`.
pub(super) const INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS`.
pub(super) const EGRESS: u32 = 47;

/// Programs that a hook may have before the list is cut; the kernel allows 64.
const MOST: u32 = 64;

/// The member `query` of `union bpf_attr`.
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

/// The number of the first program on a hook of an interface.
pub(super) fn first_program(ifindex: u32, hook: u32) -> io::Result<Option<u32>> {
    let mut ids = [0_u32; MOST as usize];
    let mut query = Query {
        target_ifindex: ifindex,
        attach_type: hook,
        prog_ids: ids.as_mut_ptr() as u64,
        count: MOST,
        ..Query::default()
    };
    // SAFETY: the structure is laid out as the kernel's, its size is given, and `prog_ids` points to room for
    // `count` numbers that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ids.first().copied().filter(|id| query.count > 0 && *id != 0))
}
