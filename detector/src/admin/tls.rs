//! Owns the admin port's certificate and what is expected of clients' ones: files, read again when they change.
//!
//! Kubernetes swaps a whole secret by one symbolic link, and other tools write one file after the other. So
//! contents are compared, not times, and a pair that does not fit is told and the former one serves on.

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};

/// Where the admin port's certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, with those between it and the root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who vouches for clients.
    pub client_ca: Option<PathBuf>,
}

/// Files that make no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is no PEM, or lacks what it should hold.
    #[error("read {what} from {path}")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// The certificate and the key are no pair.
    #[error("use the certificate {certificate} with the key {key}")]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// A certificate of the clients' authority cannot be one.
    #[error("trust {path}")]
    Authority {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// There is no authority for clients.
    #[error("check clients by {path}")]
    Verifier {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifierBuilderError,
    },
}

/// TLS as of the last good files.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
    /// What was read last, good or not: a bad pair is told once.
    read: Mutex<Vec<Vec<u8>>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// One is missing, or they do not fit.
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let read = files.read()?;
        let current = RwLock::new(files.config(&read)?);
        Ok(Self(Arc::new(Inner { files, current, read: Mutex::new(read) })))
    }

    /// Whether clients can show a certificate.
    #[must_use]
    pub fn knows_clients(&self) -> bool {
        self.0.files.client_ca.is_some()
    }

    /// Reads the files again; connections that stand keep what they have.
    pub fn reload(&self) {
        let Inner { files, current, read: last } = &*self.0;
        let changed = files.read().and_then(|read| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if *last == read {
                return Ok(false);
            }
            last.clone_from(&read);
            *current.write().unwrap_or_else(PoisonError::into_inner) = files.config(&read)?;
            Ok(true)
        });
        match changed {
            Ok(true) => tracing::info!("admin port: new certificate"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn Error, "admin port: the former certificate serves on");
            }
        }
    }

    /// What to serve a new connection with.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl TlsFiles {
    /// The contents of all files, in the order certificate, key, authority.
    fn read(&self) -> Result<Vec<Vec<u8>>, TlsError> {
        [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()]
            .into_iter()
            .flatten()
            .map(|path| fs::read(path).map_err(|source| TlsError::Read { path: path.clone(), source }))
            .collect()
    }

    fn config(&self, read: &[Vec<u8>]) -> Result<Arc<ServerConfig>, TlsError> {
        let Self { certificate, key, client_ca } = self;
        let content = |index: usize| read.get(index).map(Vec::as_slice).unwrap_or_default();
        let chain = certificates(content(0), certificate)?;
        let private = PrivateKeyDer::from_pem_slice(content(1)).map_err(|source| TlsError::Pem {
            path: key.clone(),
            what: "a private key",
            source,
        })?;
        let provider = Arc::new(ring::default_provider());
        let pair = |source| TlsError::Pair { certificate: certificate.clone(), key: key.clone(), source };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(pair)?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(roots(content(2), path)?);
                // The kubelet's probes show none; what may be read without is decided for each page.
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|source| TlsError::Verifier { path: path.clone(), source })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, private).map_err(pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Every certificate of a PEM file; `path` is for the error.
pub(super) fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let error = |source| TlsError::Pem { path: path.to_owned(), what: "certificates", source };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(error)?;
    if chain.is_empty() { Err(error(pem::Error::NoItemsFound)) } else { Ok(chain) }
}

/// The authorities of a PEM file.
pub(super) fn roots(pem: &[u8], path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, path)? {
        roots.add(certificate).map_err(|source| TlsError::Authority { path: path.to_owned(), source })?;
    }
    Ok(roots)
}
