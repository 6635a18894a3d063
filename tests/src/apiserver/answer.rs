//! Owns the answers: from a request to status, headers and body.

#![expect(clippy::indexing_slicing, reason = "members of JSON objects are set by name, which cannot fail")]

use std::{convert::Infallible, io, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::stream::StreamExt as _;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Method, Request, Response,
    body::{Frame, Incoming},
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use serde_json::{Value, json};

use super::{
    Shared, State,
    count::Verb,
    fault::Fault,
    objects::{Collection, Resource, Stored},
    request::Wanted,
    watch::Watch,
    write,
};

pub(super) type Body = BoxBody<Bytes, io::Error>;

/// Answers a request; an error closes the connection.
pub(super) async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Body>, io::Error> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let authorised = {
        let state = shared.state();
        state.token.as_ref().is_none_or(|token| header(AUTHORIZATION).strip_prefix("Bearer ") == Some(token))
    };
    if !authorised {
        return Ok(refuse(401, "Unauthorized", "Unauthorized", &json!({}), None));
    }
    if request.method() != Method::GET {
        return write::write(request, &shared).await;
    }
    let path = request.uri().path();
    let query = request.uri().query().unwrap_or_default();
    if let Some(group) = path.strip_prefix("/apis/").filter(|rest| !rest.contains('/')) {
        shared.counts.group(group);
    }
    if let Some(found) = discover(&shared.state(), path) {
        return Ok(found);
    }
    let Some(wanted) = Wanted::parse(path, query, header(ACCEPT)) else { return Ok(not_found()) };
    let verb = wanted.verb();
    let (resource, fault) = match meet(&shared, &wanted, verb) {
        Ok(met) => met,
        Err(response) => return Ok(*response),
    };
    let mut ending = None;
    match fault {
        None => {}
        Some(fault @ (Fault::CloseWatch(_) | Fault::CutWatch(_) | Fault::ExpireWatch)) => {
            ending = Some(fault)
        }
        Some(fault) => {
            if let Some(response) = fail(&resource, verb, &wanted, fault).await? {
                return Ok(response);
            }
        }
    }
    if let Verb::Watch = verb {
        return watch(&shared, resource, wanted, ending);
    }
    let found = read(&mut shared.state(), &resource, &wanted);
    // What is written is written without the lock: a page has megabytes.
    let response = match found {
        Ok(found) => whole(200, "application/json", found.body(&resource, &wanted)?),
        Err(refusal) => *refusal,
    };
    let bytes = hyper::body::Body::size_hint(response.body()).exact().unwrap_or_default();
    shared.counts.sent(&resource.full_name(), verb, usize::try_from(bytes).unwrap_or_default());
    Ok(response)
}

/// The resource that is asked for, and the fault that the request meets; it is counted, be the resource there or not.
pub(super) fn meet(
    shared: &Shared,
    wanted: &Wanted,
    verb: Verb,
) -> Result<(Resource, Option<Fault>), Box<Response<Body>>> {
    let mut state = shared.state();
    let found = state.objects.find(&wanted.group, &wanted.version, &wanted.plural);
    let Some(resource) = found.map(|collection| collection.resource.clone()) else {
        drop(state);
        let asked = Resource::new(&wanted.group, &wanted.version, "", &wanted.plural).full_name();
        shared.counts.request(&asked, verb);
        return Err(not_found().into());
    };
    let fault = state.faults.meet(&resource.full_name(), verb);
    shared.counts.request(&resource.full_name(), verb);
    Ok((resource, fault))
}

/// The answer of a request that goes wrong; none where it only comes late. An error closes the connection.
pub(super) async fn fail(
    resource: &Resource,
    verb: Verb,
    wanted: &Wanted,
    fault: Fault,
) -> Result<Option<Response<Body>>, io::Error> {
    Ok(match fault {
        Fault::Forbidden => Some(forbid(resource, verb, wanted.namespace.as_deref())),
        Fault::Status { code, reason, retry_after } => {
            let mut details = json!({});
            if let Some(seconds) = retry_after {
                details["retryAfterSeconds"] = json!(seconds);
            }
            let message = "the server has received too many requests and has asked us to try again later";
            Some(refuse(code, reason, message, &details, retry_after))
        }
        Fault::Garbage => Some(whole(200, "text/html", "<html><body>Please log in.</body></html>\n".into())),
        Fault::HangUp => return Err(io::ErrorKind::ConnectionReset.into()),
        Fault::Slow(late) => {
            tokio::time::sleep(late).await;
            None
        }
        Fault::CloseWatch(_) | Fault::CutWatch(_) | Fault::ExpireWatch | Fault::LostAnswer => None,
    })
}

/// What a request has found.
enum Found {
    Object(Arc<Stored>),
    Page(Page),
}

/// A list as it is answered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    kind: &'a str,
    api_version: &'a str,
    metadata: Value,
    items: Vec<Shaped<'a>>,
}

impl Found {
    fn body(&self, resource: &Resource, wanted: &Wanted) -> Result<String, io::Error> {
        let page = match self {
            Self::Object(object) => {
                return Ok(serde_json::to_string(&Shaped { object, resource, wanted, named: true })?);
            }
            Self::Page(page) => page,
        };
        let mut metadata = json!({ "resourceVersion": page.version.to_string() });
        if let Some(token) = &page.token {
            metadata["continue"] = json!(token);
            metadata["remainingItemCount"] = json!(page.remaining());
        }
        let (kind, api_version) = if wanted.metadata_only {
            ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned())
        } else {
            (format!("{}List", resource.kind), resource.api_version(&wanted.version))
        };
        let named = wanted.metadata_only || resource.is_custom();
        let items = page.objects().iter().map(|object| Shaped { object, resource, wanted, named });
        let list = List { kind: &kind, api_version: &api_version, metadata, items: items.collect() };
        Ok(serde_json::to_string(&list)?)
    }
}

/// One object, or a list.
fn read(state: &mut State, resource: &Resource, wanted: &Wanted) -> Result<Found, Box<Response<Body>>> {
    let now = state.objects.version();
    let Some(collection) = state.objects.collection(&resource.full_name()) else {
        return Err(not_found().into());
    };
    if let Some(name) = &wanted.name {
        let key = (wanted.namespace.clone().unwrap_or_default(), name.clone());
        return match collection.objects.get(&key) {
            Some(object) => Ok(Found::Object(Arc::clone(object))),
            None => {
                let details = json!({ "name": name, "kind": resource.plural });
                let message = format!("{} {name:?} not found", resource.full_name());
                Err(refuse(404, "NotFound", &message, &details, None).into())
            }
        };
    }
    let Some(page) = page(collection, wanted, now) else {
        let message = "The provided continue parameter is too old to display a consistent list result. You \
                       can start a new list without the continue parameter, or use the continue token in \
                       this response to retrieve the remainder of the results.";
        return Err(refuse(410, "Expired", message, &json!({}), None).into());
    };
    Ok(Found::Page(page))
}

/// A part of what was there at a version. The whole is shared by all pages of a list, so a page costs its own
/// objects, however many there are.
struct Page {
    version: u64,
    all: Arc<[Arc<Stored>]>,
    part: Range<usize>,
    token: Option<String>,
}

impl Page {
    fn objects(&self) -> &[Arc<Stored>] {
        self.all.get(self.part.clone()).unwrap_or_default()
    }

    fn remaining(&self) -> usize {
        self.all.len() - self.part.end
    }
}

/// The objects of a page; `None` where the list that it continues is forgotten.
fn page(collection: &mut Collection, wanted: &Wanted, now: u64) -> Option<Page> {
    let (version, start) = match &wanted.token {
        Some(token) => token.split_once('.').and_then(|(version, start)| {
            Some((version.parse::<u64>().ok()?, start.parse::<usize>().ok()?))
        })?,
        None => (now, 0),
    };
    let all: Arc<[Arc<Stored>]> = match &wanted.token {
        Some(_) => Arc::clone(collection.snapshots.get(&version)?),
        None => collection.objects.values().filter(|object| wanted.selects(object)).cloned().collect(),
    };
    // A list from the cache (`resourceVersion=0`) comes whole whatever its limit.
    let limit = match wanted.resource_version.as_deref() {
        Some("0") => None,
        _ => wanted.limit,
    };
    let end = limit.map_or(all.len(), |limit| all.len().min(start + limit));
    let token = (end < all.len()).then(|| format!("{version}.{end}"));
    match token {
        Some(_) => drop(collection.snapshots.insert(version, Arc::clone(&all))),
        None => drop(collection.snapshots.remove(&version)),
    }
    Some(Page { version, all, part: start..end, token })
}

/// An object as this client asked for it, written from where it lies.
pub(super) struct Shaped<'a> {
    pub(super) object: &'a Stored,
    pub(super) resource: &'a Resource,
    pub(super) wanted: &'a Wanted,
    /// Whether it says its kind.
    pub(super) named: bool,
}

impl Serialize for Shaped<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { object, resource, wanted, named } = *self;
        let mut out = serializer.serialize_map(None)?;
        if wanted.metadata_only {
            out.serialize_entry("kind", "PartialObjectMetadata")?;
            out.serialize_entry("apiVersion", "meta.k8s.io/v1")?;
            out.serialize_entry("metadata", &object.value.get("metadata"))?;
            return out.end();
        }
        if named {
            out.serialize_entry("kind", &resource.kind)?;
            out.serialize_entry("apiVersion", &resource.api_version(&wanted.version))?;
        }
        for (key, value) in object.value.iter().filter(|(key, _)| *key != "kind" && *key != "apiVersion") {
            out.serialize_entry(key, value)?;
        }
        out.end()
    }
}

fn watch(
    shared: &Arc<Shared>,
    resource: Resource,
    wanted: Wanted,
    ending: Option<Fault>,
) -> Result<Response<Body>, io::Error> {
    {
        let state = shared.state();
        let known = state.minor >= 27;
        if known && wanted.send_initial_events {
            let refused = if !state.streaming_lists {
                Some("sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled")
            } else if !wanted.not_older_than {
                Some("resourceVersionMatch is required when sendInitialEvents is set")
            } else {
                None
            };
            if let Some(why) = refused {
                let message =
                    format!("ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: {why}");
                return Ok(refuse(422, "Invalid", &message, &json!({}), None));
            }
        }
    }
    let name = resource.full_name();
    let watch = Watch::open(Arc::clone(shared), resource, wanted, ending);
    let counting = Arc::clone(shared);
    let frames = watch.lines().map(move |line| {
        line.map(|line| {
            counting.counts.sent(&name, Verb::Watch, line.len());
            Frame::data(line)
        })
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `/version` and the parts of discovery that clients ask for.
fn discover(state: &State, path: &str) -> Option<Response<Body>> {
    let found = match path.trim_end_matches('/') {
        "/version" => json!({
            "major": "1",
            "minor": state.minor.to_string(),
            "gitVersion": format!("v1.{}.2", state.minor),
            "gitCommit": "0000000000000000000000000000000000000000",
            "gitTreeState": "clean",
            "buildDate": "2026-08-21T00:00:00Z",
            "goVersion": "go1.26.11",
            "compiler": "gc",
            "platform": "linux/amd64",
        }),
        path => {
            let rest: Vec<&str> = path.strip_prefix("/apis/")?.split('/').collect();
            let (group, version) = match rest[..] {
                [group] => (group, None),
                [group, version] => (group, Some(version)),
                _ => return None,
            };
            let resources = state.objects.group(group);
            resources.first()?;
            match version {
                None => {
                    let version = |version: &String| json!({ "groupVersion": format!("{group}/{version}"), "version": version });
                    // Those of all its resources, each of which may be served in some of them only.
                    let mut served: Vec<&String> =
                        resources.iter().flat_map(|resource| &resource.versions).collect();
                    served.sort();
                    served.dedup();
                    let versions: Vec<Value> = served.into_iter().rev().map(version).collect();
                    json!({
                        "kind": "APIGroup",
                        "apiVersion": "v1",
                        "name": group,
                        "versions": versions,
                        "preferredVersion": versions.first(),
                    })
                }
                Some(version) => {
                    let resources: Vec<Value> = resources
                        .iter()
                        .filter(|resource| resource.versions.iter().any(|served| served == version))
                        .map(|resource| {
                            json!({
                                "name": resource.plural,
                                "singularName": resource.kind.to_lowercase(),
                                "namespaced": resource.namespaced,
                                "kind": resource.kind,
                                "verbs": ["create", "delete", "get", "list", "patch", "watch"],
                            })
                        })
                        .collect();
                    json!({
                        "kind": "APIResourceList",
                        "apiVersion": "v1",
                        "groupVersion": format!("{group}/{version}"),
                        "resources": resources,
                    })
                }
            }
        }
    };
    Some(whole(200, "application/json", found.to_string()))
}

pub(super) fn forbid(resource: &Resource, verb: Verb, namespace: Option<&str>) -> Response<Body> {
    let scope = match namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let message = format!(
        "{} is forbidden: User \"system:serviceaccount:default:nobody\" cannot {verb} resource {:?} in API group {:?} {scope}",
        resource.full_name(),
        resource.plural,
        resource.group,
    );
    let mut details = json!({ "kind": resource.plural });
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    refuse(403, "Forbidden", &message, &details, None)
}

/// The failure object that the real server answers with.
pub(super) fn failure(code: u16, reason: &str, message: &str, details: &Value) -> Value {
    let mut status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    });
    if details.as_object().is_some_and(|details| !details.is_empty()) {
        status["details"] = details.clone();
    }
    status
}

pub(super) fn refuse(
    code: u16,
    reason: &str,
    message: &str,
    details: &Value,
    retry_after: Option<u32>,
) -> Response<Body> {
    let mut response = whole(code, "application/json", failure(code, reason, message, details).to_string());
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// A path that the server does not have, as in the recording: no JSON.
pub(super) fn not_found() -> Response<Body> {
    whole(404, "text/plain; charset=utf-8", "404 page not found\n".to_owned())
}

pub(super) fn whole(code: u16, content_type: &'static str, body: String) -> Response<Body> {
    let body = Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::{super::objects::Objects, Wanted, page};

    #[test]
    fn all_pages_of_a_list_share_what_was_there() {
        let mut objects = Objects::default();
        let node = |number: u32| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{number}")}});
        for number in 0..5 {
            objects.apply(node(number));
        }
        let (mut wanted, mut sizes, mut before) =
            (Wanted { limit: Some(2), ..Wanted::default() }, vec![], None);
        loop {
            let now = objects.version();
            let page = page(objects.collection("nodes").unwrap(), &wanted, now).unwrap();
            sizes.push((page.objects().len(), page.remaining()));
            // Not copied: a list of many pages is read in time that grows with what it sends.
            assert!(before.is_none_or(|before| Arc::ptr_eq(&before, &page.all)));
            before = Some(page.all);
            let Some(token) = page.token else { break };
            wanted.token = Some(token);
            objects.apply(node(9));
        }
        assert_eq!(sizes, [(2, 3), (2, 1), (1, 0)]);
        assert!(objects.collection("nodes").unwrap().snapshots.is_empty());
    }
}
