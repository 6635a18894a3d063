//! The eBPF object `bench-bpf`: what the benchmark measures the detector against. It never ships.
//!
//! `drive` gives each packet of a run another tuple or sequence number and goes on into the program under
//! test, so that a test run of one packet costs what many connections cost. `empty` and `record` are the
//! programs that the detector is compared with: nothing at all, and what a flow exporter does.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        bindings::TC_ACT_UNSPEC,
        helpers::bpf_ktime_get_ns,
        macros::{classifier, map},
        maps::{Array, LruHashMap, ProgramArray},
        programs::TcContext,
    };

    /// Answered when the program under test was not reached.
    const NOT_REACHED: i32 = 7;

    /// How the next packets differ, as user space writes it: five words in this order.
    #[repr(C)]
    struct Drive {
        /// One less than the number of tuples, which is a power of two.
        mask: u32,
        /// Sequence number of the first packet.
        sequence: u32,
        /// What each packet adds to it.
        step: u32,
        /// Index of the program under test.
        target: u32,
        /// Packets so far.
        count: u32,
    }

    #[map]
    static DRIVE: Array<Drive> = Array::with_max_entries(1, 0);
    #[map]
    static TARGETS: ProgramArray = ProgramArray::with_max_entries(8, 0);

    /// Odd, so that multiples below a power of two meet each value once, in an order that no cache foresees.
    const SCATTER: u32 = 0x9e37_79b1;

    #[classifier]
    pub(crate) fn drive(context: TcContext) -> i32 {
        let Some(drive) = DRIVE.get_ptr_mut(0) else {
            return NOT_REACHED;
        };
        // SAFETY: one test run at a time works with the entry.
        let drive = unsafe { &mut *drive };
        let count = drive.count;
        drive.count = count.wrapping_add(1);
        let tuple = count.wrapping_mul(SCATTER) & drive.mask;
        let sequence = drive.sequence.wrapping_add(count.wrapping_mul(drive.step));
        let target = drive.target;
        if ether_type(&context) == IPV4 {
            alter::<28, 34>(&context, tuple, sequence);
        } else {
            alter::<36, 54>(&context, tuple, sequence);
        }
        // SAFETY: nothing here is to be dropped.
        unsafe { TARGETS.tail_call(&context, target) };
        NOT_REACHED
    }

    /// Writes the tuple into the source's address (its last two bytes stand at `ADDRESS`) and port, and the
    /// sequence number behind the ports. Checksums are left: no program looks at them.
    #[inline(always)]
    fn alter<const ADDRESS: usize, const PORT: usize>(context: &TcContext, tuple: u32, sequence: u32) {
        let (start, end) = (context.data(), context.data_end());
        if start + PORT + 8 > end {
            return;
        }
        // SAFETY: the bytes lie before `data_end`; headers stand at even addresses.
        unsafe {
            *((start + ADDRESS) as *mut u16) = (tuple >> 16) as u16;
            *((start + PORT) as *mut u16) = tuple as u16;
            *((start + PORT + 4) as *mut u16) = ((sequence >> 16) as u16).to_be();
            *((start + PORT + 6) as *mut u16) = (sequence as u16).to_be();
        }
    }

    #[classifier]
    pub(crate) fn empty(_context: TcContext) -> i32 {
        TC_ACT_UNSPEC
    }

    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;
    const TCP: u8 = 6;

    #[derive(Clone, Copy)]
    #[repr(C)]
    struct RecordKey {
        source: [u16; 8],
        destination: [u16; 8],
        ports: [u16; 2],
        ifindex: u32,
    }

    #[repr(C)]
    struct Record {
        packets: u64,
        bytes: u64,
        first_ns: u64,
        last_ns: u64,
        flags: u64,
    }

    /// User space sets the size.
    #[map]
    static RECORDS: LruHashMap<RecordKey, Record> = LruHashMap::with_max_entries(65_536, 0);

    /// A record of each flow, brought up to date by every packet, in the cheapest way there is: no options,
    /// no tags, no lock, and changed in place.
    #[classifier]
    pub(crate) fn record(context: TcContext) -> i32 {
        match ether_type(&context) {
            IPV4 => {
                if let Some((key, flags)) = key::<26, 2, 23, 34>(&context) {
                    count(&context, &key, flags);
                }
            }
            IPV6 => {
                if let Some((key, flags)) = key::<22, 8, 20, 54>(&context) {
                    count(&context, &key, flags);
                }
            }
            _ => {}
        }
        TC_ACT_UNSPEC
    }

    /// Reads addresses of `WORDS` halves at `ADDRESSES` and the ports at `PORTS`, if the protocol at
    /// `PROTOCOL` is TCP.
    #[inline(always)]
    fn key<const ADDRESSES: usize, const WORDS: usize, const PROTOCOL: usize, const PORTS: usize>(
        context: &TcContext,
    ) -> Option<(RecordKey, u8)> {
        let (start, end) = (context.data(), context.data_end());
        if start + PORTS + 20 > end {
            return None;
        }
        let mut key = RecordKey {
            source: [0; 8],
            destination: [0; 8],
            ports: [0; 2],
            // SAFETY: the kernel gives the program a valid context.
            ifindex: unsafe { (*context.skb.skb).ifindex },
        };
        // SAFETY: the bytes lie before `data_end`; headers stand at even addresses.
        unsafe {
            if *((start + PROTOCOL) as *const u8) != TCP {
                return None;
            }
            let source = (start + ADDRESSES) as *const [u16; WORDS];
            *key.source.first_chunk_mut()? = *source;
            *key.destination.first_chunk_mut()? = *source.add(1);
            key.ports = *((start + PORTS) as *const [u16; 2]);
            Some((key, *((start + PORTS + 13) as *const u8)))
        }
    }

    #[inline(always)]
    fn count(context: &TcContext, key: &RecordKey, flags: u8) {
        // SAFETY: the helper takes nothing.
        let now = unsafe { bpf_ktime_get_ns() };
        let bytes = u64::from(context.len());
        if let Some(record) = RECORDS.get_ptr_mut(key) {
            // SAFETY: the value lives until after the program has ended.
            let record = unsafe { &mut *record };
            record.packets += 1;
            record.bytes += bytes;
            record.last_ns = now;
            record.flags |= u64::from(flags);
        } else {
            let record = Record { packets: 1, bytes, first_ns: now, last_ns: now, flags: u64::from(flags) };
            let _full = RECORDS.insert(key, &record, 0);
        }
    }

    #[inline(always)]
    fn ether_type(context: &TcContext) -> u16 {
        let (start, end) = (context.data(), context.data_end());
        if start + 14 > end {
            return 0;
        }
        // SAFETY: the bytes lie before `data_end`; the header stands at an even address.
        u16::from_be(unsafe { *((start + 12) as *const u16) })
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        // Nothing panics: the verifier would refuse the loop.
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
