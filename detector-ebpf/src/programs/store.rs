//! Owns the maps and the settings, and is the [`Store`] that the library tracks flows with.

use core::{arch::asm, ops::DerefMut};

use aya_ebpf::{
    Global,
    bindings::{__sk_buff, BPF_F_NO_PREALLOC, BPF_NOEXIST},
    helpers::{bpf_ktime_get_ns, generated::bpf_jiffies64},
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use detector_ebpf::{
    budget::{Budget, Claim},
    counter::Counter,
    edge::{EdgeKey, EdgeValue},
    event::{Event, HelloEvent},
    flow::{FILTER_SLOTS, Flow, FlowKey, Side},
    scan::{STEPS, Scanned, Work},
    tls::Hello,
    track::{Desk, Reading, Store},
};

use super::scan_step;

/// Flows; user space sets the size.
#[map]
static FLOWS: HashMap<FlowKey, Flow> = HashMap::with_max_entries(16_384, 0);
#[map]
static FILTER: Array<u32> = Array::with_max_entries(FILTER_SLOTS, 0);
/// Edges; user space sets the size.
#[map]
static EDGES: HashMap<EdgeKey, EdgeValue> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);
/// Hellos that go on in the next segment; one that never does is pushed out by others.
#[map]
static HELLOS: LruHashMap<FlowKey, Hello> = LruHashMap::with_max_entries(1024, 0);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);
#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

#[unsafe(no_mangle)]
static SAMPLE_BELOW: Global<u32> = Global::new(u32::MAX / 256);
#[unsafe(no_mangle)]
static BUDGET_NS_PER_MS: Global<u32> = Global::new(10_000);
#[unsafe(no_mangle)]
static SCAN_WINDOW: Global<u32> = Global::new(4096);
#[unsafe(no_mangle)]
pub(super) static IDLE_NS: Global<u64> = Global::new(300_000_000_000);

/// What one CPU works with.
#[repr(C)]
struct Scratch {
    work: Work,
    budget: Budget,
    desk: Desk,
    header: [u8; HEADER_ROOM],
}

/// The longest header that is read at once: that of IPv6.
const HEADER_ROOM: usize = 40;

#[inline(always)]
fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: a program is not interrupted by another one on its CPU, so nobody else has the entry.
    SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

/// The work memory of this CPU.
#[inline(always)]
pub(super) fn work() -> Option<&'static mut Work> {
    scratch().map(|scratch| &mut scratch.work)
}

/// Room for a copy of a header.
#[inline(always)]
pub(super) fn header_room() -> Option<&'static mut [u8; HEADER_ROOM]> {
    scratch().map(|scratch| &mut scratch.header)
}

/// The maps, as they are seen from one packet.
pub(super) struct Maps {
    context: *mut __sk_buff,
}

impl Maps {
    #[inline(always)]
    pub(super) const fn new(context: *mut __sk_buff) -> Self {
        Self { context }
    }

    #[inline(always)]
    fn count_index(index: u32) {
        if let Some(counter) = COUNTERS.get_ptr_mut(index) {
            // SAFETY: the entry is this CPU's own.
            unsafe { *counter += 1 };
        }
    }
}

impl Store for Maps {
    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper takes nothing.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn sample_below(&self) -> u32 {
        SAMPLE_BELOW.load()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the kernel gives the program a valid context.
        unsafe { (*self.context).ifindex }
    }

    #[inline(always)]
    fn count(&self, counter: Counter) {
        Self::count_index(counter as u32);
    }

    #[inline(always)]
    fn filter(&self, slot: u32) -> u32 {
        FILTER.get(slot).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn adjust(&self, slot: u32, by: u32) {
        if let Some(slot) = FILTER.get_ptr_mut(slot) {
            // The target has no 32-bit atomics in `core`; the instruction is in every kernel since 3.19.
            // SAFETY: the pointer is to the four bytes of a slot, which live as long as the program.
            unsafe {
                asm!("lock *(u32 *)({slot} + 0) += {by}", slot = in(reg) slot, by = in(reg) u64::from(by))
            };
        }
    }

    #[inline(always)]
    fn flow<'a>(&'a self, key: &FlowKey) -> Option<impl DerefMut<Target = Flow> + use<'a>> {
        // SAFETY: the value lives until after the program has ended, even if it is removed meanwhile.
        FLOWS.get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
    }

    #[inline(always)]
    fn insert_flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        FLOWS.insert(key, flow, u64::from(BPF_NOEXIST)).is_ok()
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey) -> bool {
        FLOWS.remove(key).is_ok()
    }

    #[inline(always)]
    fn edge<R>(&self, key: &EdgeKey, with: impl FnOnce(&mut EdgeValue) -> R) -> Option<R> {
        // SAFETY: as for flows.
        EDGES.get_ptr_mut(key).map(|edge| with(unsafe { &mut *edge }))
    }

    #[inline(always)]
    fn insert_edge(&self, key: &EdgeKey, value: &EdgeValue) -> bool {
        EDGES.insert(key, value, u64::from(BPF_NOEXIST)).is_ok()
    }

    #[inline(always)]
    fn emit(&self, key: &EdgeKey, value: &EdgeValue, client_port: u16) -> bool {
        let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
            return false;
        };
        entry.write(Event {
            version: Event::VERSION,
            kind: Event::KIND,
            _pad: [0; 4],
            client_port,
            key: *key,
            value: *value,
        });
        entry.submit(0);
        true
    }

    #[inline(always)]
    fn emit_hello(&self, key: &EdgeKey) -> bool {
        let Some(work) = work() else {
            return false;
        };
        let record = &mut work.record;
        record.version = Event::VERSION;
        record.kind = HelloEvent::KIND;
        record._pad = [0; 6];
        record.key = *key;
        // Copied by the helper: it is too long for the stack.
        EVENTS.output::<HelloEvent>(&*record, 0).is_ok()
    }

    #[inline(always)]
    fn desk(&self) -> Option<impl DerefMut<Target = Desk>> {
        scratch().map(|scratch| &mut scratch.desk)
    }

    #[inline(always)]
    fn scan(&self, key: &FlowKey, side: &mut Side, reading: Reading) -> Scanned {
        let Reading { mut at, mut len, asked_head } = reading;
        let Some(scratch) = scratch() else {
            return Scanned::default();
        };
        scratch.work.prepare(side, SCAN_WINDOW.load(), asked_head);
        if scratch.work.reads_hello()
            && let Some(hello) = HELLOS.get_ptr(key)
        {
            // SAFETY: as for flows.
            scratch.work.record.hello = unsafe { *hello };
        }
        for _ in 0..STEPS {
            if len == 0 {
                break;
            }
            let taken = scan_step(self.context, at, len);
            if taken > len {
                break;
            }
            at += taken;
            len -= taken;
        }
        if len > 0 {
            scratch.work.lose(Counter::StepLimit);
        }
        let found = scratch.work.finish(asked_head);
        if scratch.work.lost != 0 {
            Self::count_index(scratch.work.lost - 1);
        }
        if scratch.work.reads_hello() {
            // Without room the names are lost; the connection stays TLS.
            #[expect(
                clippy::needless_borrows_for_generic_args,
                reason = "by value it would be copied to the stack, which is too small"
            )]
            let _kept = HELLOS.insert(key, &scratch.work.record.hello, 0);
        }
        *side = scratch.work.side;
        found
    }

    #[inline(always)]
    fn grants(&self, claim: Claim) -> bool {
        let rate = BUDGET_NS_PER_MS.load();
        // SAFETY: the helper takes nothing; the verifier makes a load of it.
        let tick = unsafe { bpf_jiffies64() };
        scratch().is_some_and(|scratch| scratch.budget.grants(claim, rate, tick, || self.now()))
    }

    #[inline(always)]
    fn spend(&self, began_ns: u64) {
        let took = self.now().saturating_sub(began_ns);
        if let Some(scratch) = scratch() {
            scratch.budget.spend(took);
        }
    }
}
