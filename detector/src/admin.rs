//! Owns the admin port: metrics, health and readiness over HTTP/1.1.
//!
//! It answers questions and changes nothing. Connections are bounded in number and in time, so that a
//! client that never reads or never asks costs one slot for a while.

use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    outputs::metrics::Metrics,
    readiness::{Heartbeat, Readiness},
};

/// The admin port.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    pages: Arc<Pages>,
}

/// The admin port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

struct Pages {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    heartbeat: Heartbeat,
    details: OnceLock<Details>,
}

/// What `/readyz?verbose` says beyond readiness, a line each.
type Details = Box<dyn Fn() -> String + Send + Sync>;

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pages").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

impl Admin {
    /// Connections that are served at once; more wait.
    const CONNECTIONS: usize = 32;

    /// How long a client may take to send a request's head.
    const HEAD: Duration = Duration::from_secs(5);

    /// How long a connection may live.
    const LIFE: Duration = Duration::from_secs(120);

    /// Opens the port.
    ///
    /// # Errors
    ///
    /// The address is in use or not ours.
    pub async fn bind(
        address: SocketAddr,
        metrics: Arc<Metrics>,
        readiness: Readiness,
        heartbeat: Heartbeat,
    ) -> Result<Self, ListenError> {
        let listener = TcpListener::bind(address).await.map_err(|source| ListenError { address, source })?;
        Ok(Self {
            listener,
            pages: Arc::new(Pages { metrics, readiness, heartbeat, details: OnceLock::new() }),
        })
    }

    /// The address that was opened.
    ///
    /// # Errors
    ///
    /// The socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Names what `/readyz?verbose` says beyond readiness. The first call counts.
    pub fn details(&self, details: impl Fn() -> String + Send + Sync + 'static) {
        let _first = self.pages.details.set(Box::new(details));
    }

    /// Serves until cancelled.
    pub async fn run(self, cancel: CancellationToken) {
        let Self { listener, pages } = self;
        let slots = Arc::new(Semaphore::new(Self::CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let slot = tokio::select! {
                () = cancel.cancelled() => break,
                slot = Arc::clone(&slots).acquire_owned() => slot,
            };
            // The semaphore is never closed.
            let Ok(slot) = slot else { break };
            let accepted = tokio::select! {
                () = cancel.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            while connections.try_join_next().is_some() {}
            match accepted {
                Ok((stream, _)) => {
                    let pages = Arc::clone(&pages);
                    connections.spawn(async move {
                        let _ended = tokio::time::timeout(Self::LIFE, serve(stream, pages)).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    // As a rule no file descriptors are left; trying again at once would spin.
                    tracing::warn!(%error, "admin port: accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        connections.shutdown().await;
    }
}

async fn serve(stream: TcpStream, pages: Arc<Pages>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = pages.answer(request.method(), request.uri().path(), request.uri().query());
        async { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Admin::HEAD)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin port: connection");
    }
}

impl Pages {
    fn answer(&self, method: &Method, path: &str, query: Option<&str>) -> Response<Full<Bytes>> {
        const PATHS: [&str; 3] = ["/metrics", "/healthz", "/readyz"];
        if !PATHS.contains(&path) {
            return page(StatusCode::NOT_FOUND, "not found: try /metrics, /healthz or /readyz\n");
        }
        if method != Method::GET && method != Method::HEAD {
            let mut response = page(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/metrics" => self.metrics(),
            "/readyz" => self.ready(query.is_some_and(|query| query.split('&').any(|key| key == "verbose"))),
            _ => self.alive(),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.metrics.render() {
            Ok(text) => {
                let mut response = page(StatusCode::OK, text);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Metrics::CONTENT_TYPE));
                response
            }
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                page(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n")
            }
        }
    }

    fn alive(&self) -> Response<Full<Bytes>> {
        let age = self.heartbeat.age();
        if age < Heartbeat::STUCK {
            return page(StatusCode::OK, "ok\n");
        }
        page(StatusCode::SERVICE_UNAVAILABLE, format!("detection is stuck for {} s\n", age.as_secs()))
    }

    fn ready(&self, verbose: bool) -> Response<Full<Bytes>> {
        let pending = self.readiness.pending();
        let (status, mut text) = if pending.is_empty() {
            (StatusCode::OK, "ready\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", pending.join(", ")))
        };
        if let (true, Some(details)) = (verbose, self.details.get()) {
            text.push_str(&details());
        }
        page(status, text)
    }
}

fn page(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };
    use tokio_util::sync::CancellationToken;

    use super::Admin;
    use crate::{
        outputs::metrics::{KernelReading, Metrics},
        readiness::{Heartbeat, Readiness},
    };

    async fn start(readiness: &Readiness) -> (SocketAddr, CancellationToken) {
        let metrics = Arc::new(Metrics::new(KernelReading::default, Arc::default()).unwrap());
        let admin = Admin::bind(([127, 0, 0, 1], 0).into(), metrics, readiness.clone(), Heartbeat::default())
            .await
            .unwrap();
        admin.details(|| "all pods observed\n".to_owned());
        let address = admin.address().unwrap();
        let cancel = CancellationToken::new();
        tokio::spawn(admin.run(cancel.clone()));
        (address, cancel)
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn pages_answer_what_they_are_asked() {
        let readiness = Readiness::default();
        let programs = readiness.block("programs");
        let (address, _cancel) = start(&readiness).await;
        let metrics = ask(address, "GET /metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
        assert!(metrics.contains("content-type: text/plain; version=0.0.4\r\n"), "{metrics}");
        assert!(metrics.contains("\nplainsight_build_info{version="), "{metrics}");
        assert!(ask(address, "GET /healthz?x=y").await.ends_with("\r\n\r\nok\n"));
        let waiting = ask(address, "GET /readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503 "), "{waiting}");
        assert!(waiting.ends_with("waiting for: programs\n"), "{waiting}");
        drop(programs);
        assert!(ask(address, "GET /readyz").await.ends_with("ready\n"));
        assert!(ask(address, "GET /readyz?verbose").await.ends_with("ready\nall pods observed\n"));
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused_as_http_wants_it() {
        let (address, _cancel) = start(&Readiness::default()).await;
        assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 404 "));
        let refused = ask(address, "POST /metrics").await;
        assert!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
        assert!(refused.contains("allow: GET, HEAD\r\n"), "{refused}");
        let head = ask(address, "HEAD /healthz").await;
        assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let (address, _cancel) = start(&Readiness::default()).await;
        let metrics = Arc::new(Metrics::new(KernelReading::default, Arc::default()).unwrap());
        let error =
            Admin::bind(address, metrics, Readiness::default(), Heartbeat::default()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("listen on {address}"));
    }
}
