//! Owns the attachment: has every pod interface observed, and tries again where it could not be.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use tokio::{sync::mpsc, time::MissedTickBehavior};
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
    attached: BTreeMap<u32, (Hook, String)>,
    failed: BTreeMap<u32, String>,
}

impl Attacher {
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
        loop {
            let change = tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                _ = retry.tick() => {
                    for (ifindex, name) in std::mem::take(&mut self.failed) {
                        self.attach(ifindex, name);
                    }
                    self.check();
                    self.metrics.coverage(&self.coverage.report(&self.store.read()));
                    continue;
                }
                change = changes.recv() => change,
            };
            match change {
                Some(Change::Added { ifindex, name }) => self.attach(ifindex, name),
                Some(Change::Removed { ifindex }) => self.detach(ifindex),
                Some(Change::Topology(topology)) => {
                    self.behind.clone_from(&topology.behind);
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
                self.coverage.standing(ifindex, Some(Standing::Attached));
                if self.attached.insert(ifindex, (hook, name)).is_none() {
                    self.metrics.interface(hook, true);
                }
            }
            Err(AttachError::NoDevice { .. }) => {
                tracing::debug!(ifindex, interface = %name, "gone before it was attached");
            }
            Err(ref error) => {
                tracing::warn!(
                    ifindex,
                    interface = %name,
                    error = error as &dyn Error,
                    "not observed; will try again"
                );
                self.metrics.attach_failed();
                self.coverage.standing(ifindex, Some(standing_of(error)));
                self.failed.insert(ifindex, name);
            }
        }
    }

    fn detach(&mut self, ifindex: u32) {
        self.failed.remove(&ifindex);
        self.coverage.standing(ifindex, None);
        if let Some((hook, _)) = self.attached.remove(&ifindex) {
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

    /// Looks whether the programs still sit where they were put, and puts them there again.
    fn check(&mut self) {
        let attached = std::mem::take(&mut self.attached);
        for (ifindex, (hook, name)) in attached {
            let standing = tokio::task::block_in_place(|| self.datapath.check(ifindex, &name));
            match standing {
                Ok(Place::Kept | Place::Unknown) => {
                    self.coverage.standing(ifindex, Some(Standing::Attached));
                }
                Ok(Place::Restored) => {
                    tracing::warn!(ifindex, interface = %name, "another program had taken our place; restored");
                    self.metrics.attachment_restored();
                    self.coverage.standing(ifindex, Some(Standing::Attached));
                }
                Ok(Place::Displaced) => {
                    tracing::warn!(ifindex, interface = %name, "another program sits in front of ours");
                    self.coverage.standing(ifindex, Some(Standing::Displaced));
                }
                // The watcher tells soon that it is gone; what can be attached again is tried again.
                Err(ref error) => {
                    tracing::warn!(
                        ifindex,
                        interface = %name,
                        error = error as &dyn Error,
                        "no longer observed; will try again"
                    );
                    self.coverage.standing(ifindex, Some(standing_of(error)));
                    self.metrics.interface(hook, false);
                    self.failed.insert(ifindex, name);
                    continue;
                }
            }
            self.attached.insert(ifindex, (hook, name));
        }
    }
}

/// How an interface stands after a failed attachment.
fn standing_of(error: &AttachError) -> Standing {
    match error {
        AttachError::Unsupported { .. } => Standing::Unsupported,
        AttachError::NoDevice { .. } | AttachError::NotPermitted { .. } | AttachError::Kernel { .. } => {
            Standing::Refused
        }
    }
}
