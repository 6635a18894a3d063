//! Owns the attachment: has every pod interface observed, and tries again where it could not be.

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::SharedStore,
    datapath::{AttachError, Attached, Datapath},
    interfaces::Change,
    outputs::metrics::{Hook, Metrics},
    readiness::BlockReady,
};

pub(super) struct Attacher {
    datapath: Arc<Datapath>,
    store: SharedStore,
    metrics: Arc<Metrics>,
    attached: BTreeMap<u32, Hook>,
    failed: BTreeMap<u32, String>,
}

impl Attacher {
    const RETRY: Duration = Duration::from_secs(10);

    pub(super) fn new(datapath: Arc<Datapath>, store: SharedStore, metrics: Arc<Metrics>) -> Self {
        Self { datapath, store, metrics, attached: BTreeMap::new(), failed: BTreeMap::new() }
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
                    continue;
                }
                change = changes.recv() => change,
            };
            match change {
                Some(Change::Added { ifindex, name }) => self.attach(ifindex, name),
                Some(Change::Removed { ifindex }) => self.detach(ifindex),
                Some(Change::LocalAddresses(addresses)) => {
                    self.store.write().set_local_addresses(addresses);
                }
                Some(Change::Synced) => {
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
                if self.attached.insert(ifindex, hook).is_none() {
                    self.metrics.interface(hook, true);
                }
            }
            Err(AttachError::NoDevice { .. }) => {
                tracing::debug!(ifindex, interface = %name, "gone before it was attached");
            }
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::warn!(ifindex, interface = %name, error, "not observed; will try again");
                self.metrics.attach_failed();
                self.failed.insert(ifindex, name);
            }
        }
    }

    fn detach(&mut self, ifindex: u32) {
        self.failed.remove(&ifindex);
        if let Some(hook) = self.attached.remove(&ifindex) {
            tokio::task::block_in_place(|| self.datapath.detach(ifindex));
            self.metrics.interface(hook, false);
            tracing::info!(ifindex, "detached");
        }
    }
}
