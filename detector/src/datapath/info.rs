//! Owns what aya does not say of what it made: how many keys a map of another build has, and the runs of a program
//! by its descriptor alone.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    time::Duration,
};

use nix::libc;

use super::{ProgramRuns, bpf};

/// `BPF_MAP_GET_NEXT_KEY` of `enum bpf_cmd`.
const MAP_GET_NEXT_KEY: libc::c_int = 4;

/// Entries that are counted: a map that is written while it is walked over may begin again and again.
const MOST_ENTRIES: u64 = 1 << 25;

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
        // SAFETY: the structure is laid out as the kernel's, and both keys have the size of the map's and outlive
        // the call.
        let result = unsafe { bpf::call(MAP_GET_NEXT_KEY, &mut attr) };
        if result.is_err() || count >= MOST_ENTRIES {
            return count;
        }
        count += 1;
        std::mem::swap(&mut key, &mut next);
    }
}

/// `struct bpf_prog_info` up to the runs; what is not told here has no names.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    _before: [u64; 24],
    run_time_ns: u64,
    run_cnt: u64,
}

/// How often a program has run and how long that took.
pub(super) fn runs(program: impl AsFd) -> io::Result<ProgramRuns> {
    // SAFETY: it is laid out as the kernel's, and has numbers alone; with its lengths all zero, no list is written.
    let ProgramInfo { _before: _, run_time_ns, run_cnt } = unsafe { bpf::info(program) }?;
    Ok(ProgramRuns { time: Duration::from_nanos(run_time_ns), count: run_cnt })
}
