//! Owns the task that reads again what may change while the daemon runs: certificates, token, log filter.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{Tls, Token},
    logging::LogFilter,
};

/// How often. The kubelet brings a changed secret or config map within a minute or so.
const EVERY: Duration = Duration::from_secs(2);

pub(super) async fn run(
    tls: Option<Tls>,
    token: Option<Token>,
    log: LogFilter,
    log_filter: Option<PathBuf>,
    cancel: CancellationToken,
) -> Result<()> {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while cancel.run_until_cancelled(tick.tick()).await.is_some() {
        // A few small files, as a rule in memory; a mount that hangs must not hold up detection.
        tokio::task::block_in_place(|| {
            if let Some(tls) = &tls {
                tls.reload();
            }
            if let Some(token) = &token {
                token.reload();
            }
            if let Some(path) = &log_filter {
                log.reload(path);
            }
        });
    }
    Ok(())
}
