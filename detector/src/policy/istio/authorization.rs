//! Owns `AuthorizationPolicy`: who may call, as far as layer 4 shows it.
//!
//! CUSTOM, then DENY, then ALLOW. What only a layer 7 proxy sees makes an answer unknown, never a yes; a
//! rule with a field that we do not know is unknown as a whole.
//!
//! Sources: the order is that of Istio's API, security/v1beta1/authorization_policy.proto; rules are as its
//! pilot/pkg/security/authz/model (model.go, generator.go) makes them into Envoy's RBAC, trust domains as
//! pilot/pkg/security/trustdomain/bundle.go; what applies to a pod is by pilot/pkg/model/policyattachment.go.

use std::net::IpAddr;

use super::MeshConfig;
use crate::{
    cluster::Selector,
    policy::{
        decision::{Answer, Decider, Kind, ObjectKey, Ruling, Truth},
        index::{Meta, Selects},
        matching::{Network, Text, glob},
    },
};

/// What a policy does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Admits it.
    Allow,
    /// Refuses it.
    Deny,
    /// Notes it; decides nothing.
    Audit,
    /// Asks somebody else.
    Custom,
}

/// An `AuthorizationPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationPolicy {
    /// Its metadata.
    pub meta: Meta,
    /// The pods that it selects; `None` where it is for a namespace or the mesh.
    pub selector: Option<Selector>,
    /// Gateways, services and the like that it is for: such a policy binds no pod.
    pub target_refs: Box<[Box<str>]>,
    /// What it does.
    pub action: Action,
    /// What it matches. Without any it matches nothing.
    pub rules: Box<[Rule]>,
}

/// A rule: `from` and `to` and `when`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Any of these sources; all, where there is none.
    pub from: Box<[Source]>,
    /// Any of these operations; all, where there is none.
    pub to: Box<[Operation]>,
    /// All of these conditions.
    pub when: Box<[Condition]>,
    /// It has a field that we do not know.
    pub uncertain: bool,
}

/// A source. Fields that are there must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// `principals`.
    pub principals: Box<[Text]>,
    /// `notPrincipals`.
    pub not_principals: Box<[Text]>,
    /// `namespaces`.
    pub namespaces: Box<[Box<str>]>,
    /// `notNamespaces`.
    pub not_namespaces: Box<[Box<str>]>,
    /// `serviceAccounts`.
    pub service_accounts: Box<[Box<str>]>,
    /// `notServiceAccounts`.
    pub not_service_accounts: Box<[Box<str>]>,
    /// `trustDomains`.
    pub trust_domains: Box<[Text]>,
    /// `notTrustDomains`.
    pub not_trust_domains: Box<[Text]>,
    /// `ipBlocks`.
    pub ip_blocks: Box<[Network]>,
    /// `notIpBlocks`.
    pub not_ip_blocks: Box<[Network]>,
    /// It has a field that only layer 7 shows: `requestPrincipals`, `remoteIpBlocks` or their not-forms.
    pub layer7: bool,
}

/// An operation. Fields that are there must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operation {
    /// `ports`, of the container.
    pub ports: Box<[u16]>,
    /// `notPorts`.
    pub not_ports: Box<[u16]>,
    /// It has a field that only layer 7 shows: hosts, methods or paths.
    pub layer7: bool,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The attribute.
    pub key: Box<str>,
    /// Any of these.
    pub values: Box<[Box<str>]>,
    /// None of these.
    pub not_values: Box<[Box<str>]>,
}

/// An identity that a caller has in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its service account.
    pub service_account: &'a str,
}

/// Who calls what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Its identity; a plaintext peer has none.
    pub identity: Option<Identity<'a>>,
    /// Its address.
    pub address: IpAddr,
    /// The port of the container that it calls; `None` where a tunnel hides it.
    pub port: Option<u16>,
}

/// What the proxy that enforces sees of layer 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer7 {
    /// It may see it; we do not.
    Unseen,
    /// It does not: a TCP port, or ztunnel. Rules that need it never allow, and deny without it.
    Absent,
}

impl Selects for AuthorizationPolicy {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn selector(&self) -> Option<&Selector> {
        self.selector.as_ref()
    }
}

impl AuthorizationPolicy {
    /// Names it.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        ObjectKey { kind: Kind::AuthorizationPolicy, name: self.meta.name.clone() }
    }

    /// Whether it matches, and the number of the rule that says so.
    fn matches(&self, caller: &Caller<'_>, mesh: &MeshConfig, layer7: Layer7) -> (Truth, usize) {
        let mut best = (Truth::No, 0);
        for (index, rule) in self.rules.iter().enumerate() {
            let truth =
                rule.matches(caller, mesh, layer7, self.action == Action::Deny, &self.meta.name.namespace);
            if truth > best.0 {
                best = (truth, index);
            }
            if truth == Truth::Yes {
                break;
            }
        }
        best
    }
}

impl Rule {
    fn matches(
        &self,
        caller: &Caller<'_>,
        mesh: &MeshConfig,
        layer7: Layer7,
        deny: bool,
        namespace: &str,
    ) -> Truth {
        let Self { from, to, when, uncertain } = self;
        // What a rule that needs layer 7 comes to where there is none: it drops out of ALLOW, and in DENY
        // the field alone drops out.
        let hidden = match (layer7, deny) {
            (Layer7::Unseen, _) => Truth::Maybe,
            (Layer7::Absent, true) => Truth::Yes,
            (Layer7::Absent, false) => Truth::No,
        };
        let any = |truths: &mut dyn Iterator<Item = Truth>, empty: bool| {
            if empty { Truth::Yes } else { Truth::any(truths) }
        };
        let from_holds = any(
            &mut from.iter().map(|source| source.matches(caller, mesh, hidden, namespace)),
            from.is_empty(),
        );
        let to_holds =
            any(&mut to.iter().map(|operation| operation.matches(caller.port, hidden)), to.is_empty());
        let when_holds = when
            .iter()
            .map(|condition| condition.matches(caller, mesh, hidden, namespace))
            .fold(Truth::Yes, Truth::and);
        let all = from_holds.and(to_holds).and(when_holds);
        if *uncertain { all.and(Truth::Maybe) } else { all }
    }
}

impl Source {
    fn matches(&self, caller: &Caller<'_>, mesh: &MeshConfig, hidden: Truth, namespace: &str) -> Truth {
        let Self {
            principals,
            not_principals,
            namespaces,
            not_namespaces,
            service_accounts,
            not_service_accounts,
            trust_domains,
            not_trust_domains,
            ip_blocks,
            not_ip_blocks,
            layer7,
        } = self;
        let identity = caller.identity;
        let principal = |list: &[Text]| {
            identity.is_some_and(|identity| list.iter().any(|text| is_principal(text, identity, mesh)))
        };
        let in_namespace = |list: &[Box<str>]| {
            identity.is_some_and(|identity| list.iter().any(|pattern| glob(pattern, identity.namespace)))
        };
        let account = |list: &[Box<str>]| {
            identity.is_some_and(|identity| list.iter().any(|name| is_account(name, identity, namespace)))
        };
        let domain =
            |list: &[Text]| identity.is_some() && list.iter().any(|text| is_trust_domain(text, mesh));
        let address = |list: &[Network]| list.iter().any(|network| network.contains(caller.address));
        let holds = (principals.is_empty() || principal(principals))
            && !principal(not_principals)
            && (namespaces.is_empty() || in_namespace(namespaces))
            && !in_namespace(not_namespaces)
            && (service_accounts.is_empty() || account(service_accounts))
            && !account(not_service_accounts)
            && (trust_domains.is_empty() || domain(trust_domains))
            && !domain(not_trust_domains)
            && (ip_blocks.is_empty() || address(ip_blocks))
            && !address(not_ip_blocks);
        let holds = Truth::from(holds);
        if *layer7 { holds.and(hidden) } else { holds }
    }
}

impl Operation {
    fn matches(&self, port: Option<u16>, hidden: Truth) -> Truth {
        let Self { ports, not_ports, layer7 } = self;
        let holds = match port {
            Some(port) => {
                Truth::from((ports.is_empty() || ports.contains(&port)) && !not_ports.contains(&port))
            }
            None if ports.is_empty() && not_ports.is_empty() => Truth::Yes,
            None => Truth::Maybe,
        };
        if *layer7 { holds.and(hidden) } else { holds }
    }
}

impl Condition {
    fn matches(&self, caller: &Caller<'_>, mesh: &MeshConfig, hidden: Truth, namespace: &str) -> Truth {
        let Self { key, values, not_values } = self;
        let identity = caller.identity;
        let test = |holds: &dyn Fn(&str) -> bool| {
            let listed = values.is_empty() || values.iter().any(|value| holds(value));
            Truth::from(listed && !not_values.iter().any(|value| holds(value)))
        };
        match &**key {
            "source.ip" => {
                test(&|value| value.parse::<Network>().is_ok_and(|network| network.contains(caller.address)))
            }
            "source.principal" => test(&|value| {
                identity.is_some_and(|identity| is_principal(&Text::from(value), identity, mesh))
            }),
            "source.namespace" => {
                test(&|value| identity.is_some_and(|identity| glob(value, identity.namespace)))
            }
            "source.serviceAccount" => {
                test(&|value| identity.is_some_and(|identity| is_account(value, identity, namespace)))
            }
            "source.trustDomain" => {
                test(&|value| identity.is_some() && is_trust_domain(&Text::from(value), mesh))
            }
            "destination.port" => match caller.port {
                Some(port) => test(&|value| value.parse() == Ok(port)),
                None => Truth::Maybe,
            },
            // Both are on layer 4, but not of what a flow is told by.
            "destination.ip" | "connection.sni" => Truth::Maybe,
            _ => hidden,
        }
    }
}

/// Whether a principal of a policy means an identity of this mesh.
fn is_principal(text: &Text, identity: Identity<'_>, mesh: &MeshConfig) -> bool {
    let rest = ["/ns/", identity.namespace, "/sa/", identity.service_account];
    let [ns, namespace, sa, account] = rest;
    if text.matches_parts(&[&mesh.trust_domain, ns, namespace, sa, account]) {
        return true;
    }
    // A policy from before a migration names an alias: the mesh reads it as its own trust domain, where the
    // principal has all its five parts. A shorter one, such as `old/ns/n/*`, stays as it is written (bundle.go,
    // `isTrustDomainBeingEnforced`).
    let (Text::Exact(written) | Text::Prefix(written)) = text else { return false };
    let Some((domain, below)) = written.split_once('/') else { return false };
    if !mesh.is_own(domain) || written.split('/').count() != 5 {
        return false;
    }
    let path = ["ns/", namespace, sa, account];
    match text {
        Text::Prefix(_) => Text::Prefix(below.into()).matches_parts(&path),
        _ => {
            let mut written = below.bytes();
            path.iter().flat_map(|part| part.bytes()).all(|byte| written.next() == Some(byte))
                && written.next().is_none()
        }
    }
}

/// Whether a trust domain of a policy means this mesh's: itself, or an alias by its whole name (bundle.go,
/// `ExpandTrustDomainAliases`; that `cluster.local` means any mesh's own holds in principals alone).
fn is_trust_domain(text: &Text, mesh: &MeshConfig) -> bool {
    text.matches(&mesh.trust_domain)
        || matches!(text, Text::Exact(name) if mesh.aliases.iter().any(|alias| **alias == **name))
}

/// Whether a service account of a policy in `namespace` means this identity.
fn is_account(name: &str, identity: Identity<'_>, namespace: &str) -> bool {
    let (namespace, account) = name.split_once('/').unwrap_or((namespace, name));
    identity.namespace == namespace && identity.service_account == account
}

/// What the policies that apply to a pod say of a caller.
pub(in crate::policy) fn rule(
    policies: &[&AuthorizationPolicy],
    caller: &Caller<'_>,
    mesh: &MeshConfig,
    layer7: Layer7,
) -> Ruling {
    const HIDDEN: &str = "the rule needs what is not visible on the wire: layer 7, or the port in a tunnel";
    let mut maybe: Option<Ruling> = None;
    let mut allowed: Option<Decider> = None;
    let mut maybe_allowed: Option<Decider> = None;
    let mut first_allow: Option<&AuthorizationPolicy> = None;
    let unknown = |decided_by, because: &'static str| Ruling {
        answer: Answer::Unknown,
        decided_by,
        because: Some(because.into()),
    };
    for policy in policies {
        if policy.action == Action::Allow {
            first_allow = first_allow.or(Some(policy));
        }
        if policy.action == Action::Audit {
            continue;
        }
        let (truth, index) = policy.matches(caller, mesh, layer7);
        if truth == Truth::No {
            continue;
        }
        let by = || policy.key().field(format!("spec.rules[{index}]"));
        match (policy.action, truth) {
            (Action::Deny, Truth::Yes) => return Ruling::new(Answer::Denied, by()),
            (Action::Deny, _) => {
                maybe.get_or_insert_with(|| unknown(by(), HIDDEN));
            }
            (Action::Custom, _) => {
                maybe.get_or_insert_with(|| unknown(by(), "an external authorizer decides"));
            }
            (Action::Allow, Truth::Yes) => {
                allowed.get_or_insert_with(by);
            }
            (Action::Allow, _) => {
                maybe_allowed.get_or_insert_with(by);
            }
            (Action::Audit, _) => {}
        }
    }
    let admitted = match (first_allow, allowed, maybe_allowed) {
        (None, _, _) => Ruling::new(
            Answer::NoPolicy,
            Decider::Default("Istio's default: no AuthorizationPolicy with action ALLOW applies"),
        ),
        (Some(_), Some(by), _) => Ruling::new(Answer::Allowed, by),
        (Some(_), None, Some(by)) => unknown(by, HIDDEN),
        // A denial by omission stands whatever a rule that may deny says.
        (Some(policy), None, None) => return Ruling::new(Answer::Denied, policy.key().field("spec.rules")),
    };
    maybe.unwrap_or(admitted)
}
