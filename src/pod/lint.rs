//! Warnings about manifests that are valid and still wrong.

use k8s_openapi::api::core::v1::Pod;

/// Looks for what is valid and probably not meant.
pub fn lint(_pod: &Pod) -> Vec<String> {
    Vec::new()
}
