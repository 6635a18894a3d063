//! Owns a double of the Kubernetes API server: what a watching and writing client sees of one, over plain HTTP or
//! TLS.
//!
//! It answers as the recorded server does: lists whole and in pages, lists from the cache, watches with
//! bookmarks, streaming lists, metadata-only forms, `410 Gone` in a list and inside a watch, and the refusals
//! of authentication and RBAC. It takes writes (create, merge patch, server-side apply, delete) and holds Events and
//! reports to what the real one holds them to. Objects change while it runs, faults come and go, and what it sent is counted.
//! It runs on a thread of its own, so that a test needs no runtime; dropping it ends everything.

mod answer;
mod count;
mod fault;
mod objects;
mod request;
mod serve;
mod validate;
mod watch;
mod write;

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::sync::watch as signal;

use self::{count::Counts, fault::Faults, objects::Objects};
pub use self::{
    count::{Count, Verb},
    fault::{Fault, Match},
    objects::Resource,
    serve::Tls,
};
use crate::wait;

/// A running double.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What connections and the owner share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    counts: Counts,
    /// The newest resource version, for watches to wake up.
    changed: signal::Sender<u64>,
    /// Whether connections are accepted; `None` ends the thread.
    power: signal::Sender<Option<bool>>,
    /// Whether connections are accepted now.
    up: AtomicBool,
    /// Rises when all open watches shall end.
    hang_up: signal::Sender<u64>,
}

#[derive(Debug)]
struct State {
    objects: Objects,
    faults: Faults,
    token: Option<String>,
    streaming_lists: bool,
    minor: u32,
    bookmark_every: Duration,
    tls: Option<Tls>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApiServer {
    /// Starts a double on a free port of the loopback, without TLS and with the built-in resources.
    ///
    /// # Errors
    ///
    /// No port or no thread can be had.
    pub fn start() -> Result<Self> {
        Self::start_with(None)
    }

    /// Starts a double that speaks TLS.
    ///
    /// # Errors
    ///
    /// No port or no thread can be had.
    pub fn start_tls(tls: Tls) -> Result<Self> {
        Self::start_with(Some(tls))
    }

    fn start_with(tls: Option<Tls>) -> Result<Self> {
        let listener = serve::listen((Ipv4Addr::LOCALHOST, 0).into()).context("listen for API requests")?;
        let address = listener.local_addr().context("read the API server's address")?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                objects: Objects::default(),
                faults: Faults::default(),
                token: None,
                streaming_lists: true,
                minor: 36,
                bookmark_every: Duration::from_secs(60),
                tls,
            }),
            counts: Counts::default(),
            changed: signal::Sender::new(0),
            power: signal::Sender::new(Some(true)),
            up: AtomicBool::new(true),
            hang_up: signal::Sender::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the API server's runtime")?;
        let serving = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("apiserver".to_owned())
            .spawn(move || runtime.block_on(serve::run(listener, address, serving)))
            .context("start the API server's thread")?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.shared.state().tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Writes a kubeconfig that leads here into `folder`: `kubeconfig`, and beside it `token` and `ca.crt`
    /// where they are used, which are referred to by name so that they can be rotated.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    #[expect(clippy::indexing_slicing, reason = "members of JSON objects are set by name, which cannot fail")]
    pub fn kubeconfig(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("kubeconfig");
        let mut cluster = json!({ "server": self.url() });
        let mut user = json!({});
        {
            let state = self.shared.state();
            if let Some(token) = &state.token {
                let file = folder.join("token");
                fs::write(&file, token).with_context(|| format!("write {}", file.display()))?;
                user["tokenFile"] = json!(file);
            }
            if let Some(tls) = &state.tls {
                let file = folder.join("ca.crt");
                fs::write(&file, tls.authority()).with_context(|| format!("write {}", file.display()))?;
                cluster["certificate-authority"] = json!(file);
            }
        }
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "double", "cluster": cluster }],
            "users": [{ "name": "plainsight", "user": user }],
            "contexts": [{ "name": "double", "context": { "cluster": "double", "user": "plainsight" } }],
            "current-context": "double",
        });
        fs::write(&path, config.to_string()).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Creates or updates an object, by its `apiVersion` and `kind`, and gives its resource version.
    ///
    /// # Panics
    ///
    /// The object has no name, or its resource is not installed.
    pub fn apply(&self, object: Value) -> u64 {
        self.apply_all([object])
    }

    /// [`Self::apply`] for many objects at once.
    ///
    /// # Panics
    ///
    /// See there.
    pub fn apply_all(&self, objects: impl IntoIterator<Item = Value>) -> u64 {
        let version = {
            let mut state = self.shared.state();
            for object in objects {
                state.objects.apply(object);
            }
            state.objects.version()
        };
        self.shared.changed.send_replace(version);
        version
    }

    /// Deletes an object of `resource`, such as `pods` or `replicasets.apps`; whether it was there.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let (gone, version) = {
            let mut state = self.shared.state();
            (state.objects.delete(resource, namespace, name), state.objects.version())
        };
        self.shared.changed.send_replace(version);
        gone
    }

    /// The objects of `resource`, such as `events.events.k8s.io`, in the order of their names.
    #[must_use]
    pub fn objects(&self, resource: &str) -> Vec<Value> {
        let mut state = self.shared.state();
        let found = state.objects.collection(resource);
        found
            .into_iter()
            .flat_map(|found| found.objects.values())
            .map(|object| Value::Object(object.value.clone()))
            .collect()
    }

    /// Installs a resource, as a CRD does.
    pub fn install(&self, resource: Resource) {
        self.shared.state().objects.install(resource);
    }

    /// Removes a resource with its objects.
    pub fn uninstall(&self, resource: &str) {
        self.shared.state().objects.uninstall(resource);
        self.hang_up();
    }

    /// Forgets history: a watch from before now, and a list that is continued, get `410 Gone`.
    pub fn compact(&self) {
        self.shared.state().objects.compact();
    }

    /// Has requests that `on` matches fail with `fault`.
    pub fn fault(&self, on: Match, fault: Fault) {
        self.shared.state().faults.add(on, fault);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        self.shared.state().faults.clear();
    }

    /// Closes all open watches in good order.
    pub fn hang_up(&self) {
        self.shared.hang_up.send_modify(|times| *times += 1);
    }

    /// Goes away: connections end, new ones are refused. `true` comes back on the same port. Returns when it
    /// has come to pass.
    ///
    /// # Panics
    ///
    /// Its thread has ended, or the port was taken meanwhile.
    #[expect(clippy::expect_used, reason = "a double that cannot is a failed test")]
    pub fn power(&self, on: bool) {
        self.shared.power.send_replace(Some(on));
        wait::until("API server", Duration::from_secs(10), || {
            Ok((self.shared.up.load(Ordering::Relaxed) == on).then_some(()))
        })
        .expect("the API server follows its switch");
    }

    /// Demands this bearer token from now on. Open watches go on, as they do with a real server.
    pub fn require_token(&self, token: &str) {
        self.shared.state().token = Some(token.to_owned());
    }

    /// Presents another certificate to new connections.
    ///
    /// # Panics
    ///
    /// It does not speak TLS.
    pub fn rotate_certificate(&self, tls: Tls) {
        let mut state = self.shared.state();
        assert!(state.tls.is_some(), "this API server speaks no TLS");
        state.tls = Some(tls);
    }

    /// Whether the feature gate WatchList is on.
    pub fn streaming_lists(&self, on: bool) {
        self.shared.state().streaming_lists = on;
    }

    /// Calls itself Kubernetes 1.`minor`; below 1.27, `sendInitialEvents` is not known and does nothing.
    pub fn minor_version(&self, minor: u32) {
        self.shared.state().minor = minor;
    }

    /// How often a quiet watch gets a bookmark.
    pub fn bookmark_every(&self, interval: Duration) {
        self.shared.state().bookmark_every = interval;
    }

    /// What was asked and sent, by resource and verb.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(String, Verb), Count> {
        self.shared.counts.snapshot()
    }

    /// What was asked of one resource with one verb.
    #[must_use]
    pub fn count(&self, resource: &str, verb: Verb) -> Count {
        self.shared.counts.snapshot().remove(&(resource.to_owned(), verb)).unwrap_or_default()
    }

    /// Watches that are open now.
    #[must_use]
    pub fn open_watches(&self) -> usize {
        self.shared.counts.watches()
    }

    /// Connections that are open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.counts.connections()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.power.send_replace(None);
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed.
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
