//! Owns one watch: list, watch, and list again when the server has forgotten where we were.
//!
//! A streaming list is a watch that begins with everything; where the server has none, pages come first. A
//! watch that ends is taken up where it ended. After a failure it waits, longer each time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Timing,
    access::{Connected, Connection},
    backoff::Backoff,
    failure::Failure,
    groups::Groups,
    health::{Cell, ResourceState},
    lines::Lines,
    request::{self, Begin, ListMeta, Page},
    resource::Resource,
    sink::Sink,
};
use crate::readiness::BlockReady;

/// Since Kubernetes 1.27 a server knows `sendInitialEvents`, be it only to refuse it; older ones ignore it,
/// and their watch would never say that everything has been told.
const KNOWS_STREAMING_LISTS: u32 = 27;

pub(super) struct Watch {
    resource: Arc<Resource>,
    connection: Connection,
    groups: Groups,
    sink: Box<dyn Sink>,
    health: Cell,
    timing: Timing,
    backoff: Backoff,
    refused: Backoff,
    /// Which of the resource's versions is asked for.
    version: usize,
    /// The resource version up to which all is known; `None` asks for a list.
    at: Option<String>,
    plain_lists: bool,
    /// Whether the server has said a bookmark: then silence means something.
    bookmarks: bool,
    ready: Option<Arc<BlockReady>>,
}

/// An event of a watch.
#[derive(Deserialize)]
struct Event<'a> {
    r#type: Type,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Type {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// What is read of every object: where it stands, and whether it ends a streaming list.
#[derive(Deserialize)]
struct Versioned {
    metadata: VersionedMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionedMeta {
    resource_version: String,
    #[serde(default)]
    annotations: Option<Marks>,
}

/// The mark of the bookmark that ends a streaming list, among annotations that are passed over.
#[derive(Deserialize)]
struct Marks {
    #[serde(rename = "k8s.io/initial-events-end", default)]
    initial_events_end: Option<String>,
}

impl Watch {
    pub(super) fn new(
        resource: Arc<Resource>,
        connection: Connection,
        groups: Groups,
        sink: Box<dyn Sink>,
        health: Cell,
        timing: Timing,
    ) -> Self {
        Self {
            resource,
            connection,
            groups,
            sink,
            health,
            timing,
            backoff: Backoff::new(timing.backoff_min, timing.backoff_max),
            refused: Backoff::new(timing.refused_retry, timing.refused_retry * 10),
            version: 0,
            at: None,
            plain_lists: false,
            bookmarks: false,
            ready: None,
        }
    }

    /// Goes on for ever; dropping it ends it.
    pub(super) async fn run(mut self, ready: Arc<BlockReady>) {
        self.ready = Some(ready);
        loop {
            let begun = Instant::now();
            let mut generation = 0;
            let ended = match self.connection.client().await {
                Ok(connected) => {
                    generation = connected.generation;
                    self.turn(&connected).await
                }
                Err(error) => Err(error.into()),
            };
            self.sink.flush();
            let lasted = begun.elapsed();
            if lasted >= self.timing.good_watch {
                self.backoff.reset();
            }
            let ended = match ended {
                // A server that closes at once would be asked without pause.
                Ok(()) if lasted < Duration::from_secs(1) => Err(Failure::Fleeting),
                ended => ended,
            };
            let Err(failure) = ended else { continue };
            self.health.failed(failure.label());
            if failure.wants_new_connection() {
                self.connection.renew(generation).await;
            }
            let wait = self.wait_after(&failure);
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// What to do about a failure, and how long to wait.
    fn wait_after(&mut self, failure: &Failure) -> Duration {
        let resource = self.resource.full_name();
        match failure {
            Failure::NoStreamingLists => {
                tracing::debug!(%resource, "no streaming lists here, reading pages");
                self.plain_lists = true;
                return Duration::ZERO;
            }
            Failure::Expired => {
                tracing::debug!(%resource, "the server has forgotten where the watch was, reading a new list");
                self.at = None;
                // Once is usual; again and again is a server in trouble.
                return self.backoff.next();
            }
            Failure::Absent if self.version + 1 < self.resource.versions.len() => {
                self.version += 1;
                return Duration::ZERO;
            }
            Failure::Absent => {
                if self.health.set(ResourceState::Absent) != ResourceState::Absent {
                    tracing::info!(%resource, "not installed; looked for again from time to time");
                    // With its CRD, its objects are gone.
                    self.sink.begin();
                    self.sink.end();
                }
                self.version = 0;
                self.at = None;
                self.ready = None;
                return self.refused.next();
            }
            Failure::Forbidden(why) => {
                if self.health.set(ResourceState::Forbidden) != ResourceState::Forbidden {
                    let rule = self.resource.rule();
                    tracing::error!(
                        %resource,
                        %rule,
                        why,
                        "may not be read; going on without it. The ClusterRole lacks this rule"
                    );
                }
                self.ready = None;
                return self.refused.next();
            }
            _ => {}
        }
        let wait = match failure {
            Failure::Busy { retry_after: Some(asked) } => {
                // Nobody sane asks for more, and an hour without news would be silence.
                let asked = (*asked).min(Duration::from_secs(300));
                asked + self.backoff.next()
            }
            _ => self.backoff.next(),
        };
        if matches!(failure, Failure::Fleeting) {
            tracing::debug!(%resource, ?wait, "{failure}");
            return wait;
        }
        if self.health.set(ResourceState::Failing) == ResourceState::Failing {
            tracing::debug!(%resource, ?wait, "{failure}");
        } else {
            tracing::warn!(%resource, ?wait, "watch failed, going on with what is known: {failure}");
        }
        wait
    }

    /// A list, if one is needed, and a watch until it ends.
    async fn turn(&mut self, connected: &Connected) -> Result<(), Failure> {
        if self.at.is_none() && self.resource.custom {
            self.choose_version(connected).await?;
        }
        if self.at.is_none() && !self.plain_lists {
            self.plain_lists = !knows_streaming_lists(connected, self.timing.silence).await?;
        }
        if self.at.is_none() && self.plain_lists {
            self.list(connected).await?;
        }
        let version = self.version();
        let begin = self.at.as_deref().map_or(Begin::Initial, Begin::After);
        let length = self.backoff.spread(self.timing.watch_length);
        let silence = self.timing.silence;
        let mut lines = request::watch(connected, &self.resource, version, begin, length, silence).await?;
        self.health.heard();
        if self.at.is_some() {
            self.watching();
        } else {
            self.sink.begin();
        }
        self.follow(&mut lines, length).await
    }

    /// Goes on to a version that the resource's group is served in, where that is known.
    async fn choose_version(&mut self, connected: &Connected) -> Result<(), Failure> {
        let Resource { group, versions, .. } = &*self.resource;
        let served = self.groups.versions(connected, group, self.timing.silence).await?;
        let Some(served) = served else { return Ok(()) };
        let is_served = |version: &&str| served.iter().any(|served| served == version);
        match versions.iter().skip(self.version).position(is_served) {
            Some(further) => {
                self.version += further;
                Ok(())
            }
            None => {
                self.version = versions.len().saturating_sub(1);
                Err(Failure::Absent)
            }
        }
    }

    /// Reads all pages.
    async fn list(&mut self, connected: &Connected) -> Result<(), Failure> {
        self.sink.begin();
        let mut token: Option<String> = None;
        loop {
            let (version, silence) = (self.version(), self.timing.silence);
            let health = &self.health;
            let heard = || health.heard();
            let text =
                request::page(connected, &self.resource, version, token.as_deref(), silence, heard).await?;
            let Page { metadata, items } = request::parse(&text)?;
            for item in items.into_iter().flatten() {
                self.apply(item);
            }
            let ListMeta { resource_version, token: next } = metadata;
            match next.filter(|token| !token.is_empty()) {
                Some(next) => token = Some(next),
                None => {
                    self.at = Some(resource_version);
                    self.listed();
                    return Ok(());
                }
            }
        }
    }

    /// Takes in what a watch says until it ends.
    async fn follow(&mut self, lines: &mut Lines, length: Duration) -> Result<(), Failure> {
        loop {
            while let Some(line) = lines.ready() {
                self.event(&line)?;
            }
            self.sink.flush();
            let silence = if self.at.is_none() {
                self.timing.silence
            } else if self.bookmarks {
                self.timing.watch_silence
            } else {
                length + self.timing.silence
            };
            if !lines.more(silence).await? {
                // In good order a streaming list ends after its bookmark only.
                return if self.at.is_some() { Ok(()) } else { Err(Failure::Fleeting) };
            }
            self.health.heard();
        }
    }

    fn event(&mut self, line: &[u8]) -> Result<(), Failure> {
        let Event { r#type, object } = request::parse(line)?;
        if r#type == Type::Error {
            let status: Status = request::parse(object.get().as_bytes())?;
            return Err(Failure::of_status(status.code, Some(&status), None));
        }
        let Versioned { metadata } = request::parse(object.get().as_bytes())?;
        match r#type {
            Type::Added | Type::Modified => self.apply(object),
            Type::Deleted => {
                let (resource, api_version) = (Arc::clone(&self.resource), self.api_version());
                if let Err(error) = self.sink.delete(&resource, &api_version, object.get()) {
                    self.unreadable(&error);
                }
            }
            Type::Bookmark => {
                self.bookmarks = true;
                let ends = metadata.annotations.and_then(|marks| marks.initial_events_end);
                if self.at.is_none() && ends.is_some_and(|ends| ends == "true") {
                    self.at = Some(metadata.resource_version);
                    self.listed();
                    self.watching();
                    return Ok(());
                }
            }
            Type::Error => {}
        }
        // Until the list is whole, there is no place to go on from.
        if self.at.is_some() {
            self.at = Some(metadata.resource_version);
        }
        Ok(())
    }

    fn apply(&mut self, object: &RawValue) {
        let (resource, api_version) = (Arc::clone(&self.resource), self.api_version());
        if let Err(error) = self.sink.apply(&resource, &api_version, object.get()) {
            self.unreadable(&error);
        }
    }

    fn unreadable(&self, error: &super::super::wire::DecodeError) {
        let resource = self.resource.full_name();
        // One tells what is wrong; ten thousand would tell no more.
        if self.health.unreadable() == 1 {
            tracing::warn!(%resource, %error, "an object cannot be read; others are counted only");
        } else {
            tracing::debug!(%resource, %error, "an object cannot be read");
        }
    }

    fn listed(&mut self) {
        self.sink.end();
        self.health.listed();
        self.ready = None;
        tracing::debug!(resource = %self.resource.full_name(), at = self.at.as_deref(), "whole list");
    }

    fn watching(&mut self) {
        let before = self.health.set(ResourceState::Watching);
        self.refused.reset();
        if !matches!(before, ResourceState::Watching | ResourceState::Starting) {
            tracing::info!(resource = %self.resource.full_name(), was = before.as_str(), "watching again");
        }
    }

    fn version(&self) -> &'static str {
        self.resource.versions.get(self.version).copied().unwrap_or("v1")
    }

    fn api_version(&self) -> String {
        self.resource.api_version(self.version())
    }
}

async fn knows_streaming_lists(connected: &Connected, silence: Duration) -> Result<bool, Failure> {
    match request::minor_version(connected, silence).await {
        Ok(minor) => Ok(minor.is_none_or(|minor| minor >= KNOWS_STREAMING_LISTS)),
        // A server that does not tell is asked as a new one.
        Err(Failure::Forbidden(_) | Failure::Absent) => Ok(true),
        Err(failure) => Err(failure),
    }
}
