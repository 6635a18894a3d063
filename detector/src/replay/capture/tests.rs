//! Captures of every kind, whole and broken.

use std::io::{self, Read};

use proptest::prelude::*;

use super::{Capture, CaptureError, MAX_RECORD};
use crate::replay::testing::{Blocks, pcap_head, pcap_record};

/// Time, data, length on the wire, direction.
type Read1 = (Option<u64>, Vec<u8>, usize, Option<bool>);

fn read(input: impl Read) -> (Vec<Read1>, Result<(), CaptureError>) {
    let mut packets = Vec::new();
    let result = Capture::open(input).and_then(|mut capture| {
        while let Some(packet) = capture.next()? {
            packets.push((packet.time, packet.data.to_vec(), packet.original_len, packet.received));
        }
        Ok(())
    });
    (packets, result)
}

fn whole(file: &[u8]) -> Vec<Read1> {
    let (packets, result) = read(file);
    result.unwrap();
    packets
}

fn error(file: &[u8]) -> String {
    let (_, result) = read(file);
    result.unwrap_err().to_string()
}

/// A reader that gives one byte at a time, and is interrupted before each.
struct Slow<'a>(&'a [u8], bool);

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = into.len().min(1);
        self.0.read(&mut into[..len])
    }
}

#[test]
fn pcap_is_read_in_both_byte_orders_and_resolutions() {
    for (magic, ns) in [(0xa1b2_c3d4_u32, 3_000_000_005_000), (0xa1b2_3c4d, 3_000_000_000_005)] {
        for order in [u32::to_le_bytes, u32::to_be_bytes] {
            let half =
                |value: u16| if order(1) == [1, 0, 0, 0] { value.to_le_bytes() } else { value.to_be_bytes() };
            let mut file = order(magic).to_vec();
            file.extend([half(2), half(4)].concat());
            file.extend([0, 0, 65_535, 1, 3000, 5, 2, 9].into_iter().flat_map(order));
            file.extend([7, 8]);
            let expected = vec![(Some(ns), vec![7, 8], 9, None)];
            assert_eq!(whole(&file), expected, "{magic:x}");
            let (packets, result) = read(Slow(&file, false));
            result.unwrap();
            assert_eq!(packets, expected);
        }
    }
}

#[test]
fn pcapng_is_read_in_both_byte_orders() {
    for big_endian in [false, true] {
        let blocks = Blocks { big_endian };
        let nanoseconds = blocks.option(9, &[9]);
        let halves = blocks.option(9, &[0x81]);
        let offset = blocks
            .option(14, if big_endian { &[0, 0, 0, 0, 0, 0, 0, 60] } else { &[60, 0, 0, 0, 0, 0, 0, 0] });
        let outgoing = blocks.option(2, &blocks.word(0xfff2));
        let file = [
            blocks.section(),
            blocks.interface(1, 0, &[]),
            // A block of a kind that is not looked at.
            blocks.block(0x0bad, &[1, 2, 3]),
            blocks.interface(1, 3, &[nanoseconds, blocks.option(0, &[])]),
            blocks.interface(1, 0, &[halves, offset]),
            blocks.packet(0, 5_000_000_007, &[1], &[]),
            blocks.packet(1, 5_000_000_007, &[2, 2], &[outgoing]),
            blocks.packet(2, 3, &[3, 3, 3, 3, 3], &[]),
            blocks.simple(2, &[4, 4]),
            // A new section has interfaces of its own.
            blocks.section(),
            blocks.interface(1, 2, &[]),
            blocks.simple(5, &[5, 5]),
        ];
        let expected = vec![
            (Some(5_000_000_007_000), vec![1], 1, None),
            (Some(5_000_000_007), vec![2, 2], 2, Some(false)),
            (Some(61_500_000_000), vec![3; 5], 5, None),
            (None, vec![4, 4], 2, None),
            (None, vec![5, 5], 5, None),
        ];
        assert_eq!(whole(&file.concat()), expected, "big endian: {big_endian}");
    }
}

#[test]
fn sections_of_both_byte_orders_may_follow_one_another() {
    let [little, big] = [false, true].map(|big_endian| {
        let blocks = Blocks { big_endian };
        [blocks.section(), blocks.interface(1, 0, &[]), blocks.packet(0, 1, &[1], &[])].concat()
    });
    assert_eq!(whole(&[little.clone(), big, little].concat()).len(), 3);
}

#[test]
fn a_packet_longer_than_the_window_is_read() {
    let long = vec![7; 600 * 1024];
    let file = [pcap_head(1), pcap_record((0, 0), &long, long.len()), pcap_record((0, 0), &[1], 1)].concat();
    let packets = whole(&file);
    assert_eq!((packets[0].1.len(), packets[1].1.len()), (long.len(), 1));
}

#[test]
fn a_capture_that_is_cut_anywhere_gives_what_came_before_and_says_where() {
    let blocks = Blocks { big_endian: false };
    let pcap = vec![pcap_head(1), pcap_record((0, 0), &[1, 2], 2), pcap_record((0, 0), &[3], 3)];
    let pcapng = vec![
        [blocks.section(), blocks.interface(1, 0, &[])].concat(),
        blocks.packet(0, 1, &[1, 2], &[]),
        blocks.packet(0, 1, &[3], &[]),
    ];
    for parts in [pcap, pcapng] {
        let (file, starts) = parts.iter().fold((Vec::new(), Vec::new()), |(mut file, mut starts), part| {
            starts.push(file.len());
            file.extend(part);
            (file, starts)
        });
        for cut in starts[1]..file.len() {
            let (packets, result) = read(&file[..cut]);
            let begun = starts.iter().rposition(|start| *start <= cut).unwrap();
            assert_eq!(packets.len(), begun - 1, "cut at {cut}");
            match result {
                Ok(()) => assert_eq!(cut, starts[begun]),
                Err(CaptureError::Truncated { at, there, .. }) => {
                    assert_eq!((at as usize, there), (starts[begun], cut - starts[begun]));
                }
                Err(other) => panic!("cut at {cut}: {other}"),
            }
        }
        assert_eq!(whole(&file).len(), 2);
        for cut in 1..24 {
            assert!(
                matches!(read(&file[..cut]).1, Err(CaptureError::Truncated { at: 0, .. })),
                "cut at {cut}"
            );
        }
    }
}

#[test]
fn what_is_no_capture_is_named() {
    let lz4 = "compressed with lz4: pipe it through `lz4 -dc FILE | plainsight replay -`";
    for (file, expected) in [
        (&b""[..], "the capture is empty"),
        (b"GET / HTTP/1.1\r\n\r\n        ", "neither pcap nor pcapng: it begins with [47, 45, 54, 20]"),
        (b"no", "at byte 0: the capture ends within the head that begins here, after 2 bytes of it"),
        (&[0x04, 0x22, 0x4d, 0x18, 0], lz4),
        (&pcap_head(105), "link type 105 is not read; Ethernet, Linux cooked v1 and v2, and raw IP are"),
    ] {
        assert_eq!(error(file), expected);
    }
}

#[test]
fn what_contradicts_itself_is_named_with_its_offset() {
    let blocks = Blocks { big_endian: false };
    let head = [blocks.section(), blocks.interface(1, 0, &[])].concat();
    let at = head.len();
    let mut long = blocks.packet(0, 1, &[1], &[]);
    // The packet is said to be longer than its block.
    long[20] = 200;
    let mut tail = blocks.packet(0, 1, &[1], &[]);
    // The length behind the body is another than the one before it.
    *tail.last_mut().unwrap() = 1;
    let mut order = blocks.section();
    order[8] = 0;
    for (block, why) in [
        (long, "a block that contradicts itself"),
        (tail, "a block that contradicts itself"),
        (order, "a section without a byte order"),
        (blocks.packet(7, 1, &[1], &[]), "a packet of interface 7, which is not described"),
        ([6, 0, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0].to_vec(), "a block of 13 bytes"),
        ([6, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0].to_vec(), "a block of 8 bytes"),
        ([6, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0].to_vec(), "a block of 2147483648 bytes"),
    ] {
        assert_eq!(
            error(&[&head[..], &block].concat()),
            format!("at byte {at}: the capture is corrupt: {why}")
        );
    }
    let mut record = pcap_record((0, 0), &[], 0);
    record[8..12].copy_from_slice(&u32::try_from(MAX_RECORD).unwrap().to_le_bytes());
    let file = [pcap_head(1), record].concat();
    assert_eq!(error(&file), "at byte 24: the capture is corrupt: a record of 16777216 bytes");
}

#[test]
fn an_input_that_fails_is_named_with_its_offset_and_cause() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is on fire"))
        }
    }
    let file = [pcap_head(1), pcap_record((0, 0), &[1, 2, 3], 3)].concat();
    let (packets, result) = read(file.chain(Failing));
    assert_eq!(packets.len(), 1);
    let error = anyhow::Error::new(result.unwrap_err());
    assert_eq!(format!("{error:#}"), "at byte 43: read: the disk is on fire");
}

trait Chained {
    fn chain(&self, next: impl Read) -> impl Read;
}

impl Chained for Vec<u8> {
    fn chain(&self, next: impl Read) -> impl Read {
        Read::chain(&self[..], next)
    }
}

#[test]
fn times_that_no_clock_shows_are_clamped() {
    let blocks = Blocks { big_endian: false };
    let seconds = blocks.option(9, &[0]);
    let past = blocks.option(14, &i64::MIN.to_le_bytes());
    let absurd = blocks.option(9, &[0x7f]);
    let file = [
        blocks.section(),
        blocks.interface(1, 0, &[seconds]),
        blocks.interface(1, 0, &[past]),
        blocks.interface(1, 0, &[absurd]),
        blocks.packet(0, u64::MAX, &[1], &[]),
        blocks.packet(1, 1, &[1], &[]),
        blocks.packet(2, u64::MAX, &[1], &[]),
    ];
    let times: Vec<_> = whole(&file.concat()).into_iter().map(|(time, ..)| time.unwrap()).collect();
    assert_eq!(times, [i64::MAX.cast_unsigned(), 0, 0]);
}

proptest! {
    #[test]
    fn any_bytes_end_in_packets_or_an_error(
        newer in any::<bool>(),
        tail in prop::collection::vec(any::<u8>(), 0..400),
        broken in 0_usize..200,
        with in any::<u8>(),
    ) {
        let blocks = Blocks { big_endian: false };
        let mut file = if newer {
            [blocks.section(), blocks.interface(1, 0, &[]), blocks.packet(0, 1, &[1, 2, 3], &[])].concat()
        } else {
            [pcap_head(1), pcap_record((0, 0), &[1, 2, 3], 3)].concat()
        };
        if let Some(byte) = file.get_mut(broken) {
            *byte = with;
        }
        file.extend(tail);
        let (packets, _result) = read(&file[..]);
        prop_assert!(packets.len() <= file.len());
    }
}
