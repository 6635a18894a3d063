//! Owns the reading of captures in the classic pcap format, either byte order, micro- and nanoseconds.
//!
//! The tests need no more than their own files; the formats that users bring are the detector's business.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};

const LINK_ETHERNET: u32 = 1;

/// One captured frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When, since the epoch.
    pub at: Duration,
    /// The frame, from the Ethernet header on.
    pub frame: Vec<u8>,
}

/// The folder of the captures that come with the tests.
#[must_use]
pub fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/captures"))
}

/// The names of the captures in [`folder`], in order.
///
/// # Errors
///
/// The folder cannot be read.
pub fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder()).with_context(|| format!("read {}", folder().display()))? {
        let name = entry.with_context(|| format!("read {}", folder().display()))?.file_name();
        names.extend(name.into_string().ok().filter(|name| name.ends_with(".pcap")));
    }
    names.sort();
    Ok(names)
}

/// Reads every frame of a capture in [`folder`].
///
/// # Errors
///
/// The file cannot be read, or it is no whole Ethernet capture.
pub fn read(name: &str) -> Result<Vec<Captured>> {
    let path = folder().join(name);
    let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    parse(&bytes).with_context(|| format!("parse {}", path.display()))
}

fn parse(bytes: &[u8]) -> Result<Vec<Captured>> {
    let (magic, rest) = bytes.split_first_chunk::<4>().context("no magic number")?;
    let (number, nanoseconds): (fn([u8; 4]) -> u32, bool) = match u32::from_le_bytes(*magic) {
        0xa1b2_c3d4 => (u32::from_le_bytes, false),
        0xa1b2_3c4d => (u32::from_le_bytes, true),
        0xd4c3_b2a1 => (u32::from_be_bytes, false),
        0x4d3c_b2a1 => (u32::from_be_bytes, true),
        magic => bail!("{magic:#x} is not the magic number of a pcap file"),
    };
    // Version, time zone, accuracy and snap length say nothing that the records do not.
    let (_, rest) = rest.split_first_chunk::<16>().context("the header is cut short")?;
    let (link, mut rest) = rest.split_first_chunk::<4>().context("the header is cut short")?;
    if number(*link) != LINK_ETHERNET {
        bail!("link type {} is not Ethernet", number(*link));
    }
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let mut field = || {
            let (field, tail) = rest.split_first_chunk::<4>().context("a record is cut short")?;
            rest = tail;
            anyhow::Ok(number(*field))
        };
        let (seconds, fraction, captured, original) = (field()?, field()?, field()?, field()?);
        let length = usize::try_from(captured)?;
        let (frame, tail) = rest.split_at_checked(length).context("a frame is cut short")?;
        if captured != original {
            bail!("frame {} was captured in part", frames.len());
        }
        let fraction = if nanoseconds { fraction } else { fraction * 1000 };
        frames.push(Captured { at: Duration::new(seconds.into(), fraction), frame: frame.to_vec() });
        rest = tail;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::{names, read};

    #[test]
    fn every_capture_in_the_folder_is_read_whole() {
        let names = names().unwrap();
        for name in &names {
            let frames = read(name).unwrap();
            assert!(frames.is_sorted_by_key(|frame| frame.at), "{name}");
            assert!(frames.iter().all(|frame| frame.frame.len() >= 54), "{name}");
        }
        assert!(names.len() >= 11);
    }
}
