//! Owns the definitions of our own resources, as an API server takes them.
//!
//! The server checks what the schema and its CEL rules can say; what is read from a file is checked again
//! where it is decoded. No rule calls a function that is younger than Kubernetes 1.25, whose server would
//! refuse the definition.
#![expect(unreachable_pub, reason = "the schema's derive repeats each type inside of a function")]

use std::collections::BTreeMap;

use kube::{CustomResource, CustomResourceExt as _, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Traffic that somebody answers for, for a time. What an exception covers is told as `info`; once it has
/// ended it counts for nothing and is reported.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, Serialize)]
#[kube(
    group = "plainsight.dev",
    version = "v1alpha1",
    kind = "TrafficException",
    namespaced,
    doc = "Traffic that somebody answers for, for a time.",
    category = "plainsight",
    printcolumn = r#"{"name": "Owner", "type": "string", "jsonPath": ".spec.owner"}"#,
    printcolumn = r#"{"name": "Expires", "type": "string", "jsonPath": ".spec.expires"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct TrafficExceptionSpec {
    /// The servers: pods of this namespace with these labels. Empty means all of them.
    #[serde(default)]
    pub selector: SelectorSpec,
    /// The ports of the pods. Empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    // A server knows no format of 16 bits; the range says as much.
    #[schemars(with = "Vec<i32>", length(max = 64), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<u16>,
    /// The clients. Empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub peers: Vec<PeerSpec>,
    /// The findings, by id, that it is about. Empty means all on the wire; one of posture must be named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 64), regex(pattern = r"^[a-z]+(-[a-z]+)*$")))]
    pub findings: Vec<String>,
    /// Why it is there.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"\S"))]
    pub reason: String,
    /// Who answers for it: a team, an address, a ticket queue.
    #[schemars(length(min = 1, max = 256), regex(pattern = r"\S"))]
    pub owner: String,
    /// When it ends: a time such as 2026-12-31T12:00:00Z, or a day, at whose end in UTC it ends.
    #[schemars(
        length(max = 64),
        regex(pattern = r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2}))?$")
    )]
    pub expires: String,
}

/// A client of an exception. Fields that are there must all hold.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.namespace) || has(self.serviceAccount) || has(self.cidr)").message("a peer without a field would mean everybody"))]
pub struct PeerSpec {
    /// Its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Its service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account: Option<String>,
    /// Its address, or the network that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 43), regex(pattern = r"^[0-9a-fA-F.:]+(/\d{1,3})?$"))]
    pub cidr: Option<String>,
}

/// Who may call the pods that it selects. Several that select the same pod add up.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, Serialize)]
#[kube(
    group = "plainsight.dev",
    version = "v1alpha1",
    kind = "ExpectedSources",
    plural = "expectedsources",
    namespaced,
    doc = "Who may call the pods that it selects.",
    category = "plainsight"
)]
#[serde(rename_all = "camelCase")]
pub struct ExpectedSourcesSpec {
    /// The servers: pods of this namespace with these labels. Empty means all of them.
    #[serde(default)]
    pub selector: SelectorSpec,
    /// The service accounts that may call them. Empty means that nobody may.
    #[schemars(length(max = 1024))]
    pub service_accounts: Vec<AccountSpec>,
}

/// A service account.
#[derive(Clone, Debug, Deserialize, KubeSchema, Serialize)]
pub struct AccountSpec {
    /// Its namespace; that of the object, where it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A label selector. Every requirement must hold.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SelectorSpec {
    /// Labels that must have exactly this value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Other requirements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<RequirementSpec>,
}

/// A requirement of a selector.
#[derive(Clone, Debug, Deserialize, KubeSchema, Serialize)]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)").message("In and NotIn have values, Exists and DoesNotExist have none"))]
pub struct RequirementSpec {
    /// The label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// What must hold of it.
    #[schemars(length(max = 12), regex(pattern = r"^(In|NotIn|Exists|DoesNotExist)$"))]
    pub operator: String,
    /// The values that the operator speaks of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// The definitions, as values of the API.
///
/// # Errors
///
/// A definition cannot be written as JSON.
pub fn definitions() -> Result<Vec<Value>, serde_json::Error> {
    [TrafficException::crd(), ExpectedSources::crd()].iter().map(serde_json::to_value).collect()
}

#[cfg(test)]
mod structural;
#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        AccountSpec, ExpectedSources, ExpectedSourcesSpec, PeerSpec, RequirementSpec, SelectorSpec,
        TrafficException, TrafficExceptionSpec, definitions,
    };
    use crate::cluster;

    fn schema(index: usize) -> Value {
        let definition = definitions().unwrap().remove(index);
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
    }

    #[test]
    fn both_have_their_names() {
        let names: Vec<Value> =
            definitions().unwrap().iter().map(|definition| definition["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["trafficexceptions.plainsight.dev", "expectedsources.plainsight.dev"]);
    }

    #[test]
    fn owner_reason_and_expiry_are_asked_for() {
        let required = schema(0)["required"].clone();
        for field in ["owner", "reason", "expires"] {
            assert!(required.as_array().unwrap().contains(&json!(field)), "{required}");
        }
    }

    /// Every CEL rule of a schema, with the path that it stands at.
    fn rules(path: &str, schema: &Value, found: &mut Vec<(String, String)>) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            assert!(rule["message"].is_string(), "{path}: a refusal in CEL's words helps nobody");
            found.push((path.to_owned(), rule["rule"].as_str().unwrap().to_owned()));
        }
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            rules(&format!("{path}.{name}"), below, found);
        }
        for member in ["items", "additionalProperties"] {
            if let Some(below) = schema.get(member) {
                rules(&format!("{path}.{member}"), below, found);
            }
        }
    }

    fn holds(rule: &str, value: &Value) -> bool {
        let program = cel::Program::compile(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
        let mut context = cel::Context::default();
        context.add_variable("self", value).unwrap();
        match program.execute(&context) {
            Ok(cel::Value::Bool(holds)) => holds,
            other => panic!("{rule} of {value}: {other:?}"),
        }
    }

    #[test]
    fn cel_rules_parse_and_mean_what_they_say() {
        let requirement = [
            (json!({"key": "k", "operator": "In", "values": ["v"]}), true),
            (json!({"key": "k", "operator": "NotIn", "values": ["v", "w"]}), true),
            (json!({"key": "k", "operator": "In"}), false),
            (json!({"key": "k", "operator": "In", "values": []}), false),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "k", "operator": "DoesNotExist", "values": []}), true),
            (json!({"key": "k", "operator": "Exists", "values": ["v"]}), false),
        ];
        let peer = [
            (json!({}), false),
            (json!({"namespace": "n"}), true),
            (json!({"serviceAccount": "a"}), true),
            (json!({"cidr": "10.0.0.0/8"}), true),
            (json!({"namespace": "n", "cidr": "10.0.0.0/8"}), true),
        ];
        type Rule<'a> = (&'a str, &'a [(Value, bool)]);
        let expected: [&[Rule<'_>]; 2] = [
            &[("spec.peers.items", &peer), ("spec.selector.matchExpressions.items", &requirement)],
            &[("spec.selector.matchExpressions.items", &requirement)],
        ];
        for (index, expected) in expected.into_iter().enumerate() {
            let mut found = Vec::new();
            rules("spec", &schema(index), &mut found);
            let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
            assert_eq!(paths, expected.iter().map(|(path, _)| *path).collect::<Vec<_>>());
            for ((_, rule), (path, cases)) in found.iter().zip(expected) {
                for (value, wanted) in *cases {
                    assert_eq!(holds(rule, value), *wanted, "{path}: {value}");
                }
            }
        }
    }

    /// Why a server that validates strictly refuses a value, with the path; `None` where it takes it. Knows the
    /// keywords that our schemas use, and panics at any other.
    pub(super) fn refusal(path: &str, schema: &Value, value: &Value) -> Option<String> {
        let no = |why: &str| Some(format!("{path}: {why}"));
        let schema = schema.as_object().unwrap();
        let is_type = match schema["type"].as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64(),
            other => panic!("{path}: type {other}"),
        };
        let is_absent = value.is_null() && schema.get("nullable") == Some(&json!(true));
        if !is_type && !is_absent {
            return no("another type");
        }
        let length = value.as_array().map_or_else(
            || value.as_str().unwrap_or_default().chars().count() as u64,
            |items| items.len() as u64,
        );
        for (keyword, limit) in schema {
            let number = || limit.as_f64().unwrap();
            let refused = match keyword.as_str() {
                "type"
                | "description"
                | "title"
                | "default"
                | "nullable"
                | "format"
                | "x-kubernetes-validations" => false,
                "minimum" => value.as_f64().is_some_and(|value| value < number()),
                "maximum" => value.as_f64().is_some_and(|value| value > number()),
                "minLength" | "minItems" => length < limit.as_u64().unwrap(),
                "maxLength" | "maxItems" => length > limit.as_u64().unwrap(),
                "pattern" => {
                    let pattern = regex::Regex::new(limit.as_str().unwrap()).unwrap();
                    value.as_str().is_some_and(|text| !pattern.is_match(text))
                }
                "required" => {
                    let mut fields = limit.as_array().unwrap().iter();
                    fields.any(|field| value.get(field.as_str().unwrap()).is_none())
                }
                "properties" => {
                    for (name, member) in value.as_object().into_iter().flatten() {
                        let path = format!("{path}.{name}");
                        let Some(below) = limit.get(name) else { return Some(format!("{path}: unknown")) };
                        if let Some(refusal) = refusal(&path, below, member) {
                            return Some(refusal);
                        }
                    }
                    false
                }
                "items" | "additionalProperties" => {
                    let items = value.as_array().into_iter().flatten();
                    let members = value.as_object().into_iter().flat_map(serde_json::Map::values);
                    let found =
                        items.chain(members).find_map(|item| refusal(&format!("{path}[]"), limit, item));
                    if found.is_some() {
                        return found;
                    }
                    false
                }
                other => panic!("{path}: keyword {other}"),
            };
            if refused {
                return no(keyword);
            }
        }
        let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
        let broken = rules.into_iter().find(|rule| !holds(rule["rule"].as_str().unwrap(), value));
        broken.and_then(|rule| no(rule["message"].as_str().unwrap()))
    }

    /// Who refuses a change of an object that is good.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum By {
        /// The server, and the reader of files.
        Both,
        /// The reader alone: no schema can say it.
        Reader,
        /// Nobody.
        Nobody,
    }

    /// What a server's schema and CEL refuse is refused from a file too.
    #[test]
    fn what_a_server_refuses_is_refused_from_a_file_too() {
        use By::{Both, Nobody, Reader};
        let exception = json!({"owner": "o", "reason": "r", "expires": "2026-12-31"});
        let sources = json!({"serviceAccounts": [{"namespace": "n", "name": "a"}]});
        let long = "x".repeat(257);
        let requirement = |rest: Value| json!({"selector": {"matchExpressions": [rest]}});
        for (kind, change, by, field) in [
            ("TrafficException", json!({}), Nobody, ""),
            ("TrafficException", json!({"ports": [1, 65535], "peers": [{"namespace": "n"}]}), Nobody, ""),
            ("TrafficException", json!({"expires": "2026-12-31T12:00:00+02:00"}), Nobody, ""),
            ("TrafficException", json!({"findings": ["plaintext-mcp"]}), Nobody, ""),
            (
                "TrafficException",
                requirement(json!({"key": "k", "operator": "In", "values": ["v"]})),
                Nobody,
                "",
            ),
            ("TrafficException", requirement(json!({"key": "k", "operator": "Exists"})), Nobody, ""),
            ("TrafficException", json!({"owner": " "}), Both, "spec.owner"),
            ("TrafficException", json!({"owner": long}), Both, "spec.owner"),
            ("TrafficException", json!({"owner": null}), Both, "spec.owner"),
            ("TrafficException", json!({"reason": ""}), Both, "spec.reason"),
            ("TrafficException", json!({"expires": "soon"}), Both, "spec.expires"),
            ("TrafficException", json!({"expires": "2026-02-31"}), Reader, "spec.expires"),
            ("TrafficException", json!({"ports": [70000]}), Both, "spec.ports"),
            ("TrafficException", json!({"ports": [0]}), Both, "spec.ports"),
            ("TrafficException", json!({"ports": ["http"]}), Both, "spec.ports"),
            ("TrafficException", json!({"peers": [{}]}), Both, "spec.peers"),
            ("TrafficException", json!({"peers": [{"cidr": "everywhere"}]}), Both, "spec.peers"),
            ("TrafficException", json!({"peers": [{"cidr": "10.0.0.0/40"}]}), Reader, "spec.peers"),
            ("TrafficException", json!({"findings": ["no-such"]}), Reader, "spec.findings"),
            ("TrafficException", json!({"moonPhase": "full"}), Both, "moonPhase"),
            ("TrafficException", requirement(json!({"key": "k", "operator": "In"})), Both, "spec.selector"),
            (
                "TrafficException",
                requirement(json!({"key": "k", "operator": "In", "values": []})),
                Both,
                "spec.selector",
            ),
            (
                "TrafficException",
                requirement(json!({"key": "k", "operator": "Exists", "values": ["v"]})),
                Both,
                "spec.selector",
            ),
            (
                "TrafficException",
                requirement(json!({"key": "k", "operator": "Maybe"})),
                Both,
                "spec.selector",
            ),
            ("ExpectedSources", json!({}), Nobody, ""),
            ("ExpectedSources", json!({"serviceAccounts": []}), Nobody, ""),
            ("ExpectedSources", json!({"serviceAccounts": [{"name": "a"}]}), Nobody, ""),
            ("ExpectedSources", json!({"serviceAccounts": [{"name": ""}]}), Both, "serviceAccounts"),
            ("ExpectedSources", json!({"serviceAccounts": [{"namespace": "n"}]}), Both, "serviceAccounts"),
            ("ExpectedSources", requirement(json!({"key": "k", "operator": "NotIn"})), Both, "selector"),
        ] {
            let (index, mut spec) =
                if kind == "ExpectedSources" { (1, sources.clone()) } else { (0, exception.clone()) };
            for (field, new) in change.as_object().unwrap() {
                spec[field] = new.clone();
            }
            let refused = refusal("spec", &schema(index), &spec);
            assert_eq!(refused.is_some(), by == Both, "{kind} {change}: the server says {refused:?}");
            let meta = json!({"name": "e"});
            let object = json!({"apiVersion": "plainsight.dev/v1alpha1", "kind": kind, "metadata": meta, "spec": spec});
            let read = cluster::read_str("e.json", &object.to_string());
            assert_eq!(read.errors.is_empty(), by == Nobody, "{kind} {change}: {:?}", read.errors);
            for error in read.errors {
                let error = error.to_string();
                assert!(error.contains(&format!("{kind} e: ")) && error.contains(field), "{change}: {error}");
            }
        }
    }

    #[test]
    fn what_the_types_write_is_what_is_decoded() {
        let selector = SelectorSpec {
            match_labels: [("app".to_owned(), "tools".to_owned())].into(),
            match_expressions: vec![RequirementSpec {
                key: "tier".to_owned(),
                operator: "In".to_owned(),
                values: vec!["back".to_owned()],
            }],
        };
        let exception = TrafficExceptionSpec {
            selector: selector.clone(),
            ports: vec![8080],
            peers: vec![PeerSpec { cidr: Some("10.0.0.0/8".to_owned()), ..PeerSpec::default() }],
            findings: vec!["plaintext-mcp".to_owned()],
            reason: "r".to_owned(),
            owner: "o".to_owned(),
            expires: "2026-12-31".to_owned(),
        };
        let accounts = vec![AccountSpec { namespace: Some("n".to_owned()), name: "a".to_owned() }];
        let sources = ExpectedSourcesSpec { selector, service_accounts: accounts };
        let objects = [
            serde_json::to_string(&TrafficException::new("e", exception)).unwrap(),
            serde_json::to_string(&ExpectedSources::new("s", sources)).unwrap(),
        ];
        let read = cluster::read_str("own.json", &objects.join("\n"));
        assert_eq!((read.objects.len(), read.errors.len()), (2, 0), "{:?}", read.errors);
    }
}
