//! Owns what is written to Kubernetes: an Event for a finding, and a report of what stands for each pod.
//!
//! Pure: findings and times in, bodies out; `cluster` carries them and `app::announce` drives both. Whatever
//! happens on the way, memory is bounded, and what is left out is counted by who calls.
//!
//! **Invariant: a finding has one writer.** It is about one pod ([`Subject`]), and only that pod's node writes.

mod bucket;
mod event;
mod events;
mod report;
mod reports;
mod subject;

pub use self::{
    events::{EventKey, EventWrite, Events, Suppressed},
    report::Flavour,
    reports::{ReportWrite, Reports, Rested},
    subject::Subject,
};
