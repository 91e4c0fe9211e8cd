//! Terminals: `run` and `exec -t` under one of ours, and a console socket.

use std::fs;
use std::io::{IoSliceMut, PipeReader, Read, Seek, Write, pipe};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, ExitStatus};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

use crate::support::{Bundle, Case, Done, Need, eventually};

/// The runtime with these arguments, for a shell.
pub(super) fn words(case: &Case, arguments: &[&str]) -> String {
    let runtime = case.runtime();
    let words: Vec<_> = std::iter::once(runtime.get_program())
        .chain(runtime.get_args())
        .map(|w| w.to_str().unwrap())
        .chain(arguments.iter().copied())
        .map(|w| format!("'{w}'"))
        .collect();
    words.join(" ")
}

/// Runs a shell script under a terminal of its own, script(1), in which nothing is typed.
pub(super) fn under_a_terminal(case: &Case, script: &str) -> Done {
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", script, "/dev/null"]);
    let (stdin, _open) = pipe().unwrap();
    command.stdin(stdin);
    case.finish(command)
}

fn lines(done: &Done) -> Vec<&str> {
    done.stdout.lines().map(str::trim).collect()
}

#[test]
fn run_with_a_terminal_gives_the_program_one() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").with("/process/terminal", json!(true)).sh(
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all; stat -c %t:%T /dev/console; exit 5",
    );
    let run = ["run", "--bundle", c.path.to_str().unwrap(), &c.id];
    let done = under_a_terminal(&case, &words(&case, &run)).code(5);
    let lines = lines(&done);
    assert_eq!(lines[1], "all", "{done:?}");
    assert!(lines[0].starts_with("/dev/"), "{done:?}");
    assert!(
        lines[2].starts_with("88:"),
        "/dev/console is the terminal: {done:?}"
    );
    case.assert_nothing_left();
}

#[test]
fn exec_with_a_terminal_gives_the_program_one() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000");
    c.run_detached().ok();
    let script = "test -t 0 && echo tty; exit 6";
    let exec = words(&case, &["exec", "-t", &c.id, "sh", "-c", script]);
    let done = under_a_terminal(&case, &exec).code(6);
    assert_eq!(lines(&done), ["tty"]);
    c.exec(&[], &["sh", "-c", "test -t 0"]).code(1);
    c.delete_force().ok();
}

#[test]
fn create_hands_the_terminal_to_the_console_socket() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .with("/process/terminal", json!(true))
        .sh("stty -echo; echo ready; read line; echo got $line; sleep 1000");
    let socket = case.dir().join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let create = [
        "create",
        "--bundle",
        c.path.to_str().unwrap(),
        "--console-socket",
    ];
    case.run([&create[..], &[socket.to_str().unwrap(), &c.id]].concat())
        .ok();
    let (stream, _) = listener.accept().unwrap();
    let mut console = fs::File::from(receive_descriptor(&stream));
    c.start().ok();

    let mut seen = String::new();
    let mut wait_for = |console: &mut fs::File, text: &str| {
        while !seen.contains(text) {
            let mut buffer = [0; 256];
            let n = console.read(&mut buffer).unwrap();
            seen.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
    };
    wait_for(&mut console, "ready");
    console.write_all(b"hello\n").unwrap();
    wait_for(&mut console, "got hello");
    c.delete_force().ok();
}

pub(super) fn receive_descriptor(stream: &std::os::unix::net::UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 256];
    recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut name)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        })
        .expect("a descriptor over the console socket")
}

#[test]
fn a_terminal_and_its_socket_go_together() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .sh("true")
        .with("/process/terminal", json!(true));
    c.create().fails_saying(&["console-socket"]);
    let c = c.with("/process/terminal", json!(false));
    let bundle = c.path.to_str().unwrap();
    case.run([
        "create",
        "--bundle",
        bundle,
        "--console-socket",
        "/tmp/none",
        &c.id,
    ])
    .fails_saying(&["console-socket"]);
    case.assert_nothing_left();
}

/// A running container that programs can be executed in, and whose root file system can be written to.
fn host<'a>(case: &'a Case) -> Bundle<'a> {
    let c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .sh("sleep 1000");
    c.run_detached().ok();
    c
}

/// `exec -t` of a shell script.
fn exec_with_a_terminal(case: &Case, c: &Bundle<'_>, script: &str) -> Command {
    let mut command = case.runtime();
    command.args(["exec", "-t", &c.id, "sh", "-c", script]);
    command
}

/// `exec -t` whose standard output is a pipe, as `prepare` makes it.
fn exec_to_a_pipe(
    case: &Case,
    c: &Bundle<'_>,
    script: &str,
    prepare: impl FnOnce(&std::io::PipeWriter),
) -> (Child, PipeReader) {
    let (reader, writer) = pipe().unwrap();
    prepare(&writer);
    let mut command = exec_with_a_terminal(case, c, script);
    (command.stdout(writer).spawn().unwrap(), reader)
}

/// Standard input with this in it.
fn input(text: &str) -> fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn until_ended(child: &mut Child) -> ExitStatus {
    eventually("exec ends", || child.try_wait().unwrap())
}

fn send(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Waits until nothing more fits into the pipe: it has no free page, and the last one is not filled up any more.
fn until_full(reader: &PipeReader) {
    let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
    let mut seen = Vec::new();
    eventually("the pipe is full", || {
        let writer = fs::File::options().write(true).open(&path).unwrap();
        let mut files = [PollFd::new(&writer, PollFlags::OUT)];
        let writable = poll(&mut files, Some(&Timespec::default())).unwrap();
        seen.push(rustix::io::ioctl_fionread(reader).unwrap());
        let last = &seen[seen.len().saturating_sub(10)..];
        let is_still = last.len() == 10 && last.iter().all(|bytes| *bytes == last[0]);
        (writable == 0 && is_still).then_some(())
    });
}

#[test]
fn much_goes_through_the_terminal_both_ways_at_once() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return; // runc wants to be started from a terminal
    };
    let c = host(&case);
    let many: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    // What is typed is echoed, so that there is output for every byte of input, and `cat` prints it once more.
    let mut command = exec_with_a_terminal(&case, &c, "cat; echo end");
    command.stdin(input(&many));
    let done = case.finish(command).ok();
    assert!(done.stdout.len() > many.len(), "{}", done.stdout.len());
    assert!(done.stdout.ends_with("300000\r\nend\r\n"));
}

#[test]
fn the_end_of_the_input_reaches_the_program() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return; // runc wants to be started from a terminal
    };
    let c = host(&case);
    for text in ["", "abc", "abc\n", "abc\ndef"] {
        let mut command = exec_with_a_terminal(&case, &c, "wc -c");
        command.stdin(input(text));
        let done = case.finish(command).ok();
        let last = done.stdout.trim_end().lines().last().unwrap_or_default();
        assert!(
            last.ends_with(&text.len().to_string()),
            "{text:?}: {done:?}"
        );
    }
}

#[test]
fn nothing_is_lost_in_a_nonblocking_pipe() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return; // runc wants to be started from a terminal
    };
    let c = host(&case);
    let script = "stty -opost; busybox seq 1 100000";
    let (mut child, mut reader) = exec_to_a_pipe(&case, &c, script, |writer| {
        rustix::pipe::fcntl_setpipe_size(writer, 4096).unwrap();
        fcntl_setfl(writer, OFlags::NONBLOCK).unwrap();
    });
    let mut text = String::new();
    until_full(&reader);
    reader.read_to_string(&mut text).unwrap();
    let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert!(text == expected, "{} of {}", text.len(), expected.len());
    assert!(until_ended(&mut child).success());
}

#[test]
fn signals_are_passed_on_while_nobody_takes_the_output() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return; // runc wants to be started from a terminal
    };
    let c = host(&case);
    let script = "trap 'touch /caught; exit 7' TERM; busybox yes & wait";
    let (mut child, mut reader) = exec_to_a_pipe(&case, &c, script, |_| {});
    until_full(&reader);
    send(&child, rustix::process::Signal::TERM);
    eventually("the program gets the signal", || {
        c.rootfs().join("caught").exists().then_some(())
    });
    reader.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(until_ended(&mut child).code(), Some(7));
}

#[test]
fn output_that_nobody_takes_can_be_given_up() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return; // runc wants to be started from a terminal
    };
    let c = host(&case);
    // As much as the pipe, runp and the terminal hold together, so that the program can end.
    let script = "trap '' TERM; busybox seq 1 2000; exit 3";
    let (mut child, reader) = exec_to_a_pipe(&case, &c, script, |writer| {
        rustix::pipe::fcntl_setpipe_size(writer, 4096).unwrap();
    });
    until_full(&reader);
    let status = eventually("exec gives up", || {
        send(&child, rustix::process::Signal::TERM);
        child.try_wait().unwrap()
    });
    assert_eq!(status.code(), Some(3));
    drop(reader);
}

#[test]
fn a_reader_that_has_gone_hangs_the_terminal_up() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return; // runc wants to be started from a terminal
    };
    let c = host(&case);
    let (mut child, reader) = exec_to_a_pipe(&case, &c, "busybox yes", |_| {});
    until_full(&reader);
    drop(reader);
    assert_eq!(until_ended(&mut child).code(), Some(128 + libc::SIGHUP));
}

#[test]
fn output_of_a_program_that_outlives_the_process_holds_nobody_up() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return; // runc wants to be started from a terminal
    };
    let c = host(&case);
    let script = "trap '' HUP; busybox yes & read line; exit 4";
    let mut command = exec_with_a_terminal(&case, &c, script);
    command.stdin(input("\n"));
    case.finish(command).code(4);
}

#[test]
fn our_terminal_is_as_before() {
    let Some(case) = Case::new(&[]) else { return };
    let c = host(&case);
    let exec = words(&case, &["exec", "-t", &c.id]);
    let script = format!("stty -g; {exec} true; stty -g; {exec} /none; stty -g");
    let done = under_a_terminal(&case, &script);
    let is_modes = |line: &&str| line.matches(':').count() > 30;
    let modes: Vec<_> = lines(&done).into_iter().filter(is_modes).collect();
    assert_eq!(modes.len(), 3, "{done:?}");
    assert!(modes.iter().all(|m| *m == modes[0]), "{done:?}");
}
