//! Owns the explanation of a pod, in words and in JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::audit::pretty;
use crate::{
    audit::{Explanation, PortView},
    policy::{Answer, Decider, Declared, Ruling},
    printable::printed,
};

/// The explanation in words.
#[must_use]
pub fn text(explanation: &Explanation) -> String {
    let Explanation { member, ports, unknown, exceptions } = explanation;
    let pod = &member.pod;
    let mut out = format!(
        "{}: {} {}, service account {}\n",
        printed(&pod.name),
        pod.workload.kind.as_str(),
        printed(&pod.workload.name),
        printed(&pod.service_account)
    );
    let mesh = match (pod.proxy.mesh(), member.intended) {
        (Some(mesh), _) => format!("in the mesh: {}", mesh.as_str()),
        (None, Some(mesh)) => format!("in no mesh, though it is meant to be in {}", mesh.as_str()),
        (None, None) => "in no mesh".to_owned(),
    };
    let _infallible = writeln!(out, "{mesh}{}", if member.mcp { "; speaks MCP" } else { "" });
    for view in ports {
        port(&mut out, view);
    }
    if ports.is_empty() {
        out.push_str("\nno port of it is known: name one\n");
    }
    for (key, owner, ended) in exceptions {
        let _infallible = writeln!(
            out,
            "\nexception: {}, {} answers for it{}",
            printed(key),
            printed(owner),
            if *ended { "; it has ended and counts for nothing" } else { "" }
        );
    }
    for (key, field) in unknown {
        let _infallible = writeln!(
            out,
            "\nnote: {} has a field that is not known and was not heeded: {}",
            printed(key),
            printed(field)
        );
    }
    out
}

fn port(out: &mut String, view: &PortView) {
    let _infallible = writeln!(out, "\nport {}", view.port);
    match &view.mode {
        None if view.unbound.is_some() => out.push_str("  mode: plaintext is served\n"),
        None => out.push_str("  mode: no mesh and no policy has a word on it; plaintext is served\n"),
        Some(mode) => {
            let words = match mode.declared {
                Declared::Strict => "STRICT: mTLS alone",
                Declared::Permissive => "PERMISSIVE: mTLS and plaintext",
                Declared::Disabled => "DISABLE: plaintext",
            };
            let _infallible = writeln!(out, "  mode: {words}\n    by {}", printed(&mode.decided_by));
            if let Some(gap) = &mode.gap {
                let _infallible = writeln!(out, "    not enforced, because of {}", printed(gap));
            }
        }
    }
    if let Some(unbound) = &view.unbound {
        let _infallible = writeln!(out, "    {}", printed(unbound));
    }
    out.push_str("  callers:\n");
    if view.callers.iter().all(|caller| caller.ruling == view.anonymous) {
        return ruling(out, "all, with and without an identity", &view.anonymous);
    }
    for caller in &view.callers {
        ruling(out, &format!("{}/{}", caller.namespace, caller.service_account), &caller.ruling);
    }
    ruling(out, "without an identity", &view.anonymous);
}

fn ruling(out: &mut String, who: &str, ruling: &Ruling) {
    let word = match ruling.answer {
        Answer::Allowed => "expected",
        Answer::Denied => "not expected",
        Answer::Unknown => "not known",
        Answer::NoPolicy => "no policy",
    };
    let because = ruling.because.as_ref().map_or_else(String::new, |text| format!(": {}", printed(text)));
    let by = match &ruling.decided_by {
        Decider::Default(text) => format!(" ({text})"),
        by => format!(", by {}", printed(by)),
    };
    let _infallible = writeln!(out, "    {}: {word}{because}{by}", printed(who));
}

/// The explanation as JSON.
#[must_use]
pub fn json(explanation: &Explanation) -> String {
    let Explanation { member, ports, unknown, exceptions } = explanation;
    let pod = &member.pod;
    let ruling = |ruling: &Ruling| {
        json!({
            "answer": ruling.answer.as_str(),
            "decided_by": ruling.decided_by.to_string(),
            "because": ruling.because.as_deref(),
        })
    };
    let ports: Vec<Value> = ports
        .iter()
        .map(|view| {
            let callers: Vec<Value> = view
                .callers
                .iter()
                .map(|caller| {
                    json!({
                        "namespace": caller.namespace,
                        "service_account": caller.service_account,
                        "ruling": ruling(&caller.ruling),
                    })
                })
                .collect();
            let mode = view.mode.as_ref().map(|mode| {
                json!({
                    "declared": mode.declared.as_str(),
                    "decided_by": mode.decided_by.to_string(),
                    "enforced": mode.gap.is_none(),
                    "not_enforced_because": mode.gap.as_ref().map(ToString::to_string),
                })
            });
            let unbound = view.unbound.as_ref().map(|unbound| {
                json!({
                    "declared": Declared::Strict.as_str(),
                    "decided_by": unbound.decided_by.to_string(),
                    "does_not_bind_because": unbound.because.to_string(),
                })
            });
            json!({
                "port": view.port,
                "mode": mode,
                "declared_for_the_mesh": unbound,
                "callers": callers,
                "without_identity": ruling(&view.anonymous),
            })
        })
        .collect();
    let unknown: Vec<Value> =
        unknown.iter().map(|(key, field)| json!({"object": key.to_string(), "field": field})).collect();
    let exceptions: Vec<Value> = exceptions
        .iter()
        .map(|(key, owner, ended)| json!({"object": key.to_string(), "owner": owner, "ended": ended}))
        .collect();
    pretty(&json!({
        "namespace": &*pod.name.namespace,
        "pod": &*pod.name.name,
        "workload": {"kind": pod.workload.kind.as_str(), "name": &*pod.workload.name},
        "service_account": &*pod.service_account,
        "mesh": pod.proxy.mesh().map(crate::policy::MeshKind::as_str),
        "intended_mesh": member.intended.map(crate::policy::MeshKind::as_str),
        "mcp": member.mcp,
        "ports": ports,
        "exceptions": exceptions,
        "unknown_fields": unknown,
    }))
}
