//! Owns the demo's tables: the detector's lines, one row for each pair of ends and verdict.

use std::{collections::BTreeMap, fmt::Write as _};

use detector_tests::record::{End, Record};

/// Columns of a note before it is broken.
const NOTE: usize = 100;

/// The flows, the last word on each, with the evidence below.
pub(super) fn flows(records: &[Record]) -> String {
    let mut latest = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_flow()) {
        latest.insert((&record.server, record.port, &record.client, record.verdict()), record);
    }
    let account = |end: &End| end.service_account.clone().unwrap_or_else(|| "-".to_owned());
    let mut rows = vec![Row::new(["CLIENT", "ACCOUNT", "SERVER", "ACCOUNT", "PORT", "VERDICT, EVIDENCE"])];
    for ((server, port, client, verdict), record) in latest {
        let mut row = Row::new([
            client.name(),
            &account(client),
            server.name(),
            &account(server),
            &port.to_string(),
            &verdict,
        ]);
        row.note = [record.list("evidence"), record.list("methods")].concat().join(" ");
        rows.push(row);
    }
    aligned(&rows)
}

/// The findings, the last word on each, with the reason below.
pub(super) fn findings(records: &[Record]) -> String {
    let mut latest = BTreeMap::new();
    for record in records.iter().filter(|record| record.is_finding()) {
        latest.insert((&record.server, record.port, &record.client, record.text("id")), record);
    }
    let mut rows = vec![Row::new(["SEVERITY", "FINDING", "CLIENT", "SERVER", "PORT"])];
    for ((server, port, client, id), record) in latest {
        let mut row =
            Row::new([record.text("severity"), id, client.name(), server.name(), &port.to_string()]);
        row.note = record.text("why").to_owned();
        rows.push(row);
    }
    aligned(&rows)
}

/// Cells, and text that belongs below them.
struct Row {
    cells: Vec<String>,
    note: String,
}

impl Row {
    fn new<const N: usize>(cells: [&str; N]) -> Self {
        Self { cells: cells.map(str::to_owned).to_vec(), note: String::new() }
    }
}

/// Rows as text, each column as wide as its widest cell.
fn aligned(rows: &[Row]) -> String {
    let columns = rows.iter().map(|row| row.cells.len()).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.cells.get(column)).map(String::len).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.cells.iter().zip(&widths) {
            let _never = write!(line, "{cell:width$}  ");
        }
        let _never = writeln!(text, "{}", line.trim_end());
        for line in broken(&row.note) {
            let _never = writeln!(text, "    {line}");
        }
    }
    text
}

/// A note's words in lines of at most [`NOTE`] columns.
fn broken(note: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in note.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= NOTE => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{findings, flows};
    use detector_tests::record::Record;

    const FLOW: &str = r#"{"kind":"flow","client":{"namespace":"a","pod":"b","service_account":"c"},
        "server":{"address":"10.0.0.1"},"port":80,"verdict":"plaintext","protocol":"mcp",
        "evidence":["jsonrpc"],"methods":["tools/list"]}"#;

    #[test]
    fn a_flow_that_is_told_twice_is_one_row_with_the_last_word() {
        let newer = FLOW.replace("\"tools/list\"", "\"tools/list\",\"tools/call\"");
        let records: Vec<_> = [FLOW, &newer].into_iter().filter_map(Record::read).collect();
        let text = flows(&records);
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            ["a/b     c        10.0.0.1  -        80    plaintext mcp", "    jsonrpc tools/list tools/call"]
        );
    }

    #[test]
    fn a_finding_is_named_with_both_ends_and_its_reason() {
        let finding = r#""finding","id":"plaintext-mcp","severity":"high","why":"it is so""#;
        let line = FLOW.replace("\"flow\"", finding);
        let records: Vec<_> = Record::read(&line).into_iter().collect();
        assert!(findings(&records).contains("high      plaintext-mcp  a/b     10.0.0.1  80\n    it is so\n"));
    }
}
