//! Owns `plainsight audit`.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use super::{FOUND, declared, now, observed, print};
use crate::{
    args::{AuditArgs, ReportFormat},
    audit::{self, Inventory, Options},
    outputs::audit::{Format, write},
};

/// How far back what was seen counts.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Runs the audit.
///
/// # Errors
///
/// Nothing could be read, or the report could not be written.
pub fn audit(args: AuditArgs) -> Result<ExitCode> {
    let AuditArgs { declared: source, seen, format, fail_on, mcp_selector } = args;
    let declared::Declared { objects, templates, errors } = declared::read(&source)?;
    let mut inventory = Inventory::new(objects, templates, mcp_selector.as_ref());
    let now = now();
    if !seen.is_empty() {
        let observation = observed::observe(&seen, now, WEEK)?;
        inventory.heed(|pod| observation.speaks_mcp(pod));
    }
    let report = audit::audit(&inventory, &Options { now });
    let format = match format {
        ReportFormat::Table => Format::Table,
        ReportFormat::Json => Format::Json,
        ReportFormat::Sarif => Format::Sarif,
        ReportFormat::Markdown => Format::Markdown,
    };
    print(&write(&report, errors, format))?;
    let Some(limit) = fail_on else { return Ok(ExitCode::SUCCESS) };
    // What could not be read may be what matters: a gate must not open for it.
    Ok(match report.worst() {
        Some(worst) if worst >= limit => ExitCode::from(FOUND),
        _ if errors > 0 => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}
