//! Owns what aya does not ask the kernel: which programs sit on a hook, and how many keys a map has.
//!
//! aya's own query of a hook opens every program that it finds, which takes CAP_SYS_ADMIN (`bpf_prog_get_fd_by_id`);
//! the numbers alone take CAP_NET_ADMIN, which we have.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use nix::libc;

/// `BPF_MAP_GET_NEXT_KEY` of `enum bpf_cmd`.
const MAP_GET_NEXT_KEY: libc::c_int = 4;
/// `BPF_PROG_QUERY`.
const PROG_QUERY: libc::c_int = 16;
/// `BPF_TCX_INGRESS` of `enum bpf_attach_type`.
pub(super) const INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS`.
pub(super) const EGRESS: u32 = 47;

/// Programs that a hook may have before the list is cut; the kernel allows 64.
const MOST: u32 = 64;

/// Entries that are counted: a map that is written while it is walked over may begin again and again.
const MOST_ENTRIES: u64 = 1 << 25;

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

/// The numbers of the program and the link on each place of a hook, first to last. A program that was attached
/// without a link has the link 0.
pub(super) fn programs(ifindex: u32, hook: u32) -> io::Result<Vec<(u32, u32)>> {
    let (mut ids, mut links) = ([0_u32; MOST as usize], [0_u32; MOST as usize]);
    let mut query = Query {
        target_ifindex: ifindex,
        attach_type: hook,
        prog_ids: ids.as_mut_ptr() as u64,
        link_ids: links.as_mut_ptr() as u64,
        count: MOST,
        ..Query::default()
    };
    // SAFETY: the structure is laid out as the kernel's, its size is given, and both lists have room for `count`
    // numbers and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ids.into_iter().zip(links).take(query.count as usize).collect())
}

/// The members of `union bpf_attr` that walk over the keys of a map.
#[repr(C)]
struct NextKey {
    map_fd: u32,
    _pad: u32,
    key: u64,
    next_key: u64,
}

/// How many keys a map has. aya walks maps by the types of their keys, and here those are of another build.
pub(super) fn count_entries(map: BorrowedFd<'_>, key_size: u32) -> u64 {
    let (mut key, mut next) = (vec![0_u8; key_size as usize], vec![0_u8; key_size as usize]);
    let mut count = 0;
    loop {
        let mut attr = NextKey {
            map_fd: map.as_raw_fd().cast_unsigned(),
            _pad: 0,
            key: if count == 0 { 0 } else { key.as_ptr() as u64 },
            next_key: next.as_mut_ptr() as u64,
        };
        // SAFETY: the structure is laid out as the kernel's, its size is given, and both keys have the size of
        // the map's and outlive the call.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, MAP_GET_NEXT_KEY, &raw mut attr, size_of::<NextKey>()) };
        if result < 0 || count >= MOST_ENTRIES {
            return count;
        }
        count += 1;
        std::mem::swap(&mut key, &mut next);
    }
}
