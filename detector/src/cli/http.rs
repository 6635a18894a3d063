//! Owns the asking of an HTTP server: one answer, whole, of bounded size and in bounded time.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, Uri,
    header::{ACCEPT, AUTHORIZATION},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// The longest answer that is read, in bytes.
const MOST: usize = 64 * 1024 * 1024;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for pages.
pub(super) struct Http(Client<HttpsConnector<HttpConnector>, Empty<Bytes>>);

impl Http {
    /// Trusts what the machine trusts.
    pub(super) fn new() -> Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("read the machine's certificates")?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// The body of a page. A status that is not 200 is an error with the server's words.
    pub(super) async fn get(&self, uri: &Uri, token: Option<&str>) -> Result<Bytes> {
        let mut request = Request::get(uri).header(ACCEPT, "application/json, text/plain");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::new()).context("make the request")?;
        let asked = async {
            let response = self.0.request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!(error).context("read the answer"))?.to_bytes();
            if !status.is_success() {
                let words: String = String::from_utf8_lossy(&body)
                    .chars()
                    .take(300)
                    .map(|c| if c.is_control() { ' ' } else { c })
                    .collect();
                bail!("status {status}: {}", words.trim());
            }
            Ok(body)
        };
        tokio::time::timeout(PATIENCE, asked).await.context("no answer in a minute")?
    }
}
