//! Owns the faults: which requests go wrong, how, and how often.

use std::time::Duration;

use super::count::Verb;

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// RBAC refuses, with the real server's words.
    Forbidden,
    /// A refusal with this status, and `Retry-After` in seconds where given.
    Status {
        /// The HTTP status.
        code: u16,
        /// The reason, in one word.
        reason: &'static str,
        /// Seconds to wait.
        retry_after: Option<u32>,
    },
    /// The answer is a proxy's page, with status 200.
    Garbage,
    /// The connection closes without an answer.
    HangUp,
    /// A change is made, and the connection closes without an answer.
    LostAnswer,
    /// The answer comes this late.
    Slow(Duration),
    /// A watch ends in good order after this long.
    CloseWatch(Duration),
    /// A watch breaks in the middle of a line after this long.
    CutWatch(Duration),
    /// A watch says that its resource version is too old, as an event.
    ExpireWatch,
}

/// Which requests go wrong: all, unless said otherwise.
#[derive(Clone, Debug, Default)]
pub struct Match {
    resource: Option<String>,
    verb: Option<Verb>,
    times: Option<u32>,
}

impl Match {
    /// Every request.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Requests for a resource, such as `pods` or `replicasets.apps`.
    #[must_use]
    pub fn resource(resource: &str) -> Self {
        Self { resource: Some(resource.to_owned()), ..Self::default() }
    }

    /// Those of them with this verb.
    #[must_use]
    pub fn verb(self, verb: Verb) -> Self {
        Self { verb: Some(verb), ..self }
    }

    /// The first so many of them.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }
}

#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(Match, Fault)>);

impl Faults {
    pub(super) fn add(&mut self, on: Match, fault: Fault) {
        self.0.push((on, fault));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The fault that this request meets.
    pub(super) fn meet(&mut self, resource: &str, verb: Verb) -> Option<Fault> {
        let (on, fault) = self.0.iter_mut().find(|(on, _)| {
            on.resource.as_deref().is_none_or(|wanted| wanted == resource)
                && on.verb.is_none_or(|wanted| wanted == verb)
                && on.times != Some(0)
        })?;
        if let Some(times) = &mut on.times {
            *times -= 1;
        }
        Some(fault.clone())
    }
}
