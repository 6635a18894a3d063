//! Owns the rows and how they are shown: a table for people that is Markdown too, and JSON.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{Effort, machine, stats::Figure};

/// What a figure counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Nanoseconds,
    Milliseconds,
    Ratio,
    PerSecond,
    GigabitsPerSecond,
    MegabytesPerSecond,
    Percent,
    Mebibytes,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// For programs; it stays when the wording changes.
    id: String,
    /// For people.
    what: String,
    figure: Figure,
    unit: Unit,
    bar: Option<Bar>,
    comparisons: Vec<(&'static str, f64, Unit)>,
    note: String,
}

impl Row {
    pub(crate) fn new(id: impl Into<String>, what: impl Into<String>, figure: Figure, unit: Unit) -> Self {
        let (id, what) = (id.into(), what.into());
        Self { id, what, figure, unit, bar: None, comparisons: Vec::new(), note: String::new() }
    }

    pub(crate) fn bar(mut self, bar: Bar) -> Self {
        self.bar = Some(bar);
        self
    }

    pub(crate) fn beside(mut self, what: &'static str, value: f64, unit: Unit) -> Self {
        self.comparisons.push((what, value, unit));
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// How far the figure is on the wrong side of its bar: nothing without a bar, not above 0 when it is met.
    fn missed_by(&self) -> Option<f64> {
        Some(match self.bar? {
            Bar::AtMost(most) => self.figure.value - most,
            Bar::AtLeast(least) => least - self.figure.value,
        })
    }

    fn met(&self) -> String {
        match self.missed_by() {
            None => String::new(),
            Some(by) if by <= 0.0 => "yes".to_owned(),
            Some(by) if by <= 2.0 * self.figure.error => {
                format!("no, by {}: within the noise", show(by, self.unit))
            }
            Some(by) => format!("no, by {}", show(by, self.unit)),
        }
    }

    fn cells(&self) -> [String; 5] {
        let mut measured = show(self.figure.value, self.unit);
        if self.figure.error > 0.0 {
            let _never = write!(measured, " ± {}", show(self.figure.error, self.unit));
        }
        let mut beside: Vec<String> = self
            .comparisons
            .iter()
            .map(|(what, value, unit)| format!("{what} {}", show(*value, *unit)))
            .collect();
        if !self.note.is_empty() {
            beside.push(self.note.clone());
        }
        let bar = match self.bar {
            None => String::new(),
            Some(Bar::AtMost(most)) => format!("≤ {}", show(most, self.unit)),
            Some(Bar::AtLeast(least)) => format!("≥ {}", show(least, self.unit)),
        };
        [self.what.clone(), measured, beside.join("; "), bar, self.met()]
    }

    fn json(&self, group: &str) -> Value {
        let comparisons: Vec<Value> = self
            .comparisons
            .iter()
            .map(|(what, value, unit)| json!({ "what": what, "value": value, "unit": unit.name() }))
            .collect();
        let (at_most, at_least) = match self.bar {
            None => (None, None),
            Some(Bar::AtMost(most)) => (Some(most), None),
            Some(Bar::AtLeast(least)) => (None, Some(least)),
        };
        json!({
            "group": group,
            "id": self.id,
            "what": self.what,
            "value": self.figure.value,
            "error": self.figure.error,
            "unit": self.unit.name(),
            "comparisons": comparisons,
            "at_most": at_most,
            "at_least": at_least,
            "met": self.missed_by().map(|by| by <= 0.0),
            "note": self.note,
        })
    }
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Milliseconds => "ms",
            Self::Ratio => "ratio",
            Self::PerSecond => "1/s",
            Self::GigabitsPerSecond => "Gbit/s",
            Self::MegabytesPerSecond => "MB/s",
            Self::Percent => "%",
            Self::Mebibytes => "MiB",
        }
    }
}

fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Nanoseconds if value.abs() >= 1000.0 => format!("{value:.0} ns"),
        Unit::Ratio => format!("{value:.4}"),
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::Percent => format!("{value:.2} %"),
        _ => format!("{value:.1} {}", unit.name()),
    }
}

/// Everything that was measured.
pub(crate) struct Report {
    effort: Effort,
    machine: String,
    rows: Vec<(&'static str, Row)>,
}

impl Report {
    pub(crate) fn new(effort: Effort) -> Result<Self> {
        Ok(Self { effort, machine: machine::name()?, rows: Vec::new() })
    }

    pub(crate) fn add(&mut self, group: &'static str, rows: Vec<Row>) {
        self.rows.extend(rows.into_iter().map(|row| (group, row)));
    }

    pub(crate) fn table(&self) -> String {
        const HEAD: [&str; 5] = ["what", "measured", "beside it, from the same run", "bar", "met"];
        let lines: Vec<[String; 5]> = [HEAD.map(str::to_owned)]
            .into_iter()
            .chain(self.rows.iter().map(|(_, row)| row.cells()))
            .collect();
        let mut widths = [0; 5];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = format!("{}\n\n", self.machine);
        if self.effort == Effort::Quick {
            text.push_str("Measured with --quick: figures are rough.\n\n");
        }
        for (index, line) in lines.iter().enumerate() {
            for (width, cell) in widths.iter().zip(line) {
                let _never = write!(text, "| {cell:<width$} ");
            }
            text.push_str("|\n");
            if index == 0 {
                for width in widths {
                    let _never = write!(text, "|{:-<1$}", "", width + 2);
                }
                text.push_str("|\n");
            }
        }
        let bars: Vec<bool> = self.rows.iter().filter_map(|(_, row)| Some(row.missed_by()? <= 0.0)).collect();
        let met = bars.iter().filter(|met| **met).count();
        let _never = write!(text, "\n{met} of {} bars are met.", bars.len());
        text
    }

    pub(crate) fn json(&self) -> String {
        let rows: Vec<Value> = self.rows.iter().map(|(group, row)| row.json(group)).collect();
        json!({ "machine": self.machine, "quick": self.effort == Effort::Quick, "rows": rows }).to_string()
    }
}
