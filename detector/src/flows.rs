//! Owns the flows: edges of the kernel, correlated with identities, each connection counted once.
//!
//! Pure: values in, values out. Time comes in as nanoseconds of `CLOCK_MONOTONIC`, identities by reference.
//! A flow is held back for [`Flows::HOLD`] before it is told, because the kernel sees one connection in
//! several ways within microseconds: on the client's interface and on the server's, before DNAT and after,
//! as HTTP and then as MCP. What is told is what is left when the dust has settled. Counts that are told
//! never fall.

mod end;
mod flow;
mod hello;
mod part;
mod time;
mod tls;

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use detector_ebpf::{
    edge::{EdgeKey, EdgeValue},
    event::HelloEvent,
    verdict::{Protocol, Verdict},
};

pub(crate) use self::end::is_private;
pub use self::{
    end::{End, EndId},
    flow::{Flow, FlowId, News, Update},
    hello::TlsNames,
    time::{Clock, Timestamp},
    tls::TlsSeen,
};
use self::{
    end::{Resolved, resolve},
    part::{Connection, Part, Sum, View},
};
use crate::cluster::Store;

/// What tells two flows apart.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct FlowKey {
    client: EndId,
    server: EndId,
    port: u16,
    verdict: Verdict,
    protocol: Protocol,
}

#[derive(Debug)]
struct State {
    key: FlowKey,
    client: End,
    server: End,
    parts: HashSet<EdgeKey>,
    tls: TlsNames,
    /// What parts that are gone have left, by view.
    closed: [Sum; View::COUNT],
    created: u64,
    /// Until when an end that is not known is waited for.
    waiting: bool,
    due: Option<u64>,
    told: Option<Arc<Flow>>,
    reported_ns: u64,
    unreported: bool,
    /// The part of a service's connections that no pod on this node accounts for: (when, how many).
    remainder: (u64, u64),
    settled: u64,
}

/// All flows.
#[derive(Debug)]
pub struct Flows {
    clock: Clock,
    parts: HashMap<EdgeKey, Part>,
    states: HashMap<FlowId, State>,
    by_key: HashMap<FlowKey, FlowId>,
    /// Flows that may have something to tell, by when; the time is also in their state.
    due: BTreeSet<(u64, FlowId)>,
    /// Parts with an end that is waited for.
    waiting: HashSet<EdgeKey>,
    waited_generation: u64,
    /// Connections of the last moments, each with the edge that it was on last and since when: one that
    /// moves to a richer edge within [`Flows::HOLD`] is recognised by it.
    fresh: HashMap<Connection, (EdgeKey, u64)>,
    hellos: hello::Pending<EdgeKey>,
    swept: u64,
    asked: u64,
    epoch: u32,
    next: u64,
}

impl Flows {
    /// How long a flow settles before it is told, in nanoseconds.
    pub const HOLD: u64 = 30_000_000;

    /// How long an address that should be a pod's is waited for, in nanoseconds.
    pub const WAIT: u64 = 3_000_000_000;

    /// How often a flow of which only counts grow is worth a line, in nanoseconds.
    pub const REPORT: u64 = 10_000_000_000;

    /// How long a flow is remembered after its last edge is gone, in nanoseconds.
    pub const FORGET: u64 = 600_000_000_000;

    /// How often ends that are waited for are asked for again, in nanoseconds.
    const ASK: u64 = 100_000_000;

    /// No flows yet; `clock` turns kernel time into wall time.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            parts: HashMap::new(),
            states: HashMap::new(),
            by_key: HashMap::new(),
            due: BTreeSet::new(),
            waiting: HashSet::new(),
            waited_generation: 0,
            fresh: HashMap::new(),
            hellos: hello::Pending::default(),
            swept: 0,
            asked: 0,
            epoch: 0,
            next: 0,
        }
    }

    /// Takes in an edge of which the kernel sent an event, caused by a connection from `client_port`.
    pub fn event(&mut self, store: &Store, key: &EdgeKey, value: &EdgeValue, client_port: u16, now: u64) {
        self.observe(store, key, value, now);
        let before = self.fresh.insert(Connection::of(key, client_port), (*key, now));
        if let Some((poorer, at)) = before
            && poorer != *key
            && now.saturating_sub(at) < Self::HOLD
            && let Some(part) = self.parts.get_mut(&poorer)
        {
            // The connection has left that edge; the snapshot will say so, but later.
            part.leave();
        }
    }

    /// Takes in the hello that made an edge; the edge's own event follows it.
    pub fn hello(&mut self, event: &HelloEvent) {
        self.hellos.put(event.key, &event.hello);
    }

    /// Takes in all edges that the kernel holds.
    pub fn snapshot(&mut self, store: &Store, edges: &[(EdgeKey, EdgeValue)], now: u64) {
        self.epoch = self.epoch.wrapping_add(1);
        for (key, value) in edges {
            self.observe(store, key, value, now);
        }
        let epoch = self.epoch;
        // An edge that an event made during the dump may be missing from it: only the second time counts.
        let gone: Vec<EdgeKey> = self
            .parts
            .iter()
            .filter(|(_, part)| epoch.wrapping_sub(part.epoch) > 1)
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            self.close(&key);
        }
        self.forget(now);
    }

    /// What is to be told now.
    pub fn settle(&mut self, store: &Store, now: u64) -> Vec<Update> {
        if now.saturating_sub(self.swept) >= Self::HOLD {
            self.swept = now;
            self.fresh.retain(|_, (_, at)| now.saturating_sub(*at) < Self::HOLD);
        }
        self.ask_again(store, now);
        let mut due: Vec<FlowId> =
            self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        // Flows to pods before flows to services: what is left for a service depends on its pods.
        due.sort_by_key(|id| {
            (self.states.get(id).is_some_and(|state| matches!(state.server, End::Service { .. })), *id)
        });
        due.into_iter().filter_map(|id| self.tell(store, id, now)).collect()
    }

    /// Everything that has not been reported yet, settled or not: for the end of the process.
    pub fn finish(&mut self, store: &Store, now: u64) -> Vec<Update> {
        let later = now.saturating_add(Self::WAIT);
        let mut updates = self.settle(store, later);
        for update in &mut updates {
            update.report = true;
        }
        let told: HashSet<FlowId> = updates.iter().map(|update| update.id).collect();
        for (id, state) in &mut self.states {
            let unreported = std::mem::take(&mut state.unreported) && !told.contains(id);
            if let (true, Some(flow)) = (unreported, &state.told) {
                let flow = Flow::clone(flow);
                updates.push(Update {
                    id: *id,
                    flow,
                    new_connections: 0,
                    new_with_credentials: 0,
                    news: News::Count,
                    report: true,
                });
            }
        }
        updates
    }

    /// When [`Flows::settle`] next has something to do.
    #[must_use]
    pub fn deadline(&self, now: u64) -> Option<u64> {
        let due = self.due.first().map(|(at, _)| *at);
        let ask = (!self.waiting.is_empty()).then_some(now + Self::ASK);
        [due, ask].into_iter().flatten().min()
    }

    /// Whether a flow is remembered.
    #[must_use]
    pub fn contains(&self, id: FlowId) -> bool {
        self.states.contains_key(&id)
    }

    /// Every flow that was told and is remembered, as it was told last, in no order.
    pub fn told(&self) -> impl Iterator<Item = (FlowId, &Arc<Flow>)> {
        self.states.iter().filter_map(|(id, state)| Some((*id, state.told.as_ref()?)))
    }

    /// How many flows are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether no flow is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    fn observe(&mut self, store: &Store, key: &EdgeKey, value: &EdgeValue, now: u64) {
        let (Ok(verdict), Ok(protocol)) = (key.verdict(), key.protocol()) else { return };
        if verdict == Verdict::Undecided {
            return;
        }
        let generation = store.generation();
        let Some(part) = self.parts.get_mut(key) else {
            return self.open(store, key, Part::new(*value), now);
        };
        part.epoch = self.epoch;
        if part.is_older_than(value) {
            // The kernel forgot the edge and made it again.
            self.close(key);
            return self.open(store, key, Part::new(*value), now);
        }
        if !part.would_grow(value) {
            return;
        }
        if part.generation != generation && !part.waiting {
            part.generation = generation;
            let resolved = resolve(store, key);
            let same = self
                .states
                .get(&part.flow)
                .is_some_and(|state| state.key == flow_key(&resolved, verdict, protocol));
            if !same {
                // The address has passed on. What was counted so far stays with whom it was.
                let next = Part::after(part, *value);
                self.close(key);
                return self.open(store, key, next, now);
            }
        }
        part.grow(value);
        let flow = part.flow;
        self.touch(flow, now);
    }

    /// Gives a part its flow.
    fn open(&mut self, store: &Store, key: &EdgeKey, mut part: Part, now: u64) {
        let (Ok(verdict), Ok(protocol)) = (key.verdict(), key.protocol()) else { return };
        let resolved = resolve(store, key);
        let flow_key = flow_key(&resolved, verdict, protocol);
        let id = match self.by_key.entry(flow_key.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                self.next += 1;
                *vacant.insert(FlowId(self.next))
            }
        };
        let waiting = resolved.waiting && !store.is_blind();
        let state = self.states.entry(id).or_insert_with(|| State {
            key: flow_key,
            client: resolved.client,
            server: resolved.server,
            parts: HashSet::new(),
            tls: TlsNames::default(),
            closed: [Sum::default(); View::COUNT],
            created: now,
            waiting,
            due: None,
            told: None,
            reported_ns: 0,
            unreported: false,
            remainder: (now, u64::MAX),
            settled: 0,
        });
        state.parts.insert(*key);
        if let Some(names) = self.hellos.take(key) {
            state.tls.merge(names);
        }
        part.flow = id;
        part.generation = store.generation();
        part.epoch = self.epoch;
        part.waiting = waiting && state.told.is_none();
        if part.waiting {
            self.waiting.insert(*key);
        }
        self.parts.insert(*key, part);
        self.touch(id, now);
    }

    /// Takes a part out and leaves its counts with its flow.
    fn close(&mut self, key: &EdgeKey) {
        let Some(part) = self.parts.remove(key) else { return };
        self.waiting.remove(key);
        if let Some(state) = self.states.get_mut(&part.flow) {
            state.parts.remove(key);
            if let Some(sum) = state.closed.get_mut(View::of(key) as usize) {
                sum.add(key, &part);
            }
        }
    }

    fn touch(&mut self, id: FlowId, now: u64) {
        let Some(state) = self.states.get_mut(&id) else { return };
        if state.due.is_none() {
            let waits = state.waiting && state.told.is_none();
            let due = if waits { state.created + Self::WAIT } else { now + Self::HOLD };
            state.due = Some(due);
            self.due.insert((due, id));
        }
    }

    /// Asks again for ends that were not known, where the store has news.
    fn ask_again(&mut self, store: &Store, now: u64) {
        let nothing_new = self.waited_generation == store.generation();
        // The last moment to ask is when a flow is about to be told.
        let urgent = self.due.first().is_some_and(|(at, _)| *at <= now);
        if self.waiting.is_empty() || nothing_new || (!urgent && now.saturating_sub(self.asked) < Self::ASK) {
            return;
        }
        self.asked = now;
        self.waited_generation = store.generation();
        for key in self.waiting.iter().copied().collect::<Vec<_>>() {
            let resolved = resolve(store, &key);
            let (Ok(verdict), Ok(protocol)) = (key.verdict(), key.protocol()) else { continue };
            let fresh = flow_key(&resolved, verdict, protocol);
            let Some(part) = self.parts.get(&key) else { continue };
            let id = part.flow;
            if self.states.get(&id).is_none_or(|state| state.key == fresh) {
                continue;
            }
            self.waiting.remove(&key);
            let Some(part) = self.parts.remove(&key) else { continue };
            if let Some(state) = self.states.get_mut(&id) {
                state.parts.remove(&key);
                if state.parts.is_empty() && state.told.is_none() {
                    self.by_key.remove(&state.key);
                    if let Some(due) = state.due {
                        self.due.remove(&(due, id));
                    }
                    self.states.remove(&id);
                }
            }
            self.open(store, &key, part, now);
        }
    }

    fn tell(&mut self, store: &Store, id: FlowId, now: u64) -> Option<Update> {
        let remainder = self.service_remainder(store, id);
        let state = self.states.get(&id)?;
        let met_again = state.told.is_none() && self.is_met_again(&state.key, &state.parts);
        let sums = self.sums(state);
        let state = self.states.get_mut(&id)?;
        if let Some(due) = state.due.take() {
            self.due.remove(&(due, id));
        }
        if state.waiting {
            state.waiting = false;
            for key in &state.parts {
                self.waiting.remove(key);
                if let Some(part) = self.parts.get_mut(key) {
                    part.waiting = false;
                }
            }
        }
        let both = Sum::of_views(&sums);
        let mut connections = both.connections;
        if let Some(remainder) = remainder {
            // The two views are counted one after the other, so a difference counts once it has lasted.
            let (since, before) = state.remainder;
            if now.saturating_sub(since) >= Self::HOLD {
                state.settled = state.settled.max(before.min(remainder));
                state.remainder = (now, remainder);
            }
            if remainder > state.settled {
                state.due = Some(now + Self::HOLD);
                self.due.insert((now + Self::HOLD, id));
            }
            connections = state.settled;
        }
        if connections == 0 && state.told.is_none() {
            return None;
        }
        if met_again {
            return None;
        }
        let before = state.told.as_deref();
        let flow = Flow {
            client: state.client.clone(),
            server: state.server.clone(),
            port: state.key.port,
            verdict: state.key.verdict,
            protocol: state.key.protocol,
            evidence: both.evidence,
            methods: both.methods,
            tls: state.tls.clone(),
            offered: both.offered,
            connections: connections.max(before.map_or(0, |flow| flow.connections)),
            with_credentials: both
                .with_credentials
                .min(connections)
                .max(before.map_or(0, |flow| flow.with_credentials)),
            answered: both.answered.min(connections).max(before.map_or(0, |flow| flow.answered)),
            refused: both.refused.min(connections).max(before.map_or(0, |flow| flow.refused)),
            first_seen: self.clock.wall(both.first_ns),
            last_seen: self.clock.wall(both.last_ns),
        };
        let news = match before {
            None => News::New,
            Some(before) if before == &flow => return None,
            Some(before)
                if before.evidence != flow.evidence
                    || before.methods != flow.methods
                    || before.offered != flow.offered =>
            {
                News::Evidence
            }
            Some(_) => News::Count,
        };
        let new_connections = flow.connections - before.map_or(0, |flow| flow.connections);
        let new_with_credentials = flow.with_credentials - before.map_or(0, |flow| flow.with_credentials);
        let report = news != News::Count || now.saturating_sub(state.reported_ns) >= Self::REPORT;
        if report {
            state.reported_ns = now;
        }
        state.unreported = !report;
        state.told = Some(Arc::new(flow.clone()));
        Some(Update { id, flow, new_connections, new_with_credentials, news, report })
    }

    /// Whether a flow is only what sampling has met of connections that are told already: a TLS record in
    /// mid-stream does not say whose connection it is of, so it adds nothing where TLS is known.
    fn is_met_again(&self, key: &FlowKey, parts: &HashSet<EdgeKey>) -> bool {
        let met =
            key.verdict == Verdict::Tls && parts.iter().all(|part| part.flags & EdgeKey::PICKED_UP != 0);
        met && self.by_key.contains_key(&FlowKey { verdict: Verdict::MeshMtls, ..key.clone() })
    }

    /// Connections to a service that no pod seen on this node accounts for; `None` for other flows.
    fn service_remainder(&self, store: &Store, id: FlowId) -> Option<u64> {
        let state = self.states.get(&id)?;
        let End::Service { service, .. } = &state.server else { return None };
        let explained: u64 = store
            .backends(service, state.key.port)
            .into_iter()
            .filter_map(|backend| {
                let key =
                    FlowKey { server: EndId::Pod(backend.pod.uid), port: backend.port, ..state.key.clone() };
                let [client, server] = self.sums(self.states.get(self.by_key.get(&key)?)?);
                // Those that dialled the pod itself stand in its flow already.
                Some(server.connections.saturating_sub(client.connections))
            })
            .sum();
        let [client, _] = self.sums(state);
        Some(client.connections.saturating_sub(explained))
    }

    fn sums(&self, state: &State) -> [Sum; View::COUNT] {
        let mut sums = state.closed;
        for key in &state.parts {
            if let (Some(sum), Some(part)) = (sums.get_mut(View::of(key) as usize), self.parts.get(key)) {
                sum.add(key, part);
            }
        }
        sums
    }

    fn forget(&mut self, now: u64) {
        let Self { states, by_key, .. } = self;
        states.retain(|_, state| {
            let last = state.closed.iter().map(|sum| sum.last_ns).max().unwrap_or(0).max(state.created);
            let keep =
                !state.parts.is_empty() || state.due.is_some() || now.saturating_sub(last) < Self::FORGET;
            if !keep {
                by_key.remove(&state.key);
            }
            keep
        });
    }
}

fn flow_key(resolved: &Resolved, verdict: Verdict, protocol: Protocol) -> FlowKey {
    FlowKey {
        client: resolved.client.id(),
        server: resolved.server.id(),
        port: resolved.port,
        verdict,
        protocol,
    }
}

#[cfg(test)]
mod tests;
