//! checkpoint and restore.

use std::collections::HashMap;
use std::env::{join_paths, split_paths};
use std::io::{PipeReader, PipeWriter, Read, pipe};
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::json;

use super::terminal::receive_descriptor;
use crate::support::requires::criu;
use crate::support::{Bundle, Case, Need, eventually, is_runp, process};

/// The other ends of standard input, output and error: files of the host that are no pipes cannot be restored.
pub(super) struct Pipes {
    _input: PipeWriter,
    _output: PipeReader,
}

/// The runtime with its global options, of which `--criu` is one where it is not ignored; other runtimes look for criu on the
/// PATH.
pub(super) fn with_criu(case: &Case) -> Command {
    let criu = criu().unwrap();
    let mut command = case.runtime();
    if is_runp() {
        command.arg("--criu").arg(criu);
    } else {
        let path = std::env::var_os("PATH").unwrap();
        let dirs = std::iter::once(criu.parent().unwrap().into()).chain(split_paths(&path));
        command.env("PATH", join_paths(dirs).unwrap());
    }
    command
}

/// Runs the runtime with pipes as its standard files.
#[track_caller]
pub(super) fn with_pipes(case: &Case, args: &[&str]) -> Pipes {
    let (input, ours) = pipe().unwrap();
    let (mut output, theirs) = pipe().unwrap();
    let mut command = with_criu(case);
    command.args(args);
    command
        .stdin(input)
        .stdout(theirs.try_clone().unwrap())
        .stderr(theirs);
    let status = command.status().unwrap();
    drop(command); // and with it our copies of the container's ends
    if !status.success() {
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        panic!("{status}: {text}");
    }
    Pipes {
        _input: ours,
        _output: output,
    }
}

/// A container that counts, in a tmpfs of its own, which is part of a checkpoint.
fn counting<'a>(case: &'a Case, name: &str) -> Bundle<'a> {
    let volume = case.dir().join("volume");
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::write(volume.join("file"), "of the host\n").unwrap();
    let bind =
        json!({"destination": "/opt", "type": "bind", "source": volume, "options": ["bind"]});
    case.bundle(name)
        .push("/mounts", bind)
        .with("/linux/maskedPaths", json!(["/proc/keys", "/proc/acpi"]))
        .sh("i=0; while :; do i=$((i+1)); echo $i >/dev/shm/new; mv /dev/shm/new /dev/shm/count; sleep 0.05; done")
}

#[track_caller]
fn count(c: &Bundle<'_>) -> u32 {
    eventually("it counts", || {
        c.exec(&[], &["cat", "/dev/shm/count"])
            .stdout
            .trim()
            .parse()
            .ok()
    })
}

#[test]
fn a_container_goes_on_where_its_checkpoint_found_it() {
    let Some(case) = Case::new(&[Need::Criu]) else {
        return;
    };
    let c = counting(&case, "c");
    let (path, images) = (c.path.to_str().unwrap(), case.dir().join("images"));
    let images = images.to_str().unwrap();
    let _pipes = with_pipes(&case, &["run", "--detach", "--bundle", path, &c.id]);
    eventually("it has counted a little", || (count(&c) > 5).then_some(()));
    let cgroups = || std::fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    let cgroups_before = cgroups();
    assert!(cgroups_before.contains(&c.id), "{cgroups_before}");

    let checkpoint = ["checkpoint", "--image-path", images];
    with_pipes(
        &case,
        &[&checkpoint[..], &["--leave-running", &c.id]].concat(),
    );
    assert_eq!(c.status(), "running");
    let before = count(&c);
    with_pipes(&case, &[&checkpoint[..], &[&c.id]].concat());
    case.run(["state", &c.id]).fails();
    case.assert_nothing_left();

    let restore = [
        "restore",
        "--detach",
        "--image-path",
        images,
        "--bundle",
        path,
        &c.id,
    ];
    let _pipes = with_pipes(&case, &restore);
    assert_eq!(c.status(), "running");
    let after = count(&c);
    assert!(
        after >= before && after < before + 100,
        "{before}, then {after}"
    );
    eventually("it counts on", || (count(&c) > after).then_some(()));
    // The host's files, a mask, the cgroups and the limits of an exec are as they were.
    assert_eq!(
        c.exec(&[], &["cat", "/opt/file"]).ok().stdout,
        "of the host\n"
    );
    assert_eq!(c.exec(&[], &["cat", "/proc/keys"]).ok().stdout, "");
    assert_eq!(cgroups(), cgroups_before);
    c.delete_force().ok();
}

/// Whoever connects a container to a network does so in a hook, and once more for the namespaces of a restored one.
#[test]
fn hooks_are_called_for_the_new_namespaces() {
    let Some(case) = Case::new(&[Need::Criu]) else {
        return;
    };
    let log = case.dir().join("hooks");
    let script = |word: &str| {
        let pid = r#"sed 's/.*"pid": *\([0-9]*\).*/\1/'"#;
        format!(
            "pid=$({pid}); echo {word} $(readlink /proc/$pid/ns/net) >>{}",
            log.display()
        )
    };
    let hook = |word| json!([{"path": "/bin/sh", "args": ["sh", "-c", script(word)]}]);
    let c = counting(&case, "c").with(
        "/hooks",
        json!({"prestart": hook("first"), "createRuntime": hook("second")}),
    );
    let (path, images) = (c.path.to_str().unwrap(), case.dir().join("images"));
    let images = images.to_str().unwrap();
    let network = || process::namespace(c.pid(), "net").unwrap();
    let _pipes = with_pipes(&case, &["run", "--detach", "--bundle", path, &c.id]);
    let mut networks = vec![network()];
    with_pipes(&case, &["checkpoint", "--image-path", images, &c.id]);
    let restore = ["restore", "--detach", "--image-path", images, "--bundle"];
    let _pipes = with_pipes(&case, &[&restore[..], &[path, &c.id]].concat());
    networks.push(network());
    let called = std::fs::read_to_string(&log).unwrap();
    let expected = networks
        .iter()
        .map(|net| format!("first {net}\nsecond {net}\n"));
    assert_eq!(called, expected.collect::<String>());
    c.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_terminal_is_restored() {
    let Some(case) = Case::new(&[Need::Criu]) else {
        return;
    };
    let c = case
        .bundle("c")
        .with("/process/terminal", json!(true))
        .sh("read line; echo got $line; sleep 1000");
    let (path, images) = (c.path.to_str().unwrap(), case.dir().join("images"));
    let images = images.to_str().unwrap();
    let socket = case.dir().join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let socket = socket.to_str().unwrap();
    let run = [
        "run",
        "--detach",
        "--console-socket",
        socket,
        "--bundle",
        path,
        &c.id,
    ];
    with_pipes(&case, &run);
    let before = receive_descriptor(&listener.accept().unwrap().0);
    let checkpoint = ["checkpoint", "--shell-job", "--image-path", images, &c.id];
    with_pipes(&case, &checkpoint);
    drop(before);

    let restore = [
        "restore",
        "--shell-job",
        "--detach",
        "--console-socket",
        socket,
    ];
    let rest = ["--image-path", images, "--bundle", path, &c.id];
    with_pipes(&case, &[&restore[..], &rest].concat());
    let console = receive_descriptor(&listener.accept().unwrap().0);
    rustix::io::write(&console, b"hello\n").unwrap();
    let mut text = String::new();
    eventually("it has read", || {
        let mut buffer = [0; 256];
        let length = rustix::io::read(&console, &mut buffer).unwrap();
        text += &String::from_utf8_lossy(&buffer[..length]);
        text.contains("got hello").then_some(())
    });
    c.delete_force().ok();
}

#[test]
fn what_cannot_be_is_told_and_the_container_goes_on() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case.bundle("c").sh("sleep 1000");
    let images = case.dir().join("images");
    let images = images.to_str().unwrap();
    let checkpoint =
        |criu: &str| case.run(["--criu", criu, "checkpoint", "--image-path", images, &c.id]);
    checkpoint("criu").fails_saying(&["does not exist"]);
    c.create().ok();
    checkpoint("criu").fails_saying(&["it is created"]);
    c.start().ok();
    checkpoint("no-such-criu").fails_saying(&["no-such-criu", "--criu PATH"]);
    checkpoint("/bin/true").fails_saying(&["criu"]);
    assert_eq!(c.status(), "running");
    c.delete_force().ok();
    // A restore that fails leaves nothing.
    let restore = [
        "restore",
        "--image-path",
        images,
        "--bundle",
        c.path.to_str().unwrap(),
        &c.id,
    ];
    case.run(restore).fails();
    case.assert_nothing_left();
}

/// As a container of a pod, which has its network, host name and IPC, and perhaps its processes, of another one.
#[test]
fn namespaces_of_others_are_joined_again() {
    let Some(case) = Case::new(&[Need::Criu, Need::Program("ip")]) else {
        return;
    };
    // Its shell waits for what is left of others in its pid namespace: until then their numbers are taken.
    let holder = case.bundle("holder").sh("while :; do sleep 1000; done");
    holder.run_detached().ok();
    let file = |kind: &str| format!("/proc/{}/ns/{kind}", holder.pid());
    // criu could neither save nor make it.
    let mut ip = Command::new("ip");
    let veth = format!("v{}", holder.pid());
    ip.args(["link", "add", &veth, "type", "veth", "peer", "name", "eth0"]);
    ip.args(["netns", &holder.pid().to_string()]);
    case.finish(ip).ok();
    let names = HashMap::from([
        ("net", "network"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
    ]);
    for kinds in [&["net", "ipc", "uts"][..], &["net", "pid"]] {
        let c = kinds
            .iter()
            .fold(counting(&case, kinds.last().unwrap()), |c, kind| {
                c.namespace(names[kind], Some(&file(kind)))
            });
        let c = c.without("/hostname");
        let are_joined = || {
            for kind in kinds {
                let theirs = process::namespace(holder.pid(), kind);
                assert_eq!(process::namespace(c.pid(), kind), theirs, "{kind}");
            }
        };
        let (path, images) = (c.path.to_str().unwrap(), case.dir().join(&c.id));
        let images = images.to_str().unwrap();
        let _pipes = with_pipes(&case, &["run", "--detach", "--bundle", path, &c.id]);
        are_joined();
        eventually("it has counted a little", || (count(&c) > 5).then_some(()));
        let pid = c.pid();
        with_pipes(&case, &["checkpoint", "--image-path", images, &c.id]);
        eventually("nothing is left of it", || {
            let there = process::all()
                .filter(|it| *it == pid || process::parent(*it) == Some(holder.pid()));
            (there.count() == 1).then_some(())
        });
        let restore = ["restore", "--detach", "--image-path", images, "--bundle"];
        let _pipes = with_pipes(&case, &[&restore[..], &[path, &c.id]].concat());
        are_joined();
        assert!(count(&c) > 5);
        let links = c.exec(&[], &["ip", "link"]).ok().stdout;
        assert!(links.contains("eth0"), "{links}");
        c.delete_force().ok();
    }
    holder.delete_force().ok();
    case.assert_nothing_left();
}
