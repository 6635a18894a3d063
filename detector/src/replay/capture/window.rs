//! Owns the window: the part of the input that is in memory, and its offset.

use std::io::{ErrorKind, Read};

use super::{CaptureError, MAX_RECORD};

/// What is read at once, and the memory that captures of ordinary packets take.
const SIZE: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Window<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
}

impl<R: Read> Window<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, buffer: vec![0; SIZE], start: 0, end: 0, offset: 0 }
    }

    /// Offset of the window's first byte.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// What is in the window.
    pub(super) fn data(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Reads until `len` bytes are in the window; false if the input ends before.
    pub(super) fn fill(&mut self, len: usize) -> Result<bool, CaptureError> {
        debug_assert!(len <= MAX_RECORD);
        if self.end - self.start >= len {
            return Ok(true);
        }
        if self.start + len > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if len > self.buffer.len() {
                self.buffer.resize(len, 0);
            }
        }
        while self.end - self.start < len {
            let space = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.reader.read(space) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => {
                    let at = self.offset + self.data().len() as u64;
                    return Err(CaptureError::Read { at, source });
                }
            }
        }
        Ok(true)
    }

    /// Reads until a whole record of `len` bytes is in the window, and moves past it.
    pub(super) fn take(&mut self, what: &'static str, len: usize) -> Result<&[u8], CaptureError> {
        if !self.fill(len)? {
            let there = self.data().len();
            return Err(CaptureError::Truncated { at: self.offset, what, there });
        }
        let from = self.start;
        self.start += len;
        self.offset += len as u64;
        Ok(self.buffer.get(from..self.start).unwrap_or_default())
    }
}
