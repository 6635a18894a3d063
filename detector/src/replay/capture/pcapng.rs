//! Owns the newer format: sections of blocks, with any number of interfaces each.

use std::io::Read;

use pcap_parser::{
    Block, EPB_MAGIC, IDB_MAGIC, InterfaceDescriptionBlock, OptionCode, PcapNGOption, SHB_MAGIC, SPB_MAGIC,
    parse_block_be, parse_block_le, traits::PcapNGPacketBlock as _,
};

use super::{CaptureError, MAX_RECORD, Packet, Window};
use crate::replay::link::Link;

/// Type, length, and the length again after the body; in a section's head the byte order stands between.
const LEAST: usize = 12;
/// `0x1a2b3c4d` as a little-endian section has it.
const LITTLE_ENDIAN: [u8; 4] = [0x4d, 0x3c, 0x2b, 0x1a];
const BIG_ENDIAN: [u8; 4] = [0x1a, 0x2b, 0x3c, 0x4d];

/// Interfaces of one section; `-i any` on a node of 1,000 pods has as many.
const MAX_INTERFACES: usize = 65_536;

/// Option of an interface: bytes of frame check sequence behind each packet.
const IF_FCSLEN: OptionCode = OptionCode(13);
/// Option of a packet: its low two bits say which way it went, 1 in and 2 out.
const EPB_FLAGS: OptionCode = OptionCode(2);

/// Times are clamped to what `i64` nanoseconds hold: the year 2262.
const MAX_TIME: i128 = i64::MAX as i128;

/// The section that is read.
#[derive(Debug, Default)]
pub(super) struct PcapNg {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

#[derive(Debug)]
struct Interface {
    link: Result<Link, u32>,
    /// Bytes of a packet that are captured at the most; 0 for all.
    snap_len: usize,
    units_per_second: u128,
    offset_seconds: i64,
}

impl PcapNg {
    pub(super) fn next<'w, R: Read>(
        &mut self,
        window: &'w mut Window<R>,
    ) -> Result<Option<Packet<'w>>, CaptureError> {
        let len = loop {
            let Some((kind, len)) = self.head(window)? else { return Ok(None) };
            if kind == EPB_MAGIC || kind == SPB_MAGIC {
                break len;
            }
            let at = window.offset();
            let bytes = window.take("block", len)?;
            if kind == SHB_MAGIC {
                // Its byte order was read with its head. Interfaces are numbered in each section.
                parse(self.big_endian, at, bytes)?;
                self.interfaces.clear();
            } else if kind == IDB_MAGIC {
                let Block::InterfaceDescription(block) = parse(self.big_endian, at, bytes)? else {
                    return Err(contradiction(at));
                };
                if self.interfaces.len() >= MAX_INTERFACES {
                    let why = format!("more than {MAX_INTERFACES} interfaces");
                    return Err(CaptureError::Corrupt { at, why });
                }
                self.interfaces.push(Interface::of(&block, self.big_endian));
            }
        };
        let at = window.offset();
        let block = parse(self.big_endian, at, window.take("block", len)?)?;
        let interface = |id: u32| {
            self.interfaces.get(id as usize).ok_or_else(|| CaptureError::Corrupt {
                at,
                why: format!("a packet of interface {id}, which is not described"),
            })
        };
        Ok(Some(match block {
            Block::EnhancedPacket(block) => {
                let interface = interface(block.if_id)?;
                let time = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
                Packet {
                    link: interface.link,
                    time: Some(interface.nanoseconds(time)),
                    data: block.data.get(..block.caplen as usize).unwrap_or(block.data),
                    original_len: block.origlen as usize,
                    received: option::<4>(&block.options, EPB_FLAGS).and_then(|flags| {
                        let flags = if block.big_endian() {
                            u32::from_be_bytes(flags)
                        } else {
                            u32::from_le_bytes(flags)
                        };
                        match flags & 3 {
                            1 => Some(true),
                            2 => Some(false),
                            _ => None,
                        }
                    }),
                }
            }
            Block::SimplePacket(block) => {
                let interface = interface(0)?;
                let original_len = block.origlen as usize;
                let limit = if interface.snap_len == 0 { usize::MAX } else { interface.snap_len };
                // What is behind is padding.
                let captured = original_len.min(limit);
                Packet {
                    link: interface.link,
                    time: None,
                    data: block.data.get(..captured).unwrap_or(block.data),
                    original_len,
                    received: None,
                }
            }
            _ => return Err(contradiction(at)),
        }))
    }

    /// The next block's type and length.
    fn head<R: Read>(&mut self, window: &mut Window<R>) -> Result<Option<(u32, usize)>, CaptureError> {
        let at = window.offset();
        if !window.fill(LEAST)? {
            return match window.data().len() {
                0 => Ok(None),
                there => Err(CaptureError::Truncated { at, what: "block", there }),
            };
        }
        let word = |at: usize| {
            window.data().get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default()
        };
        // The same in both byte orders.
        if word(0) == SHB_MAGIC.to_be_bytes() {
            self.big_endian = match word(8) {
                LITTLE_ENDIAN => false,
                BIG_ENDIAN => true,
                _ => {
                    return Err(CaptureError::Corrupt {
                        at,
                        why: "a section without a byte order".to_owned(),
                    });
                }
            };
        }
        let number =
            |bytes| if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        let (kind, len) = (number(word(0)), number(word(4)));
        let believed = len as usize;
        if !(LEAST..=MAX_RECORD).contains(&believed) || !len.is_multiple_of(4) {
            return Err(CaptureError::Corrupt { at, why: format!("a block of {len} bytes") });
        }
        Ok(Some((kind, believed)))
    }
}

fn parse(big_endian: bool, at: u64, bytes: &[u8]) -> Result<Block<'_>, CaptureError> {
    let parsed = if big_endian { parse_block_be(bytes) } else { parse_block_le(bytes) };
    // The whole block is there: one that wants more bytes has a length inside that is wrong.
    parsed.map(|(_rest, block)| block).map_err(|_why| contradiction(at))
}

fn contradiction(at: u64) -> CaptureError {
    CaptureError::Corrupt { at, why: "a block that contradicts itself".to_owned() }
}

/// The value of an option, if it is of its length.
fn option<const N: usize>(options: &[PcapNGOption<'_>], code: OptionCode) -> Option<[u8; N]> {
    let option = options.iter().find(|option| option.code == code && usize::from(option.len) == N)?;
    option.value().first_chunk().copied()
}

impl Interface {
    fn of(block: &InterfaceDescriptionBlock<'_>, big_endian: bool) -> Self {
        let code = block.linktype.0.cast_unsigned();
        let fcs = option::<1>(&block.options, IF_FCSLEN).map_or(0, |[len]| usize::from(len));
        let resolution = option::<1>(&block.options, OptionCode::IfTsresol).map_or(6, |[value]| value);
        let exponent = u32::from(resolution & 0x7f);
        let units =
            if resolution & 0x80 == 0 { 10_u128.checked_pow(exponent) } else { 1_u128.checked_shl(exponent) };
        let offset = option::<8>(&block.options, OptionCode::IfTsoffset).map_or(0, |bytes| {
            if big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) }
        });
        Self {
            link: Link::of(code, fcs).ok_or(code),
            snap_len: block.snaplen as usize,
            // A resolution that no clock has leaves every time at the offset.
            units_per_second: units.unwrap_or(u128::MAX),
            offset_seconds: offset,
        }
    }

    fn nanoseconds(&self, time: u64) -> u64 {
        let since = u128::from(time) * 1_000_000_000 / self.units_per_second;
        let since = i128::try_from(since).unwrap_or(MAX_TIME).min(MAX_TIME);
        let time = since + i128::from(self.offset_seconds) * 1_000_000_000;
        u64::try_from(time.clamp(0, MAX_TIME)).unwrap_or_default()
    }
}
