//! Owns a watch: the objects that are there, if asked for, then changes and bookmarks, a line each.

#![expect(clippy::indexing_slicing, reason = "members of JSON objects are set by name, which cannot fail")]

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream};
use serde::Serialize;
use serde_json::json;
use tokio::{sync::watch as signal, time::Instant};

use super::{
    Shared,
    answer::{self, Shaped},
    count::Open,
    fault::Fault,
    objects::{Resource, Stored},
    request::Wanted,
};

const HALF_A_LINE: &[u8] = b"{\"type\":\"MODIFIED\",\"object\":{\"ki";

pub(super) struct Watch {
    shared: Arc<Shared>,
    resource: Resource,
    wanted: Wanted,
    ending: Option<Fault>,
    lines: VecDeque<Bytes>,
    /// The version up to which the client knows.
    at: u64,
    until: Option<Instant>,
    bookmark: Instant,
    changed: signal::Receiver<u64>,
    hang_up: signal::Receiver<u64>,
    over: bool,
    _open: Open,
}

impl Watch {
    pub(super) fn open(
        shared: Arc<Shared>,
        resource: Resource,
        wanted: Wanted,
        ending: Option<Fault>,
    ) -> Self {
        let now = Instant::now();
        let timeout = wanted.timeout.map(Duration::from_secs);
        let fault = match &ending {
            Some(Fault::CloseWatch(after) | Fault::CutWatch(after)) => Some(*after),
            _ => None,
        };
        let mut hang_up = shared.hang_up.subscribe();
        hang_up.mark_unchanged();
        let bookmark = now + shared.state().bookmark_every;
        let mut watch = Self {
            changed: shared.changed.subscribe(),
            hang_up,
            until: timeout.into_iter().chain(fault).min().map(|after| now + after),
            bookmark,
            _open: shared.counts.watch(),
            shared,
            resource,
            wanted,
            ending,
            lines: VecDeque::new(),
            at: 0,
            over: false,
        };
        watch.begin();
        watch
    }

    /// The lines, until the watch ends.
    pub(super) fn lines(self) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + Sync {
        stream::unfold(self, |mut watch| async move {
            let line = watch.next().await?;
            Some((line, watch))
        })
    }

    fn begin(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        let now = state.objects.version();
        let compacted = state.objects.compacted();
        let initial = state.minor >= 27 && self.wanted.send_initial_events;
        if matches!(self.ending, Some(Fault::ExpireWatch)) {
            return self.expire(self.wanted.resource_version.clone().unwrap_or_default(), now);
        }
        match self.wanted.resource_version.clone() {
            Some(version) if version != "0" && !initial => match version.parse::<u64>() {
                Ok(at) if at < compacted => self.expire(version, now),
                Ok(at) => self.at = at,
                Err(_no_number) => self.expire(version, now),
            },
            _ => {
                let Some(collection) = state.objects.collection(&self.resource.full_name()) else {
                    self.over = true;
                    return;
                };
                let objects: Vec<_> = collection
                    .objects
                    .values()
                    .filter(|object| self.wanted.selects(object))
                    .cloned()
                    .collect();
                for object in objects {
                    self.push_object("ADDED", &object);
                }
                self.at = now;
                if initial {
                    self.push_bookmark(true);
                }
            }
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, io::Error>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(Ok(line));
            }
            if self.over {
                return None;
            }
            self.catch_up();
            if !self.lines.is_empty() || self.over {
                continue;
            }
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { return None },
                () = sleep_until(self.until) => {
                    self.over = true;
                    match self.ending {
                        // The half line goes out first, and then the connection breaks.
                        Some(Fault::CutWatch(_)) => {
                            self.over = false;
                            self.ending = Some(Fault::HangUp);
                            self.until = Some(Instant::now() + Duration::from_millis(5));
                            self.lines.push_back(Bytes::from_static(HALF_A_LINE));
                        }
                        Some(Fault::HangUp) => return Some(Err(io::ErrorKind::ConnectionReset.into())),
                        _ if self.wanted.bookmarks => self.push_bookmark(false),
                        _ => {}
                    }
                }
                _ = self.hang_up.changed() => self.over = true,
                () = tokio::time::sleep_until(self.bookmark), if self.wanted.bookmarks => {
                    self.push_bookmark(false);
                    self.bookmark = Instant::now() + self.shared.state().bookmark_every;
                }
            }
        }
    }

    /// Takes in what has changed since.
    fn catch_up(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        let now = state.objects.version();
        let Some(collection) = state.objects.collection(&self.resource.full_name()) else {
            self.over = true;
            return;
        };
        let first = collection.history.partition_point(|change| change.version <= self.at);
        let changes: Vec<_> = collection.history.range(first..).cloned().collect();
        for change in changes {
            if self.wanted.selects(&change.object) {
                self.push_object(change.verb, &change.object);
            }
        }
        self.at = self.at.max(now);
    }

    fn push(&mut self, kind: &str, object: &impl Serialize) {
        self.lines.push_back(line(kind, object));
    }

    fn push_object(&mut self, kind: &str, object: &Stored) {
        let Self { resource, wanted, .. } = &*self;
        let line = line(kind, &Shaped { object, resource, wanted, named: true });
        self.lines.push_back(line);
    }

    fn push_bookmark(&mut self, ends_initial: bool) {
        let (kind, api_version) = if self.wanted.metadata_only {
            ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned())
        } else {
            (self.resource.kind.clone(), self.resource.api_version(&self.wanted.version))
        };
        let mut metadata = json!({ "resourceVersion": self.at.to_string() });
        if ends_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        self.push("BOOKMARK", &json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata }));
    }

    fn expire(&mut self, version: String, now: u64) {
        let message = format!("too old resource version: {version} ({now})");
        let status = answer::failure(410, "Expired", &message, &json!({}));
        self.push("ERROR", &status);
        self.over = true;
    }
}

fn line(kind: &str, object: &impl Serialize) -> Bytes {
    // JSON with text for keys: it can always be written.
    let object = serde_json::to_string(object).unwrap_or_default();
    Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n"))
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
