//! Owns `plainsight top`: what was read, which rows of it are wanted, and what keys do.
//!
//! [`Model`] is pure: rows and keys in, rows out. [`view`] draws it on a terminal, [`plain`] writes it as text.
//! Every name goes through [`printable`] on its way in, for a terminal obeys what it is shown.

pub mod plain;
pub mod view;

use std::cmp::Reverse;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::{
    args::TopView,
    findings::Severity,
    outputs::{
        api::read::{End, Row},
        printable::{printable, printable_lines},
    },
};

/// What a node said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The node.
    pub node: String,
    /// Its flows.
    pub flows: Vec<Row>,
    /// Its findings.
    pub findings: Vec<Row>,
}

/// By what rows are sorted, the most telling first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// The worst first: by severity, or plaintext before what is encrypted.
    Worst,
    /// The most connections first.
    Count,
    /// The latest first.
    Latest,
    /// By client.
    Client,
    /// By server.
    Server,
}

/// What is shown, and how.
#[derive(Clone, Debug)]
pub struct Model {
    /// What was read last.
    pub snapshot: Snapshot,
    /// What went wrong when it was read again.
    pub trouble: Option<String>,
    /// Which table.
    pub shown: TopView,
    /// In which order.
    pub sort: Sort,
    /// The other way round.
    pub reversed: bool,
    /// Words that a row must have.
    pub filter: String,
    /// Whether the filter is being typed.
    pub typing: bool,
    /// Whether what is shown stays as it is.
    pub paused: bool,
    /// Whether the keys are explained.
    pub help: bool,
    /// Whether the chosen row is shown in full.
    pub open: bool,
    /// The chosen row.
    pub chosen: usize,
}

impl Sort {
    const ALL: [Self; 5] = [Self::Worst, Self::Count, Self::Latest, Self::Client, Self::Server];

    /// Its name in the head.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Worst => "worst",
            Self::Count => "count",
            Self::Latest => "latest",
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    fn next(self) -> Self {
        Self::ALL.into_iter().cycle().skip_while(|sort| *sort != self).nth(1).unwrap_or(self)
    }
}

impl Snapshot {
    /// The same with names that a terminal cannot take for commands.
    #[must_use]
    pub fn clean(mut self) -> Self {
        self.node = clean(&self.node);
        for row in self.flows.iter_mut().chain(&mut self.findings) {
            let Row { client, server, port: _, verdict, protocol, count: _, with_credentials: _, .. } = row;
            for End { namespace, pod, service, node, address } in [client, server] {
                for name in [namespace, pod, service, node].into_iter().flatten().chain([address]) {
                    *name = clean(name);
                }
            }
            let texts = [verdict, protocol, &mut row.last_seen, &mut row.id, &mut row.severity, &mut row.why];
            for text in texts.into_iter().chain(&mut row.methods) {
                *text = clean(text);
            }
            row.fix = printable_lines(&row.fix).into_owned();
        }
        self
    }
}

/// A text that a terminal cannot take for commands.
fn clean(text: &str) -> String {
    printable(text).into_owned()
}

impl Model {
    /// Nothing was read yet.
    #[must_use]
    pub fn new(shown: TopView) -> Self {
        Self {
            snapshot: Snapshot::default(),
            trouble: None,
            shown,
            sort: Sort::Worst,
            reversed: false,
            filter: String::new(),
            typing: false,
            paused: false,
            help: false,
            open: false,
            chosen: 0,
        }
    }

    /// Takes in what was read.
    pub fn read(&mut self, read: Result<Snapshot, String>) {
        if self.paused {
            return;
        }
        match read {
            Ok(snapshot) => {
                self.snapshot = snapshot;
                self.trouble = None;
            }
            Err(trouble) => self.trouble = Some(clean(&trouble)),
        }
        self.keep();
    }

    /// The rows that are wanted, in order.
    #[must_use]
    pub fn rows(&self) -> Vec<&Row> {
        let all = match self.shown {
            TopView::Flows => &self.snapshot.flows,
            TopView::Findings => &self.snapshot.findings,
        };
        let words: Vec<String> = self.filter.split_whitespace().map(str::to_lowercase).collect();
        let mut rows: Vec<&Row> = all.iter().filter(|row| has(row, &words)).collect();
        match self.sort {
            Sort::Worst => rows.sort_by_key(|row| (rank(row), Reverse(row.count))),
            Sort::Count => rows.sort_by_key(|row| Reverse(row.count)),
            Sort::Latest => rows.sort_by(|a, b| b.last_seen.cmp(&a.last_seen)),
            Sort::Client => rows.sort_by_key(|row| row.client.name()),
            Sort::Server => rows.sort_by_key(|row| (row.server.name(), row.port)),
        }
        if self.reversed {
            rows.reverse();
        }
        rows
    }

    /// Takes in a key; false when it ends the program.
    #[must_use]
    pub fn key(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return false;
        }
        if self.typing {
            self.type_key(key.code);
            return true;
        }
        let last = self.rows().len().saturating_sub(1);
        match key.code {
            KeyCode::Char('q') => return false,
            KeyCode::Esc => {
                if !self.help && !self.open {
                    self.filter.clear();
                }
                (self.help, self.open) = (false, false);
            }
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Tab | KeyCode::BackTab => {
                self.shown = match self.shown {
                    TopView::Flows => TopView::Findings,
                    TopView::Findings => TopView::Flows,
                };
                (self.chosen, self.open) = (0, false);
            }
            KeyCode::Enter => self.open = !self.open,
            KeyCode::Down | KeyCode::Char('j') => self.chosen += 1,
            KeyCode::Up | KeyCode::Char('k') => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::PageDown => self.chosen += 10,
            KeyCode::PageUp => self.chosen = self.chosen.saturating_sub(10),
            KeyCode::Home | KeyCode::Char('g') => self.chosen = 0,
            KeyCode::End | KeyCode::Char('G') => self.chosen = last,
            _ => {}
        }
        self.keep();
        true
    }

    fn type_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if !c.is_control() && self.filter.len() < 200 => self.filter.push(c),
            _ => {}
        }
        self.keep();
    }

    /// Keeps the choice on a row that there is.
    fn keep(&mut self) {
        self.chosen = self.chosen.min(self.rows().len().saturating_sub(1));
    }
}

/// The worst has the lowest.
fn rank(row: &Row) -> usize {
    let severity = Severity::ALL.iter().rev().position(|severity| severity.as_str() == row.severity);
    severity.unwrap_or_else(|| match row.verdict.as_str() {
        "plaintext" if row.with_credentials > 0 => 10,
        "plaintext" if row.protocol == "mcp" => 11,
        "plaintext" => 12,
        "opaque" => 13,
        "tls" => 14,
        _ => 15,
    })
}

fn has(row: &Row, words: &[String]) -> bool {
    if words.is_empty() {
        return true;
    }
    let Row { client, server, port, verdict, protocol, id, severity, methods, .. } = row;
    let (client, server, port, methods) = (client.name(), server.name(), port.to_string(), methods.join(" "));
    let text = [&client, &server, &port, verdict, protocol, id, severity, &methods].map(String::as_str);
    let text = text.join(" ").to_lowercase();
    words.iter().all(|word| text.contains(word.as_str()))
}

#[cfg(test)]
mod tests;
