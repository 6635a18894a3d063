//! Owns the shape of label selectors on the wire, wherever one stands. A field that we do not know would
//! widen a selector, so it is refused.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Labels, Operator, Requirement, Selector};

/// A label selector.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(in crate::cluster) struct WireSelector {
    pub(in crate::cluster) match_labels: BTreeMap<String, String>,
    pub(in crate::cluster) match_expressions: Vec<WireRequirement>,
}

/// A requirement, as a server's validation lets it be: values with `In` and `NotIn`, none with the others.
#[derive(Deserialize)]
#[serde(try_from = "AnyRequirement")]
pub(in crate::cluster) struct WireRequirement(AnyRequirement);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyRequirement {
    key: String,
    operator: WireOperator,
    #[serde(default)]
    values: Vec<String>,
}

impl TryFrom<AnyRequirement> for WireRequirement {
    type Error = &'static str;

    fn try_from(any: AnyRequirement) -> Result<Self, Self::Error> {
        match (&any.operator, any.values.is_empty()) {
            (WireOperator::In | WireOperator::NotIn, true) => Err("In and NotIn have values"),
            (WireOperator::Exists | WireOperator::DoesNotExist, false) => {
                Err("Exists and DoesNotExist have no values")
            }
            _ => Ok(Self(any)),
        }
    }
}

#[derive(Deserialize)]
enum WireOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl From<WireSelector> for Selector {
    fn from(wire: WireSelector) -> Self {
        let match_expressions = wire.match_expressions.into_iter().map(|WireRequirement(any)| Requirement {
            key: any.key.into(),
            operator: match any.operator {
                WireOperator::In => Operator::In,
                WireOperator::NotIn => Operator::NotIn,
                WireOperator::Exists => Operator::Exists,
                WireOperator::DoesNotExist => Operator::DoesNotExist,
            },
            values: any.values.into_iter().map(Into::into).collect(),
        });
        Self {
            match_labels: Labels::from_iter(wire.match_labels),
            match_expressions: match_expressions.collect(),
        }
    }
}
