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
    #[schemars(length(max = 64), inner(range(min = 1, max = 65535)))]
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
    #[schemars(regex(pattern = r"^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2}))?$"))]
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
    #[schemars(regex(pattern = r"^(In|NotIn|Exists|DoesNotExist)$"))]
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

    /// What an API server asks of a structural schema: a type everywhere, and no closed objects.
    fn is_structural(path: &str, schema: &Value) {
        assert!(schema["type"].is_string(), "{path}: no type");
        for (name, below) in schema["properties"].as_object().into_iter().flatten() {
            assert!(schema.get("additionalProperties").is_none(), "{path}: both kinds of properties");
            is_structural(&format!("{path}.{name}"), below);
        }
        for member in ["items", "additionalProperties"] {
            if let Some(below) = schema.get(member) {
                is_structural(&format!("{path}.{member}"), below);
            }
        }
    }

    #[test]
    fn both_are_definitions_that_a_server_takes() {
        let names: Vec<Value> =
            definitions().unwrap().iter().map(|definition| definition["metadata"]["name"].clone()).collect();
        assert_eq!(names, ["trafficexceptions.plainsight.dev", "expectedsources.plainsight.dev"]);
        for index in 0..2 {
            is_structural("spec", &schema(index));
        }
    }

    #[test]
    fn owner_reason_and_expiry_are_asked_for() {
        let required = schema(0)["required"].clone();
        for field in ["owner", "reason", "expires"] {
            assert!(required.as_array().unwrap().contains(&json!(field)), "{required}");
        }
    }

    #[test]
    fn cel_says_what_the_schema_cannot() {
        let text = schema(0).to_string();
        assert!(text.contains("has(self.cidr)"), "{text}");
        assert!(text.contains("self.operator in ['In', 'NotIn']"), "{text}");
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
