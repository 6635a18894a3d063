//! Owns the older format: a head, and records that follow one another.

use std::io::Read;

use pcap_parser::{LegacyPcapBlock, PcapError, nom::IResult, pcap};

use super::{CaptureError, MAX_RECORD, Packet, Window};
use crate::replay::link::Link;

/// Length of the file's head.
const HEAD: usize = 24;

/// The low half of the head's link type; the high one tells of frame check sequences (pcap-savefile(5)).
const LINK_TYPE: u32 = 0xffff;
/// Bit of the link type: the length of the frame check sequence is given.
const FCS_KNOWN: u32 = 1 << 26;
/// The length of the frame check sequence in units of two bytes.
const FCS_SHIFT: u32 = 28;

type Parse = for<'a> fn(&'a [u8]) -> IResult<&'a [u8], LegacyPcapBlock<'a>, PcapError<&'a [u8]>>;

/// What the head says of all records.
#[derive(Debug)]
pub(super) struct Pcap {
    link: Link,
    big_endian: bool,
    /// Length of a record's head.
    record_head: usize,
    ns_per_unit: u64,
    parse: Parse,
}

impl Pcap {
    pub(super) fn open<R: Read>(window: &mut Window<R>, magic: [u8; 4]) -> Result<Self, CaptureError> {
        let head = match pcap::parse_pcap_header(if window.fill(HEAD)? { window.data() } else { &magic }) {
            Ok((_rest, head)) => head,
            Err(pcap_parser::nom::Err::Incomplete(_)) => {
                return Err(CaptureError::Truncated { at: 0, what: "head", there: window.data().len() });
            }
            Err(_other) => return Err(CaptureError::Unrecognised(magic)),
        };
        window.take("head", HEAD)?;
        let network = head.network.0.cast_unsigned();
        let code = network & LINK_TYPE;
        let fcs = if network & FCS_KNOWN == 0 { 0 } else { (network >> FCS_SHIFT) as usize * 2 };
        let link = Link::of(code, fcs).ok_or(CaptureError::LinkType(code))?;
        let modified = head.is_modified_format();
        Ok(Self {
            link,
            big_endian: head.is_bigendian(),
            record_head: if modified { 24 } else { 16 },
            ns_per_unit: if head.is_nanosecond_precision() { 1 } else { 1000 },
            parse: match (modified, head.is_bigendian()) {
                (true, _) => pcap::parse_pcap_frame_modified,
                (false, true) => pcap::parse_pcap_frame_be,
                (false, false) => pcap::parse_pcap_frame,
            },
        })
    }

    pub(super) fn next<'w, R: Read>(
        &self,
        window: &'w mut Window<R>,
    ) -> Result<Option<Packet<'w>>, CaptureError> {
        let at = window.offset();
        if !window.fill(self.record_head)? {
            return match window.data().len() {
                0 => Ok(None),
                there => Err(CaptureError::Truncated { at, what: "record", there }),
            };
        }
        // The record's third word is the length of what was captured.
        let word = window.data().get(8..).and_then(|rest| rest.first_chunk::<4>()).copied();
        let word = word.unwrap_or_default();
        let captured = if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) };
        if captured as usize > MAX_RECORD - self.record_head {
            return Err(CaptureError::Corrupt { at, why: format!("a record of {captured} bytes") });
        }
        let bytes = window.take("record", self.record_head + captured as usize)?;
        let Ok((_rest, record)) = (self.parse)(bytes) else {
            return Err(CaptureError::Corrupt { at, why: "a record that contradicts itself".to_owned() });
        };
        let LegacyPcapBlock { ts_sec, ts_usec, caplen: _, origlen, data } = record;
        let fraction = u64::from(ts_usec) * self.ns_per_unit;
        Ok(Some(Packet {
            link: Ok(self.link),
            time: Some(u64::from(ts_sec) * 1_000_000_000 + fraction),
            data,
            original_len: origlen as usize,
            received: None,
        }))
    }
}
