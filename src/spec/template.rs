//! stand-in
#[allow(missing_docs)]
pub fn template() -> serde_json::Value {
    serde_json::Value::Null
}
