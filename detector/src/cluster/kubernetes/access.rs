//! Owns the way to the API server: where it is, with which credentials, and the client made from them.
//!
//! Certificates and tokens are rotated under us. kube reads the token's file again each minute; a refusal
//! or a broken handshake has the whole configuration read again at once, for all watches together.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::Mutex;

/// Where Kubernetes mounts what a pod has for the API server.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How the API server is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// By the service account of the pod that this runs in.
    InCluster,
    /// By a kubeconfig.
    Kubeconfig {
        /// The file; `None` is `KUBECONFIG`, or `~/.kube/config`.
        path: Option<PathBuf>,
        /// The context in it; `None` is the current one.
        context: Option<String>,
    },
}

/// The configuration for the API server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig cannot be read.
    #[error("read the kubeconfig")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The service account cannot be read.
    #[error("read the pod's service account")]
    InCluster(#[from] kube::config::InClusterError),
    /// A certificate or a token in it cannot be used.
    #[error("use the cluster's certificates and credentials")]
    Client(#[source] Box<kube::Error>),
}

impl Access {
    /// The files that are read again while this is in use, and whether a program is run for credentials.
    #[must_use]
    pub fn needs(&self) -> (Vec<PathBuf>, bool) {
        let path = match self {
            Self::InCluster => return (vec![PathBuf::from(SERVICE_ACCOUNT)], false),
            Self::Kubeconfig { path, .. } => path,
        };
        let read = match path {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let named: Vec<PathBuf> = match (path, std::env::var_os("KUBECONFIG")) {
            (Some(path), _) => vec![path.clone()],
            (None, Some(paths)) => std::env::split_paths(&paths).collect(),
            (None, None) => std::env::home_dir().map(|home| home.join(".kube/config")).into_iter().collect(),
        };
        // What cannot be read now is told by the first attempt to connect.
        let Ok(kubeconfig) = read else { return (named, false) };
        let users = || kubeconfig.auth_infos.iter().filter_map(|user| user.auth_info.as_ref());
        let files = users()
            .flat_map(|user| [&user.client_certificate, &user.client_key, &user.token_file])
            .chain(
                kubeconfig
                    .clusters
                    .iter()
                    .filter_map(|cluster| cluster.cluster.as_ref())
                    .map(|cluster| &cluster.certificate_authority),
            )
            .flatten()
            .map(PathBuf::from);
        let runs = users().any(|user| user.exec.is_some() || user.auth_provider.is_some());
        (named.into_iter().chain(files).collect(), runs)
    }

    async fn config(&self) -> Result<Config, AccessError> {
        let mut config = match self {
            Self::InCluster => Config::incluster()?,
            Self::Kubeconfig { path, context } => {
                let options = KubeConfigOptions { context: context.clone(), ..Default::default() };
                match path {
                    None => Config::from_kubeconfig(&options).await?,
                    Some(path) => {
                        Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?
                    }
                }
            }
        };
        config.connect_timeout = Some(Duration::from_secs(10));
        // Each watch waits as long as it is told to, and no longer than we say.
        config.default_retry = false;
        Ok(config)
    }
}

/// The client that all watches share.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    access: Arc<Access>,
    every: Duration,
    current: Arc<Mutex<Current>>,
}

#[derive(Debug, Default)]
struct Current {
    client: Option<Connected>,
    generation: u64,
    made: Option<Instant>,
}

/// A client, and which one it is.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) generation: u64,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection that makes a new client every so often at most.
    pub(super) fn new(access: Access, every: Duration) -> Self {
        Self { access: Arc::new(access), every, current: Arc::default() }
    }

    /// The client, made from the configuration as it is now if there is none.
    pub(super) async fn client(&self) -> Result<Connected, AccessError> {
        let mut current = self.current.lock().await;
        if let Some(connected) = &current.client {
            return Ok(connected.clone());
        }
        let config = self.access.config().await?;
        let client = Client::try_from(config).map_err(|error| AccessError::Client(Box::new(error)))?;
        current.generation += 1;
        current.made = Some(Instant::now());
        let connected = Connected { client, generation: current.generation };
        current.client = Some(connected.clone());
        Ok(connected)
    }

    /// Has the next client made afresh, unless that was done since the failing one.
    pub(super) async fn renew(&self, failed: u64) {
        let mut current = self.current.lock().await;
        let rested = current.made.is_none_or(|made| made.elapsed() >= self.every);
        if current.generation == failed && rested {
            current.client = None;
        }
    }
}
