//! Reads JSON by pointers (RFC 6901): what is not there is null, as in JSON itself.

use serde_json::Value;

static NULL: Value = Value::Null;

/// The value that a pointer leads to.
pub(crate) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&NULL)
}

/// The text that a pointer leads to; empty if there is none.
pub(crate) fn text(value: &Value, pointer: &str) -> String {
    at(value, pointer).as_str().unwrap_or_default().to_owned()
}

/// The list that a pointer leads to; empty if there is none.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    at(value, pointer).as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{at, list, text};

    #[test]
    fn what_is_not_there_is_null() {
        let value = json!({"a": [{"b": "c"}]});
        assert_eq!(text(&value, "/a/0/b"), "c");
        assert!(at(&value, "/a/1/b").is_null());
        assert_eq!((list(&value, "/a").len(), list(&value, "/x").len()), (1, 0));
    }
}
