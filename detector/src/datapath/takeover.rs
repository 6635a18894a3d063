//! Owns the start over the pins of a daemon before: its links go on without a gap, and its maps where they mean
//! what ours mean.
//!
//! A link is given its new program in place, so each packet meets the old program or the new one. Where the maps
//! are others, a connection that the old programs saw begin would be a stranger to the new ones. So what can be
//! read is copied first, and for [`HANDOVER`] the new programs look at every packet of flows that they do not
//! know, not at a sample.

use std::{
    collections::HashMap,
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::{self, Map, MapData, MapError},
    programs::{
        SchedClassifier,
        links::{FdLink, PinnedLink},
        tc::SchedClassifierLink,
    },
};
use detector_ebpf::{
    edge::{EdgeKey, EdgeValue},
    flow::{Flow, FlowKey},
    names,
    verdict::Verdict,
};

use super::{
    DatapathConfig, LoadError,
    attach::{self, Instances},
    clsact, info, load, maps as reading,
    pins::{self, Pins, PinsError},
};

/// From the first packet that a new program saw to the end of its looking at every packet: connections that
/// were opened before, and had not spoken, have that long to do so.
const HANDOVER: Duration = Duration::from_secs(1);

/// What a daemon before had left, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Takeover {
    /// Links and filters that go on.
    pub links: usize,
    /// Links whose interface was gone.
    pub dead_links: usize,
    /// What became of the maps.
    pub maps: Inheritance,
}

/// What became of the maps of a daemon before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inheritance {
    /// There were none.
    #[default]
    None,
    /// They are used on.
    Kept,
    /// They had another layout: what could be read was copied, the rest is forgotten.
    Replaced {
        /// Flows that are no longer followed.
        forgotten_flows: u64,
        /// Edges whose counts are lost.
        forgotten_edges: u64,
    },
}

/// A link that goes on, and is nobody's yet.
pub(super) type Kept = HashMap<(u32, &'static str), FdLink>;

/// What counts in an edge beyond what the new map holds.
pub(super) type Base = HashMap<EdgeKey, EdgeValue>;

/// The edges of our map together with what they held before.
pub(super) fn with_base(edges: Vec<(EdgeKey, EdgeValue)>, base: &Base) -> Vec<(EdgeKey, EdgeValue)> {
    if base.is_empty() {
        return edges;
    }
    let mut left = base.clone();
    let mut all: Vec<_> = edges
        .into_iter()
        .map(|(key, value)| {
            left.remove(&key);
            (key, sum(base, &key, &value))
        })
        .collect();
    all.extend(left);
    all
}

/// One edge of our map together with what it held before.
pub(super) fn sum(base: &Base, key: &EdgeKey, value: &EdgeValue) -> EdgeValue {
    let Some(before) = base.get(key) else { return *value };
    EdgeValue {
        entered: value.entered.saturating_add(before.entered),
        left: value.left.saturating_add(before.left),
        answered: value.answered.saturating_add(before.answered),
        refused: value.refused.saturating_add(before.refused),
        evidence: value.evidence | before.evidence,
        methods: value.methods | before.methods,
        first_ns: value.first_ns.min(before.first_ns),
        last_ns: value.last_ns.max(before.last_ns),
    }
}

/// What [`take_over`] made.
pub(super) struct Taken {
    pub(super) ebpf: Ebpf,
    pub(super) second: Instances,
    pub(super) kept: Kept,
    pub(super) base: Base,
    pub(super) takeover: Takeover,
}

pub(super) fn take_over(config: &DatapathConfig, pins: &Pins) -> Result<Taken, LoadError> {
    let folder = pins.maps(config);
    let others = pins.other_maps(&folder)?;
    let fresh = !folder.exists();
    pins::make(&folder)?;
    let (mut ebpf, second) = load::load_twice(config, Some(&folder))?;
    if others.is_empty() {
        let Updated { kept, filters, dead_links } = update(&mut ebpf, pins)?;
        let maps = if fresh { Inheritance::None } else { Inheritance::Kept };
        let takeover = Takeover { links: kept.len() + filters, dead_links, maps };
        return Ok(Taken { ebpf, second, kept, base: Base::new(), takeover });
    }
    let readable: Vec<&PathBuf> = others.iter().filter(|folder| Pins::is_readable(folder)).collect();
    let mut copied = Copied::default();
    if fresh {
        for folder in &readable {
            copied.copy(&mut ebpf, folder);
        }
    }
    let every_packet = DatapathConfig { sample_one_in: 1, ..*config };
    let mut handover = load::load(&every_packet, Some(&folder))?;
    let Updated { kept: taken, dead_links, .. } = update(&mut handover, pins)?;
    // The pins hold the links.
    drop(taken);
    thread::sleep(HANDOVER);
    let Updated { kept, filters, dead_links: died } = update(&mut ebpf, pins)?;
    drop(handover);
    forget_met_again(&mut ebpf);
    let (mut base, mut forgotten_flows, mut forgotten_edges) = (Base::new(), copied.flows_without_room, 0);
    for folder in &others {
        if readable.contains(&folder) {
            for (key, value) in read::<EdgeKey, EdgeValue>(folder, names::EDGES) {
                let rest = copied.rest(&key, &value);
                if rest.entered > 0 {
                    base.insert(key, rest);
                }
            }
        } else {
            forgotten_flows += count(folder, names::FLOWS);
            forgotten_edges += count(folder, names::EDGES);
        }
        pins::remove_folder(folder)?;
    }
    let maps = Inheritance::Replaced { forgotten_flows, forgotten_edges };
    let takeover = Takeover { links: kept.len() + filters, dead_links: dead_links + died, maps };
    Ok(Taken { ebpf, second, kept, base, takeover })
}

/// What [`update`] found.
struct Updated {
    /// The pinned links that live.
    kept: Kept,
    filters: usize,
    dead_links: usize,
}

/// Gives every pinned link, and every filter that goes with the pins, its program of `ebpf`.
fn update(ebpf: &mut Ebpf, pins: &Pins) -> Result<Updated, PinsError> {
    let (mut kept, mut dead) = (Kept::new(), 0);
    for (ifindex, direction, path) in pins.links()? {
        let direction = attach::DIRECTIONS.into_iter().find(|known| known.name == direction);
        let updated = direction.ok_or_else(|| "no direction that is known".into()).and_then(|direction| {
            Ok::<_, Box<dyn std::error::Error>>((direction.name, one(ebpf, direction, &path)?))
        });
        match updated {
            Ok((direction, link)) => {
                kept.insert((ifindex, direction), link);
            }
            // The kernel has let go of a link whose interface is gone (ENOLINK); its pin is an empty shell.
            Err(error) => {
                tracing::debug!(ifindex, %error, "a pinned link is dead");
                dead += 1;
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(pin = %path.display(), %error, "a dead pin cannot be removed");
                }
            }
        }
    }
    let owner = attach::owner(Some(pins));
    let replaced = attach::with_programs(ebpf, |programs| {
        clsact::replace_all(&owner, programs).map_err(|source| clsact::Refusal { hook: 0, source })
    });
    // What keeps its old program here is given the new one when its interface is attached to.
    let filters = replaced.unwrap_or_else(|clsact::Refusal { source, .. }| {
        tracing::warn!(error = %source, "filters of the daemon before keep their programs for now");
        0
    });
    Ok(Updated { kept, filters, dead_links: dead })
}

fn one(
    ebpf: &mut Ebpf,
    direction: attach::Direction,
    path: &Path,
) -> Result<FdLink, Box<dyn std::error::Error>> {
    let link = FdLink::from(PinnedLink::from_pin(path)?);
    let link = SchedClassifierLink::try_from(link)?;
    let program: &mut SchedClassifier = attach::program(ebpf, direction)?;
    let id = program.attach_to_link(link)?;
    Ok(FdLink::try_from(program.take_link(id)?)?)
}

/// What was copied from old maps into new ones before the new ones were in use.
#[derive(Default)]
struct Copied {
    edges: HashMap<EdgeKey, EdgeValue>,
    flows_without_room: u64,
}

impl Copied {
    /// Copies flows and edges. Nobody else works on the new maps yet.
    fn copy(&mut self, ebpf: &mut Ebpf, old: &Path) {
        let edges = read::<EdgeKey, EdgeValue>(old, names::EDGES);
        if let Some(mut map) = hash_map::<EdgeKey, EdgeValue>(ebpf, names::EDGES) {
            for (key, value) in edges {
                // What finds no room counts in the base.
                if map.insert(key, value, 0).is_ok() {
                    self.edges.insert(key, value);
                }
            }
        }
        let mut slots: HashMap<u32, u32> = HashMap::new();
        if let Some(mut map) = hash_map::<FlowKey, Flow>(ebpf, names::FLOWS) {
            for (key, flow) in read::<FlowKey, Flow>(old, names::FLOWS) {
                match map.insert(key, flow, 0) {
                    Ok(()) => *slots.entry(key.slot()).or_default() += 1,
                    Err(_no_room) => self.flows_without_room += 1,
                }
            }
        }
        let filter = ebpf.map_mut(names::FILTER).and_then(|map| maps::Array::<_, u32>::try_from(map).ok());
        if let Some(mut filter) = filter {
            for (slot, flows) in slots {
                if let Err(error) = filter.set(slot, flows, 0) {
                    tracing::warn!(%error, "flows of the daemon before are followed no further");
                }
            }
        }
    }

    /// What of an edge came after the copy.
    fn rest(&self, key: &EdgeKey, value: &EdgeValue) -> EdgeValue {
        match self.edges.get(key) {
            None => *value,
            Some(copied) => EdgeValue {
                entered: value.entered.saturating_sub(copied.entered),
                left: value.left.saturating_sub(copied.left),
                answered: value.answered.saturating_sub(copied.answered),
                refused: value.refused.saturating_sub(copied.refused),
                ..*value
            },
        }
    }
}

/// Removes what looking at every packet has made of connections that were settled long since: a TLS record in
/// mid-stream does not say whose connection it is of, so each one counted as a connection that was met.
fn forget_met_again(ebpf: &mut Ebpf) {
    let met = |key: &EdgeKey| key.verdict == Verdict::Tls as u8 && key.flags & EdgeKey::PICKED_UP != 0;
    let Ok(edges) = reading::edges(ebpf) else { return };
    let Some(mut map) = hash_map::<EdgeKey, EdgeValue>(ebpf, names::EDGES) else { return };
    for (key, _) in edges.iter().filter(|(key, _)| met(key)) {
        let _gone_already = map.remove(key);
    }
}

fn hash_map<'a, K: aya::Pod, V: aya::Pod>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> Option<maps::HashMap<&'a mut MapData, K, V>> {
    maps::HashMap::try_from(ebpf.map_mut(name)?).ok()
}

/// All entries of a pinned map that has our layout; none if it cannot be read.
fn read<K: aya::Pod, V: aya::Pod>(folder: &Path, name: &str) -> Vec<(K, V)> {
    let read = || -> Result<Vec<(K, V)>, MapError> {
        let map = Map::from_map_data(MapData::from_pin(folder.join(name))?)?;
        let map = maps::HashMap::<_, K, V>::try_from(map)?;
        Ok(map.iter().filter_map(Result::ok).collect())
    };
    read().unwrap_or_else(|error| {
        tracing::warn!(folder = %folder.display(), map = name, %error, "a map of the daemon before cannot be read");
        Vec::new()
    })
}

/// How many entries a pinned map of any layout has.
fn count(folder: &Path, name: &str) -> u64 {
    let counted = MapData::from_pin(folder.join(name)).and_then(|map| {
        let key_size = map.info()?.key_size();
        Ok(info::count_entries(map.fd().as_fd(), key_size))
    });
    counted.unwrap_or_else(|error| {
        tracing::warn!(folder = %folder.display(), map = name, %error, "a map of the daemon before cannot be counted");
        0
    })
}

#[cfg(test)]
mod tests {
    use super::{Base, Copied, EdgeKey, EdgeValue, with_base};

    fn edge(port: u16, entered: u64, last_ns: u64) -> (EdgeKey, EdgeValue) {
        let key = EdgeKey { server_port: port, ..EdgeKey::default() };
        (key, EdgeValue { entered, first_ns: 1, last_ns, ..EdgeValue::default() })
    }

    #[test]
    fn what_came_after_the_copy_counts_once_and_what_came_before_it_too() {
        let mut copied = Copied::default();
        let (key, before) = edge(80, 5, 10);
        copied.edges.insert(key, before);
        let (_, at_the_end) = edge(80, 7, 12);
        let rest = copied.rest(&key, &at_the_end);
        assert_eq!(rest.entered, 2);
        // The new map has gone on from the copy, with one more.
        let total = with_base(vec![edge(80, 6, 15)], &Base::from([(key, rest)]));
        assert_eq!(total, [edge(80, 8, 15)]);
    }

    #[test]
    fn an_edge_that_the_new_map_does_not_hold_is_still_told() {
        let (key, value) = edge(80, 5, 10);
        let mut total = with_base(vec![edge(81, 1, 11)], &Base::from([(key, value)]));
        total.sort_by_key(|(key, _)| key.server_port);
        assert_eq!(total, [edge(80, 5, 10), edge(81, 1, 11)]);
    }
}
