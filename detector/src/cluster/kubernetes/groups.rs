//! Owns the question which API groups the server has, and in which versions: asked once for all resources of
//! a group, and again when the answer has grown old.
//!
//! Without it every node would ask for each resource of each mesh that is not installed, in each version that
//! is understood, again and again.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Mutex;

use super::{access::Connected, failure::Failure, request};

/// Versions that a group is served in; none for a group that is not there.
type Versions = Arc<[String]>;

/// An answer, and when it came.
type Answer = Option<(Instant, Versions)>;

/// What is known of the groups that come with CRDs.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    fresh: Duration,
    known: Arc<HashMap<&'static str, Mutex<Answer>>>,
}

impl Groups {
    /// Nothing is known yet of `groups`; an answer is good for as long as `fresh`.
    pub(super) fn new(groups: impl IntoIterator<Item = &'static str>, fresh: Duration) -> Self {
        let known = groups.into_iter().map(|group| (group, Mutex::default())).collect();
        Self { fresh, known: Arc::new(known) }
    }

    /// The versions of a group; `None` where that cannot be known, and its resources must be asked for.
    pub(super) async fn versions(
        &self,
        connected: &Connected,
        group: &str,
        silence: Duration,
    ) -> Result<Option<Versions>, Failure> {
        let Some(known) = self.known.get(group) else { return Ok(None) };
        // Whoever comes while one asks waits for its answer.
        let mut known = known.lock().await;
        if let Some((at, versions)) = &*known
            && at.elapsed() < self.fresh
        {
            return Ok(Some(Arc::clone(versions)));
        }
        let versions: Versions = match request::group_versions(connected, group, silence).await {
            Ok(versions) => versions.into(),
            Err(Failure::Absent) => Arc::default(),
            // Discovery is everybody's right as a rule, but not by necessity.
            Err(Failure::Forbidden(_)) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        *known = Some((Instant::now(), Arc::clone(&versions)));
        Ok(Some(versions))
    }
}
