//! Owns the reading of capture files: pcap in both byte orders and resolutions, and pcapng.
//!
//! pcap-parser takes records and blocks apart. The window that they stand in is ours, for the crate's own
//! readers lose the I/O error and cannot tell a block that contradicts itself from a file that ends early. A
//! capture is read from its first byte to its last, never sought in and never held: memory is the longest
//! record's, and no record is believed to be longer than [`MAX_RECORD`].

mod pcap;
mod pcapng;
#[cfg(test)]
mod tests;
mod window;

use std::io::{self, Read};

use self::{pcap::Pcap, pcapng::PcapNg, window::Window};
use super::link::Link;

/// The longest record or block that is believed; Wireshark's limit for blocks. The longest packets of Linux
/// (BIG TCP) have 512 KiB.
pub(super) const MAX_RECORD: usize = 16 * 1024 * 1024;

/// A packet of a capture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// What stands before its IP header; `Err` with the number of a link type that is not read.
    pub(super) link: Result<Link, u32>,
    /// When it was captured, in nanoseconds since 1970; simple packet blocks do not say.
    pub(super) time: Option<u64>,
    /// What was captured of it.
    pub(super) data: &'a [u8],
    /// How long it was on the wire.
    pub(super) original_len: usize,
    /// Whether the machine that captured it received it, where the capture says so.
    pub(super) received: Option<bool>,
}

/// Why a capture cannot be read on. Offsets count from the capture's first byte.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// There is no byte.
    #[error("the capture is empty")]
    Empty,
    /// It is no capture.
    #[error("neither pcap nor pcapng: it begins with {0:02x?}")]
    Unrecognised([u8; 4]),
    /// It is compressed.
    #[error("compressed with {program}: pipe it through `{program} -dc FILE | plainsight replay -`")]
    Compressed {
        /// What decompresses it.
        program: &'static str,
    },
    /// No packet of the capture could be read.
    #[error("link type {0} is not read; Ethernet, Linux cooked v1 and v2, and raw IP are")]
    LinkType(u32),
    /// The input failed.
    #[error("at byte {at}: read")]
    Read {
        /// Offset.
        at: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The capture ends too early: the disk was full, or whoever wrote it was killed.
    #[error("at byte {at}: the capture ends within the {what} that begins here, after {there} bytes of it")]
    Truncated {
        /// Offset of the record or block.
        at: u64,
        /// A record or a block.
        what: &'static str,
        /// How much of it is there.
        there: usize,
    },
    /// The capture contradicts itself.
    #[error("at byte {at}: the capture is corrupt: {why}")]
    Corrupt {
        /// Offset of the record or block.
        at: u64,
        /// What is wrong.
        why: String,
    },
}

/// A capture that is read packet by packet.
#[derive(Debug)]
pub(super) struct Capture<R> {
    window: Window<R>,
    format: Format,
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

impl<R: Read> Capture<R> {
    /// Reads the head of a capture.
    pub(super) fn open(reader: R) -> Result<Self, CaptureError> {
        let mut window = Window::new(reader);
        let whole = window.fill(4)?;
        let Some(magic) = window.data().first_chunk::<4>().copied() else {
            debug_assert!(!whole);
            return Err(match window.data() {
                [] => CaptureError::Empty,
                some => CaptureError::Truncated { at: 0, what: "head", there: some.len() },
            });
        };
        let format = match magic {
            [0x0a, 0x0d, 0x0d, 0x0a] => Format::PcapNg(PcapNg::default()),
            [0x1f, 0x8b, ..] => return Err(CaptureError::Compressed { program: "gzip" }),
            [b'B', b'Z', b'h', ..] => return Err(CaptureError::Compressed { program: "bzip2" }),
            [0x28, 0xb5, 0x2f, 0xfd] => return Err(CaptureError::Compressed { program: "zstd" }),
            [0xfd, b'7', b'z', b'X'] => return Err(CaptureError::Compressed { program: "xz" }),
            [0x04, 0x22, 0x4d, 0x18] => return Err(CaptureError::Compressed { program: "lz4" }),
            magic => Format::Pcap(Pcap::open(&mut window, magic)?),
        };
        Ok(Self { window, format })
    }

    /// The next packet; `None` after the last.
    pub(super) fn next(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.window),
            Format::PcapNg(pcapng) => pcapng.next(&mut self.window),
        }
    }

    /// Offset of the next record or block.
    pub(super) fn offset(&self) -> u64 {
        self.window.offset()
    }
}
