//! Owns the attachment: has every pod interface observed, and tries again where it could not be.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::SharedStore,
    coverage::{Coverage, Standing},
    datapath::{AttachError, Attached, Datapath, Place},
    interfaces::Change,
    outputs::metrics::{Hook, Metrics},
    readiness::BlockReady,
};

pub(super) struct Attacher {
    datapath: Arc<Datapath>,
    store: SharedStore,
    metrics: Arc<Metrics>,
    coverage: Coverage,
    behind: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// Links that have an XDP program.
    xdp: BTreeSet<u32>,
    attached: BTreeMap<u32, Observed>,
    failed: BTreeMap<u32, String>,
}

/// An interface that the programs are attached to.
struct Observed {
    hook: Hook,
    name: String,
    /// Whether others were in front when it was last looked at.
    displaced: bool,
    /// When the programs were last put back in their place.
    restored: Option<Instant>,
    /// When it was last looked at.
    looked: Instant,
}

impl Attacher {
    /// From one look at where the programs sit to the next: for so long coverage may be wrong about it.
    const LOOK: Duration = Duration::from_secs(1);

    /// From one attempt to attach to the next. Whoever wants our place too is not fought more often than that.
    const RETRY: Duration = Duration::from_secs(10);

    pub(super) fn new(
        datapath: Arc<Datapath>,
        store: SharedStore,
        metrics: Arc<Metrics>,
        coverage: Coverage,
    ) -> Self {
        Self {
            datapath,
            store,
            metrics,
            coverage,
            behind: BTreeMap::new(),
            xdp: BTreeSet::new(),
            attached: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    pub(super) async fn run(
        mut self,
        mut changes: mpsc::Receiver<Change>,
        cancel: CancellationToken,
        ready: BlockReady,
    ) -> Result<()> {
        let mut ready = Some(ready);
        let mut retry = tokio::time::interval(Self::RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(Self::LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let change = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = retry.tick() => {
                    for (ifindex, name) in std::mem::take(&mut self.failed) {
                        self.attach(ifindex, name);
                    }
                    continue;
                }
                _ = look.tick() => {
                    let all: Vec<u32> = self.attached.keys().copied().collect();
                    self.look(all);
                    continue;
                }
                change = changes.recv() => change,
            };
            match change {
                Some(Change::Added { ifindex, name }) => self.attach(ifindex, name),
                Some(Change::Renamed { ifindex, name }) => self.rename(ifindex, name),
                Some(Change::Removed { ifindex, gone }) => {
                    self.detach(ifindex);
                    if gone {
                        self.coverage.gone(ifindex);
                    }
                }
                Some(Change::Topology(topology)) => {
                    self.behind.clone_from(&topology.behind);
                    self.warn_of_xdp(&topology.xdp);
                    self.coverage.topology(topology);
                    self.tell_links();
                }
                Some(Change::LocalAddresses(addresses)) => {
                    self.store.write().set_local_addresses(addresses);
                }
                Some(Change::Synced) => {
                    let released = tokio::task::block_in_place(|| self.datapath.release());
                    if released > 0 {
                        tracing::info!(interfaces = released, "no longer observed: they lead to no pod");
                    }
                    tracing::info!(interfaces = self.attached.len(), "observing");
                    drop(ready.take());
                }
                // The watcher ends first when all end.
                None => {
                    cancel.cancelled().await;
                    return Ok(());
                }
            }
        }
    }

    fn attach(&mut self, ifindex: u32, name: String) {
        match tokio::task::block_in_place(|| self.datapath.attach(ifindex, &name)) {
            Ok(attached) => {
                let hook = match attached {
                    Attached::Tcx => Hook::Tcx,
                    Attached::Clsact => Hook::Clsact,
                };
                tracing::info!(ifindex, interface = %name, ?hook, "attached");
                let observed =
                    Observed { hook, name, displaced: false, restored: None, looked: Instant::now() };
                if self.attached.insert(ifindex, observed).is_none() {
                    self.metrics.interface(hook, true);
                }
                // Links of a daemon before may have lost their place since.
                self.look([ifindex]);
            }
            Err(AttachError::NoDevice { .. }) => {
                tracing::debug!(ifindex, interface = %name, "gone before it was attached");
                self.coverage.standing(ifindex, None);
                // Until the watcher says so too.
                self.failed.insert(ifindex, name);
            }
            Err(ref error) => {
                tracing::warn!(
                    ifindex,
                    interface = %name,
                    error = error as &dyn Error,
                    "not observed; will try again"
                );
                self.metrics.attach_failed();
                self.coverage.standing(ifindex, standing_of(error));
                self.failed.insert(ifindex, name);
            }
        }
    }

    fn detach(&mut self, ifindex: u32) {
        self.failed.remove(&ifindex);
        self.coverage.standing(ifindex, None);
        if let Some(Observed { hook, .. }) = self.attached.remove(&ifindex) {
            tokio::task::block_in_place(|| self.datapath.detach(ifindex));
            self.metrics.interface(hook, false);
            tracing::info!(ifindex, "detached");
            // Its addresses may be another's in a moment.
            self.behind.remove(&ifindex);
            self.tell_links();
        }
    }

    /// Tells the store which addresses are behind the interfaces of pods; what is behind others proves nothing.
    fn tell_links(&self) {
        let pods = self.behind.iter().filter(|(link, _)| self.attached.contains_key(link));
        self.store.write().set_links(pods.map(|(link, behind)| (*link, behind.clone())).collect());
    }

    /// Says of each XDP program that is news on a pod's interface.
    fn warn_of_xdp(&mut self, xdp: &BTreeSet<u32>) {
        for (ifindex, Observed { name, .. }) in &self.attached {
            match (self.xdp.contains(ifindex), xdp.contains(ifindex)) {
                (false, true) => tracing::warn!(
                    ifindex,
                    interface = %name,
                    "an XDP program gets what the pod sends before ours, and may hide it"
                ),
                (true, false) => tracing::info!(ifindex, interface = %name, "no XDP program any more"),
                _ => {}
            }
        }
        self.xdp.clone_from(xdp);
    }

    fn rename(&mut self, ifindex: u32, name: String) {
        self.coverage.renamed(ifindex, &name);
        if let Some(observed) = self.attached.get_mut(&ifindex) {
            tracing::info!(ifindex, interface = %name, before = %observed.name, "renamed");
            observed.name = name;
        } else if let Some(failed) = self.failed.get_mut(&ifindex) {
            *failed = name;
        }
    }

    /// Looks whether the programs still sit where they were put, on each of these interfaces.
    fn look(&mut self, interfaces: impl IntoIterator<Item = u32>) {
        let began = Instant::now();
        let places = tokio::task::block_in_place(|| self.datapath.places(interfaces));
        for (ifindex, place) in places {
            self.looked(ifindex, place, began);
        }
    }

    /// Takes in where the programs sit on an interface, by a look that began at a time, and puts them back in their
    /// place if that was not just done.
    fn looked(&mut self, ifindex: u32, place: Place, began: Instant) {
        let Some(observed) = self.attached.get_mut(&ifindex) else { return };
        // Where it is put back, that is counted when it is done.
        let until = if place == Place::Displaced { began } else { Instant::now() };
        let unsure = until.saturating_duration_since(observed.looked);
        observed.looked = began;
        if observed.displaced || place == Place::Displaced {
            self.metrics.displaced(unsure);
        }
        match place {
            Place::Kept | Place::Unknown => {
                if observed.displaced {
                    tracing::info!(ifindex, interface = %observed.name, "ours are first again");
                }
                observed.displaced = false;
                self.coverage.standing(ifindex, Some(Standing::Attached));
            }
            Place::Displaced if observed.restored.is_some_and(|at| at.elapsed() < Self::RETRY) => {
                self.displaced(ifindex);
            }
            Place::Displaced => self.restore(ifindex, unsure),
        }
    }

    fn displaced(&mut self, ifindex: u32) {
        self.coverage.standing(ifindex, Some(Standing::Displaced));
        if let Some(observed) = self.attached.get_mut(&ifindex)
            && !std::mem::replace(&mut observed.displaced, true)
        {
            tracing::warn!(ifindex, interface = %observed.name, "another program sits in front of ours");
        }
    }

    /// Puts the programs first again, `unsure` after they were last seen there.
    fn restore(&mut self, ifindex: u32, unsure: Duration) {
        let Some(mut observed) = self.attached.remove(&ifindex) else { return };
        let name = &observed.name;
        match tokio::task::block_in_place(|| self.datapath.restore(ifindex, name)) {
            Ok(place) => {
                let took = observed.looked.elapsed();
                tracing::warn!(
                    ifindex,
                    interface = %name,
                    unsure_at_most = ?unsure + took,
                    "another program had taken our place; restored"
                );
                self.metrics.attachment_restored();
                self.metrics.displaced(took);
                observed.looked = Instant::now();
                observed.restored = Some(observed.looked);
                observed.displaced = false;
                self.attached.insert(ifindex, observed);
                match place {
                    Place::Kept | Place::Unknown => {
                        self.coverage.standing(ifindex, Some(Standing::Attached));
                    }
                    Place::Displaced => self.displaced(ifindex),
                }
            }
            // The watcher tells soon that it is gone; what can be attached again is tried again.
            Err(ref error) => {
                tracing::warn!(
                    ifindex,
                    interface = %name,
                    error = error as &dyn Error,
                    "no longer observed; will try again"
                );
                self.coverage.standing(ifindex, standing_of(error));
                self.metrics.interface(observed.hook, false);
                self.failed.insert(ifindex, observed.name);
            }
        }
    }
}

/// How an interface stands after a failed attachment; `None` if there is no interface.
const fn standing_of(error: &AttachError) -> Option<Standing> {
    match error {
        AttachError::NoDevice { .. } => None,
        AttachError::Unsupported { .. } => Some(Standing::Unsupported),
        AttachError::NotPermitted { .. } | AttachError::Kernel { .. } => Some(Standing::Refused),
    }
}
