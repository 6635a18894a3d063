//! Owns the admin port: metrics, health, readiness, the JSON API and the web page over HTTP/1.1, with TLS or without.
//!
//! It answers questions; the log filter is all that can be changed. Connections are bounded in number and in time, so that a
//! client that never reads or never asks costs one slot for a while.

mod access;
mod api;
pub mod client;
mod flows;
mod page;
mod pages;
mod query;
mod readiness;
mod reply;
mod tls;
mod token;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use self::{
    access::{Guard, Peer},
    pages::Pages,
};
pub use self::{
    flows::{FlowReader, FlowsQuestion, flow_reader},
    pages::Sources,
    tls::{Tls, TlsError, TlsFiles},
    token::Token,
};

/// The admin port.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    tls: Option<Tls>,
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

    /// How long a client may take for the TLS handshake, and to send a request's head.
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
        sources: Sources,
        tls: Option<Tls>,
        token: Option<Token>,
    ) -> Result<Self, ListenError> {
        let listener = TcpListener::bind(address).await.map_err(|source| ListenError { address, source })?;
        let guard = Guard { certificates: tls.as_ref().is_some_and(Tls::knows_clients), token };
        Ok(Self { listener, tls, pages: Arc::new(Pages::new(sources, guard)) })
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
        let Self { listener, tls, pages } = self;
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
                    let tls = tls.as_ref().map(|tls| TlsAcceptor::from(tls.current()));
                    connections.spawn(async move {
                        let served = welcome(stream, Peer::at(from.ip()), tls, pages);
                        let _ended = tokio::time::timeout(Self::LIFE, served).await;
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

async fn welcome(stream: TcpStream, peer: Peer, tls: Option<TlsAcceptor>, pages: Arc<Pages>) {
    let Some(tls) = tls else { return serve(stream, peer, pages).await };
    match tokio::time::timeout(Admin::HEAD, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            // What is shown has been checked in the handshake.
            let certified = stream.get_ref().1.peer_certificates().is_some();
            serve(stream, peer.certified(certified), pages).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "admin port: TLS handshake"),
        Err(_elapsed) => tracing::debug!("admin port: no TLS handshake in time"),
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, peer: Peer, pages: Arc<Pages>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(pages.answer(request, peer).await) }
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
