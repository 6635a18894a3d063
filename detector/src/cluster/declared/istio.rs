//! Owns the shape of Istio's objects.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{DecodeError, Selector, Unknown, WireMeta, WireSelector, read_part, time, wrong};
use crate::{
    cluster::selector::Labels,
    policy::{
        PolicyObject,
        istio::{
            Action, AuthorizationPolicy, DestinationRule, Mode, PeerAuthentication, TlsMode,
            authorization::{Condition, Operation, Rule, Source},
            destination_rule::{Subset, TrafficPolicy},
        },
        matching::{Network, Text},
    },
};

/// The deadline of PERMISSIVE, as an annotation.
const PERMISSIVE_UNTIL: &str = "plainsight.dev/permissive-until";

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum WireMode {
    Unset,
    Disable,
    Permissive,
    Strict,
}

impl From<WireMode> for Mode {
    fn from(mode: WireMode) -> Self {
        match mode {
            WireMode::Unset => Self::Unset,
            WireMode::Disable => Self::Disable,
            WireMode::Permissive => Self::Permissive,
            WireMode::Strict => Self::Strict,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireMtls {
    mode: Option<WireMode>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WirePeerAuthentication {
    selector: Option<WireSelector>,
    mtls: Option<WireMtls>,
    port_level_mtls: Option<BTreeMap<u16, WireMtls>>,
}

/// A selector that selects nothing in particular is none.
fn selector(wire: Option<WireSelector>) -> Result<Option<Selector>, DecodeError> {
    let Some(wire) = wire else { return Ok(None) };
    if !wire.match_expressions.is_empty() {
        return Err(wrong("spec.selector.matchExpressions", "Istio selects by matchLabels alone"));
    }
    Ok((!wire.match_labels.is_empty()).then(|| wire.into()))
}

pub(super) fn peer_authentication(metadata: WireMeta, spec: Value) -> Result<PolicyObject, DecodeError> {
    let (wire, unknown): (WirePeerAuthentication, _) = read_part(spec, "spec")?;
    let permissive_until = match metadata.annotation(PERMISSIVE_UNTIL) {
        Some(text) => {
            let field = format!("metadata.annotations[{PERMISSIVE_UNTIL}]");
            Some(time(&field, text)?.as_second())
        }
        None => None,
    };
    let mode = |mtls: WireMtls| mtls.mode.map(Mode::from);
    Ok(PolicyObject::PeerAuthentication(PeerAuthentication {
        meta: metadata.meta(unknown)?,
        selector: selector(wire.selector)?,
        mtls: wire.mtls.and_then(mode),
        ports: wire
            .port_level_mtls
            .into_iter()
            .flatten()
            .map(|(port, mtls)| (port, mode(mtls).unwrap_or(Mode::Unset)))
            .collect(),
        permissive_until,
    }))
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum WireAction {
    #[default]
    Allow,
    Deny,
    Audit,
    Custom,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireAuthorizationPolicy {
    selector: Option<WireSelector>,
    target_ref: Option<WireTarget>,
    target_refs: Option<Vec<WireTarget>>,
    action: WireAction,
    rules: Option<Vec<WireRule>>,
}

#[derive(Deserialize)]
struct WireTarget {
    kind: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireRule {
    from: Option<Vec<WireFrom>>,
    to: Option<Vec<WireTo>>,
    when: Option<Vec<WireCondition>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireFrom {
    source: WireSource,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireSource {
    principals: Vec<String>,
    not_principals: Vec<String>,
    request_principals: Vec<String>,
    not_request_principals: Vec<String>,
    namespaces: Vec<String>,
    not_namespaces: Vec<String>,
    service_accounts: Vec<String>,
    not_service_accounts: Vec<String>,
    trust_domains: Vec<String>,
    not_trust_domains: Vec<String>,
    ip_blocks: Vec<String>,
    not_ip_blocks: Vec<String>,
    remote_ip_blocks: Vec<String>,
    not_remote_ip_blocks: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireTo {
    operation: WireOperation,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireOperation {
    hosts: Vec<String>,
    not_hosts: Vec<String>,
    ports: Vec<String>,
    not_ports: Vec<String>,
    methods: Vec<String>,
    not_methods: Vec<String>,
    paths: Vec<String>,
    not_paths: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireCondition {
    key: String,
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    not_values: Vec<String>,
}

pub(super) fn authorization_policy(metadata: WireMeta, spec: Value) -> Result<PolicyObject, DecodeError> {
    let (wire, unknown): (WireAuthorizationPolicy, Unknown) = read_part(spec, "spec")?;
    let unknown = unknown.without(&["provider", "group", "namespace", "sectionName"]);
    let rules = wire.rules.unwrap_or_default().into_iter().enumerate().map(|(index, wire)| {
        let path = format!("spec.rules.{index}");
        rule(wire, &path).map(|rule| Rule { uncertain: unknown.any_below(&path), ..rule })
    });
    Ok(PolicyObject::AuthorizationPolicy(AuthorizationPolicy {
        rules: rules.collect::<Result<_, _>>()?,
        meta: metadata.meta(unknown)?,
        selector: selector(wire.selector)?,
        target_refs: wire
            .target_ref
            .into_iter()
            .chain(wire.target_refs.into_iter().flatten())
            .map(|target| format!("{} {}", target.kind, target.name).into())
            .collect(),
        action: match wire.action {
            WireAction::Allow => Action::Allow,
            WireAction::Deny => Action::Deny,
            WireAction::Audit => Action::Audit,
            WireAction::Custom => Action::Custom,
        },
    }))
}

fn rule(wire: WireRule, path: &str) -> Result<Rule, DecodeError> {
    let from = wire.from.unwrap_or_default().into_iter().enumerate().map(|(index, from)| {
        let networks = |texts: &[String], field: &str| -> Result<Box<[Network]>, DecodeError> {
            let parse = |text: &String| {
                let path = format!("{path}.from.{index}.source.{field}");
                text.parse().map_err(|error| wrong(&path, format!("{error}")))
            };
            texts.iter().map(parse).collect()
        };
        let WireFrom { source } = from;
        Ok(Source {
            ip_blocks: networks(&source.ip_blocks, "ipBlocks")?,
            not_ip_blocks: networks(&source.not_ip_blocks, "notIpBlocks")?,
            principals: texts(&source.principals),
            not_principals: texts(&source.not_principals),
            namespaces: boxed(source.namespaces),
            not_namespaces: boxed(source.not_namespaces),
            service_accounts: boxed(source.service_accounts),
            not_service_accounts: boxed(source.not_service_accounts),
            trust_domains: texts(&source.trust_domains),
            not_trust_domains: texts(&source.not_trust_domains),
            layer7: [
                source.request_principals,
                source.not_request_principals,
                source.remote_ip_blocks,
                source.not_remote_ip_blocks,
            ]
            .iter()
            .any(|list| !list.is_empty()),
        })
    });
    let to = wire.to.unwrap_or_default().into_iter().enumerate().map(|(index, to)| {
        let ports = |texts: &[String], field: &str| -> Result<Box<[u16]>, DecodeError> {
            let parse = |text: &String| {
                let path = format!("{path}.to.{index}.operation.{field}");
                text.parse().map_err(|_no_port| wrong(&path, format!("{text:?} is no port")))
            };
            texts.iter().map(parse).collect()
        };
        let WireTo { operation } = to;
        Ok(Operation {
            ports: ports(&operation.ports, "ports")?,
            not_ports: ports(&operation.not_ports, "notPorts")?,
            layer7: [
                operation.hosts,
                operation.not_hosts,
                operation.methods,
                operation.not_methods,
                operation.paths,
                operation.not_paths,
            ]
            .iter()
            .any(|list| !list.is_empty()),
        })
    });
    let when = wire.when.unwrap_or_default().into_iter().map(|condition| Condition {
        key: condition.key.into(),
        values: boxed(condition.values),
        not_values: boxed(condition.not_values),
    });
    Ok(Rule {
        from: from.collect::<Result<_, _>>()?,
        to: to.collect::<Result<_, _>>()?,
        when: when.collect(),
        uncertain: false,
    })
}

fn texts(list: &[String]) -> Box<[Text]> {
    list.iter().map(|text| Text::from(text.as_str())).collect()
}

fn boxed(list: Vec<String>) -> Box<[Box<str>]> {
    list.into_iter().map(Into::into).collect()
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum WireTlsMode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireTls {
    mode: Option<WireTlsMode>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireTrafficPolicy {
    tls: Option<WireTls>,
    port_level_settings: Option<Vec<WirePortSettings>>,
}

#[derive(Deserialize)]
struct WirePortSettings {
    port: WirePort,
    #[serde(default)]
    tls: Option<WireTls>,
}

#[derive(Deserialize)]
struct WirePort {
    number: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSubset {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    traffic_policy: Option<WireTrafficPolicy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDestinationRule {
    host: String,
    #[serde(default)]
    traffic_policy: Option<WireTrafficPolicy>,
    #[serde(default)]
    subsets: Option<Vec<WireSubset>>,
    #[serde(default)]
    export_to: Option<Vec<String>>,
    #[serde(default)]
    workload_selector: Option<WireSelector>,
}

/// Fields of a traffic policy that say nothing of mTLS between pods.
const OTHER_TRAFFIC: [&str; 13] = [
    "caCertificates",
    "caCrl",
    "clientCertificate",
    "connectionPool",
    "credentialName",
    "insecureSkipVerify",
    "loadBalancer",
    "outlierDetection",
    "privateKey",
    "proxyProtocol",
    "retryBudget",
    "sni",
    "subjectAltNames",
];

pub(super) fn destination_rule(metadata: WireMeta, spec: Value) -> Result<PolicyObject, DecodeError> {
    let (wire, unknown): (WireDestinationRule, Unknown) = read_part(spec, "spec")?;
    if wire.host.is_empty() {
        return Err(wrong("spec.host", "empty"));
    }
    Ok(PolicyObject::DestinationRule(DestinationRule {
        meta: metadata.meta(unknown.without(&OTHER_TRAFFIC).without(&["tunnel"]))?,
        host: wire.host.into(),
        policy: wire.traffic_policy.map(traffic_policy),
        subsets: wire
            .subsets
            .into_iter()
            .flatten()
            .map(|subset| Subset {
                name: subset.name.into(),
                labels: Labels::from_iter(subset.labels),
                policy: subset.traffic_policy.map(traffic_policy),
            })
            .collect(),
        export_to: boxed(wire.export_to.unwrap_or_default()),
        workloads: selector(wire.workload_selector)?,
    }))
}

fn traffic_policy(wire: WireTrafficPolicy) -> TrafficPolicy {
    // `tls` without a mode is DISABLE, the first of the enumeration.
    let mode = |tls: WireTls| match tls.mode.unwrap_or(WireTlsMode::Disable) {
        WireTlsMode::Disable => TlsMode::Disable,
        WireTlsMode::Simple => TlsMode::Simple,
        WireTlsMode::Mutual => TlsMode::Mutual,
        WireTlsMode::IstioMutual => TlsMode::IstioMutual,
    };
    TrafficPolicy {
        tls: wire.tls.map(mode),
        ports: wire
            .port_level_settings
            .into_iter()
            .flatten()
            .map(|settings| (settings.port.number, settings.tls.map(mode)))
            .collect(),
    }
}
