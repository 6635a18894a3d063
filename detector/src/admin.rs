//! Owns the admin port: metrics, health, readiness and the JSON API over HTTP/1.1.
//!
//! It answers questions and changes nothing. Connections are bounded in number and in time, so that a
//! client that never reads or never asks costs one slot for a while.

mod access;
mod api;
mod flows;
mod pages;
mod query;
mod reply;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::{access::Peer, pages::Pages};
pub use self::{
    flows::{FlowReader, FlowsQuestion, flow_reader},
    pages::Sources,
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
    pub async fn bind(address: SocketAddr, sources: Sources) -> Result<Self, ListenError> {
        let listener = TcpListener::bind(address).await.map_err(|source| ListenError { address, source })?;
        Ok(Self { listener, pages: Arc::new(Pages::new(sources)) })
    }

    /// The address that was opened.
    ///
    /// # Errors
    ///
    /// The socket is gone.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
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
                Ok((stream, from)) => {
                    let pages = Arc::clone(&pages);
                    connections.spawn(async move {
                        let _ended = tokio::time::timeout(Self::LIFE, serve(stream, from, pages)).await;
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

async fn serve(stream: TcpStream, from: SocketAddr, pages: Arc<Pages>) {
    let peer = Peer::at(from.ip());
    let service = service_fn(move |request: Request<Incoming>| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(pages.answer(&request, peer).await) }
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

#[cfg(test)]
mod tests;
