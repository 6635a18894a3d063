//! Owns the writes: create, merge patch, server-side apply and delete, each with the refusals of the real server.
//!
//! Of server-side apply there is what a client with one field manager sees: what it applies is what stands. Other
//! managers' fields are not kept apart.

#![expect(clippy::indexing_slicing, reason = "members of JSON objects are set by name, which cannot fail")]

use std::{io, sync::Arc};

use http_body_util::BodyExt as _;
use hyper::{Method, Request, Response, body::Incoming, header::CONTENT_TYPE};
use serde_json::{Value, json};

use super::{
    Shared, State,
    answer::{self, Body, not_found, refuse, whole},
    count::Verb,
    fault::Fault,
    objects::Resource,
    request::Wanted,
    validate,
};

/// How a change is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Create,
    Merge,
    Apply,
    Delete,
}

/// Answers a request that changes something; an error closes the connection.
pub(super) async fn write(
    request: Request<Incoming>,
    shared: &Arc<Shared>,
) -> Result<Response<Body>, io::Error> {
    let method = request.method().clone();
    let content =
        request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let form = match (&method, content) {
        (&Method::POST, "application/json") => Form::Create,
        (&Method::PATCH, "application/merge-patch+json") => Form::Merge,
        (&Method::PATCH, "application/apply-patch+yaml") => Form::Apply,
        (&Method::DELETE, _) => Form::Delete,
        (&Method::POST | &Method::PATCH, _) => {
            let message = "the body of the request was in an unknown format";
            return Ok(refuse(415, "UnsupportedMediaType", message, &json!({}), None));
        }
        _ => {
            let message = "the server does not allow this method on the requested resource";
            return Ok(refuse(405, "MethodNotAllowed", message, &json!({}), None));
        }
    };
    let query = request.uri().query().unwrap_or_default().to_owned();
    let wanted = Wanted::parse(request.uri().path(), &query, "");
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let Some(wanted) = wanted else { return Ok(not_found()) };
    let verb = match form {
        Form::Create => Verb::Create,
        Form::Merge | Form::Apply => Verb::Patch,
        Form::Delete => Verb::Delete,
    };
    let (resource, fault) = match answer::meet(shared, &wanted, verb) {
        Ok(met) => met,
        Err(response) => return Ok(*response),
    };
    let lost = matches!(fault, Some(Fault::LostAnswer));
    if let Some(fault) = fault
        && let Some(response) = answer::fail(&resource, verb, &wanted, fault).await?
    {
        return Ok(response);
    }
    let object: Value = match (form, serde_json::from_slice(&body)) {
        (Form::Delete, _) => Value::Null,
        (_, Ok(object)) => object,
        (_, Err(error)) => return Ok(bad(&format!("couldn't get version/kind; json parse error: {error}"))),
    };
    let (answer, version) = {
        let mut state = shared.state();
        let answer = change(shared, &mut state, form, &resource, &wanted, &query, object);
        (answer, state.objects.version())
    };
    shared.changed.send_replace(version);
    if lost {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    Ok(match answer {
        Ok((code, value)) => whole(code, "application/json", value.to_string()),
        Err(refusal) => *refusal,
    })
}

fn change(
    shared: &Shared,
    state: &mut State,
    form: Form,
    resource: &Resource,
    wanted: &Wanted,
    query: &str,
    mut object: Value,
) -> Result<(u16, Value), Box<Response<Body>>> {
    let full_name = resource.full_name();
    let namespace = wanted.namespace.clone().unwrap_or_default();
    if resource.namespaced && namespace.is_empty() {
        return Err(bad("an empty namespace may not be set during creation").into());
    }
    let name = match (&wanted.name, form) {
        (Some(name), Form::Merge | Form::Apply | Form::Delete) => name.clone(),
        (None, Form::Create) => validate::given_name(&mut object, state.objects.version()),
        _ => {
            let message = "the server does not allow this method on the requested resource";
            return Err(refuse(405, "MethodNotAllowed", message, &json!({}), None).into());
        }
    };
    let key = (namespace.clone(), name.clone());
    let old = state.objects.collection(&full_name).and_then(|found| found.objects.get(&key).cloned());
    let missing = || {
        let details = json!({ "name": name, "group": resource.group, "kind": resource.plural });
        Box::new(refuse(404, "NotFound", &format!("{full_name} {name:?} not found"), &details, None))
    };
    if form == Form::Apply {
        if !query.split('&').any(|pair| pair.starts_with("fieldManager=") && pair.len() > 13) {
            return Err(bad("PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value").into());
        }
        if object["metadata"]["name"].as_str() != Some(&name) {
            return Err(bad("the name of the object does not match the name on the URL").into());
        }
    }
    match (form, &old) {
        (Form::Delete, None) | (Form::Merge, None) => return Err(missing()),
        (Form::Delete, Some(_)) => {
            state.objects.delete(&full_name, &namespace, &name);
            return Ok((200, json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" })));
        }
        (Form::Create, Some(_)) => {
            let details = json!({ "name": name, "group": resource.group, "kind": resource.plural });
            let message = format!("{full_name} {name:?} already exists");
            return Err(refuse(409, "AlreadyExists", &message, &details, None).into());
        }
        (Form::Apply, None) => {
            // To make an object by an apply takes the right to create it.
            shared.counts.request(&full_name, Verb::Create);
            if let Some(Fault::Forbidden) = state.faults.meet(&full_name, Verb::Create) {
                return Err(answer::forbid(resource, Verb::Create, Some(&namespace)).into());
            }
        }
        (Form::Merge | Form::Apply, Some(_)) | (Form::Create, None) => {}
    }
    if form == Form::Merge
        && let Some(old) = &old
    {
        let mut merged = Value::Object(old.value.clone());
        merge(&mut merged, &object);
        object = merged;
    }
    let api_version = resource.api_version(&wanted.version);
    if object["apiVersion"] != json!(api_version) || object["kind"] != json!(resource.kind) {
        return Err(bad("the API version or kind in the data does not match the expected one").into());
    }
    let given = object["metadata"]["namespace"].as_str().unwrap_or(&namespace).to_owned();
    if given != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(bad(message).into());
    }
    object["metadata"]["namespace"] = json!(namespace);
    let faults = validate::validate(resource, &object, old.as_ref().map(|old| &old.value));
    if !faults.is_empty() {
        return Err(validate::refusal(resource, &name, &faults).into());
    }
    state.objects.apply(object.clone());
    let stored = state.objects.collection(&full_name).and_then(|found| found.objects.get(&key).cloned());
    let value = stored.map_or(object, |stored| Value::Object(stored.value.clone()));
    Ok((if old.is_none() { 201 } else { 200 }, value))
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Value::Object(members) = target else { return };
    for (key, value) in changes {
        if value.is_null() {
            members.remove(key);
        } else {
            merge(members.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn bad(message: &str) -> Response<Body> {
    refuse(400, "BadRequest", message, &json!({}), None)
}

#[cfg(test)]
mod tests;
