//! strace(1): which system calls a runtime makes, and a fault at one of them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::Case;

/// The `nth` call of this name that a process makes, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) call: String,
    pub(super) nth: usize,
}

impl Point {
    /// strace's option for a fault there: `signal=SIGKILL`, `error=ENOSPC`.
    pub(super) fn inject(&self, fault: &str) -> String {
        format!("inject={}:{fault}:when={}", self.call, self.nth)
    }
}

/// The calls in a trace of one process, in order. The execve that starts the program itself is none of them.
pub(super) fn points(trace: &str) -> Vec<Point> {
    let mut counts = HashMap::new();
    trace
        .lines()
        .filter_map(|line| line.split_once('('))
        .map(|(call, _)| call)
        .filter(|call| call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        .map(|call| {
            let nth = counts.entry(call).or_insert(0);
            *nth += 1;
            Point {
                call: call.to_owned(),
                nth: *nth,
            }
        })
        .skip(1)
        .collect()
}

/// A trace that strace has written.
pub(super) fn read(trace: &Path) -> String {
    String::from_utf8_lossy(&fs::read(trace).unwrap()).into_owned()
}

/// `command` under strace with these options.
pub(super) fn strace(options: &[&str], command: &Command) -> Command {
    let mut strace = Command::new("strace");
    strace.args(options).arg(command.get_program());
    strace.args(command.get_args());
    for (name, value) in command.get_envs() {
        strace.env(name, value.unwrap());
    }
    strace
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    strace
}

/// The calls that `command` makes in its own process, which must succeed.
pub(super) fn points_of(case: &Case, command: &Command) -> Vec<Point> {
    let trace = case.dir().join("trace");
    case.finish(strace(&["-o", trace.to_str().unwrap()], command))
        .ok();
    points(&read(&trace))
}
