//! Owns the store of the host: the same tracking over ordinary memory, for replay, tests and fuzzing.
//!
//! It holds the same maps with the same limits as the kernel's, and nothing of a payload either. One store is
//! one interface; its clock is the caller's, so that a capture is read at the times of its packets.

use core::{
    cell::{Cell, RefCell, RefMut},
    ops::DerefMut,
};
use std::{collections::HashMap, vec::Vec};

use crate::{
    budget::{Budget, Claim},
    counter::Counter,
    edge::{EdgeKey, EdgeValue},
    event::{Event, HelloEvent},
    flow::{FILTER_SLOTS, Flow, FlowKey, Side},
    packet::Frame,
    scan::{self, Scanned, Work},
    tls::Hello,
    track::{self, Desk, Reading, Store},
};

/// Hellos that are kept for their next segment.
const HELLOS: usize = 1024;

/// Limits and settings of a host store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Flows that are tracked at the same time.
    pub max_flows: usize,
    /// Edges that are counted at the same time.
    pub max_edges: usize,
    /// A packet that misses the filter is looked at if its hash is below this.
    pub sample_below: u32,
    /// Nanoseconds of each millisecond that packets may take; [`Budget::UNLIMITED`] for no budget.
    pub budget: u32,
    /// What each packet that is looked at is taken to cost, in nanoseconds: the clock is the caller's and
    /// does not move meanwhile.
    pub packet_ns: u64,
    /// Bytes of each body that are scanned.
    pub scan_window: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_flows: 16_384,
            max_edges: 16_384,
            sample_below: u32::MAX,
            budget: Budget::UNLIMITED,
            packet_ns: 500,
            scan_window: 4096,
        }
    }
}

/// Tracks the flows of one interface in ordinary memory.
#[derive(Debug)]
pub struct Host {
    settings: Settings,
    ifindex: u32,
    now: Cell<u64>,
    filter: RefCell<Vec<u32>>,
    flows: RefCell<HashMap<FlowKey, Flow>>,
    edges: RefCell<HashMap<EdgeKey, EdgeValue>>,
    events: RefCell<Vec<Event>>,
    counters: RefCell<[u64; Counter::COUNT as usize]>,
    budget: RefCell<Budget>,
    hellos: RefCell<HashMap<FlowKey, Hello>>,
    hello: RefCell<Hello>,
    hello_events: RefCell<Vec<HelloEvent>>,
    desk: RefCell<Desk>,
}

impl Host {
    /// A store without flows.
    #[must_use]
    pub fn new(ifindex: u32, settings: Settings) -> Self {
        Self {
            settings,
            ifindex,
            now: Cell::new(0),
            filter: RefCell::new(std::vec![0; FILTER_SLOTS as usize]),
            flows: RefCell::default(),
            edges: RefCell::default(),
            events: RefCell::default(),
            counters: RefCell::new([0; Counter::COUNT as usize]),
            budget: RefCell::default(),
            hellos: RefCell::default(),
            hello: RefCell::default(),
            hello_events: RefCell::default(),
            desk: RefCell::default(),
        }
    }

    /// Looks at a frame that passed at `now`. `from_pod` says that the pod behind the interface sent it.
    pub fn packet(&self, frame: &[u8], now: u64, from_pod: bool) {
        self.now.set(now);
        let frame = Frame(frame);
        track::packet(&frame, &OnFrame { host: self, frame }, from_pod);
    }

    /// Ends and removes flows that have been silent for `idle_ns` at `now`; answers how many.
    pub fn expire(&self, now: u64, idle_ns: u64) -> usize {
        self.now.set(now);
        let keys: Vec<FlowKey> = self.flows.borrow().keys().copied().collect();
        let store = OnFrame { host: self, frame: Frame(&[]) };
        keys.into_iter().filter(|key| track::expire(&store, key, idle_ns)).count()
    }

    /// The events since the last call.
    pub fn take_events(&self) -> Vec<Event> {
        self.events.take()
    }

    /// The hellos since the last call.
    pub fn take_hellos(&self) -> Vec<HelloEvent> {
        self.hello_events.take()
    }

    /// All edges with their totals, in no order.
    #[must_use]
    pub fn edges(&self) -> Vec<(EdgeKey, EdgeValue)> {
        self.edges.borrow().iter().map(|(key, value)| (*key, *value)).collect()
    }

    /// Forgets all edges, as a reader does that has taken them over.
    pub fn clear_edges(&self) {
        self.edges.borrow_mut().clear();
    }

    /// The counters, in the order of [`Counter::ALL`].
    #[must_use]
    pub fn counters(&self) -> [u64; Counter::COUNT as usize] {
        *self.counters.borrow()
    }

    /// Flows that are tracked.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.flows.borrow().len()
    }

    /// Whether the filter counts exactly the flows that are tracked.
    #[must_use]
    pub fn filter_is_exact(&self) -> bool {
        track::filter_of(self.flows.borrow().iter()) == *self.filter.borrow()
    }
}

/// The store as it is seen from one packet.
struct OnFrame<'a> {
    host: &'a Host,
    frame: Frame<'a>,
}

impl OnFrame<'_> {
    fn count_index(&self, index: u32) {
        if let Some(counter) = self.host.counters.borrow_mut().get_mut(index as usize) {
            *counter += 1;
        }
    }
}

impl<'h> Store for OnFrame<'h> {
    fn now(&self) -> u64 {
        self.host.now.get()
    }

    fn sample_below(&self) -> u32 {
        self.host.settings.sample_below
    }

    fn ifindex(&self) -> u32 {
        self.host.ifindex
    }

    fn count(&self, counter: Counter) {
        self.count_index(counter as u32);
    }

    fn filter(&self, slot: u32) -> u32 {
        self.host.filter.borrow().get(slot as usize).copied().unwrap_or(0)
    }

    fn adjust(&self, slot: u32, by: u32) {
        if let Some(slot) = self.host.filter.borrow_mut().get_mut(slot as usize) {
            *slot = slot.wrapping_add(by);
        }
    }

    fn flow<'a>(&'a self, key: &FlowKey) -> Option<impl DerefMut<Target = Flow> + use<'a, 'h>> {
        RefMut::filter_map(self.host.flows.borrow_mut(), |flows| flows.get_mut(key)).ok()
    }

    fn insert_flow(&self, key: &FlowKey, flow: &Flow) -> bool {
        let mut flows = self.host.flows.borrow_mut();
        let fits = flows.len() < self.host.settings.max_flows && !flows.contains_key(key);
        if fits {
            flows.insert(*key, *flow);
        }
        fits
    }

    fn remove_flow(&self, key: &FlowKey) -> bool {
        self.host.flows.borrow_mut().remove(key).is_some()
    }

    fn edge<R>(&self, key: &EdgeKey, with: impl FnOnce(&mut EdgeValue) -> R) -> Option<R> {
        self.host.edges.borrow_mut().get_mut(key).map(with)
    }

    fn insert_edge(&self, key: &EdgeKey, value: &EdgeValue) -> bool {
        let mut edges = self.host.edges.borrow_mut();
        let fits = edges.len() < self.host.settings.max_edges && !edges.contains_key(key);
        if fits {
            edges.insert(*key, *value);
        }
        fits
    }

    fn emit(&self, key: &EdgeKey, value: &EdgeValue, client_port: u16) -> bool {
        let event = Event {
            version: Event::VERSION,
            kind: Event::KIND,
            _pad: [0; 4],
            client_port,
            key: *key,
            value: *value,
        };
        self.host.events.borrow_mut().push(event);
        true
    }

    fn emit_hello(&self, key: &EdgeKey) -> bool {
        self.host.hello_events.borrow_mut().push(HelloEvent {
            version: Event::VERSION,
            kind: HelloEvent::KIND,
            _pad: [0; 6],
            key: *key,
            hello: *self.host.hello.borrow(),
        });
        true
    }

    fn desk(&self) -> Option<impl DerefMut<Target = Desk>> {
        self.host.desk.try_borrow_mut().ok()
    }

    fn scan(&self, key: &FlowKey, side: &mut Side, reading: Reading) -> Scanned {
        let Reading { mut at, mut len, asked_head } = reading;
        let window = self.host.settings.scan_window;
        let mut work = Work::new(*side, window);
        work.prepare(side, window, asked_head);
        if let Some(hello) = self.host.hellos.borrow_mut().remove(key) {
            work.record.hello = hello;
        }
        for _ in 0..scan::STEPS {
            if len == 0 {
                break;
            }
            let taken = scan::step(&self.frame, &mut work, at, len);
            at += taken;
            len -= taken;
        }
        if len > 0 {
            work.lose(Counter::StepLimit);
        }
        let found = work.finish(asked_head);
        if let Some(lost) = work.lost.checked_sub(1) {
            self.count_index(lost);
        }
        if work.reads_hello() {
            let mut hellos = self.host.hellos.borrow_mut();
            if hellos.len() >= HELLOS {
                // The kernel's map pushes out the oldest; here, too, one that never goes on must not stay.
                hellos.clear();
            }
            hellos.insert(*key, work.record.hello);
        }
        *self.host.hello.borrow_mut() = work.record.hello;
        *side = work.side;
        found
    }

    fn grants(&self, claim: Claim) -> bool {
        const TICK_NS: u64 = 1_000_000;
        let now = self.now();
        self.host.budget.borrow_mut().grants(claim, self.host.settings.budget, now / TICK_NS, || now)
    }

    fn spend(&self, _began_ns: u64) {
        self.host.budget.borrow_mut().spend(self.host.settings.packet_ns);
    }
}
