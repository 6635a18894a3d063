//! Owns the loop that turns what the kernel sends into what is reported.
//!
//! Events make it quick; a snapshot of the edge map every second makes it true: it brings counts up to date
//! and heals events that were lost to a full ring.

use std::{
    error::Error,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use detector_ebpf::{
    edge::{EdgeKey, EdgeValue},
    event::{Event, Record},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{GRACE, announce::Announcer, monotonic, monotonic_or_zero};
use crate::{
    admin::FlowsQuestion,
    cluster::{Holder, SharedStore, Store},
    coverage::Coverage,
    datapath::{Datapath, Events},
    findings::{Board, Ledger, Rules, evaluate},
    flows::{Clock, Flows, Update},
    outputs::{log::LineLog, metrics::Metrics},
    policy::PolicyView,
    readiness::Heartbeat,
};

pub(super) struct Detector {
    datapath: Arc<Datapath>,
    store: SharedStore,
    coverage: Coverage,
    flows: Flows,
    ledger: Ledger,
    board: Board,
    clock: Clock,
    finding_window: Duration,
    rules: Rules,
    log_flows: bool,
    lines: LineLog,
    metrics: Arc<Metrics>,
    heartbeat: Heartbeat,
    announcer: Option<Announcer>,
}

impl Detector {
    const SNAPSHOT: Duration = Duration::from_secs(1);
    const EXPIRE: Duration = Duration::from_secs(5);
    const SWEEP: Duration = Duration::from_secs(60);

    #[expect(clippy::too_many_arguments, reason = "the loop is where all parts meet")]
    pub(super) fn new(
        datapath: Arc<Datapath>,
        store: SharedStore,
        coverage: Coverage,
        rules: Rules,
        finding_window: Duration,
        log_flows: bool,
        lines: LineLog,
        metrics: Arc<Metrics>,
        heartbeat: Heartbeat,
        announcer: Option<Announcer>,
    ) -> Result<Self> {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let wall = u64::try_from(wall.as_nanos()).context("the clock is past 2500")?;
        let clock = Clock { offset_ns: wall.saturating_sub(monotonic()?) };
        Ok(Self {
            datapath,
            store,
            coverage,
            flows: Flows::new(clock),
            ledger: Ledger::default(),
            board: Board::default(),
            clock,
            finding_window,
            rules,
            log_flows,
            lines,
            metrics,
            heartbeat,
            announcer,
        })
    }

    pub(super) async fn run(
        mut self,
        mut events: Events,
        mut questions: mpsc::Receiver<FlowsQuestion>,
        cancel: CancellationToken,
    ) -> Result<()> {
        let mut snapshot = interval(Self::SNAPSHOT);
        snapshot.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut expire = interval(Self::EXPIRE);
        expire.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sweep = interval(Self::SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch: Vec<Record> = Vec::new();
        loop {
            let now = monotonic()?;
            let settle = self
                .flows
                .deadline(now)
                .map(|at| Instant::now() + Duration::from_nanos(at.saturating_sub(now)));
            tokio::select! {
                () = cancel.cancelled() => break,
                read = events.next(&mut batch) => {
                    read.context("read the kernel's events")?;
                    self.events(&mut batch)?;
                }
                _ = snapshot.tick() => self.snapshot()?,
                _ = expire.tick() => {
                    tokio::task::block_in_place(|| self.datapath.expire()).context("drop idle flows")?;
                }
                _ = sweep.tick() => {
                    let store = self.store.read();
                    tokio::task::block_in_place(|| self.metrics.sweep(store.pods()));
                }
                Some(asked) = questions.recv() => {
                    // References only; whoever has gone meanwhile needs no answer.
                    let told = self.flows.told().map(|(id, flow)| (id, Arc::clone(flow)));
                    let _gone = asked.send(told.collect());
                }
                () = sleep_until(settle) => {}
            }
            let updates = self.flows.settle(&self.store.read(), monotonic()?);
            self.publish(updates)?;
        }
        // What is in the map now is the last that will be known.
        self.snapshot()?;
        let updates = self.flows.finish(&self.store.read(), monotonic()?);
        self.publish(updates)?;
        let Self { lines, .. } = self;
        tokio::task::block_in_place(|| lines.finish(GRACE / 2));
        Ok(())
    }

    fn events(&mut self, batch: &mut Vec<Record>) -> Result<()> {
        let now = monotonic()?;
        let store = self.store.read();
        for record in batch.drain(..) {
            match record {
                Record::Event(Event { key, value, client_port, .. }) => {
                    self.flows.event(&store, &key, &value, client_port, now);
                }
                Record::Hello(hello) => self.flows.hello(&hello),
            }
        }
        Ok(())
    }

    fn snapshot(&mut self) -> Result<()> {
        self.heartbeat.beat();
        match tokio::task::block_in_place(|| self.datapath.edges()) {
            Ok(edges) => {
                let store = self.store.read();
                self.coverage.seen(senders(&store, &edges));
                self.flows.snapshot(&store, &edges, monotonic()?);
            }
            // The next one is a second away.
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "the edge map cannot be read");
            }
        }
        self.ledger.retain(|id| self.flows.contains(id));
        if let Some(announcer) = &self.announcer {
            let store = self.store.read();
            announcer.retain(|id| self.flows.contains(id), |uid| store.pod(uid).is_some(), monotonic()?);
        }
        self.board.retain(|id| self.flows.contains(id));
        self.tell_standing()?;
        self.metrics.flows(self.flows.len());
        self.metrics.identities(self.store.read().census());
        Ok(())
    }

    fn publish(&mut self, updates: Vec<Update>) -> Result<()> {
        let mut told = false;
        for update in updates {
            self.metrics.flow(&update);
            if self.log_flows && update.report {
                self.lines.flow(&update.flow);
            }
            let policy = PolicyView::of(&self.store.read(), &update.flow);
            let findings = evaluate(&update.flow, &policy, self.rules);
            self.board.note(update.id, &update.flow, &findings);
            if let Some(announcer) = &self.announcer {
                announcer.found(update.id, update.new_connections, &findings, monotonic_or_zero());
            }
            for finding in self.ledger.news(update.id, findings) {
                self.metrics.finding(finding.id, finding.severity);
                self.lines.finding(&finding);
                told = true;
            }
        }
        if told {
            self.tell_standing()?;
        }
        Ok(())
    }

    fn tell_standing(&self) -> Result<()> {
        let now = self.clock.wall(monotonic()?);
        self.metrics.standing(&self.board.standing(now, self.finding_window));
        Ok(())
    }
}

/// The node's own pods among the senders, and the interfaces that they sent on.
fn senders(store: &Store, edges: &[(EdgeKey, EdgeValue)]) -> Vec<(IpAddr, u32)> {
    edges
        .iter()
        .filter(|(key, _)| key.flags & EdgeKey::FROM_POD != 0)
        .map(|(key, _)| (Ipv6Addr::from(key.client).to_canonical(), key.ifindex))
        .filter(|(address, _)| match store.lookup(*address) {
            Some(Holder::Pod(pod)) => pod.node.as_deref() == Some(store.local_node()),
            _ => false,
        })
        .collect()
}

/// Sleeps until then, or for ever.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
