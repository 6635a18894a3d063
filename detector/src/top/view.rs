//! Owns how `top` looks on a terminal.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span, Text},
    widgets::{Block, Cell, Clear, Paragraph, Row as TableRow, Table, TableState, Wrap},
};

use super::{Model, Row};
use crate::args::TopView;

const KEYS: &str = "\
Tab      flows or findings
↑ ↓ j k  choose a row; PgUp, PgDn, Home, End
Enter    the row in full, with its fix
/        filter: words that a row must have; Enter keeps it, Esc drops it
s        sort by the next column: worst, count, latest, client, server
r        the other way round
p        pause, and go on
? h      these keys
q        quit";

/// Draws the model.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    let rows = model.rows();
    frame.render_widget(title(model, rows.len()), head);
    frame.render_widget(footer(model), foot);
    if let Some(row) = rows.get(model.chosen).filter(|_| model.open) {
        frame.render_widget(full(row, model.shown), body);
    } else if rows.is_empty() {
        frame.render_widget(Paragraph::new(nothing(model)).centered(), body);
    } else {
        let mut state = TableState::default().with_selected(model.chosen);
        frame.render_stateful_widget(table(&rows, model.shown, body.width), body, &mut state);
    }
    if model.help {
        let area = centred(body, 76, 11);
        frame.render_widget(Clear, area);
        frame.render_widget(Paragraph::new(KEYS).block(Block::bordered().title(" keys ")), area);
    }
}

fn title(model: &Model, rows: usize) -> Line<'static> {
    let Model { snapshot, shown, sort, reversed, filter, typing, paused, .. } = model;
    let tab = |view: TopView, name: String| {
        let style = if *shown == view { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        Span::styled(name, style)
    };
    let order = if *reversed { "↑" } else { "" };
    let mut spans = vec![
        Span::styled(format!("plainsight {} ", snapshot.node), Style::new().bold()),
        tab(TopView::Findings, format!(" findings {} ", snapshot.findings.len())),
        tab(TopView::Flows, format!(" flows {} ", snapshot.flows.len())),
        Span::raw(format!("  by {}{order}", sort.as_str())),
    ];
    if *typing || !filter.is_empty() {
        let cursor = if *typing { "█" } else { "" };
        spans.push(Span::styled(format!("  /{filter}{cursor} {rows}"), Style::new().fg(Color::Cyan)));
    }
    if *paused {
        spans.push(Span::styled("  paused", Style::new().fg(Color::Yellow).bold()));
    }
    Line::from(spans)
}

fn footer(model: &Model) -> Line<'static> {
    match &model.trouble {
        Some(trouble) => Line::styled(trouble.clone(), Style::new().fg(Color::Red).bold()),
        None => Line::styled(
            "Tab view  / filter  s sort  r reverse  p pause  Enter open  ? keys  q quit",
            Style::new().add_modifier(Modifier::DIM),
        ),
    }
}

fn nothing(model: &Model) -> &'static str {
    match (model.snapshot.node.is_empty(), model.filter.is_empty(), model.shown) {
        (true, ..) => "\n…",
        (_, false, _) => "\nnothing fits the filter",
        (_, _, TopView::Findings) => "\nno findings: nothing to fix on this node",
        (_, _, TopView::Flows) => "\nno flows were seen yet",
    }
}

fn table<'a>(rows: &[&Row], shown: TopView, width: u16) -> Table<'a> {
    let head = match shown {
        TopView::Flows => ["VERDICT", "CLIENT", "SERVER", "COUNT", "CRED", "LAST"],
        TopView::Findings => ["SEVERITY", "FINDING", "CLIENT", "SERVER", "COUNT", "LAST"],
    };
    let right = |number: u64| Cell::from(Line::from(number.to_string()).right_aligned());
    let line = |row: &&Row| {
        let Row { client, server, port, verdict, protocol, count, with_credentials, id, severity, .. } = *row;
        let (client, server) = (Cell::from(client.name()), Cell::from(format!("{}:{port}", server.name())));
        let last = Cell::from(clock(&row.last_seen));
        match shown {
            TopView::Flows => {
                let what =
                    if verdict == "plaintext" { format!("plaintext {protocol}") } else { verdict.clone() };
                let what = Cell::from(Span::styled(what, of_verdict(verdict)));
                TableRow::new([what, client, server, right(*count), right(*with_credentials), last])
            }
            TopView::Findings => {
                let what = Cell::from(Span::styled(severity.clone(), of_severity(severity)));
                TableRow::new([what, Cell::from(id.clone()), client, server, right(*count), last])
            }
        }
    };
    // What tells rows apart keeps its place on a narrow terminal; times go first.
    let last = if width < 80 { 0 } else { 8 };
    let widths = match shown {
        TopView::Flows => [
            Constraint::Length(18),
            Constraint::Fill(1),
            Constraint::Fill(1),
            Constraint::Length(8),
            Constraint::Length(6),
            Constraint::Length(last),
        ],
        TopView::Findings => [
            Constraint::Length(8),
            Constraint::Length(22),
            Constraint::Fill(1),
            Constraint::Fill(1),
            Constraint::Length(8),
            Constraint::Length(last),
        ],
    };
    Table::new(rows.iter().map(line), widths)
        .header(TableRow::new(head).style(Style::new().bold().add_modifier(Modifier::UNDERLINED)))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
}

/// Everything of one row.
fn full(row: &Row, shown: TopView) -> Paragraph<'static> {
    let Row {
        client,
        server,
        port,
        verdict,
        protocol,
        count,
        with_credentials,
        last_seen,
        methods,
        id,
        severity,
        why,
        fix,
    } = row;
    let mut text = Text::default();
    if shown == TopView::Findings {
        text.push_line(Line::styled(format!("{severity}  {id}"), of_severity(severity)));
        text.push_line(why.clone());
        text.push_line("");
    }
    text.push_line(format!("{} → {}:{port}", client.name(), server.name()));
    text.push_line(format!(
        "{verdict} {protocol}, {count} connections, {with_credentials} with credentials, last {last_seen}"
    ));
    if !methods.is_empty() {
        text.push_line(format!("methods: {}", methods.join(", ")));
    }
    if shown == TopView::Findings {
        text.push_line("");
        text.extend(fix.lines().map(|line| Line::raw(line.to_owned())));
    }
    Paragraph::new(text).wrap(Wrap { trim: false }).block(Block::bordered())
}

/// The time of day of an RFC 3339 time in UTC.
fn clock(time: &str) -> String {
    time.get(11..19).unwrap_or_default().to_owned()
}

fn of_severity(severity: &str) -> Style {
    match severity {
        "critical" => Style::new().fg(Color::Red).bold(),
        "high" => Style::new().fg(Color::Red),
        "medium" => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

fn of_verdict(verdict: &str) -> Style {
    match verdict {
        "plaintext" => Style::new().fg(Color::Red),
        "tls" => Style::new().fg(Color::Blue),
        "mesh-mtls" => Style::new().fg(Color::Green),
        _ => Style::new().add_modifier(Modifier::DIM),
    }
}

fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}
