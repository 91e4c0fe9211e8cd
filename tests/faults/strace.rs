//! strace(1): which system calls a runtime makes, and a fault at one of them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Case, Done, eventually, process};

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

/// The first call after the one that makes the container's process.
pub(super) fn after_clone(points: &[Point]) -> Point {
    let clone = points.iter().position(|point| point.call == "clone3");
    points[clone.unwrap() + 1].clone()
}

/// Runs `command` to its end, with the first process that it makes under a strace of its own that has these options: it is
/// attached while `command`, stopped at its call `after_clone`, has not let that process begin.
pub(super) fn with_child(
    case: &Case,
    command: &Command,
    after_clone: &Point,
    options: &[&str],
) -> Done {
    let stop = after_clone.inject("signal=SIGSTOP");
    let mut parent = case.begin(strace(&["-o", "/dev/null", "-e", &stop], command));
    let child_of = |pid: i32| {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse::<i32>().ok()
    };
    // Strace has other children too, for a moment, but those have none.
    let (runtime, first) = eventually("the runtime has made a process", || {
        let runtime = child_of(parent.pid())?;
        Some((runtime, child_of(runtime)?))
    });
    let mut attach = Command::new("strace");
    attach.args(options).args(["-p", &first.to_string()]);
    let attached = case.begin(attach);
    eventually("strace is attached", || {
        (process::status(first, "TracerPid") == attached.pid().to_string()).then_some(())
    });
    eventually("the runtime ends", || {
        let ended = parent.has_ended();
        if !ended {
            // Again and again: it may not have stopped yet.
            let _ = kill_process(Pid::from_raw(runtime).unwrap(), Signal::CONT);
        }
        ended.then_some(())
    });
    let done = parent.end();
    // What it has made may live on, without strace.
    process::signal(attached.pid(), Signal::TERM);
    attached.end();
    done
}

/// The calls that the first process that `command` makes does before its program is executed; `command` must succeed.
pub(super) fn points_of_child(case: &Case, command: &Command, after_clone: &Point) -> Vec<Point> {
    let trace = case.dir().join("trace");
    let options = ["-o", trace.to_str().unwrap()];
    with_child(case, command, after_clone, &options).ok();
    let trace = read(&trace);
    let end = trace.find("\nexecve(").unwrap_or(trace.len());
    points(&trace[..end])
}
