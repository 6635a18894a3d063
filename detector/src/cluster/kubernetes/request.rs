//! Owns the requests: what is asked, and what the answer's status means.

use std::{collections::BTreeMap, time::Duration};

use bytes::BytesMut;
use kube::{
    client::Body,
    core::{
        Request, Status,
        params::{ListParams, WatchParams},
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    access::{Connected, Connection},
    failure::Failure,
    lines::{self, Lines},
    resource::Resource,
};

/// Objects of a page: of pods, some megabytes.
const PAGE: u32 = 250;

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'a> {
    pub(super) metadata: ListMeta,
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMeta {
    pub(super) resource_version: String,
    #[serde(default, rename = "continue")]
    pub(super) token: Option<String>,
}

/// The data of a ConfigMap.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConfigMap {
    pub(super) data: BTreeMap<String, String>,
}

/// How a watch begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin<'a> {
    /// With everything there is.
    Initial,
    /// After a resource version.
    After(&'a str),
}

/// Reads a page of a list.
pub(super) async fn page(
    connected: &Connected,
    resource: &Resource,
    version: &str,
    token: Option<&str>,
    silence: Duration,
    heard: impl Fn(),
) -> Result<BytesMut, Failure> {
    let params =
        ListParams { limit: Some(PAGE), continue_token: token.map(str::to_owned), ..Default::default() };
    let request = Request::new(resource.path(version));
    let request = if resource.metadata_only { request.list_metadata(&params) } else { request.list(&params) };
    let request = request.map_err(|error| Failure::Garbage(error.to_string()))?;
    let body = send(connected, request, silence).await?;
    lines::whole(body, silence, heard).await
}

/// Opens a watch.
pub(super) async fn watch(
    connected: &Connected,
    resource: &Resource,
    version: &str,
    begin: Begin<'_>,
    length: Duration,
    silence: Duration,
) -> Result<Lines, Failure> {
    let (initial, after) = match begin {
        Begin::Initial => (true, ""),
        Begin::After(version) => (false, version),
    };
    let params = WatchParams {
        // kube takes no more than 294 seconds.
        timeout: Some(u32::try_from(length.as_secs()).unwrap_or(290).clamp(1, 290)),
        bookmarks: true,
        send_initial_events: initial,
        ..Default::default()
    };
    let request = Request::new(resource.path(version));
    let request = if resource.metadata_only {
        request.watch_metadata(&params, after)
    } else {
        request.watch(&params, after)
    };
    let request = request.map_err(|error| Failure::Garbage(error.to_string()))?;
    match send(connected, request, silence).await {
        Ok(body) => Ok(Lines::new(body)),
        // The gate is off: to such a server the parameters are an error.
        Err(Failure::Status { code: 400 | 422, .. }) if initial => Err(Failure::NoStreamingLists),
        Err(failure) => Err(failure),
    }
}

/// The minor version of the server, where it says it.
pub(super) async fn minor_version(connected: &Connected, silence: Duration) -> Result<Option<u32>, Failure> {
    #[derive(Deserialize)]
    struct Version {
        minor: String,
    }
    let request = hyper::Request::get("/version").body(Vec::new());
    let request = request.map_err(|error| Failure::Garbage(error.to_string()))?;
    let body = send(connected, request, silence).await?;
    let text = lines::whole(body, silence, || {}).await?;
    let version: Version = parse(&text)?;
    // Some vendors write `27+`.
    let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse().ok())
}

/// Reads a ConfigMap.
pub(super) async fn config_map(
    connection: &Connection,
    namespace: &str,
    name: &str,
) -> Result<ConfigMap, Failure> {
    const SILENCE: Duration = Duration::from_secs(30);
    let connected = connection.client().await?;
    let request =
        hyper::Request::get(format!("/api/v1/namespaces/{namespace}/configmaps/{name}")).body(Vec::new());
    let request = request.map_err(|error| Failure::Garbage(error.to_string()))?;
    let body = send(&connected, request, SILENCE).await?;
    let text = lines::whole(body, SILENCE, || {}).await?;
    parse(&text)
}

/// Reads JSON.
pub(super) fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(text).map_err(|error| Failure::Garbage(error.to_string()))
}

pub(super) async fn send(
    connected: &Connected,
    request: hyper::Request<Vec<u8>>,
    silence: Duration,
) -> Result<Body, Failure> {
    let sent = connected.client.send(request.map(Body::from));
    let response = match tokio::time::timeout(silence, sent).await {
        Err(_elapsed) => return Err(Failure::Silent(silence)),
        Ok(response) => response?,
    };
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let header = response.headers().get(hyper::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(|text| text.parse().ok()).map(Duration::from_secs);
    let text = lines::whole(response.into_body(), silence, || {}).await?;
    // A proxy's refusal is no status object, and its code says enough.
    let said: Option<Status> = serde_json::from_slice(&text).ok();
    Err(Failure::of_status(status.as_u16(), said.as_ref(), retry_after))
}
