//! Owns what the real server demands of what is written: of Events by `ValidateEventCreate` and
//! `ValidateEventUpdate` of `pkg/apis/core/validation/events.go`, of reports by the schemas of their CRDs. A member
//! that a schema does not know is an error here: the real server would drop it in silence.

#![expect(clippy::indexing_slicing, reason = "a member that is not there is null")]

use hyper::Response;
use serde_json::{Map, Value, json};

use super::{
    answer::{Body, refuse},
    objects::Resource,
};

/// What is wrong with a field.
#[derive(Debug)]
pub(super) struct FieldError {
    field: String,
    reason: &'static str,
    text: String,
}

impl FieldError {
    fn required(field: &str) -> Self {
        Self { field: field.to_owned(), reason: "FieldValueRequired", text: "Required value".to_owned() }
    }

    fn invalid(field: &str, value: &Value, why: &str) -> Self {
        let text = format!("Invalid value: {value}: {why}");
        Self { field: field.to_owned(), reason: "FieldValueInvalid", text }
    }
}

/// The name of an object that is created; one is made where a beginning is given.
pub(super) fn given_name(object: &mut Value, version: u64) -> String {
    let metadata = &mut object["metadata"];
    if let Some(name) = metadata["name"].as_str() {
        return name.to_owned();
    }
    let name = format!("{}{version:05}", metadata["generateName"].as_str().unwrap_or_default());
    metadata["name"] = json!(name);
    name
}

/// All that is wrong with an object.
pub(super) fn validate(
    resource: &Resource,
    object: &Value,
    old: Option<&Map<String, Value>>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let metadata = &object["metadata"];
    for field in ["generateName", "name"] {
        let value = &metadata[field];
        if value.as_str().is_some_and(|name| !is_subdomain(name)) {
            errors.push(FieldError::invalid(&format!("metadata.{field}"), value, NO_SUBDOMAIN));
            break;
        }
    }
    match resource.full_name().as_str() {
        "events.events.k8s.io" => event(object, old, &mut errors),
        "policyreports.wgpolicyk8s.io" => report(object, &[], &mut errors),
        "reports.openreports.io" => report(object, &["source", "configuration"], &mut errors),
        _ => {}
    }
    errors
}

/// The answer to an object with errors, as the real server words it.
pub(super) fn refusal(resource: &Resource, name: &str, errors: &[FieldError]) -> Response<Body> {
    let all: Vec<String> =
        errors.iter().map(|FieldError { field, text, .. }| format!("{field}: {text}")).collect();
    let all = match &all[..] {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let causes: Vec<Value> = errors
        .iter()
        .map(
            |FieldError { field, reason, text }| json!({ "reason": reason, "message": text, "field": field }),
        )
        .collect();
    let mut details = json!({ "name": name, "kind": resource.kind, "causes": causes });
    if resource.is_custom() {
        details["group"] = json!(resource.group);
    }
    let kind = &resource.kind;
    let of = if resource.is_custom() { format!("{kind}.{}", resource.group) } else { kind.clone() };
    refuse(422, "Invalid", &format!("{of} {name:?} is invalid: {all}"), &details, None)
}

const NO_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
    '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
    validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn is_subdomain(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// A qualified name: an optional DNS subdomain, and a name of 63 characters at most.
fn is_qualified(name: &str) -> bool {
    let (prefix, name) = name.split_once('/').map_or((None, name), |(prefix, name)| (Some(prefix), name));
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    prefix.is_none_or(is_subdomain)
        && (1..=63).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && ends(name.chars().next())
        && ends(name.chars().last())
}

fn event(object: &Value, old: Option<&Map<String, Value>>, errors: &mut Vec<FieldError>) {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let about = &object["regarding"]["namespace"];
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    if about.as_str().unwrap_or_default().is_empty() && !["default", "kube-system"].contains(&namespace) {
        errors.push(FieldError::invalid("involvedObject.namespace", about, "does not match event.namespace"));
    }
    for field in ["reportingController", "reportingInstance", "action", "reason"] {
        if text(field).is_empty() {
            errors.push(FieldError::required(field));
        }
    }
    if !is_qualified(text("reportingController")) {
        let why = "name part must consist of alphanumeric characters, '-', '_' or '.'";
        errors.push(FieldError::invalid("reportingController", &object["reportingController"], why));
    }
    for (field, name, most) in [
        ("reportingInstance", "reportingInstance", 128),
        ("action", "action", 128),
        ("reason", "reason", 128),
        ("note", "message", 1024),
    ] {
        if text(field).len() > most {
            errors.push(FieldError::invalid(
                name,
                &json!(""),
                &format!("can have at most {most} characters"),
            ));
        }
    }
    if !is_micro_time(text("eventTime")) {
        errors.push(FieldError::required("eventTime"));
    }
    if !["Normal", "Warning"].contains(&text("type")) {
        errors.push(FieldError::invalid("type", &json!(""), &format!("has invalid value: {}", text("type"))));
    }
    for field in
        ["deprecatedFirstTimestamp", "deprecatedLastTimestamp", "deprecatedCount", "deprecatedSource"]
    {
        if !object[field].is_null() {
            errors.push(FieldError::invalid(field, &json!(""), "needs to be unset"));
        }
    }
    let series = &object["series"];
    if !series.is_null() {
        if series["count"].as_i64().is_none_or(|count| count < 2 || count > i64::from(i32::MAX)) {
            errors.push(FieldError::invalid("series.count", &json!(""), "should be at least 2"));
        }
        if !is_micro_time(series["lastObservedTime"].as_str().unwrap_or_default()) {
            errors.push(FieldError::required("series.lastObservedTime"));
        }
    }
    let known = [
        "apiVersion",
        "kind",
        "metadata",
        "eventTime",
        "series",
        "reportingController",
        "reportingInstance",
        "action",
        "reason",
        "regarding",
        "related",
        "note",
        "type",
    ];
    unknown("", object, &known, errors);
    let Some(old) = old else { return };
    for field in known.iter().filter(|field| !["metadata", "series"].contains(field)) {
        let before = old.get(*field).unwrap_or(&Value::Null);
        if *before != object[*field] {
            errors.push(FieldError::invalid(field, &object[*field], "field is immutable"));
        }
    }
}

/// `2026-11-25T03:00:00.000000Z`.
fn is_micro_time(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    text.len() == 27 && digits == 20 && text.ends_with('Z') && text.as_bytes().get(19) == Some(&b'.')
}

fn report(object: &Value, more: &[&str], errors: &mut Vec<FieldError>) {
    let known = ["apiVersion", "kind", "metadata", "scope", "scopeSelector", "summary", "results"];
    unknown("", object, &[&known[..], more].concat(), errors);
    reference("scope", &object["scope"], errors);
    let counts = ["pass", "fail", "warn", "error", "skip"];
    unknown("summary", &object["summary"], &counts, errors);
    for count in counts {
        if !object["summary"][count].is_null() && !object["summary"][count].is_i64() {
            errors.push(FieldError::invalid(
                &format!("summary.{count}"),
                &object["summary"][count],
                "integer",
            ));
        }
    }
    for (index, result) in object["results"].as_array().into_iter().flatten().enumerate() {
        let at = format!("results[{index}]");
        let known = [
            "policy",
            "rule",
            "resources",
            "resourceSelector",
            "message",
            "result",
            "scored",
            "properties",
            "category",
            "severity",
            "source",
            "timestamp",
        ];
        unknown(&at, result, &known, errors);
        if !result["policy"].is_string() {
            errors.push(FieldError::required(&format!("{at}.policy")));
        }
        for (field, values) in
            [("result", &counts[..]), ("severity", &["critical", "high", "low", "medium", "info"][..])]
        {
            let value = &result[field];
            if !value.is_null() && !value.as_str().is_some_and(|value| values.contains(&value)) {
                errors.push(FieldError::invalid(&format!("{at}.{field}"), value, "Unsupported value"));
            }
        }
        for field in ["rule", "message", "category", "source"] {
            if !result[field].is_null() && !result[field].is_string() {
                errors.push(FieldError::invalid(&format!("{at}.{field}"), &result[field], "string"));
            }
        }
        let properties = &result["properties"];
        let strings = properties.as_object().is_none_or(|all| all.values().all(Value::is_string));
        if !strings || !(properties.is_null() || properties.is_object()) {
            errors.push(FieldError::invalid(&format!("{at}.properties"), properties, "strings"));
        }
        let timestamp = &result["timestamp"];
        let whole = timestamp["seconds"].is_i64() && timestamp["nanos"].is_i64();
        if !timestamp.is_null() && !whole {
            errors.push(FieldError::required(&format!("{at}.timestamp")));
        }
    }
}

fn reference(at: &str, object: &Value, errors: &mut Vec<FieldError>) {
    let known = ["apiVersion", "fieldPath", "kind", "name", "namespace", "resourceVersion", "uid"];
    unknown(at, object, &known, errors);
}

fn unknown(at: &str, object: &Value, known: &[&str], errors: &mut Vec<FieldError>) {
    for (key, value) in object.as_object().into_iter().flatten() {
        if !known.contains(&key.as_str()) {
            let field = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            errors.push(FieldError::invalid(&field, value, "unknown field"));
        }
    }
}
