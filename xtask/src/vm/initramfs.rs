//! Owns the first file system of a machine: an archive of the kind that the kernel unpacks itself.
//!
//! The format is `newc` (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst): a header of
//! hexadecimal numbers, the name, and the content, each filled up to a multiple of four bytes.

use anyhow::{Context as _, Result};

/// `S_IFDIR` and `S_IFREG` of `stat.h`, with everything allowed.
const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
/// The name that ends an archive.
const END: &str = "TRAILER!!!";

/// An archive that is being made.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    pub(super) fn folder(&mut self, name: &str) -> Result<()> {
        self.entry(name, FOLDER, &[])
    }

    pub(super) fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.entry(name, FILE, content)
    }

    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(END, 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        let number = |count: usize| u32::try_from(count).context("the archive's files have 32-bit sizes");
        self.entries += 1;
        let (links, user, time, device) = (1, 0, 0, 0);
        let fields = [
            self.entries,
            mode,
            user,
            user,
            links,
            time,
            number(content.len())?,
            device,
            device,
            device,
            device,
            number(name.len() + 1)?,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.fill();
        self.bytes.extend_from_slice(content);
        self.fill();
        Ok(())
    }

    fn fill(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn every_part_of_an_archive_begins_at_a_multiple_of_four() {
        let mut archive = Archive::default();
        archive.folder("dev").unwrap();
        archive.file("init", b"#!").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let headers: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(headers, [0, 116, 236]);
        // Mode of the folder, and size of the file.
        assert_eq!(text.get(14..22), Some("000041ED"));
        assert_eq!(text.get(116 + 54..116 + 62), Some("00000002"));
    }
}
