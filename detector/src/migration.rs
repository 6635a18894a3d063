//! Owns the question whether a workload may go to STRICT: what is declared, joined with what was seen.
//!
//! Pure: an [`Inventory`] and an [`Observation`] in, answers out. A clear yes needs all of it: no connection
//! that STRICT would refuse for the quiet time, every pod observed, and observed for as long. Whatever is not
//! known is said and is no yes.

mod next;
mod seen;

use std::{collections::BTreeMap, time::Duration};

pub use self::seen::{Call, Client, Observation, Source, Traffic};
use crate::{
    audit::{Inventory, Member},
    cluster::objects::Pod,
    flows::Timestamp,
    policy::{Declared, MeshKind, PortMode, is_proxy_port},
};

/// How long a workload must have had no call that STRICT would refuse, unless something else is asked for.
pub const QUIET: Duration = Duration::from_secs(7 * 24 * 3600);

/// Whether a workload may go to STRICT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    /// It is there already.
    Done,
    /// It may.
    Ready,
    /// Nothing speaks against it so far, and it was not observed for long enough.
    NotYet,
    /// Part of its traffic may not have been seen.
    NotObserved,
    /// Connections to it would be refused.
    Blocked,
    /// No proxy stands before it, so nothing would enforce it.
    NoProxy,
}

impl Answer {
    /// Every answer, the best first.
    pub const ALL: [Self; 6] =
        [Self::Done, Self::Ready, Self::NotYet, Self::NotObserved, Self::Blocked, Self::NoProxy];

    /// Its name in tables and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Ready => "ready",
            Self::NotYet => "not-yet",
            Self::NotObserved => "not-observed",
            Self::Blocked => "blocked",
            Self::NoProxy => "no-proxy",
        }
    }

    /// Whether nothing is left to wait for.
    #[must_use]
    pub const fn is_yes(self) -> bool {
        matches!(self, Self::Done | Self::Ready)
    }
}

/// What the question is asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The time of the question.
    pub now: Timestamp,
    /// How long a workload must have had no call that STRICT would refuse.
    pub quiet: Duration,
}

/// The answer for a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// Its namespace.
    pub namespace: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it speaks MCP.
    pub mcp: bool,
    /// The answer.
    pub answer: Answer,
    /// What is declared for it, and what decided that.
    pub declared: Option<(Declared, String)>,
    /// For how long it was observed without a gap, where that is known.
    pub observed: Option<Duration>,
    /// Calls that STRICT would refuse, the latest first.
    pub breaks: Vec<Break>,
    /// What is not known, and what else should be.
    pub notes: Vec<String>,
    /// The next step of the migration: a manifest, with comments; comments alone where no manifest helps.
    pub next: String,
}

/// Calls that would be refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// Who calls.
    pub client: String,
    /// The port of the pod; `None` where it is not known.
    pub port: Option<u16>,
    /// What it speaks.
    pub traffic: String,
    /// How many connections there were; `None` where it is not known.
    pub connections: Option<u64>,
    /// When it was last seen; `None` where all that is known is that it was within the quiet time.
    pub last_seen: Option<Timestamp>,
    /// What to do about it.
    pub advice: String,
}

/// The answer for a namespace: as good as that of its worst workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceAnswer {
    /// The namespace.
    pub name: String,
    /// The answer.
    pub answer: Answer,
    /// Its workloads, and how many of them have a yes.
    pub workloads: (usize, usize),
    /// The manifest that makes the namespace STRICT, where it may.
    pub next: Option<String>,
}

/// All answers, MCP workloads first, then by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Of workloads.
    pub workloads: Vec<Assessment>,
    /// Of namespaces.
    pub namespaces: Vec<NamespaceAnswer>,
    /// What is to be known of the sources.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether every workload has a yes.
    #[must_use]
    pub fn is_yes(&self) -> bool {
        self.workloads.iter().all(|assessment| assessment.answer.is_yes())
    }
}

/// Answers for each workload and namespace of `inventory`; `only` narrows it to a namespace.
#[must_use]
pub fn assess(
    inventory: &Inventory,
    observation: &Observation,
    options: Options,
    only: Option<&str>,
) -> Report {
    let mut by_workload: BTreeMap<(&str, &str, &str), Vec<&Member>> = BTreeMap::new();
    for member in inventory.members() {
        let pod = &member.pod;
        if only.is_none_or(|only| only == &*pod.name.namespace) && !pod.proxy.intermediary {
            let key = (&*pod.name.namespace, pod.workload.kind.as_str(), &*pod.workload.name);
            by_workload.entry(key).or_default().push(member);
        }
    }
    let mut workloads: Vec<Assessment> = by_workload
        .into_values()
        .filter_map(|members| Workload { inventory, observation, options, members }.assess())
        .collect();
    workloads.sort_by(|a, b| {
        let key = |of: &Assessment| (!of.mcp, of.namespace.clone(), of.name.clone(), of.kind.clone());
        key(a).cmp(&key(b))
    });
    let mut names: Vec<&str> = workloads.iter().map(|workload| workload.namespace.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let namespaces = names.into_iter().map(|name| {
        let own: Vec<&Assessment> = workloads.iter().filter(|workload| workload.namespace == name).collect();
        let answer = own.iter().map(|workload| workload.answer).max().unwrap_or(Answer::Done);
        let mesh = inventory
            .members()
            .iter()
            .find_map(|member| (&*member.pod.name.namespace == name).then(|| member.pod.proxy.mesh())?);
        NamespaceAnswer {
            name: name.to_owned(),
            answer,
            workloads: (own.len(), own.iter().filter(|workload| workload.answer.is_yes()).count()),
            next: (answer == Answer::Ready)
                .then(|| next::namespace(inventory, name, mesh == Some(MeshKind::Linkerd))),
        }
    });
    Report { namespaces: namespaces.collect(), notes: observation.notes(), workloads }
}

/// A workload and what the question is asked with.
struct Workload<'a> {
    inventory: &'a Inventory,
    observation: &'a Observation,
    options: Options,
    members: Vec<&'a Member>,
}

impl Workload<'_> {
    fn assess(&self) -> Option<Assessment> {
        let first = *self.members.first()?;
        let pod = &first.pod;
        let policy = self.inventory.policy();
        let whole = policy.mode(pod, 0, None);
        let open = self.open_ports();
        let mut notes = Vec::new();
        let breaks = self.breaks(&open);
        let observed = self.observed(&mut notes);
        let is_strict = whole.as_ref().is_some_and(|mode| mode.declared == Declared::Strict);
        let answer = if self.members.iter().any(|member| member.pod.proxy.mesh().is_none()) {
            Answer::NoProxy
        } else if is_strict && open.is_empty() {
            Answer::Done
        } else if !breaks.is_empty() {
            Answer::Blocked
        } else {
            match observed {
                Observed::Partly => Answer::NotObserved,
                Observed::For(time) if time < self.options.quiet => Answer::NotYet,
                Observed::For(_) => Answer::Ready,
            }
        };
        let observed = match observed {
            Observed::For(time) => Some(time),
            Observed::Partly => None,
        };
        if answer == Answer::NotYet {
            let time = observed.unwrap_or_default();
            notes.insert(0, format!("observed for only {} of {}", span(time), span(self.options.quiet)));
        }
        self.overdue(whole.as_ref(), &mut notes);
        if self.members.iter().any(|member| member.mcp || member.intended.is_some()) {
            notes.extend(policy.unbound(pod, 0).map(|unbound| {
                format!(
                    "STRICT is declared for the whole mesh by {}, and does not bind it",
                    unbound.decided_by
                )
            }));
        }
        let next = next::step(self.inventory, first, answer, &breaks);
        Some(Assessment {
            namespace: pod.name.namespace.to_string(),
            kind: pod.workload.kind.as_str().to_owned(),
            name: pod.workload.name.to_string(),
            mcp: self.members.iter().any(|member| member.mcp),
            answer,
            declared: whole.map(|mode| (mode.declared, mode.decided_by.to_string())),
            observed,
            breaks,
            notes,
            next,
        })
    }

    /// The ports that take plaintext although a proxy stands before them; 0 stands for those that nobody
    /// declares.
    fn open_ports(&self) -> Vec<u16> {
        let policy = self.inventory.policy();
        let mut open = Vec::new();
        for Member { pod, ports, .. } in &self.members {
            for port in ports.iter().copied().chain([0]) {
                let captured = pod.proxy.membership.as_ref().is_some_and(|membership| {
                    !is_proxy_port(membership.mesh, port) && membership.passes_by(port).is_none()
                });
                let takes =
                    policy.mode(pod, port, None).is_some_and(|mode| mode.declared != Declared::Strict);
                if captured && takes && !open.contains(&port) {
                    open.push(port);
                }
            }
        }
        open.sort_unstable();
        open
    }

    fn breaks(&self, open: &[u16]) -> Vec<Break> {
        let Some(pod) = self.members.first().map(|member| &member.pod) else { return Vec::new() };
        let since = self.options.now.0.saturating_sub(nanos(self.options.quiet));
        let mut found: BTreeMap<(String, Option<u16>, &str), Break> = BTreeMap::new();
        for call in &self.observation.calls {
            let recent = call.last_seen.is_none_or(|seen| seen.0 >= since);
            if call.traffic == Traffic::MeshMtls || !recent || !self.is_of(call) {
                continue;
            }
            let port = call.port_of(pod, self.inventory);
            let Some(advice) = self.advice(call, port, open) else { continue };
            let traffic = call.traffic.name();
            let broken = found.entry((call.client.to_string(), port, traffic)).or_insert_with(|| Break {
                client: call.client.to_string(),
                port,
                traffic: traffic.to_owned(),
                connections: None,
                last_seen: None,
                advice,
            });
            broken.last_seen = broken.last_seen.max(call.last_seen);
            if let Some(count) = call.connections {
                *broken.connections.get_or_insert(0) += count;
            }
        }
        let mut breaks: Vec<Break> = found.into_values().collect();
        breaks.sort_by(|a, b| b.last_seen.cmp(&a.last_seen).then_with(|| a.client.cmp(&b.client)));
        breaks
    }

    fn is_of(&self, call: &Call) -> bool {
        self.members.first().is_some_and(|member| {
            let pod = &member.pod;
            call.server_namespace == *pod.name.namespace
                && call.server_workload == *pod.workload.name
                && call.server_kind.as_deref().is_none_or(|kind| kind == pod.workload.kind.as_str())
        })
    }

    /// What to do about a call; `None` where STRICT would not touch it.
    fn advice(&self, call: &Call, port: Option<u16>, open: &[u16]) -> Option<String> {
        let pod = &self.members.first()?.pod;
        let membership = pod.proxy.membership.as_ref();
        if let (Some(port), Some(membership)) = (port, membership) {
            let policy = self.inventory.policy();
            let refused = policy.mode(pod, port, None).is_some_and(|mode| mode.declared == Declared::Strict);
            // The proxy's own ports and those that it leaves alone stay as they are; what is refused already
            // cannot break.
            if is_proxy_port(membership.mesh, port) || membership.passes_by(port).is_some() || refused {
                return None;
            }
        } else if membership.is_some() && open.is_empty() {
            return None;
        }
        let node = matches!(call.client, Client::Node { .. });
        Some(match (&call.client, membership.map(|membership| membership.mesh)) {
            // A rewritten probe of Istio's comes to the proxy's own port, and one of ambient mode's from an
            // address of its own; Linkerd admits the paths of probes.
            (_, Some(MeshKind::Ambient | MeshKind::Linkerd)) if node && call.probe => return None,
            (_, Some(MeshKind::Istio)) if node && call.probe => {
                "a kubelet's probe that is not rewritten: leave sidecar.istio.io/rewriteAppHTTPProbers on"
                    .to_owned()
            }
            (Client::Node { .. }, _) => {
                "a process of the node has no identity: except the port, or have it call otherwise".to_owned()
            }
            (Client::Workload { .. }, _) if call.traffic == Traffic::Tls && call.met_in_the_middle => {
                "TLS whose beginning was not seen: it may be the mesh's own, and a restart of the client tells"
                    .to_owned()
            }
            (Client::Workload { meshed: Some(true), .. }, _) => {
                "the client is in the mesh and goes past it: see `plainsight explain` and its DestinationRules"
                    .to_owned()
            }
            (Client::Workload { .. }, _) => "put the client in the mesh".to_owned(),
            (Client::Elsewhere { .. }, _) => {
                "a caller outside of the mesh: have it come by a gateway".to_owned()
            }
        })
    }

    /// For how long all of the workload was observed.
    fn observed(&self, notes: &mut Vec<String>) -> Observed {
        let mut since: Option<Timestamp> = None;
        let mut whole = true;
        if self.observation.sources.is_empty() {
            notes.push("no traffic was looked at".to_owned());
            return Observed::Partly;
        }
        let running: Vec<&Pod> =
            self.members.iter().map(|member| &member.pod).filter(|pod| !pod.addresses.is_empty()).collect();
        let mut take = |source: &Source| {
            match source.since {
                Some(at) => since = Some(since.map_or(at, |since| since.max(at))),
                None => {
                    whole = false;
                    notes.push(format!("{} does not observe all of its pods yet", source.name));
                }
            }
            if let Some(gap) = &source.gap {
                whole = false;
                notes.push(format!("{}: {gap}", source.name));
            }
        };
        let by_pod = self.observation.sources.iter().all(|source| source.pods.is_some());
        if !by_pod || running.is_empty() {
            self.observation.sources.iter().for_each(&mut take);
            if by_pod {
                notes
                    .push("where its pods run is not known, so whether they were observed is not".to_owned());
                whole = false;
            }
        } else {
            let mut missing = Vec::new();
            for pod in running {
                let covering = self.observation.sources.iter().find_map(|source| {
                    let reason = source.pods.as_ref()?.get(&pod.name)?;
                    Some((source, reason))
                });
                match covering {
                    Some((source, None)) => take(source),
                    Some((_, Some(reason))) => missing.push(format!("pod {}: {reason}", pod.name)),
                    None => missing.push(match &pod.node {
                        Some(node) => format!("pod {} is on {node}, whose daemon was not asked", pod.name),
                        None => format!("no daemon that was asked knows pod {}", pod.name),
                    }),
                }
            }
            whole &= missing.is_empty();
            notes.extend(missing);
        }
        notes.sort();
        notes.dedup();
        match since {
            Some(since) if whole => {
                Observed::For(Duration::from_nanos(self.options.now.0.saturating_sub(since.0)))
            }
            _ => Observed::Partly,
        }
    }

    /// Says that the day on which PERMISSIVE should have ended is past.
    fn overdue(&self, whole: Option<&PortMode>, notes: &mut Vec<String>) {
        let Some(mode) = whole.filter(|mode| mode.declared == Declared::Permissive) else { return };
        let Some(first) = self.members.first() else { return };
        if let Some(by) = self.inventory.overdue(&first.pod, mode, self.options.now) {
            notes.push(format!("the day on which it should have gone to STRICT is past: {by}"));
        }
    }
}

enum Observed {
    /// All of it, for this long.
    For(Duration),
    /// Not all of it.
    Partly,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A span of time in the unit that says most: `3d`, `5h`, `12m`, `40s`.
#[must_use]
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (number, unit) = match seconds {
        172_800.. => (seconds / 86_400, "d"),
        7_200.. => (seconds / 3_600, "h"),
        120.. => (seconds / 60, "m"),
        _ => (seconds, "s"),
    };
    format!("{number}{unit}")
}

#[cfg(test)]
mod tests;
