//! Containers that do not do as they are told: they are ended in time all the same.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Bundle, Case, Done, eventually, is_runp, process};

/// What may be asked of a container at any time must not take longer.
const SOON: Duration = Duration::from_secs(1);
/// Where the processor is emulated.
const SOON_EMULATED: Duration = Duration::from_secs(10);

/// It succeeds, and soon. (How soon is runp's promise and not every runtime's.)
#[track_caller]
fn soon(act: impl FnOnce() -> Done) {
    let begin = Instant::now();
    act().ok();
    let took = begin.elapsed();
    let soon = match std::env::var_os("RUNP_TEST_EMULATED") {
        Some(_) => SOON_EMULATED,
        None => SOON,
    };
    assert!(took < soon || !is_runp(), "took {took:?}");
}

/// A container whose first process is stopped before `start`, and the `start` that waits for it.
fn stopped_at_its_start(case: &Case, c: &Bundle<'_>) -> Child {
    c.create().ok();
    let pid = c.pid();
    process::signal(pid, Signal::STOP);
    eventually("it is stopped", || process::is_stopped(pid).then_some(()));
    let mut start = case.runtime();
    let start = start.args(["start", &c.id]).spawn().unwrap();
    let gate = case.state_root().join(&c.id).join("start.sock");
    eventually("start has told it", || (!gate.exists()).then_some(()));
    start
}

#[test]
fn one_that_is_stopped_while_it_starts_can_be_killed_and_deleted() {
    let Some(case) = Case::new(&[crate::support::Need::Runp]) else {
        return;
    };
    let c = case.bundle("c").sh("sleep 1000");

    let mut start = stopped_at_its_start(&case, &c);
    soon(|| c.kill("KILL"));
    assert!(!start.wait().unwrap().success());
    c.wait_stopped();
    soon(|| c.delete());

    let mut start = stopped_at_its_start(&case, &c);
    soon(|| c.delete_force());
    assert!(!start.wait().unwrap().success());
    case.assert_nothing_left();

    let mut start = stopped_at_its_start(&case, &c);
    process::signal(c.pid(), Signal::CONT);
    assert!(start.wait().unwrap().success(), "it goes on");
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
}

#[test]
fn one_that_stops_itself_can_be_killed_and_deleted() {
    let Some(case) = Case::new(&[]) else { return };
    // The first process of a pid namespace does not stop for itself.
    let c = case.bundle("c").no_namespace("pid");
    let c = c.sh("kill -STOP $$; exec sleep 1000");
    let stopped = || {
        c.create().ok();
        c.start().ok();
        let pid = c.pid();
        eventually("it has stopped", || process::is_stopped(pid).then_some(()));
    };
    stopped();
    soon(|| c.kill("KILL"));
    c.wait_stopped();
    soon(|| c.delete());

    stopped();
    soon(|| c.delete_force());
    case.assert_nothing_left();
}
