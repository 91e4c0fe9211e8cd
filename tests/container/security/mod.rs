//! Attacks on container runtimes that worked once, by class: each with a control that shows that the test could see it work.

mod dev;
mod identity;
mod machine;
mod procfs;
mod races;
mod runtime;
mod selinux;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::support::Case;

/// A directory of the host that nobody in a container may reach.
struct Canary {
    path: PathBuf,
    before: BTreeMap<String, Vec<u8>>,
}

impl Canary {
    fn new(case: &Case) -> Self {
        let path = case.dir().join("canary");
        fs::create_dir(&path).unwrap();
        for name in ["ptmx", "console", "null"] {
            fs::write(path.join(name), "untouched").unwrap();
        }
        let mut canary = Self {
            path,
            before: BTreeMap::new(),
        };
        canary.before = canary.contents();
        canary
    }

    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(&self.path).unwrap().map(Result::unwrap);
        let contents = entries.map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap_or_default())
        });
        contents.collect()
    }

    /// Nobody has been there, after `what`.
    #[track_caller]
    fn is_untouched(&self, what: &str) {
        assert_eq!(self.contents(), self.before, "{what}");
    }
}
