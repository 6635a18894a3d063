//! Owns the shape of our own `TrafficException`. A field that we do not know is a slip, and refused.

use std::num::NonZeroU16;

use serde::Deserialize;
use serde_json::Value;

use super::{DecodeError, WireMeta, WireSelector, read_part, time, wrong};
use crate::{
    findings::FindingId,
    flows::Timestamp,
    policy::{
        PolicyObject,
        own::{Peer, TrafficException},
    },
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WireTrafficException {
    #[serde(default)]
    selector: WireSelector,
    #[serde(default)]
    ports: Vec<NonZeroU16>,
    #[serde(default)]
    peers: Vec<WirePeer>,
    #[serde(default)]
    findings: Vec<String>,
    reason: String,
    owner: String,
    expires: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct WirePeer {
    namespace: Option<String>,
    service_account: Option<String>,
    cidr: Option<String>,
}

pub(super) fn traffic_exception(metadata: WireMeta, spec: Value) -> Result<PolicyObject, DecodeError> {
    let (wire, unknown): (WireTrafficException, _) = read_part(spec, "spec")?;
    for (field, text, most) in [("spec.reason", &wire.reason, 1024), ("spec.owner", &wire.owner, 256)] {
        if text.trim().is_empty() {
            return Err(wrong(field, "empty: somebody must answer for an exception"));
        }
        if text.chars().count() > most {
            return Err(wrong(field, format!("longer than {most} characters")));
        }
    }
    for id in &wire.findings {
        if !FindingId::ALL.iter().any(|known| known.as_str() == id) {
            return Err(wrong("spec.findings", format!("{id:?} is no finding")));
        }
    }
    let peers = wire.peers.into_iter().enumerate().map(|(index, peer)| {
        if peer.namespace.is_none() && peer.service_account.is_none() && peer.cidr.is_none() {
            return Err(wrong(&format!("spec.peers.{index}"), "empty: it would mean everybody"));
        }
        let parse = |text: String| {
            text.parse().map_err(|error| wrong(&format!("spec.peers.{index}.cidr"), format!("{error}")))
        };
        Ok(Peer {
            namespace: peer.namespace.map(Into::into),
            service_account: peer.service_account.map(Into::into),
            network: peer.cidr.map(parse).transpose()?,
        })
    });
    let expires = time("spec.expires", &wire.expires)?.as_nanosecond();
    Ok(PolicyObject::TrafficException(TrafficException {
        peers: peers.collect::<Result<_, _>>()?,
        meta: metadata.meta(unknown)?,
        selector: wire.selector.into(),
        ports: wire.ports.into_iter().map(NonZeroU16::get).collect(),
        findings: wire.findings.into_iter().map(Into::into).collect(),
        reason: wire.reason.into(),
        owner: wire.owner.into(),
        expires: Timestamp(u64::try_from(expires).unwrap_or(0)),
    }))
}
