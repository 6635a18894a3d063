//! Owns the loop of `plainsight top`: a thread that asks, and one that draws and listens to keys.

use std::{
    io::{self, IsTerminal as _},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::print;
use crate::{
    admin::client::Client,
    args::TopArgs,
    outputs::api::read::{Findings, Flows},
    top::{Model, Snapshot, plain, view},
};

/// Pages of an answer that are read: more rows than a node remembers at its defaults.
const PAGES: usize = 50;

/// Shows flows and findings until told to end.
///
/// # Errors
///
/// There is no terminal to be had, or, where none is wanted, nobody answers.
pub fn top(args: TopArgs) -> Result<()> {
    let TopArgs { view, interval, admin } = args;
    let client = Client::new(admin.admin, &admin.how)?;
    let mut model = Model::new(view);
    if io::stdout().is_terminal() && io::stdin().is_terminal() {
        let every = interval.map_or(2, std::num::NonZeroU32::get);
        return live(client, model, Duration::from_secs(every.into()));
    }
    loop {
        let snapshot = ask(&client).with_context(|| format!("ask the daemon at {}", admin.admin))?;
        model.read(Ok(snapshot));
        print(&plain::text(&model))?;
        let Some(every) = interval else { return Ok(()) };
        thread::sleep(Duration::from_secs(every.get().into()));
    }
}

fn live(client: Client, mut model: Model, every: Duration) -> Result<()> {
    let (answers, read) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // Ends when nobody wants the answers any more.
        while answers.send(ask(&client).map_err(|error| format!("{error:#}"))).is_ok() {
            thread::sleep(every);
        }
    });
    // Puts the terminal back on a panic, too.
    let mut terminal = ratatui::try_init().context("take the terminal")?;
    let mut show = || -> Result<()> {
        loop {
            while let Ok(answer) = read.try_recv() {
                model.read(answer);
            }
            terminal.draw(|frame| view::draw(frame, &model)).context("draw")?;
            if event::poll(Duration::from_millis(200)).context("wait for a key")? {
                match event::read().context("read a key")? {
                    Event::Key(key) if key.kind != KeyEventKind::Release && !model.key(key) => return Ok(()),
                    _ => {}
                }
            }
        }
    };
    let shown = show();
    ratatui::restore();
    shown
}

/// Everything that a node remembers.
fn ask(client: &Client) -> Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    let mut after = Some(0);
    for _ in 0..PAGES {
        let Some(from) = after else { break };
        let page = client.get(&format!("/api/v1/flows?after={from}"))?;
        let Flows { node, next, flows } = serde_json::from_str(&page).map_err(unreadable)?;
        snapshot.node = node;
        snapshot.flows.extend(flows);
        after = next;
    }
    let mut after = Some(0);
    for _ in 0..PAGES {
        let Some(from) = after else { break };
        let page = client.get(&format!("/api/v1/findings?after={from}"))?;
        let Findings { node: _, next, findings } = serde_json::from_str(&page).map_err(unreadable)?;
        snapshot.findings.extend(findings);
        after = next;
    }
    Ok(snapshot.clean())
}

fn unreadable(error: serde_json::Error) -> anyhow::Error {
    anyhow!(error).context("read the answer: the daemon is of another version, or is none")
}
