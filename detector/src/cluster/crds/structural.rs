//! What an API server demands of a definition before it takes it.
//!
//! Sources: Kubernetes' staging/src/k8s.io/apiextensions-apiserver, pkg/apiserver/schema/validation.go (structural
//! schemas), pkg/apis/apiextensions/validation/validation.go (names, versions, `validateCustomResourceDefinitionOpenAPISchema`,
//! the limits of what CEL may cost) and pkg/apiserver/validation/formats.go.

use serde_json::{Map, Value, json};

use super::definitions;

/// Keywords of a structural schema that our definitions may use; all others are refused by a server, or mean
/// something that these tests do not know.
const KEYWORDS: [&str; 18] = [
    "additionalProperties",
    "default",
    "description",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "nullable",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
];

/// Formats that a server knows; of any other it warns, and checks nothing.
const FORMATS: [&str; 8] = ["int32", "int64", "float", "double", "byte", "date", "date-time", "duration"];

/// How often one rule may be evaluated for one object. The budget is ten million units a rule and a hundred million
/// a definition, and a rule of ours costs some tens: it calls nothing that goes through a list or a text.
const EVALUATIONS: u64 = 10_000;

/// All that a server has against a definition.
fn problems(definition: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, names) = (text(&spec["group"]), &spec["names"]);
    let mut demand = |holds: bool, what: String| {
        if !holds {
            found.push(what);
        }
    };
    let is_label = |name: &str| {
        let ends =
            |end: Option<char>| end.is_some_and(|end| end.is_ascii_lowercase() || end.is_ascii_digit());
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        name.len() <= 63 && ends(name.chars().next()) && ends(name.chars().last()) && name.chars().all(inner)
    };
    demand(definition["apiVersion"] == "apiextensions.k8s.io/v1", "apiVersion".to_owned());
    demand(definition["kind"] == "CustomResourceDefinition", "kind".to_owned());
    let name = format!("{}.{group}", text(&names["plural"]));
    demand(definition["metadata"]["name"] == json!(name), format!("metadata.name: not {name}"));
    demand(group.contains('.') && group.split('.').all(is_label), "spec.group: no domain".to_owned());
    demand(["Namespaced", "Cluster"].contains(&&*text(&spec["scope"])), "spec.scope".to_owned());
    for field in ["plural", "singular"] {
        demand(is_label(&text(&names[field])), format!("spec.names.{field}: no label"));
    }
    demand(is_label(&text(&names["kind"]).to_lowercase()), "spec.names.kind: no label".to_owned());
    for category in names["categories"].as_array().into_iter().flatten() {
        demand(is_label(&text(category)), "spec.names.categories: no label".to_owned());
    }
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stored = versions.iter().filter(|version| version["storage"] == true).count();
    demand(stored == 1, format!("spec.versions: {stored} are stored"));
    for version in versions {
        demand(is_label(&text(&version["name"])), "spec.versions[].name: no label".to_owned());
        demand(version["served"].is_boolean(), "spec.versions[].served: missing".to_owned());
        for column in version["additionalPrinterColumns"].as_array().into_iter().flatten() {
            let path = text(&column["jsonPath"]);
            demand(path.starts_with('.'), format!("{path}: a column's path begins with a dot"));
            let known = ["integer", "number", "string", "boolean", "date"].contains(&&*text(&column["type"]));
            demand(known, format!("{path}: a column's type"));
            // What is not there is shown empty for ever.
            let mut schema = &version["schema"]["openAPIV3Schema"];
            for part in path.split('.').skip(1) {
                schema = &schema["properties"][part];
            }
            demand(schema.is_object(), format!("{path}: no such field"));
        }
        let schema = &version["schema"]["openAPIV3Schema"];
        demand(schema["type"] == "object", "the root is no object".to_owned());
        for field in ["apiVersion", "kind", "metadata"] {
            let own = &schema["properties"][field];
            demand(own.is_null() || *own == json!({"type": "object"}), format!("{field}: restricted"));
        }
    }
    for version in versions {
        node("", &version["schema"]["openAPIV3Schema"], 1, &mut found);
    }
    found
}

/// What is wrong with a schema, of which an object may have `times` values.
fn node(path: &str, schema: &Value, times: u64, found: &mut Vec<String>) {
    let Some(members) = schema.as_object() else {
        return found.push(format!("{path}: no schema"));
    };
    for keyword in members.keys().filter(|keyword| *keyword != "x-kubernetes-validations") {
        if !KEYWORDS.contains(&keyword.as_str()) {
            found.push(format!("{path}: keyword {keyword}"));
        }
    }
    let kind = schema["type"].as_str().unwrap_or_default();
    let only = |keywords: &[&str], of: &str, found: &mut Vec<String>| {
        for keyword in keywords.iter().filter(|keyword| members.contains_key(**keyword) && kind != of) {
            found.push(format!("{path}: {keyword} of {kind:?}"));
        }
    };
    if !["object", "array", "string", "integer", "number", "boolean"].contains(&kind) {
        found.push(format!("{path}: type {kind:?}"));
    }
    only(&["properties", "additionalProperties", "required", "maxProperties"], "object", found);
    only(&["items", "maxItems", "minItems"], "array", found);
    only(&["pattern", "maxLength", "minLength"], "string", found);
    if members.contains_key("properties") && members.contains_key("additionalProperties") {
        found.push(format!("{path}: properties and additionalProperties"));
    }
    if kind == "array" && !schema["items"].is_object() {
        found.push(format!("{path}: an array without items"));
    }
    if let Some(format) = schema["format"].as_str()
        && !FORMATS.contains(&format)
    {
        found.push(format!("{path}: format {format}"));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && regex::Regex::new(pattern).is_err()
    {
        found.push(format!("{path}: pattern {pattern}"));
    }
    for field in schema["required"].as_array().into_iter().flatten() {
        if schema["properties"].get(field.as_str().unwrap_or_default()).is_none() {
            found.push(format!("{path}: {field} is required and no property"));
        }
    }
    if let Some(default) = schema.get("default")
        && let Some(why) = super::tests::refusal(path, &without_rules(members), default)
    {
        found.push(format!("{path}: its default is refused: {why}"));
    }
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        self::rule(path, schema, rule, times, found);
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        node(&format!("{path}.{name}"), below, times, found);
    }
    if let Some(below) = schema.get("items") {
        // Without a limit a server counts as many as fit into a request.
        let limit = schema["maxItems"].as_u64().unwrap_or(u64::MAX);
        node(&format!("{path}[]"), below, times.saturating_mul(limit), found);
    }
    if let Some(below) = schema.get("additionalProperties") {
        let limit = schema["maxProperties"].as_u64().unwrap_or(u64::MAX);
        node(&format!("{path}{{}}"), below, times.saturating_mul(limit), found);
    }
}

fn without_rules(schema: &Map<String, Value>) -> Value {
    let kept = schema.iter().filter(|(keyword, _)| *keyword != "x-kubernetes-validations");
    Value::Object(kept.map(|(keyword, value)| (keyword.clone(), value.clone())).collect())
}

/// What is wrong with a CEL rule: a server refuses what it cannot compile, and what may cost too much.
fn rule(path: &str, schema: &Value, rule: &Value, times: u64, found: &mut Vec<String>) {
    let text = rule["rule"].as_str().unwrap_or_default();
    if cel::Program::compile(text).is_err() || text.trim().is_empty() {
        found.push(format!("{path}: {text:?} does not compile"));
    }
    let message = rule["message"].as_str().unwrap_or_default();
    if message.is_empty() || message.contains('\n') {
        found.push(format!("{path}: the message of {text:?}"));
    }
    if times > EVALUATIONS {
        found.push(format!("{path}: {text:?} is evaluated {times} times"));
    }
    for call in ["all", "exists", "exists_one", "map", "filter", "matches", "contains", "split", "find"] {
        if text.contains(&format!(".{call}(")) {
            found.push(format!("{path}: {text:?} goes through a value by {call}"));
        }
    }
    // What it reads is compared and measured: its size must be limited.
    let names = regex::Regex::new(r"self\.([A-Za-z]+)").unwrap();
    for name in names.captures_iter(text).filter_map(|captures| captures.get(1)) {
        let field = &schema["properties"][name.as_str()];
        let limit = match field["type"].as_str() {
            Some("string") => "maxLength",
            Some("array") => "maxItems",
            Some("object") => "maxProperties",
            Some(_) => continue,
            None => {
                found.push(format!("{path}: {text:?} reads {}, which is not there", name.as_str()));
                continue;
            }
        };
        if !field[limit].is_u64() {
            found.push(format!("{path}.{}: a rule reads it, and it has no {limit}", name.as_str()));
        }
    }
}

#[test]
fn a_server_takes_both_definitions() {
    for definition in definitions().unwrap() {
        assert_eq!(problems(&definition), [""; 0]);
    }
}

#[test]
fn and_these_would_not_be_taken() {
    const SPEC: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let at = |below: &str| format!("{SPEC}/properties/{below}");
    let requirement = at("selector/properties/matchExpressions");
    for (place, member, value, problem) in [
        ("/metadata".to_owned(), "name", json!("exceptions.plainsight.dev"), "metadata.name"),
        ("/spec".to_owned(), "group", json!("plainsight"), "spec.group"),
        ("/spec/names".to_owned(), "plural", json!("trafficExceptions"), "no label"),
        ("/spec/versions/0".to_owned(), "storage", json!(false), "0 are stored"),
        (
            "/spec/versions/0/additionalPrinterColumns/0".to_owned(),
            "jsonPath",
            json!(".spec.gone"),
            "no such field",
        ),
        (at("owner"), "type", Value::Null, ".spec.owner: type \"\""),
        (at("owner"), "type", json!("text"), ".spec.owner: type \"text\""),
        (at("owner"), "$ref", json!("#/definitions/x"), "keyword $ref"),
        (at("owner"), "pattern", json!("(?=x)"), ".spec.owner: pattern"),
        (at("owner"), "maxItems", json!(3), ".spec.owner: maxItems"),
        (at("owner"), "default", json!(5), ".spec.owner: its default"),
        (at("ports"), "items", Value::Null, "an array without items"),
        (at("ports"), "uniqueItems", json!(true), "keyword uniqueItems"),
        (at("ports/items"), "format", json!("uint16"), "format uint16"),
        (
            at("selector"),
            "additionalProperties",
            json!({"type": "string"}),
            "properties and additionalProperties",
        ),
        (at("selector"), "default", json!({"moonPhase": "full"}), ".spec.selector: its default"),
        (SPEC.to_owned(), "required", json!(["gone"]), "required and no property"),
        (requirement.clone(), "maxItems", Value::Null, "times"),
        (at("peers"), "maxItems", json!(20_000), "20000 times"),
        (
            format!("{requirement}/items/properties/operator"),
            "maxLength",
            Value::Null,
            "operator: a rule reads it",
        ),
        (
            format!("{requirement}/items/properties/values"),
            "maxItems",
            Value::Null,
            "values: a rule reads it",
        ),
        (format!("{requirement}/items/properties"), "operator", Value::Null, "which is not there"),
        (at("peers/items/x-kubernetes-validations/0"), "rule", json!("has(self.cidr"), "does not compile"),
        (at("peers/items/x-kubernetes-validations/0"), "message", json!("two\nlines"), "the message of"),
        (
            at("peers/items/x-kubernetes-validations/0"),
            "rule",
            json!("self.cidr.split('.').all(part, part != '')"),
            "goes through a value",
        ),
    ] {
        let mut definition = definitions().unwrap().remove(0);
        assert_eq!(problems(&definition), [""; 0]);
        let Some(Value::Object(members)) = definition.pointer_mut(&place) else { panic!("no {place}") };
        if value.is_null() {
            members.remove(member).unwrap();
        } else {
            members.insert(member.to_owned(), value);
        }
        let found = problems(&definition);
        assert!(found.iter().any(|found| found.contains(problem)), "{place} {member}: {found:?}");
    }
}
