//! Owns the counts: requests and bytes by resource and verb, and what is open now.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// A verb, as RBAC calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// One object.
    Get,
    /// Many objects.
    List,
    /// Changes, be it with a streaming list at their head.
    Watch,
    /// A new object; an apply that makes one counts as this too.
    Create,
    /// A change of an object, or an apply.
    Patch,
    /// The end of an object.
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Patch => "patch",
            Self::Delete => "delete",
        })
    }
}

/// What was asked and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests.
    pub requests: u64,
    /// Bytes of the answers' bodies.
    pub bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    by: Mutex<BTreeMap<(String, Verb), Count>>,
    watches: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

/// Something that is open until this is dropped.
#[derive(Debug)]
pub(super) struct Open(Arc<AtomicUsize>);

impl Counts {
    pub(super) fn request(&self, resource: &str, verb: Verb) {
        self.with(resource, verb, |count| count.requests += 1);
    }

    pub(super) fn sent(&self, resource: &str, verb: Verb, bytes: usize) {
        self.with(resource, verb, |count| count.bytes += bytes as u64);
    }

    pub(super) fn snapshot(&self) -> BTreeMap<(String, Verb), Count> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn watch(&self) -> Open {
        Open::new(&self.watches)
    }

    pub(super) fn connection(&self) -> Open {
        Open::new(&self.connections)
    }

    pub(super) fn watches(&self) -> usize {
        self.watches.load(Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn with(&self, resource: &str, verb: Verb, change: impl FnOnce(&mut Count)) {
        let mut by = self.by.lock().unwrap_or_else(PoisonError::into_inner);
        change(by.entry((resource.to_owned(), verb)).or_default());
    }
}

impl Open {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
