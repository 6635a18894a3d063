//! Owns what is looked for in a workload.

use super::{Inventory, Member, OfPod, Posture, Subject};
use crate::{
    findings::{FindingId, Severity, posture as fix},
    flows::Timestamp,
    policy::{Answer, Decider, Declared, Kind, MeshKind, PortMode, Unbound, is_proxy_port, pod::Membership},
};

/// A severity for a workload of MCP, and for any other.
const fn by_mcp(mcp: bool, yes: Severity, no: Severity) -> Severity {
    if mcp { yes } else { no }
}

/// One workload under the eye.
struct Look<'a> {
    inventory: &'a Inventory,
    member: &'a Member,
    now: Timestamp,
    found: &'a mut Vec<OfPod>,
}

pub(super) fn check(inventory: &Inventory, member: &Member, now: Timestamp, found: &mut Vec<OfPod>) {
    let mut look = Look { inventory, member, now, found };
    match &member.pod.proxy.membership {
        // What gateways and waypoints take is for their Gateways to say, whom they admit for targetRefs.
        _ if member.pod.proxy.router => {}
        None => look.not_meshed(),
        Some(membership) => {
            look.mode(membership);
            look.ports(membership);
            look.authorization(membership);
        }
    }
    look.account();
}

impl Look<'_> {
    fn add(
        &mut self,
        id: FindingId,
        severity: Severity,
        port: Option<u16>,
        why: String,
        fix: String,
        decided_by: Option<&Decider>,
    ) {
        let Member { pod, mcp, .. } = self.member;
        let address = pod.addresses.iter().next().unwrap_or_else(|| [0, 0, 0, 0].into());
        let standing = |object: &&crate::policy::own::TrafficException| {
            !object.has_expired(self.now) && object.findings.iter().any(|listed| &**listed == id.as_str())
        };
        let ports = Some(port.unwrap_or(0));
        let exceptions = self.inventory.policy().exceptions(pod, ports, None, address);
        let excepted = exceptions.into_iter().find(standing);
        let (severity, why) = match excepted {
            Some(by) => (Severity::Info, format!("{why}; {} answers for it: {}", by.owner, by.reason)),
            None => (severity, why),
        };
        let posture = Posture {
            id,
            severity,
            subject: Subject {
                namespace: pod.name.namespace.to_string(),
                kind: pod.workload.kind.as_str().to_owned(),
                name: pod.workload.name.to_string(),
                port,
            },
            mcp: *mcp,
            why,
            fix,
            decided_by: decided_by.map(ToString::to_string),
        };
        let by_pod = decided_by.is_some_and(|by| by.is(Kind::Pod));
        let decided_by = match decided_by {
            Some(Decider::Field { object, field }) if object.kind == Kind::Pod => Some(field.to_string()),
            by => by.map(ToString::to_string),
        };
        self.found.push(OfPod { posture, decided_by, by_pod });
    }

    fn not_meshed(&mut self) {
        let Member { pod, mcp, intended, ports } = self.member;
        let policy = self.inventory.policy();
        // Of a port that nobody has, or of the first that is declared strict by itself.
        let strict = [0]
            .iter()
            .chain(ports)
            .find_map(|port| policy.mode(pod, *port, None).filter(|mode| mode.declared == Declared::Strict));
        let severity = match (mcp, intended, &strict) {
            (true, _, _) => Severity::High,
            (false, Some(_), _) => Severity::Medium,
            // Its namespace takes it to refuse plaintext; what listens nowhere takes none.
            (false, None, Some(_)) if !ports.is_empty() => Severity::Medium,
            (false, None, _) => return,
        };
        let field = if pod.host_network { "spec.hostNetwork" } else { "spec.containers: no mesh proxy" };
        let by = Decider::pod(&pod.name, field);
        let why = match intended {
            Some(_) => "it is meant to be in the mesh and has no proxy: it is older than the label, or its injection failed".to_owned(),
            None if !mcp => "no mesh stands before it".to_owned(),
            None if self.inventory.has_mesh() => "it speaks MCP, and no mesh stands before it".to_owned(),
            None => "it speaks MCP, and there is no mesh: unless it serves TLS itself, what it says can be read".to_owned(),
        };
        let why = match (&strict, policy.unbound(pod, 0)) {
            (Some(mode), _) => {
                format!(
                    "{why}; mTLS alone is declared for it by {}, and nothing enforces it",
                    mode.decided_by
                )
            }
            (None, Some(Unbound { decided_by, .. })) => {
                format!("{why}; STRICT is declared for the whole mesh by {decided_by}, and does not bind it")
            }
            (None, None) => why,
        };
        self.add(FindingId::NotMeshed, severity, None, why, fix::mesh(pod, *intended), Some(&by));
    }

    fn mode(&mut self, membership: &Membership) {
        let Member { pod, mcp, ports, .. } = self.member;
        let policy = self.inventory.policy();
        // A port that nobody has tells what holds for the workload.
        let Some(whole) = policy.mode(pod, 0, None) else { return };
        if membership.mesh == MeshKind::Linkerd {
            self.linkerd(&whole);
            return;
        }
        let by = &whole.decided_by;
        match whole.declared {
            Declared::Permissive => match self.inventory.overdue(pod, &whole, self.now) {
                Some(by) => self.add(
                    FindingId::PermissiveOverdue,
                    Severity::High,
                    None,
                    "the day on which it should have gone to STRICT is past, and it still takes plaintext"
                        .to_owned(),
                    fix::strict(pod, policy.peer_authentication(pod).as_deref()),
                    Some(&by),
                ),
                None => self.add(
                    FindingId::PermissiveMtls,
                    by_mcp(*mcp, Severity::Medium, Severity::Low),
                    None,
                    "it takes plaintext beside mTLS, so a caller without an identity is served".to_owned(),
                    fix::strict(pod, policy.peer_authentication(pod).as_deref()),
                    Some(by),
                ),
            },
            Declared::Disabled => self.add(
                FindingId::MtlsDisabled,
                by_mcp(*mcp, Severity::High, Severity::Medium),
                None,
                "mTLS is declared off for it, so its callers speak plaintext and prove nothing".to_owned(),
                fix::strict(pod, policy.peer_authentication(pod).as_deref()),
                Some(by),
            ),
            Declared::Strict => {}
        }
        for port in ports {
            let Some(mode) = policy.mode(pod, *port, None).filter(|mode| mode.by_port) else { continue };
            if mode.declared == Declared::Strict || mode.declared == whole.declared {
                continue;
            }
            let severity = by_mcp(*mcp && self.is_mcp_port(*port), Severity::High, Severity::Info);
            let why = format!("port {port} takes plaintext, against what holds for the rest of it");
            self.add(
                FindingId::PortExempt,
                severity,
                Some(*port),
                why,
                fix::comment(
                    &mode.decided_by,
                    "Take it away, unless the port must take plaintext. The kubelet's probes do not need it",
                ),
                Some(&mode.decided_by),
            );
        }
    }

    fn linkerd(&mut self, whole: &PortMode) {
        let Member { pod, mcp, ports, .. } = self.member;
        let policy = self.inventory.policy();
        let open = |look: &mut Self, port: Option<u16>, mode: &PortMode| {
            look.add(
                FindingId::LinkerdUnauthenticated,
                by_mcp(*mcp, Severity::Medium, Severity::Low),
                port,
                "it admits callers without an identity, so plaintext is served".to_owned(),
                fix::authenticated(pod, port),
                Some(&mode.decided_by),
            );
        };
        if whole.declared == Declared::Permissive {
            open(self, None, whole);
        }
        for port in ports {
            let Some(server) = policy.server(pod, *port) else { continue };
            if let Some(mode) =
                policy.mode(pod, *port, None).filter(|mode| mode.declared == Declared::Permissive)
            {
                open(self, Some(*port), &mode);
            }
            if !matches!(server.access, crate::policy::linkerd::Access::Deny) {
                let by = server.key().field("spec.accessPolicy");
                let why = format!(
                    "its Server {} admits {}, whoever is authorized beside them",
                    server.meta.name.name,
                    server.access.as_str()
                );
                self.add(
                    FindingId::LinkerdServerUnprotected,
                    by_mcp(*mcp, Severity::Medium, Severity::Low),
                    Some(*port),
                    why,
                    fix::comment(&by, "Set it to deny, and authorize callers by an AuthorizationPolicy"),
                    Some(&by),
                );
            }
        }
    }

    fn ports(&mut self, membership: &Membership) {
        let Member { pod, mcp, ports, .. } = self.member;
        for port in ports.iter().filter(|port| !is_proxy_port(membership.mesh, **port)) {
            let Some(field) = membership.passes_by(*port) else { continue };
            let by = Decider::pod(&pod.name, field);
            let strict = self
                .inventory
                .policy()
                .mode(pod, *port, None)
                .filter(|mode| mode.declared == Declared::Strict);
            let severity = match (*mcp && self.is_mcp_port(*port), strict.is_some()) {
                (true, _) => Severity::High,
                (false, true) => Severity::Medium,
                (false, false) => Severity::Low,
            };
            let but = strict.map_or_else(String::new, |mode| {
                format!(", though mTLS alone is declared by {}", mode.decided_by)
            });
            let why = format!("its proxy leaves port {port} alone, so what comes there is not checked{but}");
            self.add(
                FindingId::PortsExcluded,
                severity,
                Some(*port),
                why,
                fix::comment(&by, "Take the port out of it in the workload's template, and roll it out"),
                Some(&by),
            );
        }
    }

    fn authorization(&mut self, membership: &Membership) {
        let Member { pod, mcp, ports, .. } = self.member;
        let stranger = crate::policy::istio::Identity {
            namespace: "no-such-namespace",
            service_account: "no-such-account",
        };
        let port = ports.iter().copied().find(|port| !is_proxy_port(membership.mesh, *port)).unwrap_or(0);
        let address = [192, 0, 2, 1].into();
        let ruling = self.inventory.policy().admits(pod, port, Some(stranger), address);
        match ruling.answer {
            Answer::NoPolicy => self.add(
                FindingId::NoAuthorization,
                by_mcp(*mcp, Severity::Medium, Severity::Low),
                None,
                "no policy says who may call it, so whoever reaches it may".to_owned(),
                fix::authorize(pod),
                Some(&ruling.decided_by),
            ),
            Answer::Allowed => self.add(
                FindingId::WildcardPrincipal,
                by_mcp(*mcp, Severity::Medium, Severity::Low),
                None,
                "a policy admits every identity, so its callers are not narrowed down".to_owned(),
                fix::comment(&ruling.decided_by, "Name the callers: a service account each"),
                Some(&ruling.decided_by),
            ),
            Answer::Denied | Answer::Unknown => {}
        }
    }

    fn account(&mut self) {
        let Member { pod, mcp, .. } = self.member;
        let meshed = pod.proxy.membership.is_some();
        if &*pod.service_account != "default" || !(meshed || *mcp) {
            return;
        }
        let by = Decider::pod(&pod.name, "spec.serviceAccountName");
        self.add(
            FindingId::DefaultServiceAccount,
            by_mcp(*mcp, Severity::Medium, Severity::Low),
            None,
            "it runs as its namespace's default service account, so a policy that admits it admits all others that do".to_owned(),
            fix::account(pod),
            Some(&by),
        );
    }

    /// Whether MCP goes to this port: a service says so of it, or none says of any.
    fn is_mcp_port(&self, port: u16) -> bool {
        let Member { pod, .. } = self.member;
        let mut any = false;
        for service in self.inventory.services_of(pod) {
            for candidate in &service.ports {
                if super::inventory::says_mcp(candidate.app_protocol.as_deref(), &candidate.name) {
                    any = true;
                    if crate::policy::target_number(&candidate.target, pod) == Some(port) {
                        return true;
                    }
                }
            }
        }
        !any
    }
}
