//! Owns the JSON API: `/api/v1/…`, as the lines have it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    flows::Silent,
    pages::{Pages, Sources},
    query::{QueryError, Window},
    reply::{Reply, busy, json, not_allowed, refusal},
};
use crate::{
    cluster::kubernetes::Health,
    findings::evaluate,
    outputs::api::{NodeFacts, Page},
    policy::PolicyView,
};

/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// What stands below `/api/`.
const RESOURCES: [&str; 4] = ["v1/node", "v1/flows", "v1/findings", "v1/coverage"];

/// Why there is no answer.
enum Failure {
    Query(QueryError),
    Silent,
    Json(serde_json::Error),
    Gone,
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<Silent> for Failure {
    fn from(Silent: Silent) -> Self {
        Self::Silent
    }
}

/// A body that holds its turn for as long as it is being sent.
struct Held {
    body: Vec<u8>,
    _turn: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Pages {
    pub(super) async fn api(self: Arc<Self>, method: &Method, resource: &str, query: Option<&str>) -> Reply {
        if !RESOURCES.contains(&resource) {
            return refusal(StatusCode::NOT_FOUND, &format!("not found: try {}", RESOURCES.join(", ")));
        }
        if method != Method::GET && method != Method::HEAD {
            return not_allowed("GET, HEAD");
        }
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.answers).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return busy("too many answers are being read: try again") };
        match self.body(resource, query).await {
            Ok(body) => json(StatusCode::OK, Bytes::from_owner(Held { body, _turn: turn })),
            Err(Failure::Query(error)) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
            Err(Failure::Silent) => busy("detection has not begun, or is stuck: see /readyz and /healthz"),
            Err(Failure::Gone) => busy("the daemon is ending"),
            Err(Failure::Json(error)) => {
                tracing::error!(%error, resource, "the answer cannot be written");
                refusal(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written")
            }
        }
    }

    async fn body(self: Arc<Self>, resource: &str, query: Option<&str>) -> Result<Vec<u8>, Failure> {
        let window = Window::read(query)?;
        let of_flows = matches!(resource, "v1/flows" | "v1/findings");
        let mut flows = if of_flows { self.sources.flows.read().await? } else { Vec::new() };
        let total = flows.len();
        let first = flows.partition_point(|(id, _)| id.number() <= window.after);
        flows.drain(..first);
        let page = Page::new(window.limit);
        let write: Box<dyn FnOnce() -> serde_json::Result<Vec<u8>> + Send> = match resource {
            "v1/flows" => {
                Box::new(move || self.api.flows(flows.iter().map(|(id, flow)| (*id, &**flow)), total, page))
            }
            "v1/findings" => Box::new(move || {
                let Sources { store, rules, .. } = &self.sources;
                // What stands is judged by the policy of now. The lock is for one flow at a time.
                let judged = flows.iter().map(|(id, flow)| {
                    let policy = PolicyView::of(&store.read(), flow);
                    (*id, evaluate(flow, &policy, *rules))
                });
                self.api.findings(judged, page)
            }),
            "v1/coverage" => Box::new(move || {
                let Sources { store, coverage, watches, .. } = &self.sources;
                let pods = coverage.report(&store.read());
                self.api.coverage(&pods, watches.get().map(Health::snapshot).unwrap_or_default())
            }),
            _ => Box::new(move || {
                let Sources { readiness, store, coverage, .. } = &self.sources;
                self.api.node(NodeFacts {
                    started: self.started,
                    observed_since: readiness.since(),
                    waiting_for: readiness.pending(),
                    pods: coverage.report(&store.read()),
                })
            }),
        };
        // Thousands of rows take tens of milliseconds: not on a thread that detects.
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|_ended| Failure::Gone)?.map_err(Failure::Json)
    }
}
