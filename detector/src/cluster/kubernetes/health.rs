//! Owns the account of how the watches do: their state, and how long ago the server last said anything.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch as signal;

/// What a watch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceState {
    /// The first list is not in yet.
    Starting,
    /// Changes are told as they happen.
    Watching,
    /// The last attempt failed; what is known grows old.
    Failing,
    /// RBAC refuses.
    Forbidden,
    /// Its CRD is not installed.
    Absent,
}

impl ResourceState {
    /// All states.
    pub const ALL: &[Self] = &[Self::Starting, Self::Watching, Self::Failing, Self::Forbidden, Self::Absent];

    /// The name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Watching => "watching",
            Self::Failing => "failing",
            Self::Forbidden => "forbidden",
            Self::Absent => "absent",
        }
    }
}

/// How one watch does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceHealth {
    /// The resource.
    pub resource: String,
    /// What it is about.
    pub state: ResourceState,
    /// How long ago the server last said anything of it: with a watch that is well, the time since the last
    /// change or bookmark.
    pub stale: Duration,
    /// Whole lists that came in.
    pub lists: u64,
    /// Failures by kind.
    pub failures: BTreeMap<&'static str, u64>,
    /// Objects that could not be read.
    pub unreadable: u64,
}

/// How all watches do.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Vec<Cell>>>);

/// One watch's account, for the watch to write.
#[derive(Clone, Debug)]
pub(super) struct Cell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    resource: String,
    state: signal::Sender<ResourceState>,
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    heard: Instant,
    lists: u64,
    failures: BTreeMap<&'static str, u64>,
    unreadable: u64,
}

impl Health {
    /// How each watch does, in the order in which they were added.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ResourceHealth> {
        self.cells().iter().map(Cell::snapshot).collect()
    }

    pub(super) fn add(&self, resource: &str) -> Cell {
        let account = Account { heard: Instant::now(), lists: 0, failures: BTreeMap::new(), unreadable: 0 };
        let cell = Cell(Arc::new(Inner {
            resource: resource.to_owned(),
            state: signal::Sender::new(ResourceState::Starting),
            account: Mutex::new(account),
        }));
        self.cells().push(cell.clone());
        cell
    }

    /// Waits until the right to a resource is refused.
    pub(super) async fn until_refused(&self, resource: &str) {
        let found =
            self.cells().iter().find(|cell| cell.0.resource == resource).map(|cell| cell.0.state.subscribe());
        let Some(mut state) = found else { return std::future::pending().await };
        if state.wait_for(|state| *state == ResourceState::Forbidden).await.is_err() {
            std::future::pending().await
        }
    }

    fn cells(&self) -> MutexGuard<'_, Vec<Cell>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cell {
    pub(super) fn heard(&self) {
        self.account().heard = Instant::now();
    }

    pub(super) fn listed(&self) {
        self.account().lists += 1;
    }

    pub(super) fn unreadable(&self) -> u64 {
        let mut account = self.account();
        account.unreadable += 1;
        account.unreadable
    }

    pub(super) fn failed(&self, label: &'static str) {
        *self.account().failures.entry(label).or_default() += 1;
    }

    /// Sets the state, and gives the one before.
    pub(super) fn set(&self, state: ResourceState) -> ResourceState {
        self.0.state.send_replace(state)
    }

    fn snapshot(&self) -> ResourceHealth {
        let account = self.account();
        ResourceHealth {
            resource: self.0.resource.clone(),
            state: *self.0.state.borrow(),
            stale: account.heard.elapsed(),
            lists: account.lists,
            failures: account.failures.clone(),
            unreadable: account.unreadable,
        }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.0.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
