//! Owns the access to a packet's bytes: headers directly, payload by copy.

use core::arch::asm;

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};
use detector_ebpf::packet::{BLOCK, Header, Packet};

use super::store::header_room;

/// A packet at a TC hook, whose headers are read where they lie.
///
/// A header that does not lie in the linear part is not there for it, and offsets must be constants, which the
/// compiler sees once all is inlined: [`Paged`] reads every packet.
pub(super) struct Linear {
    context: *mut __sk_buff,
}

/// A packet at a TC hook, whose headers are read by copy.
pub(super) struct Paged {
    context: *mut __sk_buff,
}

// === impl Linear ===

impl Linear {
    #[inline(always)]
    pub(super) const fn new(context: *mut __sk_buff) -> Self {
        Self { context }
    }
}

impl Packet for Linear {
    #[inline(always)]
    fn len(&self) -> u32 {
        len(self.context)
    }

    #[inline(always)]
    fn header<const N: usize>(&self, at: u32) -> Option<impl Header> {
        // SAFETY: the context is valid.
        let (data, end) = unsafe { ((*self.context).data as usize, (*self.context).data_end as usize) };
        let start = opaque(data + at as usize);
        (start + N <= end).then_some(At { start })
    }

    #[inline(always)]
    fn block(&self, at: u32, len: u32, into: &mut [u8; BLOCK]) -> bool {
        block(self.context, at, len, into)
    }
}

// === impl Paged ===

impl Paged {
    #[inline(always)]
    pub(super) const fn new(context: *mut __sk_buff) -> Self {
        Self { context }
    }
}

impl Packet for Paged {
    #[inline(always)]
    fn len(&self) -> u32 {
        len(self.context)
    }

    #[inline(always)]
    fn header<const N: usize>(&self, at: u32) -> Option<impl Header> {
        // Copied through the scratch memory: the helper wants an address, and the stack is small.
        let room = header_room()?;
        let (room, _rest) = room.split_first_chunk_mut::<N>()?;
        // SAFETY: the context is valid and `room` has as many bytes as are asked for.
        let result =
            unsafe { bpf_skb_load_bytes(self.context.cast(), at, room.as_mut_ptr().cast(), N as u32) };
        (result == 0).then_some(*room)
    }

    #[inline(always)]
    fn block(&self, at: u32, len: u32, into: &mut [u8; BLOCK]) -> bool {
        block(self.context, at, len, into)
    }
}

/// Bytes of a packet that were checked to lie before its `data_end`.
struct At {
    start: usize,
}

/// Reads a number that may lie at any address.
///
/// `read_unaligned` would read byte by byte, for the target is taken to align. The kernel allows unaligned
/// reads of packets where the machine does, and the verifier refuses them where it does not.
macro_rules! read {
    ($width:literal, $at:ident, $start:expr) => {{
        let value: u64;
        // SAFETY: the bytes lie before `data_end`, by the check that made the value.
        unsafe {
            asm!(
                concat!("{value} = *(", $width, " *)({start} + {at})"),
                value = out(reg) value,
                start = in(reg) $start,
                at = const $at,
                options(pure, readonly, nostack)
            );
        }
        value
    }};
}

impl Header for At {
    #[inline(always)]
    fn byte<const AT: usize>(&self) -> u8 {
        read!("u8", AT, self.start) as u8
    }

    #[inline(always)]
    fn short<const AT: usize>(&self) -> u16 {
        u16::from_be(read!("u16", AT, self.start) as u16)
    }

    #[inline(always)]
    fn word<const AT: usize>(&self) -> u32 {
        read!("u32", AT, self.start) as u32
    }
}

/// The value itself, of which the compiler knows nothing any more.
///
/// It keeps the compiler from computing a pointer twice, once for the check and once for the read, and from
/// leaving out a check that it can prove and the verifier cannot.
#[inline(always)]
fn opaque(mut value: usize) -> usize {
    // SAFETY: the instruction changes nothing.
    unsafe { asm!("{value} += 0", value = inout(reg) value, options(pure, nomem, nostack)) };
    value
}

#[inline(always)]
fn len(context: *mut __sk_buff) -> u32 {
    // SAFETY: the kernel gives the program a valid context.
    unsafe { (*context).len }
}

#[inline(always)]
fn block(context: *mut __sk_buff, at: u32, len: u32, into: &mut [u8; BLOCK]) -> bool {
    // The helper takes no length of 0. A comparison with 0 for equality tells the verifiers of Linux 5.10 and
    // 6.1 nothing, and one for order does.
    let len = opaque(len as usize);
    if len.cast_signed() < 1 {
        return false;
    }
    let len = opaque(len);
    if len > BLOCK {
        return false;
    }
    // SAFETY: the context is valid and `into` has room for `len` bytes, by the check above.
    unsafe { bpf_skb_load_bytes(context.cast(), at, into.as_mut_ptr().cast(), len as u32) == 0 }
}
