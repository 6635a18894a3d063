//! Owns the JSON API: `/api/v1/…`, as the lines have it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::{Method, Request, StatusCode, body::Incoming};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    access::Peer,
    flows::Silent,
    pages::{Pages, Sources},
    query::{QueryError, Window},
    reply::{Reply, busy, json, not_allowed, refusal, text},
};
use crate::{
    cluster::kubernetes::Health,
    findings::evaluate,
    flows::Timestamp,
    outputs::api::{NodeFacts, Page},
    policy::PolicyView,
};

/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// What stands below `/api/`.
pub(super) const RESOURCES: [&str; 5] = ["v1/node", "v1/flows", "v1/findings", "v1/coverage", "v1/readiness"];

/// What is logged: read and written as text.
pub(super) const LOG_FILTER: &str = "v1/log-filter";

/// How long a log filter may be.
const LOG_FILTER_BYTES: usize = 4096;

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

fn now() -> Timestamp {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

impl Pages {
    pub(super) async fn api(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Reply {
        let (method, headers) = (request.method(), request.headers());
        let resource = request.uri().path().trim_start_matches("/api/").to_owned();
        let change = method == Method::PUT && resource == LOG_FILTER;
        let guard = &self.guard;
        let allowed = if change { guard.may_change(peer, headers) } else { guard.may_read(peer, headers) };
        if let Err(refused) = allowed {
            return refused.reply();
        }
        if change {
            return self.change_log(request.into_body()).await;
        }
        if resource != LOG_FILTER && !RESOURCES.contains(&resource.as_str()) {
            return refusal(StatusCode::NOT_FOUND, &format!("not found: try {}", RESOURCES.join(", ")));
        }
        if method != Method::GET && method != Method::HEAD {
            return not_allowed(if resource == LOG_FILTER { "GET, HEAD, PUT" } else { "GET, HEAD" });
        }
        if resource == LOG_FILTER {
            return text(StatusCode::OK, self.sources.log.current() + "\n");
        }
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.answers).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return busy("too many answers are being read: try again") };
        match self.body(&resource, request.uri().query()).await {
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

    /// Takes the log filter that a request brings.
    async fn change_log(&self, body: Incoming) -> Reply {
        let Ok(body) = Limited::new(body, LOG_FILTER_BYTES).collect().await else {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "a filter has at most 4 KiB");
        };
        let body = body.to_bytes();
        let Ok(filter) = std::str::from_utf8(&body).map(str::trim) else {
            return refusal(
                StatusCode::BAD_REQUEST,
                "a filter is text, such as `info,detector::flows=debug`",
            );
        };
        match self.sources.log.set(filter) {
            Ok(()) => text(StatusCode::OK, self.sources.log.current() + "\n"),
            Err(error) => refusal(StatusCode::BAD_REQUEST, &format!("{filter:?}: {error}")),
        }
    }

    fn node_answer(&self) -> serde_json::Result<Vec<u8>> {
        let Sources { readiness, store, coverage, .. } = &self.sources;
        self.api.node(NodeFacts {
            started: self.started,
            observed_since: readiness.since(),
            waiting_for: readiness.pending(),
            pods: coverage.report(&store.read()),
        })
    }

    fn coverage_answer(&self) -> serde_json::Result<Vec<u8>> {
        let Sources { store, coverage, watches, .. } = &self.sources;
        let pods = coverage.report(&store.read());
        self.api.coverage(&pods, watches.get().map(Health::snapshot).unwrap_or_default())
    }

    async fn body(self: Arc<Self>, resource: &str, query: Option<&str>) -> Result<Vec<u8>, Failure> {
        let window = Window::read(query)?;
        let of_flows = matches!(resource, "v1/flows" | "v1/findings" | "v1/readiness");
        let mut flows = if of_flows { self.sources.flows.read().await? } else { Vec::new() };
        let total = flows.len();
        let first = flows.partition_point(|(id, _)| id.number() <= window.after);
        flows.drain(..first);
        if resource == "v1/findings" {
            // A finding stands for a while after the last of its traffic, here as in the metrics.
            let window = u64::try_from(self.sources.finding_window.as_nanos()).unwrap_or(u64::MAX);
            let began = now().0.saturating_sub(window);
            flows.retain(|(_, flow)| flow.last_seen.0 >= began);
        }
        let page = Page::new(window.limit);
        let write: Box<dyn FnOnce() -> Result<Vec<u8>, Failure> + Send> = match resource {
            "v1/flows" => Box::new(move || {
                let rows = flows.iter().map(|(id, flow)| (*id, &**flow));
                self.api.flows(rows, total, page).map_err(Failure::Json)
            }),
            "v1/findings" => Box::new(move || {
                let Sources { store, rules, .. } = &self.sources;
                // What stands is judged by the policy of now. The lock is for one flow at a time.
                let judged = flows.iter().map(|(id, flow)| {
                    let policy = PolicyView::of(&store.read(), flow);
                    (*id, evaluate(flow, &policy, *rules))
                });
                self.api.findings(judged, page).map_err(Failure::Json)
            }),
            "v1/readiness" => Box::new(move || Ok(self.migration(&flows, now()))),
            "v1/coverage" => Box::new(move || self.coverage_answer().map_err(Failure::Json)),
            _ => Box::new(move || self.node_answer().map_err(Failure::Json)),
        };
        // Thousands of rows take tens of milliseconds: not on a thread that detects.
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|_ended| Failure::Gone)?
    }
}
