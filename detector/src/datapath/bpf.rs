//! Owns the `bpf(2)` calls that aya does not make: a link by the index of its interface, who sits on a hook, and
//! the numbers of a link.
//!
//! aya attaches by the interface's name, which may be another's by then. Its query of a hook opens every program
//! that it finds, which takes CAP_SYS_ADMIN (`bpf_prog_get_fd_by_id`); the numbers alone take CAP_NET_ADMIN, which
//! we have. The test harness puts its neighbours' programs there by this same file.

use std::{
    ffi::CString,
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use nix::libc;

/// `BPF_OBJ_PIN` of `enum bpf_cmd`.
const OBJ_PIN: libc::c_int = 6;
/// `BPF_OBJ_GET_INFO_BY_FD`.
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
/// `BPF_PROG_QUERY`.
const PROG_QUERY: libc::c_int = 16;
/// `BPF_LINK_CREATE`.
const LINK_CREATE: libc::c_int = 28;
/// `BPF_TCX_INGRESS` of `enum bpf_attach_type`.
pub(super) const INGRESS: u32 = 46;
/// `BPF_TCX_EGRESS`.
pub(super) const EGRESS: u32 = 47;
/// `BPF_F_BEFORE`: without a program that it refers to, at the head.
pub(super) const BEFORE: u32 = 1 << 3;

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

/// The numbers of the program and the link on each place of a hook, first to last. A program that was attached
/// without a link has the link 0. Without TCX the kernel says EINVAL.
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
    // SAFETY: the structure is laid out as the kernel's, and both lists have room for `count` numbers and outlive
    // the call.
    unsafe { call(PROG_QUERY, &mut query) }?;
    Ok(ids.into_iter().zip(links).take(query.count as usize).collect())
}

/// The member `link_create` of `union bpf_attr`, as TCX takes it.
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

/// Puts a program on a hook by a TCX link, at the head or where `flags` say. It leaves when the link is closed and
/// not pinned. Without TCX the kernel says EINVAL; for a program that is on the hook already, EEXIST.
pub(super) fn link(program: impl AsFd, ifindex: u32, hook: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut create = Create {
        prog_fd: number(&program),
        target_ifindex: ifindex,
        attach_type: hook,
        flags,
        ..Create::default()
    };
    // SAFETY: the structure is laid out as the kernel's and has no pointers.
    unsafe { descriptor(LINK_CREATE, &mut create) }
}

/// The member `info` of `union bpf_attr`.
#[repr(C)]
struct ByDescriptor {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The kernel's account of an object, as far as `T` goes, which is the head of its `struct bpf_…_info`.
///
/// # Safety
///
/// `T` is laid out as that, and any bytes are one.
pub(super) unsafe fn info<T: Default>(object: impl AsFd) -> io::Result<T> {
    let mut info = T::default();
    let mut attr = ByDescriptor {
        bpf_fd: number(&object),
        info_len: u32::try_from(size_of::<T>()).map_err(io::Error::other)?,
        info: &raw mut info as u64,
    };
    // SAFETY: the structure is laid out as the kernel's, and `info` has the size that is given and outlives the call.
    unsafe { call(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    Ok(info)
}

/// The number by which others know a link.
pub(super) fn link_id(link: impl AsFd) -> io::Result<u32> {
    /// The head of `struct bpf_link_info`.
    #[repr(C)]
    #[derive(Default)]
    struct LinkInfo {
        kind: u32,
        id: u32,
    }
    // SAFETY: it is laid out as the kernel's, and has numbers alone.
    let LinkInfo { kind: _, id } = unsafe { info(link) }?;
    Ok(id)
}

/// Pins an object at a path that is free.
pub(super) fn pin(object: impl AsFd, path: &Path) -> io::Result<()> {
    #[repr(C)]
    struct Pin {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    let mut pin = Pin { pathname: name.as_ptr() as u64, bpf_fd: number(&object), file_flags: 0 };
    // SAFETY: the structure is laid out as the kernel's, and the path ends with a zero and outlives the call.
    unsafe { call(OBJ_PIN, &mut pin) }?;
    Ok(())
}

fn number(object: &impl AsFd) -> u32 {
    object.as_fd().as_raw_fd().cast_unsigned()
}

/// A command whose answer is a file descriptor.
///
/// # Safety
///
/// As [`call`].
pub(super) unsafe fn descriptor<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let fd = unsafe { call(command, attributes) }?;
    // SAFETY: the kernel has just made it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The system call.
///
/// # Safety
///
/// `attributes` is laid out as the head of `union bpf_attr` that the command takes, and what it points to lives
/// through the call and has the sizes that it says.
pub(super) unsafe fn call<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the structure lives through the call and its size is given; the rest is the caller's.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
