//! Owns what a query asks for: its metrics with the labels that it selects by, and the labels that it groups
//! by. promtool says whether it parses; this reads what promtool took.

use std::collections::BTreeSet;

/// What a query asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Each metric with the labels of its selector.
    pub(crate) selectors: Vec<(String, Vec<String>)>,
    /// The labels of `by`, `without`, `on`, `ignoring` and `group_left`.
    pub(crate) grouping: Vec<String>,
}

const CLAUSES: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "atan2"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text,
    Mark(char),
}

fn tokens(query: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = query.chars().peekable();
    while let Some(next) = rest.next() {
        if next == '"' {
            while let Some(inner) = rest.next() {
                match inner {
                    '\\' => drop(rest.next()),
                    '"' => break,
                    _ => {}
                }
            }
            tokens.push(Token::Text);
        } else if next == '[' {
            // A range: `[5m]`.
            while rest.next().is_some_and(|inner| inner != ']') {}
        } else if next.is_alphanumeric() || matches!(next, '_' | ':' | '.') {
            let mut word = String::from(next);
            while let Some(more) = rest.next_if(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '.')) {
                word.push(more);
            }
            tokens.push(Token::Word(word));
        } else if !next.is_whitespace() {
            tokens.push(Token::Mark(next));
        }
    }
    tokens
}

/// Reads a query.
pub(crate) fn read(query: &str) -> Asked {
    let tokens = tokens(query);
    let mut asked = Asked::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        let Token::Word(word) = token else {
            if *token == Token::Mark('{') {
                // A selector without a name: `{__name__=~"…"}`.
                let (_, after) = labels(&tokens, at);
                at = after;
            }
            continue;
        };
        let opens = |mark| tokens.get(at) == Some(&Token::Mark(mark));
        if CLAUSES.contains(&word.as_str()) {
            if opens('(') {
                while let Some(inner) = tokens.get(at).filter(|inner| **inner != Token::Mark(')')) {
                    if let Token::Word(label) = inner {
                        asked.grouping.push(label.clone());
                    }
                    at += 1;
                }
            }
        } else if OPERATORS.contains(&word.as_str())
            || opens('(')
            || word.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            || followed_by_clause(&tokens, at)
        {
            // An operator, a function, a number, an aggregation.
        } else if opens('{') {
            let (names, after) = labels(&tokens, at + 1);
            at = after;
            asked.selectors.push((word.clone(), names));
        } else {
            asked.selectors.push((word.clone(), Vec::new()));
        }
    }
    asked.grouping.retain(|label| label != "__name__");
    asked
}

/// Whether `sum by (…) (…)` goes on here.
fn followed_by_clause(tokens: &[Token], at: usize) -> bool {
    matches!(tokens.get(at), Some(Token::Word(word)) if matches!(word.as_str(), "by" | "without"))
}

/// The names before the operators of a selector, from behind its `{`; and where it ends.
fn labels(tokens: &[Token], mut at: usize) -> (Vec<String>, usize) {
    let mut names = Vec::new();
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            Token::Mark('}') => break,
            Token::Word(name) => names.push(name.clone()),
            _ => {}
        }
    }
    (names, at)
}

/// The labels that the outermost aggregations of a query leave; for legends and recorded series.
pub(crate) fn grouping(query: &str) -> Vec<String> {
    let labels: BTreeSet<String> = read(query).grouping.into_iter().collect();
    labels.into_iter().collect()
}

#[test]
fn a_query_is_read_for_its_metrics_and_labels() {
    let asked = read(
        "topk(5, sum by (id, b) (rate(a_total{x=\"{y}\",z=~\"q\"}[5m] offset 5m)) > 0.5) unless on (c) k:r:max == 1",
    );
    let word = str::to_owned;
    assert_eq!(asked.selectors, [(word("a_total"), vec![word("x"), word("z")]), (word("k:r:max"), vec![])]);
    assert_eq!(asked.grouping, ["id", "b", "c"]);
}
