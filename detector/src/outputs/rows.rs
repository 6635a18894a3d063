//! Owns the rows of lines and of the API's answers as values: what is written is read again by the same types, so
//! that a daemon's own view of itself and what others read of it cannot differ.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::lines::time;
use crate::flows::Timestamp;

/// A time as rows have it: to the millisecond, RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Timestamp);

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        const MILLISECOND: u64 = 1_000_000;
        Self(Timestamp(at.0 - at.0 % MILLISECOND))
    }
}

impl From<Moment> for Timestamp {
    fn from(at: Moment) -> Self {
        at.0
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&time(self.0))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Moment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time as RFC 3339 has it")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
                let at: jiff::Timestamp = text.parse().map_err(E::custom)?;
                Ok(Timestamp(u64::try_from(at.as_nanosecond()).unwrap_or_default()).into())
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// A flow, as its line and its row have it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FlowRow<'a> {
    pub(crate) client: EndRow<'a>,
    pub(crate) server: EndRow<'a>,
    pub(crate) port: u16,
    pub(crate) verdict: Cow<'a, str>,
    pub(crate) protocol: Cow<'a, str>,
    pub(crate) evidence: Vec<Cow<'a, str>>,
    pub(crate) methods: Vec<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sni: Vec<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) alpn: Vec<Cow<'a, str>>,
    pub(crate) count: u64,
    pub(crate) with_credentials: u64,
    pub(crate) answered: u64,
    pub(crate) refused: u64,
    pub(crate) first_seen: Moment,
    pub(crate) last_seen: Moment,
}

/// One end of a flow.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct EndRow<'a> {
    pub(crate) kind: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workload: Option<WorkloadRow<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) service_account: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spiffe_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mesh: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<Cow<'a, str>>,
    pub(crate) address: String,
}

/// A workload.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WorkloadRow<'a> {
    pub(crate) kind: Cow<'a, str>,
    pub(crate) name: Cow<'a, str>,
}

/// What a node says of its view.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NodeRow<'a> {
    pub(crate) node: Cow<'a, str>,
    /// Since when every pod is accounted for.
    pub(crate) observed_since: Option<Moment>,
}

/// A pod, and whether it is observed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PodRow {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<String>,
    pub(crate) observed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<Cow<'static, str>>,
}

/// The pods of a node, as many as an answer holds.
#[derive(Debug)]
pub(crate) struct PodRows {
    pub(crate) pods: Vec<PodRow>,
    /// There are more.
    pub(crate) truncated: bool,
}
