//! The model by keys, and the screen by cells.

use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};

use super::{Model, Snapshot, clean, plain, view};
use crate::{
    args::TopView,
    outputs::api::read::{End, Row},
};

fn end(name: &str) -> End {
    End { namespace: Some("mcp".to_owned()), pod: Some(name.to_owned()), ..End::default() }
}

fn flow(client: &str, verdict: &str, protocol: &str, count: u64) -> Row {
    Row {
        client: end(client),
        server: end("tools"),
        port: 8000,
        verdict: verdict.to_owned(),
        protocol: protocol.to_owned(),
        count,
        last_seen: format!("2026-11-24T06:00:{count:02}.000Z"),
        ..Row::default()
    }
}

fn finding(client: &str, severity: &str, id: &str) -> Row {
    Row {
        severity: severity.to_owned(),
        id: id.to_owned(),
        why: "it is in clear".to_owned(),
        fix: "# apply\nkind: PeerAuthentication".to_owned(),
        ..flow(client, "plaintext", "mcp", 7)
    }
}

fn model() -> Model {
    let mut model = Model::new(TopView::Flows);
    let snapshot = Snapshot {
        node: "node-a".to_owned(),
        flows: vec![
            flow("meshed", "mesh-mtls", "unknown", 50),
            flow("plain", "plaintext", "http1", 9),
            flow("agent", "plaintext", "mcp", 3),
        ],
        findings: vec![finding("agent", "low", "weak-tls"), finding("agent", "critical", "plaintext-mcp")],
    };
    model.read(Ok(snapshot));
    model
}

fn clients(model: &Model) -> Vec<String> {
    model.rows().iter().map(|row| row.client.pod.clone().unwrap()).collect()
}

#[track_caller]
fn press(model: &mut Model, keys: &str) {
    for c in keys.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\u{1b}' => KeyCode::Esc,
            c => KeyCode::Char(c),
        };
        assert!(model.key(KeyEvent::from(code)), "{c:?} ended it");
    }
}

fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(width.into());
    lines
        .map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
        .collect()
}

#[test]
fn keys_sort_filter_and_switch() {
    let mut model = model();
    assert_eq!(clients(&model), ["agent", "plain", "meshed"]);
    press(&mut model, "s");
    assert_eq!(clients(&model), ["meshed", "plain", "agent"]);
    press(&mut model, "r");
    assert_eq!(clients(&model), ["agent", "plain", "meshed"]);
    press(&mut model, "r/PLAIN 8000\n");
    assert_eq!(clients(&model), ["plain", "agent"]);
    // A letter that is typed is none that acts.
    press(&mut model, "/q");
    assert!(clients(&model).is_empty());
    press(&mut model, "\u{1b}\t");
    assert_eq!(
        model.rows().iter().map(|row| row.id.as_str()).collect::<Vec<_>>(),
        ["weak-tls", "plaintext-mcp"]
    );
    press(&mut model, "ssss");
    assert_eq!(model.rows()[0].severity, "critical");
    assert!(!model.key(KeyEvent::from(KeyCode::Char('q'))));
    assert!(!model.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
}

#[test]
fn the_choice_stays_on_a_row_that_there_is() {
    let mut model = model();
    press(&mut model, "jjjjjj");
    assert_eq!(model.chosen, 2);
    press(&mut model, "/agent\n");
    assert_eq!(model.chosen, 0);
    model.read(Ok(Snapshot::default()));
    press(&mut model, "jG");
    assert_eq!(model.chosen, 0);
}

#[test]
fn what_is_paused_stays_and_trouble_is_told() {
    let mut model = model();
    press(&mut model, "p");
    model.read(Ok(Snapshot::default()));
    assert_eq!(clients(&model).len(), 3);
    assert!(screen(&model, 100, 8)[0].ends_with("paused"));
    press(&mut model, "p");
    model.read(Err("connect: refused\x1b[2J".to_owned()));
    assert_eq!(clients(&model).len(), 3, "what was known is still shown");
    assert_eq!(screen(&model, 100, 8)[7], "connect: refused\\u{1b}[2J");
}

#[test]
fn the_screen_shows_rows_details_and_keys() {
    let mut model = model();
    let lines = screen(&model, 100, 8);
    assert!(lines[0].starts_with("plainsight node-a  findings 2  flows 3   by worst"), "{lines:#?}");
    assert!(lines[1].starts_with("VERDICT            CLIENT"), "{lines:#?}");
    assert!(lines[2].starts_with("plaintext mcp      mcp/agent"), "{lines:#?}");
    assert!(lines[2].contains("mcp/tools:8000") && lines[2].ends_with("06:00:03"), "{lines:#?}");
    press(&mut model, "\t\n");
    let text = screen(&model, 100, 16).join("\n");
    for part in [
        "critical  plaintext-mcp",
        "it is in clear",
        "mcp/agent → mcp/tools:8000",
        "kind: PeerAuthentication",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    press(&mut model, "\u{1b}?");
    assert!(screen(&model, 100, 16).join("\n").contains("the row in full"));
    press(&mut model, "?/nowhere\n");
    assert!(screen(&model, 100, 16).join("\n").contains("nothing fits the filter"));
}

#[test]
fn no_size_of_a_terminal_is_too_small() {
    let mut model = model();
    for keys in ["", "?", "?\n", "\t", "\t"] {
        press(&mut model, keys);
        for (width, height) in [(1, 1), (2, 3), (20, 4), (40, 2), (300, 100)] {
            assert_eq!(screen(&model, width, height).len(), usize::from(height));
        }
    }
}

#[test]
fn names_that_a_terminal_would_obey_are_shown() {
    assert_eq!(
        clean("a\x1b]0;x\x07\r\n\u{9b}2J\u{202e}b é"),
        "a\\u{1b}]0;x\\u{7}\\u{d}\\u{a}\\u{9b}2J\\u{202e}b é"
    );
    let hostile = "x\x1b[31m\ttab";
    let mut model = Model::new(TopView::Findings);
    let mut row = finding(hostile, hostile, hostile);
    row.methods = vec![hostile.to_owned()];
    (row.why, row.fix) = (hostile.to_owned(), format!("# one\n{hostile}"));
    (row.verdict, row.protocol, row.last_seen) = (hostile.to_owned(), hostile.to_owned(), hostile.to_owned());
    let snapshot = Snapshot { node: hostile.to_owned(), flows: vec![row.clone()], findings: vec![row] };
    model.read(Ok(snapshot.clean()));
    let text = plain::text(&model);
    assert!(!text.contains('\x1b'), "{text:?}");
    assert_eq!(text.lines().map(|line| line.matches('\t').count()).max(), Some(6), "{text:?}");
    for keys in ["", "\n", "\t", "\n"] {
        press(&mut model, keys);
        assert!(screen(&model, 200, 20).iter().all(|line| !line.contains(char::is_control)));
    }
}

#[test]
fn without_a_terminal_both_tables_are_text() {
    let text = plain::text(&model());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "VERDICT\tPROTOCOL\tCLIENT\tSERVER\tCOUNT\tCREDENTIALS\tLAST");
    assert_eq!(lines[1], "plaintext\tmcp\tmcp/agent\tmcp/tools:8000\t3\t0\t2026-11-24T06:00:03.000Z");
    assert_eq!(lines[5], "SEVERITY\tFINDING\tCLIENT\tSERVER\tCOUNT\tCREDENTIALS\tLAST");
    assert!(lines[6].starts_with("critical\tplaintext-mcp\tmcp/agent\t"));
}
