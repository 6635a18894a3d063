//! Owns the way from the admin port to the flows, which belong to the loop that detects.
//!
//! The loop is asked and gives references: it copies no flow and waits for nobody. What waits for it is bounded.

use std::{sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::flows::{Flow, FlowId};

/// Asks for every flow that is remembered.
pub type FlowsQuestion = oneshot::Sender<Vec<(FlowId, Arc<Flow>)>>;

/// Asks the loop that detects.
#[derive(Clone, Debug)]
pub struct FlowReader(mpsc::Sender<FlowsQuestion>);

/// Nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silent;

/// A reader, and where its questions come out.
#[must_use]
pub fn flow_reader() -> (FlowReader, mpsc::Receiver<FlowsQuestion>) {
    let (questions, asked) = mpsc::channel(FlowReader::QUEUE);
    (FlowReader(questions), asked)
}

impl FlowReader {
    /// Questions that wait.
    const QUEUE: usize = 4;

    /// How long an answer may take. The loop goes round within milliseconds once it has begun.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// Every flow, the oldest first.
    pub(super) async fn read(&self) -> Result<Vec<(FlowId, Arc<Flow>)>, Silent> {
        let ask = async {
            let (question, answer) = oneshot::channel();
            self.0.send(question).await.ok()?;
            answer.await.ok()
        };
        let mut flows = tokio::time::timeout(Self::PATIENCE, ask).await.ok().flatten().ok_or(Silent)?;
        flows.sort_unstable_by_key(|(id, _)| *id);
        Ok(flows)
    }
}
