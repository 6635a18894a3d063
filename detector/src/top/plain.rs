//! Owns `top` where there is no terminal: both tables as text, tabs between columns for `cut` and `column -t`.

use super::{Model, Row};
use crate::args::TopView;

/// Both tables, the one that is shown first.
#[must_use]
pub fn text(model: &Model) -> String {
    let mut model = model.clone();
    let mut text = String::new();
    let views = match model.shown {
        TopView::Flows => [TopView::Flows, TopView::Findings],
        TopView::Findings => [TopView::Findings, TopView::Flows],
    };
    for view in views {
        model.shown = view;
        let head = match view {
            TopView::Flows => "VERDICT\tPROTOCOL\tCLIENT\tSERVER\tCOUNT\tCREDENTIALS\tLAST",
            TopView::Findings => "SEVERITY\tFINDING\tCLIENT\tSERVER\tCOUNT\tCREDENTIALS\tLAST",
        };
        text.push_str(head);
        text.push('\n');
        for row in model.rows() {
            let Row {
                client,
                server,
                port,
                verdict,
                protocol,
                count,
                with_credentials,
                last_seen,
                id,
                severity,
                ..
            } = row;
            let (what, which) = match view {
                TopView::Flows => (verdict, protocol),
                TopView::Findings => (severity, id),
            };
            let (client, server) = (client.name(), server.name());
            text.push_str(&format!(
                "{what}\t{which}\t{client}\t{server}:{port}\t{count}\t{with_credentials}\t{last_seen}\n"
            ));
        }
        text.push('\n');
    }
    text
}
