//! Owns identities and policy from the Kubernetes API: one watch for each resource, into the store.
//!
//! The watch is our own and not kube's reflector: it must tell how long ago the server last said anything, it
//! must take an object from the wire to some hundred bytes without a typed form in between, and it must go on
//! where a right is missing or a CRD is not installed. Whatever the API does, what is known stays known: an
//! object is forgotten when the server says so, or when a whole new list does not show it.

mod access;
mod backoff;
mod failure;
mod health;
mod lines;
mod request;
mod resource;
mod sink;
mod watch;
mod write;

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::{access::Connection, request::ConfigMap, watch::Watch};
pub use self::{
    access::{Access, AccessError},
    backoff::Backoff,
    health::{Health, ResourceHealth, ResourceState},
    resource::Resource,
    sink::{Sink, StoreSink},
    write::{WriteError, Writer, Written},
};
use super::{identity, identity::TrustDomain, store::SharedStore};
use crate::readiness::BlockReady;

/// How long things may take, and how long is waited after what.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// The first wait after a failure; it doubles with each.
    pub backoff_min: Duration,
    /// The longest wait after a failure.
    pub backoff_max: Duration,
    /// The first wait after a refusal by RBAC, and for a CRD that is not installed; these double up to ten times.
    pub refused_retry: Duration,
    /// How long an answer may be silent in its middle.
    pub silence: Duration,
    /// How long a watch may be silent, once it is known to send bookmarks.
    pub watch_silence: Duration,
    /// How long a watch is asked to last.
    pub watch_length: Duration,
    /// A watch that lasted this long was a good one: the next failure counts as the first.
    pub good_watch: Duration,
    /// The least time between two new connections from fresh credentials.
    pub renew_every: Duration,
    /// How often the trust domain is asked for.
    pub trust_domain_every: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            refused_retry: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            watch_silence: Duration::from_secs(150),
            watch_length: Duration::from_secs(280),
            good_watch: Duration::from_secs(10),
            renew_every: Duration::from_secs(2),
            trust_domain_every: Duration::from_secs(600),
        }
    }
}

/// A watch that will be started.
struct Planned {
    resource: Arc<Resource>,
    sink: Box<dyn Sink>,
    health: health::Cell,
}

/// Keeps the store at what the API server says.
pub struct KubernetesSource {
    connection: Connection,
    store: SharedStore,
    trust_domain: TrustDomain,
    timing: Timing,
    health: Health,
    watches: Vec<Planned>,
}

impl KubernetesSource {
    /// A source that fills `store` with what identities and policy need.
    #[must_use]
    pub fn new(access: Access, store: SharedStore, trust_domain: TrustDomain, timing: Timing) -> Self {
        store.write().await_source();
        let mut source = Self {
            connection: Connection::new(access, timing.renew_every),
            store: store.clone(),
            trust_domain,
            timing,
            health: Health::default(),
            watches: Vec::new(),
        };
        for (resource, kind) in resource::identities().into_iter().chain(resource::policies()) {
            source.watch(resource, Box::new(StoreSink::new(store.clone(), kind)));
        }
        source
    }

    /// Watches one more resource, into `sink`.
    pub fn watch(&mut self, resource: Resource, sink: Box<dyn Sink>) {
        let health = self.health.add(&resource.full_name());
        self.watches.push(Planned { resource: Arc::new(resource), sink, health });
    }

    /// What writes over the same connection.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer::new(self.connection.clone(), self.timing.silence)
    }

    /// How the watches do.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Watches until cancelled. `ready` is dropped once each watch has had its first whole list, or cannot
    /// have one.
    pub async fn run(self, cancel: CancellationToken, ready: BlockReady) {
        let Self { connection, store, trust_domain, timing, health, watches } = self;
        let ready = Arc::new(ready);
        let mut tasks = JoinSet::new();
        for Planned { resource, sink, health } in watches {
            let watch = Watch::new(resource, connection.clone(), sink, health, timing);
            tasks.spawn(watch.run(Arc::clone(&ready)));
        }
        drop(ready);
        tasks.spawn(discover_trust_domain(connection, trust_domain, timing.trust_domain_every));
        let blind = async {
            // Without the right to read pods, an unknown address says nothing.
            health.until_refused(resource::PODS).await;
            store.write().give_up_source();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = blind => {}
        }
        tasks.shutdown().await;
    }
}

/// Asks Istio's mesh configuration for the trust domain, now and then. Where it cannot be read, the default
/// stands.
async fn discover_trust_domain(connection: Connection, trust_domain: TrustDomain, every: Duration) {
    loop {
        let found = request::config_map(&connection, "istio-system", "istio").await;
        let mut wait = every;
        match found {
            Ok(ConfigMap { data }) => {
                let name = data.get("mesh").and_then(|mesh| identity::trust_domain_of_mesh_config(mesh));
                if let Some(name) = name
                    && trust_domain.discovered(&name)
                {
                    tracing::info!(trust_domain = %name, "trust domain discovered in Istio's mesh configuration");
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no Istio mesh configuration");
                if error.passes_soon() {
                    wait = every / 10;
                }
            }
        }
        tokio::time::sleep(wait).await;
    }
}
