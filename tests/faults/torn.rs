//! Files of the state root that were cut, or hold anything: `list` shows the others, and `delete --force` removes all.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Bundle, Case, Need, process};

const FILES: [&str; 2] = ["state.json", "intent.json"];

/// Containers of a case: one that runs, `torn`, and one beside it.
struct Two<'a> {
    case: &'a Case,
    other: Bundle<'a>,
    torn: Bundle<'a>,
}

impl<'a> Two<'a> {
    fn new(case: &'a Case) -> Self {
        let sleeping = |name| case.bundle(name).args(&["/bin/sleep", "1000"]);
        let (other, torn) = (sleeping("other"), sleeping("torn"));
        other.run_detached().ok();
        torn.run_detached().ok();
        Self { case, other, torn }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.case.state_root().join(&self.torn.id).join(name)
    }

    /// `list` tells of the other one, whatever it says of this one.
    fn the_other_is_listed(&self, what: &str) {
        let list = self.case.run(["list", "--format", "json"]);
        let listed: Value = serde_json::from_str(&list.stdout)
            .unwrap_or_else(|e| panic!("{what}: {e}: {list:#?}"));
        let is_other = |c: &&Value| c["id"] == self.other.id && c["status"] == "running";
        let others = listed.as_array().into_iter().flatten().filter(is_other);
        assert_eq!(others.count(), 1, "{what}: {list:#?}");
    }

    /// With these contents, everything that asks gives an answer, and deleting removes all.
    fn survives(&self, what: &str, contents: [&[u8]; 2]) {
        for (name, contents) in FILES.into_iter().zip(contents) {
            fs::write(self.file(name), contents).unwrap();
        }
        self.the_other_is_listed(what);
        self.case.run(["state", &self.torn.id]);
        self.torn.kill("0");
    }
}
