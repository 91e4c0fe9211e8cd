//! strace(1): which system calls a runtime makes, and a fault at one of them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

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
        .skip_while(|point| point.call == "execve")
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

/// Runs `command` to its end, with the first process that it makes under a strace of its own that has these options, from the
/// first call of that process on.
pub(super) fn with_child(case: &Case, command: &Command, options: &[&str]) -> Done {
    let mut stopped = Command::new("sh");
    stopped.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]);
    stopped.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        stopped.env(name, value.unwrap());
    }
    let runtime = case.begin(stopped);
    let pid = Pid::from_raw(runtime.pid());
    eventually("the shell has stopped itself", || {
        process::is_stopped(runtime.pid()).then_some(())
    });
    let first = stop_first_process(pid);
    let mut attach = Command::new("strace");
    attach.args(options).args(["-p", &first.to_string()]);
    let attached = case.begin(attach);
    eventually("strace is attached", || {
        (process::status(first.as_raw(), "TracerPid") == attached.pid().to_string()).then_some(())
    });
    kill(first, Signal::SIGCONT).unwrap();
    ptrace::detach(pid, None).unwrap();
    let done = runtime.end();
    // What it has made may live on, without strace.
    process::signal(attached.pid(), rustix::process::Signal::TERM);
    attached.end();
    done
}

/// Lets the stopped process `runtime` go on until it has made a process, which is returned: stopped by a signal before it did
/// anything. `runtime` stands still, traced by this thread, ptrace(2).
fn stop_first_process(runtime: Pid) -> Pid {
    let options =
        Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE;
    ptrace::seize(runtime, options).unwrap();
    kill(runtime, Signal::SIGCONT).unwrap();
    let first = loop {
        match waitpid(runtime, None).unwrap() {
            WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_STOP) => {
                ptrace::cont(runtime, None).unwrap();
            }
            WaitStatus::PtraceEvent(..) => break ptrace::getevent(runtime).unwrap(),
            WaitStatus::Stopped(_, signal) => ptrace::cont(runtime, signal).unwrap(),
            other => panic!("the runtime has made no process: {other:?}"),
        }
    };
    let first = Pid::from_raw(first.try_into().unwrap());
    // Traced from its birth on, too.
    waitpid(first, Some(WaitPidFlag::__WALL)).unwrap();
    kill(first, Signal::SIGSTOP).unwrap();
    ptrace::detach(first, None).unwrap();
    eventually("the first process is stopped", || {
        process::is_stopped(first.as_raw()).then_some(())
    });
    first
}

/// The calls that the first process that `command` makes does before its program is executed; `command` must succeed.
pub(super) fn points_of_child(case: &Case, command: &Command) -> Vec<Point> {
    let trace = case.dir().join("trace");
    let options = ["-o", trace.to_str().unwrap()];
    with_child(case, command, &options).ok();
    let trace = read(&trace);
    let end = trace.find("\nexecve(").unwrap_or(trace.len());
    points(&trace[..end])
}
