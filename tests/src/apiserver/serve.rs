//! Owns the connections: accepting, TLS, going away and coming back.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, pki_types::PrivateKeyDer},
};

use super::{Shared, answer};

/// A certificate for the loopback address, and the authority that signed it.
#[derive(Clone)]
pub struct Tls {
    authority: String,
    config: Arc<rustls::ServerConfig>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// A new authority and a certificate of it.
    ///
    /// # Errors
    ///
    /// No key can be made.
    pub fn generate() -> Result<Self> {
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);
        let server_key = KeyPair::generate()?;
        let server = CertificateParams::new(["127.0.0.1".to_owned()])?.signed_by(&server_key, &issuer)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("choose TLS versions")?
            .with_no_client_auth()
            .with_single_cert(
                vec![server.der().clone()],
                PrivateKeyDer::try_from(server_key.serialize_der()).map_err(anyhow::Error::msg)?,
            )
            .context("use the server's certificate")?;
        Ok(Self { authority: certificate.pem(), config: Arc::new(config) })
    }

    /// The authority's certificate as PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

/// Listens on `address`, even where connections of an earlier listener linger.
pub(super) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves until the power is cut for good.
pub(super) async fn run(listener: std::net::TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut power = shared.power.subscribe();
    let mut listener = TcpListener::from_std(listener).ok();
    let mut connections = JoinSet::new();
    loop {
        let on = *power.borrow_and_update();
        match on {
            None => break,
            Some(false) => {
                listener = None;
                connections.shutdown().await;
                shared.up.store(false, Ordering::Relaxed);
                if power.changed().await.is_err() {
                    break;
                }
            }
            Some(true) => {
                let Some(open) = &listener else {
                    listener = reopen(address).await;
                    shared.up.store(listener.is_some(), Ordering::Relaxed);
                    continue;
                };
                tokio::select! {
                    changed = power.changed() => if changed.is_err() { break },
                    accepted = open.accept() => {
                        while connections.try_join_next().is_some() {}
                        if let Ok((stream, _)) = accepted {
                            connections.spawn(connection(stream, Arc::clone(&shared)));
                        }
                    }
                }
            }
        }
    }
    connections.shutdown().await;
}

async fn reopen(address: SocketAddr) -> Option<TcpListener> {
    let open = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(128)
    };
    match open() {
        Ok(listener) => Some(listener),
        Err(_in_use) => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            None
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _open = shared.counts.connection();
    let _small_writes = stream.set_nodelay(true);
    let tls = shared.state().tls.clone();
    match tls {
        None => serve(stream, shared).await,
        Some(tls) => {
            // A client that does not trust the certificate says so and leaves.
            if let Ok(stream) = TlsAcceptor::from(tls.config).accept(stream).await {
                serve(stream, shared).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { answer::answer(request, shared).await }
    });
    // Clients end connections as they like, and faults end them too.
    let _ended =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}
