//! Owns the findings: what of a flow is news for an operator, how bad it is, why, and what to do.
//!
//! [`evaluate`] is a pure function of a flow and of what policy says of it. [`Ledger`] remembers what was
//! told, so that a repetition is silent; a finding that got worse or has new evidence is news.
//!
//! Severities: MCP and credentials raise, served raises over refused, and an exception that somebody answers
//! for lowers to `info`. A port that a mesh's policy exempts takes away the reproach of breaking policy, not
//! that of MCP or credentials in the clear: nobody answers for those by a mode.

mod catalogue;
mod fix;
mod ledger;
mod plaintext;
pub(crate) mod posture;
mod source;
mod standing;
mod tls;

use detector_ebpf::{
    evidence::Evidence,
    verdict::{Protocol, Verdict},
};

pub use self::{
    catalogue::{FindingId, Severity},
    ledger::Ledger,
    standing::{Board, Standing},
};
use crate::{
    flows::{End, Flow, Timestamp},
    policy::{MeshKind, PolicyView, is_proxy_port},
};

/// Something that an operator should know of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which entry of the catalogue.
    pub id: FindingId,
    /// How bad it is.
    pub severity: Severity,
    /// The flow, as it was when it was found.
    pub flow: Flow,
    /// Why it matters, in one sentence.
    pub why: String,
    /// A manifest to apply, with comments; comments alone where no manifest helps.
    pub fix: String,
    /// The object that decided it.
    pub decided_by: Option<String>,
}

/// What is cried about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether plaintext that is neither MCP nor carries credentials nor is against a policy is a finding.
    pub plaintext_other: bool,
}

/// What is to be said of a flow.
#[must_use]
pub fn evaluate(flow: &Flow, policy: &PolicyView, rules: Rules) -> Vec<Finding> {
    // Whoever sends with another's address is told of on every port, a scraped one and the mesh's own too.
    let spoofed = matches!(flow.client, End::Spoofed { .. });
    if is_the_meshs_own(flow) && !spoofed {
        return Vec::new();
    }
    let mut findings = Vec::new();
    match flow.verdict {
        _ if is_the_meshs_own(flow) => {}
        Verdict::Plaintext if !is_probe(flow) && !is_scrape(flow) => {
            findings.extend(plaintext::of_content(flow, policy, rules));
            findings.extend(plaintext::of_mode(flow, policy, rules));
            findings.extend(plaintext::of_client(flow, policy));
        }
        Verdict::Tls => {
            findings.extend(tls::not_mesh(flow, policy));
            findings.extend(tls::weak(flow));
            findings.extend(tls::mismatch(flow));
        }
        Verdict::MeshMtls => findings.extend(tls::mismatch(flow)),
        _ => {}
    }
    if spoofed || !is_scrape(flow) {
        findings.extend(source::of(flow, policy));
    }
    except(flow, policy, &mut findings);
    findings
}

/// Lowers what an exception stands for, and tells of exceptions that stood and have ended.
fn except(flow: &Flow, policy: &PolicyView, findings: &mut Vec<Finding>) {
    let mut ended = Vec::new();
    for finding in &mut *findings {
        if let Some(exception) = policy.exception(finding.id.as_str()) {
            finding.severity = Severity::Info;
            finding.why.push_str(&format!(
                "; {} answers for it until {}: {}",
                exception.owner,
                day(exception.expires),
                exception.reason
            ));
        } else if let Some(exception) = policy.expired(finding.id.as_str())
            && finding.severity > Severity::Info
            && !ended.contains(&exception)
        {
            ended.push(exception);
        }
    }
    findings.extend(ended.into_iter().map(|exception| Finding {
        id: FindingId::ExceptionExpired,
        severity: Severity::Low,
        flow: flow.clone(),
        why: format!(
            "{} excepted this traffic until {} and the traffic goes on; {} answered for it: {}",
            exception.key(),
            day(exception.expires),
            exception.owner,
            exception.reason
        ),
        fix: fix::ended(exception),
        decided_by: Some(exception.key().field("spec.expires").to_string()),
    }));
}

fn day(time: Timestamp) -> String {
    jiff::Timestamp::from_nanosecond(time.0.into())
        .map_or_else(|_out_of_range| "the end of time".to_owned(), |time| format!("{time:.0}"))
}

/// Whether a flow is plaintext of which a change of policy takes notice: a mesh lets the kubelet's probes in,
/// and leaves its proxy's own ports alone.
#[must_use]
pub fn is_plaintext_traffic(flow: &Flow) -> bool {
    flow.verdict == Verdict::Plaintext && !is_probe(flow) && !is_the_meshs_own(flow)
}

/// A kubelet's probe. The `User-Agent` alone proves nothing, for anybody can send it: it must come from a
/// node as well, or from the address that Istio's ambient mode gives to the kubelet (cni/pkg/iptables/iptables.go,
/// where it is the source that probes are translated to).
fn is_probe(flow: &Flow) -> bool {
    const AMBIENT: [std::net::IpAddr; 2] = [
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 7, 127)),
        std::net::IpAddr::V6(std::net::Ipv6Addr::new(
            0xfd16, 0x9254, 0x7127, 0x1337, 0xffff, 0xffff, 0xffff, 0xffff,
        )),
    ];
    let kubelet = matches!(flow.client, End::Node { .. }) || AMBIENT.contains(&flow.client.address());
    kubelet
        && flow.protocol != Protocol::Mcp
        && (flow.evidence.any(Evidence::KUBE_PROBE) || !flow.credentials())
}

/// A scrape of metrics where the pod says that they may be fetched.
fn is_scrape(flow: &Flow) -> bool {
    flow.server.pod().is_some_and(|pod| pod.proxy.scrape_port == Some(flow.port))
        && flow.protocol == Protocol::Http1
        && !flow.credentials()
}

/// Health, metrics and probes of the proxy itself: plaintext by design, and no policy is about them.
fn is_the_meshs_own(flow: &Flow) -> bool {
    let Some(proxy) = flow.server.pod().map(|pod| &pod.proxy) else { return false };
    let mesh = proxy.mesh().or_else(|| proxy.router.then_some(MeshKind::Istio));
    mesh.is_some_and(|mesh| is_proxy_port(mesh, flow.port)) && flow.protocol != Protocol::Mcp
}

/// Whether MCP or credentials went over the wire.
fn is_risky(flow: &Flow) -> bool {
    flow.protocol == Protocol::Mcp || flow.credentials()
}

#[cfg(test)]
mod binding;
#[cfg(test)]
mod bystanders;
#[cfg(test)]
mod published;
#[cfg(test)]
mod remedies;
#[cfg(test)]
mod seed;
#[cfg(test)]
mod tests;
