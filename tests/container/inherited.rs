//! What a caller hands to a container, and gets of it: descriptors, sockets of systemd, a pidfd.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;

use rustix::process::{Signal, pidfd_send_signal};

use super::terminal::receive_descriptor;
use crate::support::{Bundle, Case, Done, Need, eventually, is_runp, process};

/// Runs the runtime from a shell that opens `redirections` for it and sets `variables`; `$$` is the runtime's pid.
fn with(case: &Case, variables: &str, redirections: &str, args: &[&str]) -> Done {
    let runtime = case.runtime();
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{variables} exec \"$@\" {redirections}"))
        .arg("sh")
        .arg(runtime.get_program())
        .args(runtime.get_args())
        .args(args)
        .env("RUNP_TEST", &case.token);
    case.finish(command)
}

/// Files `3` to `9` in the test's directory, with their own names in them.
fn make_files(case: &Case) {
    for number in 3..=9 {
        fs::write(case.dir().join(number.to_string()), format!("{number}\n")).unwrap();
    }
}

/// `3<dir/3 4<dir/4 ...`
fn open(case: &Case, numbers: &[u8]) -> String {
    let dir = case.dir().display();
    let open = numbers.iter().map(|n| format!("{n}<{dir}/{n}"));
    open.collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn has_exactly(c: &Bundle<'_>, pid: i32, expected: &[i32]) {
    let numbers: Vec<_> = process::descriptors(pid).into_keys().collect();
    assert_eq!(numbers, expected, "{:?}", process::descriptors(c.pid()));
}

#[test]
fn preserved_descriptors_and_no_others_are_inherited() {
    let Some(case) = Case::new(&[]) else { return };
    make_files(&case);
    let c = case.bundle("c").args(&["/bin/sleep", "1000"]);
    let path = c.path.to_str().unwrap();
    let open = open(&case, &[3, 4, 5, 9]);
    let run = [
        "run",
        "--detach",
        "--preserve-fds",
        "2",
        "--bundle",
        path,
        &c.id,
    ];
    with(&case, "", &open, &run).ok();
    has_exactly(&c, c.pid(), &[0, 1, 2, 3, 4]);
    let fourth = process::descriptors(c.pid()).remove(&4).unwrap();
    assert_eq!(fourth, case.dir().join("4").to_str().unwrap());

    // Created: still its own runtime, but with nothing of the caller's that is not preserved.
    c.delete_force().ok();
    with(
        &case,
        "",
        &open,
        &["create", "--preserve-fds", "2", "--bundle", path, &c.id],
    )
    .ok();
    let created = process::descriptors(c.pid());
    assert!(
        !created.values().any(|file| file.ends_with("/9")),
        "{created:?}"
    );
    c.start().ok();
    has_exactly(&c, c.pid(), &[0, 1, 2, 3, 4]);

    let pid_file = case.dir().join("pid");
    let pid_file = pid_file.to_str().unwrap();
    let sleep = ["sleep", "1000"];
    let exec = [
        "exec",
        "--detach",
        "--preserve-fds",
        "1",
        "--pid-file",
        pid_file,
        &c.id,
    ];
    with(&case, "", &open, &[&exec[..], &sleep].concat()).ok();
    let pid = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    // runc 1.1 lets an exec have others, too (those of its own).
    if is_runp() {
        has_exactly(&c, pid, &[0, 1, 2, 3]);
    }
    c.delete_force().ok();
}

#[test]
fn a_preserved_descriptor_that_is_not_open_is_refused() {
    // runc 1.1 takes its own log for it.
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    make_files(&case);
    let c = case.bundle("c").sh("true");
    let path = c.path.to_str().unwrap();
    let log = case.dir().join("log");
    // The log must not be taken for the caller's descriptor.
    let run = [
        "--log",
        log.to_str().unwrap(),
        "run",
        "--preserve-fds",
        "2",
        "--bundle",
        path,
        &c.id,
    ];
    with(&case, "", &open(&case, &[3]), &run).fails_saying(&["--preserve-fds 2", "4 is not open"]);
    with(&case, "", &open(&case, &[3, 4]), &run).ok();
}

#[test]
fn sockets_of_systemd_come_first() {
    let Some(case) = Case::new(&[]) else { return };
    make_files(&case);
    let c = case
        .bundle("c")
        .sh("echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4; cat <&5");
    let path = c.path.display().to_string();
    let open = open(&case, &[3, 4, 5, 6]);
    let run = ["run", "--preserve-fds", "1", "--bundle", &path, &c.id];
    let done = with(&case, "LISTEN_FDS=2 LISTEN_PID=$$", &open, &run).ok();
    assert_eq!(done.stdout, "2 1\n3\n4\n5\n");

    // They are for another process: a shell that has started us by mistake with its own environment.
    let c = c.sh("echo ${LISTEN_FDS-none}; ls /proc/self/fd | wc -l");
    let run = ["run", "--bundle", &path, &c.id];
    let done = with(&case, "LISTEN_FDS=2 LISTEN_PID=1", &open, &run).ok();
    assert_eq!(done.stdout, "none\n4\n", "0, 1, 2 and what ls reads");
}

#[test]
fn a_pidfd_of_the_new_process_is_sent() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    }; // runc has it since 1.2
    let c = case.bundle("c").args(&["/bin/sleep", "1000"]);
    let socket = case.dir().join("pidfd");
    let listener = UnixListener::bind(&socket).unwrap();
    let socket = socket.to_str().unwrap();
    case.run([
        "create",
        "--pidfd-socket",
        socket,
        "--bundle",
        c.path.to_str().unwrap(),
        &c.id,
    ])
    .ok();
    let pidfd = receive_descriptor(&listener.accept().unwrap().0);
    let info = fs::read_to_string(format!(
        "/proc/self/fdinfo/{}",
        std::os::fd::AsRawFd::as_raw_fd(&pidfd)
    ));
    assert!(info.unwrap().contains(&format!("Pid:\t{}\n", c.pid())));
    c.start().ok();

    case.run([
        "exec",
        "--detach",
        "--pidfd-socket",
        socket,
        &c.id,
        "sleep",
        "1000",
    ])
    .ok();
    let exec = receive_descriptor(&listener.accept().unwrap().0);
    pidfd_send_signal(&exec, Signal::KILL).unwrap();
    assert_eq!(c.status(), "running");
    pidfd_send_signal(&pidfd, Signal::KILL).unwrap();
    c.wait_stopped();
    c.delete().ok();
}

#[test]
fn the_root_can_be_moved_instead_of_pivoted() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh(
        "ls / | tr '\\n' ' '; readlink /proc/self/root; test -e /../bin/busybox && echo up; \
         wc -l </proc/self/mountinfo",
    );
    let path = c.path.to_str().unwrap();
    let moved = case
        .run(["run", "--no-pivot", "--bundle", path, &c.id])
        .ok();
    assert_eq!(moved.stdout, c.prints(), "as with pivot_root");
    // What is below the root is the container's own, and the host's procfs is gone.
    case.run(["run", "--detach", "--no-pivot", "--bundle", path, &c.id])
        .ok();
    eventually("it ends", || (c.status() == "stopped").then_some(()));
    c.delete().ok();
}
