//! checkpoint and restore with their options: connections, locks, files and memory that criu takes only if it is asked to.
//!
//! The container's program is often Perl, the host's: busybox has no words for locks and sockets.

use std::fs;
use std::io::{Read, pipe};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::checkpoint::{Pipes, with_criu, with_pipes};
use crate::support::requires::criu;
use crate::support::{Bundle, Case, Need, PATIENCE, eventually};

/// criu interrupts what sleeps.
const SLEEP: &str = "while :; do sleep 1000; done";

const NEEDS: [Need; 2] = [Need::Criu, Need::File("/usr/bin/perl")];

/// A container with the host's Perl, which runs this.
fn perl<'a>(c: Bundle<'a>, program: &str) -> Bundle<'a> {
    let c = c.push(
        "/mounts",
        json!({"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}),
    );
    for lib in ["lib", "lib64"] {
        symlink(format!("usr/{lib}"), c.rootfs().join(lib)).unwrap();
    }
    c.args(&["/usr/bin/perl", "-e", program])
}

fn images(case: &Case) -> PathBuf {
    case.dir().join("images")
}

fn start(case: &Case, c: &Bundle<'_>) -> Pipes {
    let path = c.path.to_str().unwrap();
    with_pipes(case, &["run", "--detach", "--bundle", path, &c.id])
}

/// `checkpoint` into `dir`.
fn checkpoint(case: &Case, c: &Bundle<'_>, dir: &Path, options: &[&str]) {
    let path = dir.to_str().unwrap();
    let verb = ["checkpoint", "--image-path", path];
    with_pipes(case, &[&verb, options, &[c.id.as_str()]].concat());
}

/// criu does not do it unless it is asked to, and the container goes on.
fn is_refused(case: &Case, c: &Bundle<'_>) {
    let mut command = with_criu(case);
    command.args(["checkpoint", "--image-path"]);
    command.arg(case.dir().join("refused")).arg(&c.id);
    case.finish(command).fails_saying(&["criu", "dump.log"]);
    assert_eq!(c.status(), "running");
}

/// `restore` from `dir`.
fn restore(case: &Case, c: &Bundle<'_>, dir: &Path, options: &[&str]) -> Pipes {
    let (path, bundle) = (dir.to_str().unwrap(), c.path.to_str().unwrap());
    let verb = [
        "restore",
        "--detach",
        "--image-path",
        path,
        "--bundle",
        bundle,
    ];
    with_pipes(case, &[&verb, options, &[c.id.as_str()]].concat())
}

/// Away, and back again, with these options for both.
fn there_and_back(case: &Case, c: &Bundle<'_>, options: &[&str]) -> Pipes {
    checkpoint(case, c, &images(case), options);
    restore(case, c, &images(case), options)
}

/// The number in a file of the container.
fn number(c: &Bundle<'_>, path: &str) -> Option<u64> {
    let done = c.exec(&[], &["cat", path]);
    done.stdout.lines().last()?.parse().ok()
}

/// A file in which a number is that grows on.
#[track_caller]
fn counts(c: &Bundle<'_>, path: &str) -> u64 {
    let before = eventually("it has counted", || number(c, path));
    eventually("it counts", || number(c, path).filter(|now| *now > before))
}

/// With the loopback, through which it goes.
#[test]
fn a_connection_is_restored() {
    let Some(case) = Case::new(&[Need::Criu]) else {
        return;
    };
    // What is read is written into a file; the sender waits until somebody listens.
    let c = case.bundle("c").sh(
        "busybox mkfifo /dev/shm/none; while :; do sleep 1000; done > /dev/shm/none &
        nc -l -p 5000 < /dev/shm/none | while read i; do echo $i > /dev/shm/new; busybox mv /dev/shm/new /dev/shm/count; done &
        while ! busybox netstat -lnt | busybox grep -q :5000; do sleep 0.05; done
        i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done | nc 127.0.0.1 5000",
    );
    let _pipes = start(&case, &c);
    let before = counts(&c, "/dev/shm/count");
    is_refused(&case, &c);
    let _pipes = there_and_back(&case, &c, &["--tcp-established"]);
    assert!(counts(&c, "/dev/shm/count") > before, "it is the same one");
    let addresses = c.exec(&[], &["ip", "addr", "show", "lo"]).ok().stdout;
    for part in ["LOOPBACK,UP", "127.0.0.1/8"] {
        assert!(addresses.contains(part), "{addresses}");
    }
    c.delete_force().ok();
}

/// A network that somebody else makes again: asked for, and because something is in it that criu could not make.
#[test]
fn a_network_of_others_is_left_empty() {
    let Some(case) = Case::new(&[Need::Criu, Need::Program("ip"), Need::Program("nsenter")]) else {
        return;
    };
    let c = case.bundle("c").sh(SLEEP);
    let links = || {
        let links = c.exec(&[], &["ip", "link"]).ok().stdout;
        let names = links.lines().filter_map(|line| line.split(": ").nth(1));
        let name = |name: &str| name.split('@').next().unwrap().to_owned();
        (
            names.map(name).collect::<Vec<_>>(),
            links.contains("LOOPBACK,UP"),
        )
    };
    let lo = || vec!["lo".to_owned()];
    let _pipes = start(&case, &c);
    assert_eq!(links(), (lo(), true));
    let _pipes = there_and_back(&case, &c, &["--empty-ns", "network"]);
    assert_eq!(links(), (lo(), false));

    let veth = format!("v{}", c.pid());
    let ends = ["link", "add", &veth, "type", "veth", "peer", "name"];
    let pid = c.pid().to_string();
    let mut ip = Command::new("ip");
    ip.args(ends).args(["eth0", "netns", &pid]);
    case.finish(ip).ok();
    assert_eq!(links().0, ["lo", "eth0"]);
    fs::remove_dir_all(images(&case)).unwrap();
    let _pipes = there_and_back(&case, &c, &[]);
    assert_eq!(links(), (lo(), false));
    c.delete_force().ok();
}

#[test]
fn a_lock_is_restored() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let lock = "use Fcntl ':flock'; open F, '>', '/dev/shm/lock' or die $!;";
    let c = perl(
        case.bundle("c"),
        &format!("{lock} flock F, LOCK_EX; open G, '>', '/dev/shm/locked'; sleep 1 while 1"),
    );
    let is_locked = || {
        let program = format!("{lock} exit !flock F, LOCK_EX | LOCK_NB");
        let done = c.exec(&[], &["/usr/bin/perl", "-e", &program]);
        done.status.code() == Some(1)
    };
    let _pipes = start(&case, &c);
    eventually("it is locked", || {
        let done = c.exec(&[], &["test", "-e", "/dev/shm/locked"]);
        done.status.success().then_some(())
    });
    assert!(is_locked());
    is_refused(&case, &c);
    let _pipes = there_and_back(&case, &c, &["--file-locks"]);
    assert!(is_locked());
    c.delete_force().ok();
}

/// As that of a log daemon. criu knows it by the path that it has on the host.
#[test]
fn a_socket_of_the_host_is_connected_again() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let volume = case.dir().join("volume");
    fs::create_dir(&volume).unwrap();
    let path = volume.join("socket");
    let daemon = UnixDatagram::bind(&path).unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    let c = perl(
        case.bundle("c"),
        &format!(
            "use Socket; socket S, AF_UNIX, SOCK_DGRAM, 0; connect S, pack_sockaddr_un('{}') or die $!;
            for (;;) {{ send S, ++$i, MSG_DONTWAIT; select undef, undef, undef, .05 }}",
            path.display()
        ),
    );
    let bind =
        json!({"destination": volume, "type": "bind", "source": volume, "options": ["bind"]});
    let c = c.push("/mounts", bind);
    // criu looks for both ends in one network namespace.
    let c = c.no_namespace("network").without("/hostname");
    let hears = || -> u64 {
        let mut message = [0; 16];
        let length = daemon.recv(&mut message).unwrap();
        let text = std::str::from_utf8(&message[..length]).unwrap();
        text.parse().unwrap()
    };
    let _pipes = start(&case, &c);
    assert_eq!(hears(), 1);
    is_refused(&case, &c);
    checkpoint(&case, &c, &images(&case), &["--ext-unix-sk"]);
    // What it has still said.
    daemon.set_nonblocking(true).unwrap();
    let mut message = [0; 16];
    while daemon.recv(&mut message).is_ok() {}
    daemon.set_nonblocking(false).unwrap();
    let _pipes = restore(&case, &c, &images(&case), &["--ext-unix-sk"]);
    let first = hears();
    assert!(first > 1, "it went on, and did not begin again: {first}");
    c.delete_force().ok();
}

#[test]
fn a_file_that_has_lost_its_name_is_read_on() {
    let Some(case) = Case::new(&[Need::Criu]) else {
        return;
    };
    let c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .sh("echo text > /opt/file; ln /opt/file /opt/other; exec 5< /opt/file; rm /opt/file; touch /dev/shm/ready
            while ! test -e /dev/shm/go; do sleep 0.05; done; cat <&5 > /dev/shm/read; while :; do sleep 1000; done");
    let _pipes = start(&case, &c);
    eventually("it has no name", || {
        let done = c.exec(&[], &["test", "-e", "/dev/shm/ready"]);
        done.status.success().then_some(())
    });
    is_refused(&case, &c);
    checkpoint(&case, &c, &images(&case), &["--link-remap"]);
    let _pipes = restore(&case, &c, &images(&case), &[]);
    c.exec(&[], &["touch", "/dev/shm/go"]).ok();
    eventually("it is read", || {
        let read = c.exec(&[], &["cat", "/dev/shm/read"]).stdout;
        (read == "text\n").then_some(())
    });
    assert_eq!(c.exec(&[], &["ls", "/opt"]).ok().stdout, "other\n");
    c.delete_force().ok();
}

/// Limits are put back in each mode but `ignore`; `strict` refuses cgroups that are there, as the container's is by then.
#[test]
fn cgroups_are_managed_in_each_mode() {
    let Some(case) = Case::new(&[Need::Criu]) else {
        return;
    };
    let c = case.bundle("c").sh(SLEEP);
    let _pipes = start(&case, &c);
    let cgroups = || fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
    let before = cgroups();
    let logs = case.dir().join("logs");
    fs::create_dir(&logs).unwrap();
    for mode in ["ignore", "soft", "full"] {
        let logs = logs.join(mode);
        let options = [
            "--manage-cgroups-mode",
            mode,
            "--work-path",
            logs.to_str().unwrap(),
        ];
        let _pipes = there_and_back(&case, &c, &options);
        assert_eq!(cgroups(), before, "{mode}");
        for log in ["dump.log", "restore.log"] {
            assert!(logs.join(log).exists(), "{mode}: {log}");
            assert!(!images(&case).join(log).exists(), "{mode}: {log}");
        }
        fs::remove_dir_all(images(&case)).unwrap();
    }
    let strict = ["--manage-cgroups-mode", "strict"];
    checkpoint(&case, &c, &images(&case), &strict);
    let mut command = with_criu(&case);
    command
        .args(["restore", "--detach", "--bundle"])
        .arg(&c.path);
    command.arg("--image-path").arg(images(&case));
    command.args(strict).arg(&c.id);
    case.finish(command).fails_saying(&["restore.log"]);
    case.assert_nothing_left();
}

/// A container with 8 MiB that it has written to, and a count that it keeps there.
fn with_memory<'a>(case: &'a Case, name: &str) -> Bundle<'a> {
    perl(
        case.bundle(name),
        "$memory = 'x' x (8 << 20); open F, '>', '/dev/shm/count';
        for (;;) { substr($memory, 4 << 20, 8) = sprintf '%8d', ++$i; sysseek F, 0, 0;
            syswrite F, 0 + substr $memory, 4 << 20, 8; select undef, undef, undef, .05 }",
    )
}

fn pages(dir: &Path) -> u64 {
    let is_pages = |name: &str| name.starts_with("pages-") && name.ends_with(".img");
    let files = fs::read_dir(dir).unwrap().flatten();
    let files = files.filter(|file| is_pages(&file.file_name().to_string_lossy()));
    // What was removed is a hole.
    files
        .map(|file| std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512)
        .sum()
}

#[test]
fn memory_is_saved_in_steps() {
    let needs = [NEEDS[0], NEEDS[1], Need::CriuFeature("mem_dirty_track")];
    let Some(case) = Case::new(&needs) else {
        return;
    };
    let c = with_memory(&case, "c");
    let _pipes = start(&case, &c);
    let before = counts(&c, "/dev/shm/count");
    let all = case.dir().join("all");
    fs::create_dir(&all).unwrap();
    let step = |name: &str| all.join(name);
    checkpoint(&case, &c, &step("1"), &["--pre-dump"]);
    assert_eq!(c.status(), "running");
    let whole = pages(&step("1"));
    assert!(whole > 8 << 20, "{whole}");
    let parent = |name| ["--pre-dump", "--auto-dedup", "--parent-path", name];
    checkpoint(&case, &c, &step("2"), &parent("../1"));
    assert!(pages(&step("2")) < whole / 2, "only what has changed");
    assert!(pages(&step("1")) < whole, "what has changed is removed");
    checkpoint(&case, &c, &step("3"), &["--parent-path", "../2"]);
    let _pipes = restore(&case, &c, &step("3"), &[]);
    assert!(counts(&c, "/dev/shm/count") > before);
    c.delete_force().ok();
}

/// criu as a daemon, which is ended with the test.
struct Daemon(Child);

impl Daemon {
    fn start(case: &Case, dir: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(criu().unwrap());
        command.args(args).arg("--images-dir").arg(dir);
        command.env("RUNP_TEST", &case.token).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free, and likely stays so until it is used.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn is_listened_to(port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let (port, listens) = (format!(":{port:04X}"), "0A");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().unwrap().ends_with(&port) && fields.nth(1) == Some(listens)
    })
}

#[test]
fn memory_goes_to_a_page_server() {
    let Some(case) = Case::new(&NEEDS) else {
        return;
    };
    let c = with_memory(&case, "c");
    let _pipes = start(&case, &c);
    let before = counts(&c, "/dev/shm/count");
    fs::create_dir(images(&case)).unwrap();
    let port = free_port();
    let number = port.to_string();
    let args = ["page-server", "--address", "127.0.0.1", "--port", &number];
    let _server = Daemon::start(&case, &images(&case), &args);
    eventually("the page server listens", || {
        is_listened_to(port).then_some(())
    });
    let dumped = case.dir().join("dumped");
    let address = format!("127.0.0.1:{port}");
    checkpoint(&case, &c, &dumped, &["--page-server", &address]);
    assert_eq!(pages(&dumped), 0);
    assert!(pages(&images(&case)) > 8 << 20);
    for file in fs::read_dir(&dumped).unwrap().flatten() {
        let to = images(&case).join(file.file_name());
        if !to.exists() {
            fs::copy(file.path(), to).unwrap();
        }
    }
    let _pipes = restore(&case, &c, &images(&case), &[]);
    assert!(counts(&c, "/dev/shm/count") > before);
    c.delete_force().ok();
}

/// It goes on before its memory is there, in a new container; the old one is gone once all of it is.
#[test]
fn memory_comes_when_it_is_needed() {
    // criu fills pipes that are larger than others may make them.
    let needs = [Need::CriuFeature("uffd-noncoop"), Need::SysResource];
    let Some(case) = Case::new(&[&NEEDS[..], &needs].concat()) else {
        return;
    };
    let (old, new) = (with_memory(&case, "old"), with_memory(&case, "new"));
    let _pipes = start(&case, &old);
    let before = counts(&old, "/dev/shm/count");
    let port = free_port();
    let (number, address) = (port.to_string(), format!("127.0.0.1:{port}"));
    // The cgroup of the old container is not that of the new one.
    let options = ["--lazy-pages", "--manage-cgroups-mode", "ignore"];
    let (mut ready, status) = pipe().unwrap();
    let mut command = with_criu(&case);
    command.arg("checkpoint").args(options);
    command.args(["--page-server", &address, "--status-fd", "0"]);
    command.arg("--image-path").arg(images(&case)).arg(&old.id);
    command.stdin(status);
    let checkpoint = case.begin(command);
    let mut byte = [1];
    ready.read_exact(&mut byte).unwrap();
    assert_eq!(byte, [0]);
    let saved = pages(&images(&case));
    assert!(saved < 4 << 20, "{saved}");

    let args = ["--page-server", "--address", "127.0.0.1", "--port", &number];
    let args = [&["lazy-pages"][..], &args].concat();
    let _daemon = Daemon::start(&case, &images(&case), &args);
    eventually("the daemon listens", || {
        let socket = images(&case).join("lazy-pages.socket");
        socket.exists().then_some(())
    });
    let _pipes = restore(&case, &new, &images(&case), &options);
    assert!(counts(&new, "/dev/shm/count") > before);
    checkpoint.end().ok();
    case.run(["state", &old.id]).fails();
    assert_eq!(new.status(), "running");
    new.delete_force().ok();
}

/// Under another profile than the one that it was saved with.
#[test]
fn an_apparmor_profile_can_be_another_afterwards() {
    let Some(case) = Case::new(&[Need::Criu, Need::AppArmor]) else {
        return;
    };
    let profiles = ["before", "after"].map(|name| format!("{}-{name}", case.token));
    let file = case.dir().join("profiles");
    let rules = "file,\n capability,\n signal,\n ptrace,\n network,\n mount,\n umount,\n";
    let source = profiles.iter().map(|profile| {
        format!("profile {profile} flags=(attach_disconnected,mediate_deleted) {{\n {rules}}}\n")
    });
    fs::write(&file, source.collect::<String>()).unwrap();
    let parser = |option: &str| {
        let mut command = Command::new("apparmor_parser");
        command.args([option, "--skip-cache"]).arg(&file);
        case.finish(command).ok();
    };
    parser("--add");
    let c = case
        .bundle("c")
        .with("/process/apparmorProfile", json!(profiles[0]))
        .sh(SLEEP);
    let profile = || {
        let current = fs::read_to_string(format!("/proc/{}/attr/current", c.pid())).unwrap();
        current.split(' ').next().unwrap().trim_end().to_owned()
    };
    let _pipes = start(&case, &c);
    assert_eq!(profile(), profiles[0]);
    let _pipes = there_and_back(&case, &c, &[]);
    assert_eq!(profile(), profiles[0]);
    fs::remove_dir_all(images(&case)).unwrap();
    checkpoint(&case, &c, &images(&case), &[]);
    let other = format!("apparmor:{}", profiles[1]);
    let _pipes = restore(&case, &c, &images(&case), &["--lsm-profile", &other]);
    assert_eq!(profile(), profiles[1]);
    c.delete_force().ok();
    parser("--remove");
}
