//! Pods. Tests named `row_NN_...` show one behaviour each that Kubernetes promises of pods, init containers and pause.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::Case;

mod bundles;
mod failures;
mod faults;
mod input;
mod isolation;
mod order;
mod pause;
mod status;
mod stop;

/// A directory of the host that containers of a pod share with the test.
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
}

impl Shared {
    pub(crate) fn new(case: &Case) -> Self {
        let path = case.dir().join("shared");
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    /// For `spec.volumes`.
    pub(crate) fn volume(&self) -> Value {
        json!({"name": "shared", "hostPath": {"path": self.path}})
    }

    /// A container that runs a shell script and has the directory at `/shared`.
    pub(crate) fn container(&self, name: &str, script: &str) -> Value {
        json!({
            "name": name,
            "command": ["/bin/sh", "-c", script],
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
        })
    }

    /// The lines that containers have appended to a file.
    pub(crate) fn lines(&self, file: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// A container that runs a shell script.
fn sh(name: &str, script: &str) -> Value {
    json!({"name": name, "command": ["/bin/sh", "-c", script]})
}
