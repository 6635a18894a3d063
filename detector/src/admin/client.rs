//! Owns the other side of the admin port: the subcommands that ask a running daemon.
//!
//! It blocks: whoever asks once waits anyway. What an answer may hold is bounded, as is how long it may take.

use std::{error::Error, fs, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, StatusCode,
    client::conn::http1,
    header::{AUTHORIZATION, CONNECTION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::{Builder, Runtime},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, ServerName, pem::PemObject as _},
    },
};

use super::{
    tls::{TlsError, certificates, roots},
    token,
};
use crate::args::ClientArgs;

/// Asks one admin port.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    authorization: Option<HeaderValue>,
    runtime: Runtime,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of the command line cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A flag cannot be used.
    #[error("{flag}")]
    Flag {
        /// Which flag.
        flag: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// There is no runtime to ask with.
    #[error("start the runtime")]
    Runtime(#[source] io::Error),
    /// Nobody is there, or they do not speak TLS, or not with us.
    #[error("connect")]
    Connect(#[source] io::Error),
    /// What is there does not answer as a daemon does.
    #[error("read the answer; does the daemon expect TLS (--admin-ca)?")]
    Http(#[source] Box<dyn Error + Send + Sync>),
    /// There is no answer in time.
    #[error("no answer within {} s", Client::PATIENCE.as_secs())]
    Late,
    /// The daemon refuses.
    #[error("the daemon answers {status}: {}", body.trim_end())]
    Status {
        /// The status.
        status: u16,
        /// Why, in its words.
        body: String,
    },
}

impl Client {
    /// How long an answer may take.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// How long an answer may be: some times what a page may.
    const LONGEST: usize = 16 * 1024 * 1024;

    /// Prepares to ask the daemon at `admin` as the command line says.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or is not what it should be.
    pub fn new(admin: SocketAddr, how: &ClientArgs) -> Result<Self, ClientError> {
        let ClientArgs { admin_ca, admin_server_name, admin_client_cert, admin_client_key, admin_token_file } =
            how;
        let pair = admin_client_cert.as_ref().zip(admin_client_key.as_ref());
        let tls = admin_ca
            .as_ref()
            .map(|ca| {
                let name = match admin_server_name {
                    Some(name) => ServerName::try_from(name.clone()).map_err(|source| ClientError::Flag {
                        flag: "--admin-server-name",
                        source: source.into(),
                    })?,
                    None => ServerName::IpAddress(admin.ip().into()),
                };
                Ok::<_, ClientError>((name, tls(ca, pair)?))
            })
            .transpose()?;
        let authorization = admin_token_file
            .as_ref()
            .map(|path| {
                let flag = |source| ClientError::Flag { flag: "--admin-token-file", source };
                let token = token::read(path).map_err(|source| flag(source.into()))?;
                let mut value = HeaderValue::from_bytes(&[b"Bearer ", &token[..]].concat())
                    .map_err(|source| flag(source.into()))?;
                value.set_sensitive(true);
                Ok::<_, ClientError>(value)
            })
            .transpose()?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(ClientError::Runtime)?;
        Ok(Self { address: admin, tls, authorization, runtime })
    }

    /// The text of `path`.
    ///
    /// # Errors
    ///
    /// Nobody answers there, or not to us, or not with success.
    pub fn get(&self, path: &str) -> Result<String, ClientError> {
        let asked = async { tokio::time::timeout(Self::PATIENCE, self.ask(path)).await };
        let (status, body) = self.runtime.block_on(asked).map_err(|_elapsed| ClientError::Late)??;
        if status.is_success() {
            Ok(body)
        } else {
            Err(ClientError::Status { status: status.as_u16(), body })
        }
    }

    async fn ask(&self, path: &str) -> Result<(StatusCode, String), ClientError> {
        let stream = TcpStream::connect(self.address).await.map_err(ClientError::Connect)?;
        match &self.tls {
            None => self.exchange(stream, path).await,
            Some((name, config)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), stream).await.map_err(ClientError::Connect)?;
                self.exchange(stream, path).await
            }
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        path: &str,
    ) -> Result<(StatusCode, String), ClientError> {
        let http = |error: hyper::Error| ClientError::Http(error.into());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
        let mut request = Request::get(path)
            .header(HOST, self.address.to_string())
            .header(CONNECTION, "close")
            .body(Full::<Bytes>::default())
            .map_err(|error| ClientError::Http(error.into()))?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(http)?;
            let status = answer.status();
            let body =
                Limited::new(answer.into_body(), Self::LONGEST).collect().await.map_err(ClientError::Http)?;
            Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
        };
        // The connection has to be driven; its end says nothing that the answer does not.
        let drive = async {
            let _ended = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = exchange => answer,
            () = drive => Err(ClientError::Late),
        }
    }
}

fn tls(ca: &PathBuf, pair: Option<(&PathBuf, &PathBuf)>) -> Result<Arc<ClientConfig>, ClientError> {
    let read =
        |path: &PathBuf| fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source });
    let roots = roots(&read(ca)?, ca)?;
    let failed =
        |flag| move |source: tokio_rustls::rustls::Error| ClientError::Flag { flag, source: source.into() };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed("--admin-ca"))?
        .with_root_certificates(roots);
    let config = match pair {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(&read(certificate)?, certificate)?;
            let key = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|source| TlsError::Pem {
                path: key.clone(),
                what: "a private key",
                source,
            })?;
            builder.with_client_auth_cert(chain, key).map_err(failed("--admin-client-cert"))?
        }
    };
    Ok(Arc::new(config))
}
