//! Owns the access to a packet's bytes: headers directly, payload by copy.

use core::arch::asm;

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};
use detector_ebpf::packet::{BLOCK, Packet};

/// A packet at a TC hook.
pub(super) struct Skb {
    context: *mut __sk_buff,
}

impl Skb {
    #[inline(always)]
    pub(super) const fn new(context: *mut __sk_buff) -> Self {
        Self { context }
    }

    pub(super) const fn context(&self) -> *mut __sk_buff {
        self.context
    }

    #[inline(always)]
    pub(super) fn ifindex(&self) -> u32 {
        // SAFETY: the kernel gives the program a valid context.
        unsafe { (*self.context).ifindex }
    }

    /// Reads a `T` of a header where it lies in the linear part, and by copy where it does not.
    #[inline(always)]
    fn header<T: Copy + Default>(&self, at: u32) -> Option<T> {
        // A header lies in the first bytes of a packet; the mask tells the verifier so.
        let at = (at & 0x3ff) as usize;
        // SAFETY: the context is valid, and the bytes are read only when they lie before `data_end`.
        unsafe {
            let mut start = (*self.context).data as usize + at;
            // The verifier follows one pointer from the check to the read; without this the compiler may
            // compute it twice.
            asm!("{start} += 0", start = inout(reg) start, options(pure, nomem, nostack));
            if start + size_of::<T>() <= (*self.context).data_end as usize {
                return Some((start as *const T).read_unaligned());
            }
        }
        let mut value = T::default();
        // SAFETY: the context is valid and `value` has as many bytes as are asked for.
        let result = unsafe {
            bpf_skb_load_bytes(self.context.cast(), at as u32, (&raw mut value).cast(), size_of::<T>() as u32)
        };
        (result == 0).then_some(value)
    }
}

impl Packet for Skb {
    #[inline(always)]
    fn len(&self) -> u32 {
        // SAFETY: the kernel gives the program a valid context.
        unsafe { (*self.context).len }
    }

    #[inline(always)]
    fn u8_at(&self, at: u32) -> Option<u8> {
        self.header(at)
    }

    #[inline(always)]
    fn u16_at(&self, at: u32) -> Option<u16> {
        self.header(at).map(u16::from_be)
    }

    #[inline(always)]
    fn word_at(&self, at: u32) -> Option<u32> {
        self.header(at)
    }

    #[inline(always)]
    fn block(&self, at: u32, len: u32, into: &mut [u8; BLOCK]) -> bool {
        let mut len = u64::from(len);
        // SAFETY: the instruction changes nothing. Without it the compiler leaves out the check below where
        // it can prove it, and the verifier, which cannot, refuses the program.
        unsafe { asm!("{len} += 0", len = inout(reg) len, options(pure, nomem, nostack)) };
        if len == 0 || len > BLOCK as u64 {
            return false;
        }
        // SAFETY: the context is valid and `into` has room for `len` bytes, by the check above.
        let result =
            unsafe { bpf_skb_load_bytes(self.context.cast(), at, into.as_mut_ptr().cast(), len as u32) };
        result == 0
    }
}
