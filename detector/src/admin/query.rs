//! Owns the query of a request to the API: what may stand in it, and what it means.

use std::fmt;

use crate::outputs::api::Page;

/// Which part of the rows is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Rows at most.
    pub(super) limit: usize,
    /// Only flows after this one.
    pub(super) after: u64,
}

/// A query that means nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QueryError {
    Unknown,
    Limit,
    After,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("only `limit` and `after` may be asked for"),
            Self::Limit => write!(f, "limit: expected a number from 1 to {}", Page::ROWS),
            Self::After => f.write_str("after: expected the number that `next` gave"),
        }
    }
}

impl Window {
    /// Reads `limit=N&after=N`. A key that is not known is refused: whoever wrote it would wait for its effect.
    pub(super) fn read(query: Option<&str>) -> Result<Self, QueryError> {
        let mut window = Self { limit: Page::ROWS, after: 0 };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("limit", value)) => {
                    window.limit = value
                        .parse()
                        .ok()
                        .filter(|limit| (1..=Page::ROWS).contains(limit))
                        .ok_or(QueryError::Limit)?;
                }
                Some(("after", value)) => window.after = value.parse().ok().ok_or(QueryError::After)?,
                _ => return Err(QueryError::Unknown),
            }
        }
        Ok(window)
    }
}

#[cfg(test)]
mod tests {
    use super::{Page, QueryError, Window};

    #[test]
    fn a_query_is_understood_or_refused() {
        let window = |limit, after| Ok(Window { limit, after });
        for (query, expected) in [
            (None, window(Page::ROWS, 0)),
            (Some(""), window(Page::ROWS, 0)),
            (Some("limit=10&after=77"), window(10, 77)),
            (Some("limit=0"), Err(QueryError::Limit)),
            (Some("limit=2001"), Err(QueryError::Limit)),
            (Some("limit="), Err(QueryError::Limit)),
            (Some("after=-1"), Err(QueryError::After)),
            (Some("verdict=tls"), Err(QueryError::Unknown)),
            (Some("limit"), Err(QueryError::Unknown)),
        ] {
            assert_eq!(Window::read(query), expected, "{query:?}");
        }
    }
}
