//! Owns `plainsight readiness`.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::{FOUND, declared, now, observed, print};
use crate::{
    args::{ExplainFormat, ReadinessArgs},
    audit::Inventory,
    migration::{self, Options},
    outputs::migration::{json, table},
};

/// Answers whether workloads may go to STRICT.
///
/// # Errors
///
/// What is declared or what was seen could not be had, or the answer could not be written.
pub fn readiness(args: ReadinessArgs) -> Result<ExitCode> {
    let ReadinessArgs { declared: source, seen, namespace, quiet, format, mcp_selector } = args;
    if seen.is_empty() {
        bail!("name a daemon by --admin, or a Prometheus by --prometheus: what was seen decides");
    }
    let now = now();
    let declared = declared::read(&source)?;
    let observation = observed::observe(&seen, now, quiet)?;
    let mut inventory = Inventory::new(declared.objects, declared.templates, mcp_selector.as_ref());
    inventory.heed(|pod| observation.speaks_mcp(pod));
    let options = Options { now, quiet };
    let report = migration::assess(&inventory, &observation, options, namespace.as_deref());
    if let Some(namespace) = namespace
        && report.workloads.is_empty()
    {
        bail!("no workload is known in namespace {namespace}");
    }
    print(&match format {
        ExplainFormat::Text => table(&report),
        ExplainFormat::Json => json(&report, quiet),
    })?;
    Ok(match (report.is_yes(), declared.errors) {
        (false, _) => ExitCode::from(FOUND),
        // What could not be read may be what forbids it.
        (true, 1..) => ExitCode::FAILURE,
        (true, 0) => ExitCode::SUCCESS,
    })
}
