//! Owns the programs: entry points that look at a packet and always let it go on.
//!
//! Every program answers [`TC_ACT_UNSPEC`], whatever happened: the next program decides, as if this one were
//! not there. All work is the library's; here are the maps and the helpers that it runs on.

mod skb;
mod store;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_UNSPEC},
    macros::classifier,
    programs::TcContext,
};
use detector_ebpf::{
    flow::FlowKey,
    scan,
    track::{self, Todo},
};

use self::{
    skb::{Linear, Paged},
    store::{IDLE_NS, Maps, work},
};

/// Keys that one run of [`expire`] takes.
const EXPIRE_KEYS: u32 = 32;
/// The kernel takes a run's data for an Ethernet frame and wants a header.
const EXPIRE_KEYS_AT: u32 = 14;

#[classifier]
pub(crate) fn detect_ingress(context: TcContext) -> i32 {
    detect(&context, true)
}

#[classifier]
pub(crate) fn detect_egress(context: TcContext) -> i32 {
    detect(&context, false)
}

#[inline(always)]
fn detect(context: &TcContext, from_pod: bool) -> i32 {
    let skb = context.skb.skb;
    let maps = Maps::new(skb);
    if track::attention(&Linear::new(skb), &maps) {
        if begin(skb) != 0 {
            let todo = attend(skb, u32::from(from_pod));
            conclude(todo);
            #[cfg(debug_assertions)]
            aya_log_ebpf::debug!(context, "from the pod: {}, todo: {}", u32::from(from_pod), todo);
            if Todo(todo).has(Todo::AGAIN) {
                let todo = attend(skb, u32::from(from_pod));
                conclude(todo);
            }
        }
        track::end(&maps);
    }
    TC_ACT_UNSPEC
}

/// Finds the packet's segment; 0 if it has none.
///
/// A global function (Linux 5.6: 51c39bb1d5d1 "bpf: Introduce function-by-function verification"), so that
/// the path of a settled flow keeps its registers and the verifier takes each part by itself.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn begin(context: *mut __sk_buff) -> u32 {
    u32::from(track::begin(&Linear::new(context), &Paged::new(context), &Maps::new(context)))
}

/// Looks at the segment. A global function like [`begin`].
#[unsafe(no_mangle)]
pub(crate) extern "C" fn attend(context: *mut __sk_buff, from_pod: u32) -> u32 {
    track::attend(&Paged::new(context), &Maps::new(context), from_pod != 0).0
}

/// Does what is left to do with the packet's flow. A global function like [`begin`].
///
/// It has no use for the context, and an argument without a use is not passed at all by the compiler, which
/// the verifier takes for a wrong one.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn conclude(todo: u32) -> u32 {
    track::conclude(&Maps::new(core::ptr::null_mut()), Todo(todo));
    0
}

/// Removes idle flows. User space runs it with their keys as data; it is attached to nothing.
///
/// Removal must be done here, because only a program can lower the filter atomically.
#[classifier]
pub(crate) fn expire(context: TcContext) -> i32 {
    let maps = Maps::new(context.skb.skb);
    let mut removed = 0;
    for index in 0..EXPIRE_KEYS {
        let at = EXPIRE_KEYS_AT + index * size_of::<FlowKey>() as u32;
        if at + size_of::<FlowKey>() as u32 > context.len() {
            break;
        }
        let Ok(key) = context.load::<FlowKey>(at as usize) else {
            break;
        };
        if track::expire(&maps, &key, IDLE_NS.load()) {
            removed += 1;
        }
    }
    removed
}

/// One step of a scan, for [`store::Maps`].
///
/// A global function like [`begin`]: the verifier looks at it once and not at every step of every scan.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn scan_step(context: *mut __sk_buff, at: u32, len: u32) -> u32 {
    let Some(work) = work() else {
        return len;
    };
    scan::step(&Paged::new(context), work, at, len)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing panics: a panic that the compiler could not rule out is an endless loop here, which the
    // verifier refuses to load.
    loop {}
}

/// The helpers that are used want a licence compatible with the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
