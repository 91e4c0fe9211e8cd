//! Terminals: `run` and `exec -t` under one of ours, and a console socket.

use std::fs;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

use crate::support::{Case, Done};

/// `command` under a terminal of its own, script(1).
fn under_a_terminal(case: &Case, arguments: &[&str]) -> Command {
    let runtime = case.runtime();
    let words: Vec<_> = std::iter::once(runtime.get_program())
        .chain(runtime.get_args())
        .map(|w| w.to_str().unwrap())
        .chain(arguments.iter().copied())
        .map(|w| format!("'{w}'"))
        .collect();
    let mut command = Command::new("script");
    command.args([
        "--quiet",
        "--return",
        "--command",
        &words.join(" "),
        "/dev/null",
    ]);
    // Open until the end: script(1) types an end of input, and the terminal echoes it.
    command.stdin(Stdio::piped());
    command
}

/// The lines that were printed.
fn lines(done: &Done) -> Vec<&str> {
    done.stdout.lines().map(str::trim).collect()
}

#[test]
fn run_with_a_terminal_gives_the_program_one() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").with("/process/terminal", json!(true)).sh(
        "tty; test -t 0 && test -t 1 && test -t 2 && echo all; stat -c %t:%T /dev/console; exit 5",
    );
    let done = case
        .finish(under_a_terminal(
            &case,
            &["run", "--bundle", c.path.to_str().unwrap(), &c.id],
        ))
        .code(5);
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
    let done = case
        .finish(under_a_terminal(
            &case,
            &[
                "exec",
                "-t",
                &c.id,
                "sh",
                "-c",
                "test -t 0 && echo tty; exit 6",
            ],
        ))
        .code(6);
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

fn receive_descriptor(stream: &std::os::unix::net::UnixStream) -> OwnedFd {
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
