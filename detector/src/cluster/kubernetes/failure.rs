//! Owns the ways in which the API fails, told apart by what is to be done about them.

use std::time::Duration;

use kube::core::Status;

use super::access::AccessError;

/// Why a request or a watch failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// RBAC refuses.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// The resource or object is not there.
    #[error("not found")]
    Absent,
    /// The credentials are not accepted: as a rule they were rotated.
    #[error("the credentials are not accepted")]
    Unauthorized,
    /// The resource version is forgotten; a new list is needed.
    #[error("the resource version is too old")]
    Expired,
    /// The server has too much to do.
    #[error("the server is busy")]
    Busy {
        /// What it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The server does not know streaming lists.
    #[error("the server has no streaming lists")]
    NoStreamingLists,
    /// Any other refusal.
    #[error("status {code}: {message}")]
    Status {
        /// The HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// The server cannot be reached, or the connection broke.
    #[error("{0}")]
    Transport(String),
    /// The answer is nothing that an API server would say.
    #[error("no answer of an API server: {0}")]
    Garbage(String),
    /// Nothing was said for too long.
    #[error("nothing came for {} s", .0.as_secs())]
    Silent(Duration),
    /// A watch ended as soon as it had begun.
    #[error("the watch ended at once")]
    Fleeting,
    /// The configuration cannot be read.
    #[error(transparent)]
    Access(#[from] AccessError),
}

impl Failure {
    /// What a status means: that of an answer, or that of an error inside a watch.
    pub(super) fn of_status(code: u16, status: Option<&Status>, retry_after: Option<Duration>) -> Self {
        let message = || status.map(|status| status.message.clone()).unwrap_or_default();
        let reason = status.map(|status| status.reason.as_str()).unwrap_or_default();
        match code {
            401 => Self::Unauthorized,
            403 => Self::Forbidden(message()),
            404 => Self::Absent,
            410 => Self::Expired,
            _ if reason == "Expired" || reason == "Gone" => Self::Expired,
            429 => Self::Busy { retry_after },
            503 | 504 if retry_after.is_some() => Self::Busy { retry_after },
            _ => Self::Status { code, message: message() },
        }
    }

    /// Whether fresh credentials or certificates may help.
    pub(super) fn wants_new_connection(&self) -> bool {
        matches!(self, Self::Unauthorized | Self::Transport(_) | Self::Silent(_) | Self::Access(_))
    }

    /// Whether it is the server or the way to it, and not the resource or a right.
    pub(super) fn passes_soon(&self) -> bool {
        !matches!(self, Self::Forbidden(_) | Self::Absent)
    }

    /// The label in metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Forbidden(_) => "forbidden",
            Self::Absent => "absent",
            Self::Unauthorized => "unauthorized",
            Self::Expired => "expired",
            Self::Busy { .. } => "busy",
            Self::NoStreamingLists => "no-streaming-lists",
            Self::Status { .. } => "status",
            Self::Transport(_) => "transport",
            Self::Garbage(_) => "garbage",
            Self::Silent(_) => "silent",
            Self::Fleeting => "fleeting",
            Self::Access(_) => "access",
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        // The cause stands at the end of the chain: "connection refused", not "client error".
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            text = format!("{text}: {next}");
            cause = next.source();
        }
        Self::Transport(text)
    }
}
