//! Owns the flags of the admin port: those that open it, and those that ask it.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

/// How the daemon opens its admin port.
#[derive(Clone, Debug, Args)]
pub struct ListenArgs {
    /// Address of /metrics, /healthz, /readyz, and of the page and /api/v1 for clients on this node
    ///
    /// An IPv6-only cluster wants `[::]:9464`.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:9464",
        env = "PLAINSIGHT_LISTEN",
        help_heading = "Admin port"
    )]
    pub listen: SocketAddr,

    /// Certificate of the admin port, PEM, with those between it and the root: TLS alone is spoken then
    ///
    /// Read again when it changes, with the key and the clients' CA.
    #[arg(
        long,
        value_name = "FILE",
        requires = "admin_tls_key",
        env = "PLAINSIGHT_ADMIN_TLS_CERT",
        help_heading = "Admin port"
    )]
    pub admin_tls_cert: Option<PathBuf>,

    /// Private key of the certificate, PEM
    #[arg(
        long,
        value_name = "FILE",
        requires = "admin_tls_cert",
        env = "PLAINSIGHT_ADMIN_TLS_KEY",
        help_heading = "Admin port"
    )]
    pub admin_tls_key: Option<PathBuf>,

    /// Let clients in that show a certificate of this CA, PEM
    ///
    /// With this or --admin-token-file, everything but /healthz and /readyz needs authentication, and those who
    /// have it may change the log filter.
    #[arg(
        long,
        value_name = "FILE",
        requires = "admin_tls_cert",
        env = "PLAINSIGHT_ADMIN_CLIENT_CA",
        help_heading = "Admin port"
    )]
    pub admin_client_ca: Option<PathBuf>,

    /// Let clients in that show the token in this file as `Authorization: Bearer`
    ///
    /// Needs TLS: a token in clear is what we find in others. Read again when it changes.
    #[arg(
        long,
        value_name = "FILE",
        requires = "admin_tls_cert",
        env = "PLAINSIGHT_ADMIN_TOKEN_FILE",
        help_heading = "Admin port"
    )]
    pub admin_token_file: Option<PathBuf>,

    /// Log what this file says, whenever it changes; while it is empty or missing, what --log says
    #[arg(long, value_name = "FILE", env = "PLAINSIGHT_LOG_FILTER_FILE", help_heading = "What to report")]
    pub log_filter_file: Option<PathBuf>,
}

/// Whom a subcommand asks, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Whom to ask")]
pub struct AdminArgs {
    /// Admin port of the daemon
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9464", env = "PLAINSIGHT_ADMIN")]
    pub admin: SocketAddr,

    /// How it lets clients in.
    #[command(flatten)]
    pub how: ClientArgs,
}

/// How an admin port is asked.
#[derive(Clone, Debug, Default, Args)]
pub struct ClientArgs {
    /// Speak TLS, and trust this CA, PEM
    #[arg(long, value_name = "FILE", env = "PLAINSIGHT_ADMIN_CA")]
    pub admin_ca: Option<PathBuf>,

    /// Name that the daemon's certificate must have [default: the address]
    #[arg(long, value_name = "NAME", requires = "admin_ca", env = "PLAINSIGHT_ADMIN_SERVER_NAME")]
    pub admin_server_name: Option<String>,

    /// Show this certificate, PEM
    #[arg(long, value_name = "FILE", requires_all = ["admin_ca", "admin_client_key"], env = "PLAINSIGHT_ADMIN_CLIENT_CERT")]
    pub admin_client_cert: Option<PathBuf>,

    /// Private key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "admin_client_cert", env = "PLAINSIGHT_ADMIN_CLIENT_KEY")]
    pub admin_client_key: Option<PathBuf>,

    /// Show the token in this file
    #[arg(long, value_name = "FILE", requires = "admin_ca", env = "PLAINSIGHT_ADMIN_TOKEN_FILE")]
    pub admin_token_file: Option<PathBuf>,
}
