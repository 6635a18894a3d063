//! Owns the writing of reports: which kind the cluster has, what is left from before, and what stands now.

use std::{sync::Mutex, time::Duration};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    Shared, lock,
    pace::{Pace, ns, wait},
};
use crate::{
    app::monotonic_or_zero,
    cluster::kubernetes::{Backoff, WriteError, Writer, Written},
    outputs::kubernetes::{Flavour, ReportWrite, Reports, Rested},
};

/// The kinds, the one that more tools read first.
const KINDS: [(Flavour, Written); 2] =
    [(Flavour::WgPolicy, Written::POLICY_REPORTS), (Flavour::OpenReports, Written::OPEN_REPORTS)];

pub(super) async fn run(shared: &Shared, writer: &Writer, pace: Pace) {
    let Some(reports) = &shared.reports else { return std::future::pending().await };
    let mut told = Told::default();
    let mut written = None;
    loop {
        let (flavour, what) = find(shared, reports, writer, pace, &mut told).await;
        if written.replace(what).is_some_and(|before| before != what) {
            lock(reports).reset(monotonic_or_zero());
        }
        write_all(shared, reports, writer, pace, flavour, what, &mut told).await;
    }
}

/// What has been said already.
#[derive(Default)]
struct Told {
    forbidden: bool,
    absent: bool,
}

impl Told {
    fn forbidden(&mut self, what: Written, why: &str) {
        if !std::mem::replace(&mut self.forbidden, true) {
            tracing::error!(
                resource = %format_args!("{}.{}", what.plural, what.group),
                rule = %what.rule(),
                why,
                "may not be written; going on without reports. The ClusterRole lacks this rule"
            );
        }
    }
}

/// Waits until the cluster has one of the kinds, and takes in what is left of it from before.
async fn find(
    shared: &Shared,
    reports: &Mutex<Reports>,
    writer: &Writer,
    pace: Pace,
    told: &mut Told,
) -> (Flavour, Written) {
    let mut refusals = pace.after_refusals();
    let mut failures = pace.after_failures();
    loop {
        let mut passing: Option<Duration> = None;
        for (flavour, what) in KINDS {
            let selector = lock(reports).selector();
            match writer.list(what, &selector).await {
                Ok(left) => {
                    let now = monotonic_or_zero();
                    let mut reports = lock(reports);
                    for name in left {
                        reports.adopt(name, now);
                    }
                    tracing::info!(kind = what.plural, group = what.group, "reports are written");
                    *told = Told::default();
                    return (flavour, what);
                }
                Err(WriteError::Absent) => {}
                Err(error) => {
                    shared.writes.failed("report", error.label());
                    if let WriteError::Forbidden(why) = &error {
                        told.forbidden(what, why);
                    } else {
                        passing = Some(wait(&error, &mut failures));
                    }
                }
            }
        }
        if passing.is_none() && !told.forbidden && !std::mem::replace(&mut told.absent, true) {
            tracing::info!("no CRD of policy reports is installed; looked for again from time to time");
        }
        // A server that cannot be reached says nothing of what it has.
        sleep(match passing {
            Some(wait) => wait,
            None => refusals.next(),
        })
        .await;
    }
}

/// Writes what changes, until the kind is not there any more or may not be written.
async fn write_all(
    shared: &Shared,
    reports: &Mutex<Reports>,
    writer: &Writer,
    pace: Pace,
    flavour: Flavour,
    what: Written,
    told: &mut Told,
) {
    let mut look = interval(pace.look);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut backoff = pace.after_failures();
    let mut refusals = pace.after_refusals();
    loop {
        look.tick().await;
        loop {
            // Not in the head of the loop: the lock would be held over the write.
            let next = lock(reports).next(flavour, monotonic_or_zero());
            let Some(write) = next else { break };
            let Err(error) = one(shared, writer, what, &write).await else {
                lock(reports).rested(&write, Rested::Done, monotonic_or_zero());
                backoff.reset();
                refusals.reset();
                told.forbidden = false;
                continue;
            };
            let (how, pause) = judge(&error, &mut backoff, &mut refusals);
            tracing::debug!(report = %write.name, %error, "a report was not written");
            lock(reports).rested(&write, how, monotonic_or_zero());
            if let WriteError::Forbidden(why) = &error {
                told.forbidden(what, why);
            }
            sleep(pause).await;
            if error == WriteError::Absent {
                // The CRD may be gone, and not the namespace alone.
                let selector = lock(reports).selector();
                if writer.list(what, &selector).await == Err(WriteError::Absent) {
                    return;
                }
            }
        }
    }
}

/// What becomes of a write that failed, and how long nothing is written.
fn judge(error: &WriteError, backoff: &mut Backoff, refusals: &mut Backoff) -> (Rested, Duration) {
    match error {
        WriteError::Later { .. } => {
            let wait = wait(error, backoff);
            (Rested::Again(ns(wait)), wait)
        }
        WriteError::Forbidden(_) => {
            let wait = refusals.next();
            (Rested::Again(ns(wait)), wait)
        }
        WriteError::Refused(_) | WriteError::Absent => (Rested::Dropped, Duration::ZERO),
    }
}

async fn one(shared: &Shared, writer: &Writer, what: Written, write: &ReportWrite) -> Result<(), WriteError> {
    let result = match &write.body {
        Some(body) => writer.apply(what, &write.name, body.clone()).await,
        None => writer.delete(what, &write.name).await,
    };
    match &result {
        Ok(()) => {
            shared.writes.written(if write.body.is_some() { "report" } else { "report-removal" });
        }
        Err(error) => shared.writes.failed("report", error.label()),
    }
    result
}
