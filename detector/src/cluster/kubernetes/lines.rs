//! Owns the reading of bodies: whole within a limit, or line by line. Silence in the middle is a failure.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use kube::client::Body;

use super::failure::Failure;

/// No object comes near: etcd holds 1.5 MiB at most.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// A list without pages, of a server that ignores the limit, may be large; this is a bound, not an expectation.
const LARGEST_BODY: usize = 1024 * 1024 * 1024;

/// A body as lines.
#[derive(Debug)]
pub(super) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// Up to where there is no line feed.
    searched: usize,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line, without its end, if it is in already.
    pub(super) fn ready(&mut self) -> Option<Bytes> {
        loop {
            let found = self.buffer.get(self.searched..)?.iter().position(|byte| *byte == b'\n');
            let Some(at) = found else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + at).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }

    /// Waits for more; `false` at the end.
    pub(super) async fn more(&mut self, silence: Duration) -> Result<bool, Failure> {
        let Some(data) = next(&mut self.body, silence).await? else { return Ok(false) };
        if self.buffer.len() + data.len() > LONGEST_LINE {
            return Err(Failure::Garbage("a line without an end".to_owned()));
        }
        self.buffer.extend_from_slice(&data);
        Ok(true)
    }
}

/// The whole of a body.
pub(super) async fn whole(mut body: Body, silence: Duration, heard: impl Fn()) -> Result<BytesMut, Failure> {
    let mut all = BytesMut::new();
    while let Some(data) = next(&mut body, silence).await? {
        heard();
        if all.len() + data.len() > LARGEST_BODY {
            return Err(Failure::Garbage("an answer without an end".to_owned()));
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}

async fn next(body: &mut Body, silence: Duration) -> Result<Option<Bytes>, Failure> {
    loop {
        let frame = match tokio::time::timeout(silence, body.frame()).await {
            Err(_elapsed) => return Err(Failure::Silent(silence)),
            Ok(None) => return Ok(None),
            Ok(Some(frame)) => frame.map_err(Failure::from)?,
        };
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
}
