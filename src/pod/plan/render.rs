//! The plan as people and programs read it.

use super::PodPlan;

/// As a text.
pub fn render_text(_plan: &PodPlan) -> String {
    String::new()
}

/// As JSON, with every container's config.json.
pub fn render_json(_plan: &PodPlan) -> serde_json::Value {
    serde_json::Value::Null
}
