//! An error of the kernel's at every system call: the runtime succeeds or says what is wrong, it never hangs or panics, and
//! nothing is left.
//!
//! In the runtime's own process, and in the container's first process until its program is executed; that one is killed at
//! each of its calls, too.

use std::process::Command;

use super::strace::{Point, points_of, points_of_child, strace, with_child};
use super::world::{Running, World};
use crate::support::{Bundle, Done, eventually};

/// Calls of the C library, of Rust's library before `main`, and of the allocator: a program cannot go on without them and
/// ends as by SIGKILL, which `kills` is about. And calls that never fail; whatever close(2) says, the file is closed.
const NOT_TO_FAIL: [&str; 16] = [
    "arch_prctl",
    "brk",
    "close",
    "exit_group",
    "getegid",
    "geteuid",
    "getpid",
    "getrandom",
    "getuid",
    "mmap",
    "mprotect",
    "munmap",
    "rt_sigaction",
    "rt_sigreturn",
    "set_tid_address",
    "umask",
];

/// Where the fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In the runtime's own process.
    Runtime,
    /// In the first process that it makes.
    Child,
}

/// Runs `command` once for each call, which then ends with `fault`: `before` makes ready for it, `after` is told whether it
/// succeeded, looks at what it has left and cleans up.
fn sweep(
    world: &World,
    (fault, place): (&str, Where),
    command: &Command,
    before: impl Fn(),
    after: impl Fn(&str, bool),
) {
    let case = &world.case;
    before();
    let all = match place {
        Where::Runtime => points_of(case, command),
        Where::Child => points_of_child(case, command),
    };
    after("no fault", true);
    let to_fail = |point: &&Point| !NOT_TO_FAIL.contains(&&*point.call);
    let mut failures = 0;
    for point in all.iter().filter(to_fail) {
        before();
        let what = format!("{fault} at {point:?}");
        let inject = point.inject(fault);
        let options = ["-o", "/dev/null", "-e", &inject];
        let done = match place {
            Where::Runtime => case.finish(strace(&options, command)),
            Where::Child => with_child(case, command, &options),
        };
        is_clean(&what, &done);
        failures += usize::from(!done.status.success());
        after(&what, done.status.success());
    }
    eprintln!("{failures} of {} calls are needed", all.len());
    assert!(failures >= 10, "nothing was injected");
}

/// It succeeded, or ended by itself with something to say.
fn is_clean(what: &str, done: &Done) {
    let failed = done.status.code().is_some() && done.stderr.starts_with("runp: ");
    assert!(done.status.success() || failed, "{what}: {done:#?}");
}

fn sleeping(world: &World) -> Bundle<'_> {
    world.case.bundle("c").args(&["/bin/sleep", "1000"])
}

/// What failed has left nothing, before anybody deletes it.
fn create(world: &World, fault: &str, place: Where) {
    let c = sleeping(world);
    let create = world.command_on("create", &c);
    let after = |what: &str, success: bool| {
        if success {
            // Its first process may fail when it has told that all is done, too.
            let is = c.status();
            let fine = is == "created" || (place == Where::Child && is == "stopped");
            assert!(fine, "{is}, {what}");
            world.delete(&c, what);
        }
        world.nothing_left(what);
    };
    sweep(world, (fault, place), &create, || (), after);
}

/// A failure to remove the container in the end leaves what `delete` can remove.
fn run(world: &World, fault: &str, place: Where) {
    let c = world.case.bundle("c").args(&["/bin/true"]);
    let run = world.command_on("run", &c);
    let after = |what: &str, _: bool| world.delete(&c, what);
    sweep(world, (fault, place), &run, || (), after);
}

/// What was not started can be.
fn start(world: &World, fault: &str, place: Where) {
    let c = sleeping(world);
    let start = world.command(&["start", &c.id]);
    let before = || drop(c.create().ok());
    let after = |what: &str, success: bool| {
        if !success && c.status() == "created" {
            c.start();
        }
        eventually("it runs", || (c.status() == "running").then_some(()));
        world.delete(&c, what);
    };
    sweep(world, (fault, place), &start, before, after);
}

fn exec(world: &World, fault: &str, place: Where) {
    let c = sleeping(world);
    let container = Running::new(&c);
    let exec = world.command(&["exec", &c.id, "/bin/true"]);
    let after = |what: &str, _: bool| container.is_as_before(what);
    sweep(world, (fault, place), &exec, || (), after);
    world.delete(&c, "the last exec");
}

/// What was not deleted can be.
fn delete(world: &World, fault: &str, place: Where) {
    let c = sleeping(world);
    let delete = world.command(&["delete", "--force", &c.id]);
    let before = || drop(c.run_detached().ok());
    let after = |what: &str, success: bool| {
        if success {
            world.nothing_left(what);
        }
        world.delete(&c, what);
    };
    sweep(world, (fault, place), &delete, before, after);
}

/// One test for each command and fault.
macro_rules! tests {
    ($($verb:ident: $place:expr => $($name:ident $fault:literal)+;)+) => {$($(
        #[test]
        fn $name() {
            let test = concat!("faults::errors::", stringify!($name));
            if let Some(world) = World::of(test, &[]) {
                $verb(&world, $fault, $place);
            }
        }
    )+)+};
}

tests! {
    create: Where::Runtime =>
        create_enospc "error=ENOSPC"
        create_emfile "error=EMFILE"
        create_enomem "error=ENOMEM"
        create_eintr "error=EINTR";
    create: Where::Child =>
        first_process_enospc "error=ENOSPC"
        first_process_emfile "error=EMFILE"
        first_process_enomem "error=ENOMEM"
        first_process_eintr "error=EINTR"
        first_process_sigkill "signal=SIGKILL";
    start: Where::Runtime =>
        start_enospc "error=ENOSPC"
        start_emfile "error=EMFILE"
        start_enomem "error=ENOMEM"
        start_eintr "error=EINTR";
    exec: Where::Runtime =>
        exec_enospc "error=ENOSPC"
        exec_emfile "error=EMFILE"
        exec_enomem "error=ENOMEM"
        exec_eintr "error=EINTR";
    exec: Where::Child =>
        execs_process_enospc "error=ENOSPC"
        execs_process_emfile "error=EMFILE"
        execs_process_enomem "error=ENOMEM"
        execs_process_eintr "error=EINTR"
        execs_process_sigkill "signal=SIGKILL";
    run: Where::Runtime =>
        run_enospc "error=ENOSPC"
        run_emfile "error=EMFILE"
        run_enomem "error=ENOMEM"
        run_eintr "error=EINTR";
    delete: Where::Runtime =>
        delete_enospc "error=ENOSPC"
        delete_emfile "error=EMFILE"
        delete_enomem "error=ENOMEM"
        delete_eintr "error=EINTR";
}
