//! Containers with a terminal: `tty`, and `pod attach` from a terminal of ours.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::fs::{Mode, OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetwinsize};
use serde_json::{Value, json};

use crate::support::pod::{container_status, is_running, terminated};
use crate::support::{
    Case, Need, Pod, Shared, eventually, eventually_or, kernel_at_least, process, sh,
};

/// A container with a terminal, and these other fields.
fn on_a_terminal(name: &str, script: &str, fields: &[&str]) -> Value {
    let mut container = sh(name, script);
    for field in ["tty"].iter().chain(fields) {
        container[field] = json!(true);
    }
    container
}

/// A pod that is told to end at once, of these apps.
fn pod<'a>(case: &'a Case, policy: &str, apps: Value) -> Pod<'a> {
    let spec =
        json!({"restartPolicy": policy, "terminationGracePeriodSeconds": 0, "containers": apps});
    Pod::new(case, "p", spec)
}

/// The log of a container's first run, as it is on the disk, without the times.
fn entries(pod: &Pod<'_>, container: &str) -> Vec<String> {
    let path = pod.state_dir().join("logs").join(container).join("0.log");
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = text.split_terminator('\n');
    let entries = lines.map(|line| line.split_once(' ').unwrap().1);
    entries.map(str::to_owned).collect()
}

/// What we hold the pieces of a log against that somebody looked at: `F` only where a line ends.
fn joined(entries: &[String]) -> String {
    let piece = |entry: &String| match entry.split_at("stdout F ".len()) {
        ("stdout F ", text) => format!("{text}\n"),
        ("stdout P ", text) => text.to_owned(),
        _ => panic!("{entry}"),
    };
    entries.iter().map(piece).collect()
}

/// A terminal in which `pod attach` runs.
struct Window {
    master: File,
    modes: Termios,
    child: Child,
    seen: String,
}

impl Window {
    fn open(case: &Case, pod: &Pod<'_>, options: &[&str], rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        fcntl_setfl(&master, OFlags::NONBLOCK).unwrap();
        let ours: OwnedFd = ioctl_tiocgptpeer(&master, flags).unwrap();
        resize(&master, rows, columns);
        let runtime = case.pod_runtime();
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(runtime.get_program());
        command
            .args(runtime.get_args())
            .args(["attach", &pod.name])
            .args(options)
            .env("RUNP_TEST", &case.token)
            .stdin(Stdio::from(ours.try_clone().unwrap()))
            .stdout(Stdio::from(ours.try_clone().unwrap()))
            .stderr(Stdio::from(ours.try_clone().unwrap()));
        Self {
            modes: tcgetattr(&ours).unwrap(),
            child: command.spawn().unwrap(),
            master: File::from(master),
            seen: String::new(),
        }
    }

    /// The modes of our terminal.
    fn modes(&self) -> LocalModes {
        tcgetattr(&self.master).unwrap().local_modes
    }

    fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// What has come out of the terminal since the last time.
    fn read(&mut self) -> &str {
        let mut buffer = [0; 4096];
        while let Ok(count) = rustix::io::read(&self.master, &mut buffer) {
            if count == 0 {
                break;
            }
            self.seen += &String::from_utf8_lossy(&buffer[..count]);
        }
        &self.seen
    }

    /// Waits until this is seen, and forgets it.
    #[track_caller]
    fn shows(&mut self, text: &str) {
        let last = RefCell::new(String::new());
        let at = eventually_or(
            || {
                last.replace(self.read().to_owned());
                last.borrow().find(text)
            },
            || format!("{text:?} in {last:?}"),
        );
        self.seen.drain(..at + text.len());
    }

    /// Waits until it has ended; our terminal is as before.
    #[track_caller]
    fn ends(mut self) -> ExitStatus {
        let status = eventually("attach ends", || {
            self.read();
            self.child.try_wait().unwrap()
        });
        // Shown if the test fails: its error is the last thing.
        let last = &self.seen.as_bytes()[self.seen.len().saturating_sub(300)..];
        eprintln!("attach: {status}: {}", String::from_utf8_lossy(last));
        assert_eq!(self.modes(), self.modes.local_modes, "{}", self.seen);
        status
    }
}

fn resize(terminal: &impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

#[test]
fn a_container_with_a_terminal_logs_what_that_gives() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let script =
        "test -t 0 && test -t 1 && test -t 2 && echo all; echo err >&2; stat -c %t /dev/console
        : < /dev/tty && echo controls; echo $TERM; printf rest";
    let mut side = on_a_terminal(
        "side",
        &format!("{script}; trap 'exit 0' TERM; while :; do sleep 0.02; done"),
        &[],
    );
    side["restartPolicy"] = json!("Always");
    let mut app = on_a_terminal("app", script, &[]);
    app["env"] = json!([{"name": "TERM", "value": "dumb"}]);
    app["securityContext"] = json!({"runAsUser": 1000, "readOnlyRootFilesystem": true});
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "initContainers": [side, on_a_terminal("init", script, &[])],
            "containers": [app, sh("none", "test -t 1 || echo $TERM none")],
        }),
    );
    // In the foreground: nothing of it is typed or shown here.
    let done = pod.run().ok();
    assert!(!done.stdout.contains("controls"), "{done:?}");
    let expected = |term: &str| {
        let lines = ["all", "err", "88", "controls", term];
        let lines = lines.map(|line| format!("stdout F {line}\r"));
        [&lines[..], &["stdout P rest".to_owned()]].concat()
    };
    assert_eq!(entries(&pod, "init"), expected("xterm"));
    assert_eq!(entries(&pod, "side"), expected("xterm"));
    assert_eq!(entries(&pod, "app"), expected("dumb"));
    assert_eq!(entries(&pod, "none"), ["stdout F none"]);
    let status = pod.status();
    assert_eq!(status["spec"]["containers"][0]["tty"], true);
    assert_eq!(terminated(&status, "app")["exitCode"], 0);
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn a_planned_container_has_a_terminal_in_its_bundle() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let apps = json!([on_a_terminal("app", "tty", &[]), sh("none", "tty")]);
    let pod = pod(&case, "Never", apps);
    let dir = case.dir().join("bundles");
    let manifest = pod.dir.join("pod.yaml");
    let [manifest, out] = [&manifest, &dir].map(|path| path.to_str().unwrap());
    case.pod(["plan", manifest, "--output", out]).ok();
    for (name, has_one) in [("app", true), ("none", false)] {
        let config = fs::read(dir.join(name).join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["process"]["terminal"], has_one, "{config:#}");
    }
}

#[test]
fn who_attaches_has_the_terminal() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shell = on_a_terminal("app", "PS1='ready> ' exec sh -i", &["stdin"]);
    let pod = pod(&case, "Never", json!([shell]));
    pod.run_detached();
    let app = pod.until_running("app");
    let supervisor = pod.supervisor();

    let mut first = Window::open(&case, &pod, &["-it"], 33, 111);
    // It may have been written long before.
    first.shows("ready> ");
    assert!(!first.modes().contains(LocalModes::ECHO), "raw");
    first.types("x=$((40+2)); stty size\r");
    first.shows("33 111\r\n");
    resize(&first.master, 44, 122);
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    let its = rustix::fs::open(format!("/proc/{app}/fd/0"), flags, Mode::empty()).unwrap();
    eventually("the new size comes through", || {
        (tcgetwinsize(&its).unwrap().ws_row == 44).then_some(())
    });
    drop(its);
    first.types("stty size\r");
    first.shows("44 122\r\n");
    let until_busy = |busy: bool| {
        eventually("the terminal is another program's, or the shell's", || {
            let stat = fs::read_to_string(format!("/proc/{app}/stat")).unwrap();
            // proc(5), 8: tpgid.
            let after_name = stat.rsplit_once(") ").unwrap().1;
            let foreground: i32 = after_name.split(' ').nth(5).unwrap().parse().unwrap();
            ((foreground != app) == busy).then_some(())
        });
    };
    // Also what is typed to the process that reads.
    first.types("sleep 1000; echo inter\"\"rupted\r");
    first.shows("sleep 1000; echo");
    until_busy(true);
    first.types("\x03");
    until_busy(false);
    // Somebody else only looks on.
    let mut other = Window::open(&case, &pod, &["-c", "app"], 10, 20);
    other.shows("ready> ");
    first.types("echo both $x\r");
    first.shows("both 42\r\n");
    other.shows("both 42");
    other.types("\x03");
    assert_eq!(other.ends().code(), Some(128 + libc::SIGINT));
    // The first of the keys that leave is a key like others before any other.
    first.types("cat -v\r");
    until_busy(true);
    first.types("a\x10b\r");
    first.shows("a^Pb\r\na^Pb\r\n");
    first.types("\x04");
    until_busy(false);
    first.types("echo left\r\x10");
    first.shows("left\r\n");
    first.types("\x11");
    assert_eq!(first.ends().code(), Some(0));
    assert!(is_running(&pod.status(), "app"));

    let mut second = Window::open(&case, &pod, &["-c", "app", "-i"], 20, 60);
    second.shows("ready> ");
    second.types("echo it is $x\r");
    second.shows("it is 42\r\n");
    // Who goes without a word.
    process::signal(
        second.child.id().cast_signed(),
        rustix::process::Signal::TERM,
    );
    assert_eq!(second.ends().code(), Some(128 + libc::SIGTERM));
    assert!(is_running(&pod.status(), "app"));

    let mut third = Window::open(&case, &pod, &["-i", "-t"], 20, 60);
    third.shows("ready> ");
    process::kill(supervisor);
    third.types("echo still $x\r");
    third.shows("still 42\r\n");
    assert_ne!(pod.supervisor(), supervisor);
    third.types("exit 7\r");
    assert_eq!(third.ends().code(), Some(0));
    let ended = pod.until_phase("Failed");
    // Before, nobody may have seen how one ended whose supervisor had been killed.
    if kernel_at_least(6, 15) {
        assert_eq!(terminated(&ended, "app")["exitCode"], 7);
    }
    let log = joined(&entries(&pod, "app"));
    for line in ["33 111\r\n", "it is 42\r\n", "still 42\r\n"] {
        assert_eq!(log.matches(line).count(), 1, "{line:?} in {log:?}");
    }
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn a_terminal_outlives_the_supervisor() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let mut app = shared.container(
        "app",
        "stty -echo; echo before
         until [ -e /shared/go ]; do sleep 0.02; done
         echo meanwhile; : > /shared/gone
         read -r line; echo got $line; exec sleep 1000",
    );
    (app["tty"], app["stdin"]) = (json!(true), json!(true));
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 0, "containers": [app],
            "volumes": [shared.volume()]}),
    );
    pod.run_detached();
    let pid = pod.until_running("app");
    eventually("it writes", || {
        pod.log("app").contains("before").then_some(())
    });
    process::kill(pod.supervisor());
    File::create(shared.path.join("go")).unwrap();
    eventually("it writes while nobody reads", || {
        shared.path.join("gone").exists().then_some(())
    });
    let mut window = Window::open(&case, &pod, &["-it"], 24, 80);
    window.types("it\r");
    window.shows("got it\r\n");
    assert_eq!(pod.log("app"), "before\r\nmeanwhile\r\ngot it\r\n");
    let status = pod.status();
    assert_eq!(container_status(&status, "app")["restartCount"], 0);
    assert_eq!(pod.until_running("app"), pid);
    // The next run has another one.
    process::kill(pid);
    assert_eq!(window.ends().code(), Some(0));
    pod.until("it runs again", |pod| {
        is_running(pod, "app") && container_status(pod, "app")["restartCount"] == 1
    });
    let mut window = Window::open(&case, &pod, &["-it"], 24, 80);
    window.types("another\r");
    window.shows("got another\r\n");
    pod.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn nobody_waits_for_who_does_not_read() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let mut deaf = shared.container("deaf", "stty raw -echo; : > /shared/raw; exec sleep 1000");
    let mut loud = shared.container(
        "loud",
        "until [ -e /shared/go ]; do sleep 0.02; done; stty -opost; seq 1 100000",
    );
    for container in [&mut deaf, &mut loud] {
        (container["tty"], container["stdin"]) = (json!(true), json!(true));
    }
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [deaf, loud],
            "volumes": [shared.volume()]}),
    );
    pod.run_detached();
    pod.until_running("loud");
    eventually("its terminal holds little", || {
        shared.path.join("raw").exists().then_some(())
    });
    // More than a terminal holds.
    let (stdin, mut keyboard) = std::io::pipe().unwrap();
    let typist = std::thread::spawn(move || keyboard.write_all(&[b'x'; 100_000]));
    let mut attach = case.pod_runtime();
    attach.args(["attach", &pod.name, "-c", "deaf", "-i"]);
    attach.stdin(Stdio::from(stdin));
    let typing = case.begin(attach);
    // One who sees nothing of what he is shown.
    let window = Window::open(&case, &pod, &["-c", "loud"], 24, 80);
    let viewer = window.child.id().cast_signed();
    eventually("it is attached", || {
        let files = process::descriptors(viewer);
        // The last that it opens. For a moment it has files of ours, too: vfork(2) returns before execve(2) closes them.
        files
            .values()
            .any(|file| file.contains("[signalfd]"))
            .then_some(())
    });
    process::signal(viewer, rustix::process::Signal::STOP);
    File::create(shared.path.join("go")).unwrap();
    pod.until("all is written", |pod| !is_running(pod, "loud"));
    let all: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    assert!(joined(&entries(&pod, "loud")) == all, "nothing is lost");
    process::signal(viewer, rustix::process::Signal::CONT);
    assert_eq!(window.ends().code(), Some(0));
    pod.stop(&[]).ok();
    typing.end().ok();
    // Whoever types for it is told that nobody reads any more.
    let _ = typist.join().unwrap();
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn a_terminal_is_only_for_who_has_one_and_types_only_where_somebody_reads() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mute = on_a_terminal(
        "mute",
        "trap 'stty size' WINCH; stty size; while :; do sleep 0.02; done",
        &[],
    );
    let once = on_a_terminal("once", "cat; echo over", &["stdin", "stdinOnce"]);
    let mut none = sh("none", "exec sleep 1000");
    none["stdin"] = json!(true);
    let pod = pod(&case, "Never", json!([mute, once, none]));
    pod.run_detached();
    for name in ["mute", "once", "none"] {
        pod.until_running(name);
    }
    case.pod(["attach", &pod.name, "-c", "none", "-it"])
        .fails_saying(&["container \"none\" has no terminal", "tty: true"]);
    case.pod(["attach", &pod.name, "-c", "mute", "-it"])
        .fails_saying(&["container \"mute\" reads nothing", "stdin: true"]);

    let mut window = Window::open(&case, &pod, &["-c", "mute", "-t"], 31, 91);
    window.shows("31 91\r");
    assert!(
        window.modes().contains(LocalModes::ECHO),
        "nothing is typed"
    );
    window.types("\x03");
    assert_eq!(window.ends().code(), Some(128 + libc::SIGINT));
    // A window of the same size is drawn again.
    let mut window = Window::open(&case, &pod, &["-c", "mute", "-t"], 31, 91);
    window.shows("31 91\r");
    window.types("\x03");
    window.ends();

    // What is no terminal has an end.
    let (stdin, mut keyboard) = std::io::pipe().unwrap();
    keyboard.write_all(b"last words\n").unwrap();
    drop(keyboard);
    let mut attach = case.pod_runtime();
    attach.args(["attach", &pod.name, "-c", "once", "-i"]);
    attach.stdin(Stdio::from(stdin));
    let seen = case.begin(attach).end().ok().stdout;
    assert_eq!(seen, "last words\r\nlast words\r\nover\r\n");
    pod.delete_force().ok();
    case.assert_nothing_left();
}
