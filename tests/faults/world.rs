//! What a test of faults stands on: it is alone, has strace, and counts exactly.

use std::fmt::Debug;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::alone::{Baseline, alone};
use crate::support::{Bundle, Case, Need, PATIENCE};

/// A case in namespaces of its own, and what there was when it began.
#[derive(Debug)]
pub(super) struct World {
    pub(super) case: Case,
    pub(super) baseline: Baseline,
}

impl World {
    /// The world of the test of this name, if it is alone in it.
    pub(super) fn of(test: &str, needs: &[Need]) -> Option<Self> {
        if !alone(test) {
            return None;
        }
        let case = Case::new(&[needs, &[Need::Strace]].concat())?;
        Some(Self {
            case,
            baseline: Baseline::now(),
        })
    }

    /// The runtime with these arguments.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.case.runtime();
        command.args(arguments);
        command
    }

    /// `verb --bundle PATH ID`.
    pub(super) fn command_on(&self, verb: &str, c: &Bundle<'_>) -> Command {
        self.command(&[verb, "--bundle", c.path.to_str().unwrap(), &c.id])
    }

    /// What is left, now.
    pub(super) fn left_behind(&self) -> Vec<String> {
        [self.case.left_behind(), self.baseline.left_behind()].concat()
    }

    /// Nothing is left, after `what`; what the kernel is still taking down gets a moment.
    #[track_caller]
    pub(super) fn nothing_left(&self, what: impl Debug) {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let left = self.left_behind();
            if left.is_empty() {
                return;
            }
            let left = left.join("\n  ");
            assert!(
                Instant::now() < deadline,
                "after {what:?} there is left:\n  {left}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `delete --force` succeeds, after `what`, and nothing is left.
    #[track_caller]
    pub(super) fn delete(&self, c: &Bundle<'_>, what: impl Debug) {
        let deleted = c.delete_force();
        assert!(deleted.status.success(), "after {what:?}: {deleted:#?}");
        self.nothing_left(what);
    }
}

/// A running container into which a test's commands come.
#[derive(Debug)]
pub(super) struct Running<'a> {
    c: &'a Bundle<'a>,
    baseline: Baseline,
    init: String,
}

impl<'a> Running<'a> {
    /// Runs it: `sleep` is all that it does.
    pub(super) fn new(c: &'a Bundle<'a>) -> Self {
        c.run_detached().ok();
        Self {
            c,
            baseline: Baseline::now(),
            init: format!("process {} [sleep]", c.pid()),
        }
    }

    /// It goes on as before, without any process but its own.
    #[track_caller]
    pub(super) fn is_as_before(&self, what: impl Debug) {
        self.is_alone(&what);
        assert_eq!(self.c.status(), "running", "after {what:?}");
    }

    /// There is no process but its own.
    #[track_caller]
    pub(super) fn is_alone(&self, what: impl Debug) {
        let deadline = Instant::now() + PATIENCE;
        let mut left = Vec::new();
        while left != [self.init.as_str()] {
            assert!(Instant::now() < deadline, "after {what:?}: {left:?}");
            left = self.baseline.left_behind();
        }
    }
}
