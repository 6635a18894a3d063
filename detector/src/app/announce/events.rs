//! Owns the writing of Events: one at a time, tried until it has grown old.

use std::sync::Mutex;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    Shared, lock,
    pace::{Pace, wait},
};
use crate::{
    app::monotonic_or_zero,
    cluster::kubernetes::{WriteError, Writer, Written},
    outputs::kubernetes::{EventWrite, Events},
};

pub(super) async fn run(shared: &Shared, writer: &Writer, pace: Pace) {
    let Some(events) = &shared.events else { return std::future::pending().await };
    let mut look = interval(pace.look);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut refusals = pace.after_refusals();
    let mut refused_until: Option<Instant> = None;
    let mut told = false;
    loop {
        look.tick().await;
        loop {
            // Not in the head of the loop: the lock would be held over the write.
            let next = lock(events).next(monotonic_or_zero());
            let Some(write) = next else { break };
            if refused_until.is_some_and(|until| Instant::now() < until) {
                lock(events).failed(&write);
                shared.writes.failed("event", "forbidden");
                continue;
            }
            match one(shared, events, writer, pace, &write).await {
                Some(WriteError::Forbidden(why)) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(
                            resource = "events.events.k8s.io",
                            rule = %Written::EVENTS.rule(),
                            why,
                            "may not be written; going on without Events. The ClusterRole lacks this rule"
                        );
                    }
                    refused_until = Some(Instant::now() + refusals.next());
                }
                _ => {
                    refusals.reset();
                    refused_until = None;
                    if std::mem::take(&mut told) {
                        tracing::info!("Events may be written now");
                    }
                }
            }
        }
    }
}

/// Writes one Event; gives why it was given up.
async fn one(
    shared: &Shared,
    events: &Mutex<Events>,
    writer: &Writer,
    pace: Pace,
    write: &EventWrite,
) -> Option<WriteError> {
    let EventWrite { namespace, name, body, count, since, .. } = write;
    let mut backoff = pace.after_failures();
    loop {
        let result = match count {
            None => writer.create(Written::EVENTS, namespace, body.clone()).await,
            Some(_) => writer.merge(Written::EVENTS, namespace, name, body.clone()).await,
        };
        let error = match result {
            Ok(()) => {
                lock(events).written(write, monotonic_or_zero());
                shared.writes.written(if count.is_none() { "event" } else { "event-series" });
                return None;
            }
            Err(error) => error,
        };
        shared.writes.failed("event", error.label());
        let old = monotonic_or_zero().saturating_sub(*since) >= Events::KEEP;
        if !matches!(error, WriteError::Later { .. }) || old {
            tracing::debug!(%namespace, %name, %error, "an Event was not written");
            lock(events).failed(write);
            return Some(error);
        }
        let wait = wait(&error, &mut backoff);
        tracing::debug!(%namespace, %name, %error, ?wait, "an Event was not written yet");
        tokio::time::sleep(wait).await;
    }
}
