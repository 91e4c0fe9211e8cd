//! `NOTIFY_SOCKET`: what a service manager learns of a container.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command};

use crate::support::{Bundle, Case, PATIENCE, eventually, is_runp};

/// The service manager.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(case: &Case) -> Self {
        let path = case.dir().join("manager.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    /// The runtime as a service of ours.
    fn service(&self, case: &Case, args: &[&str]) -> Command {
        let mut command = case.runtime();
        command.args(args).env("NOTIFY_SOCKET", &self.path);
        command
    }

    /// That all was said: runc 1.2 and newer wait half a minute until this is heard.
    fn hears_barrier(&self) {
        assert_eq!(self.hears(), "BARRIER=1");
    }

    /// The next message. A descriptor that comes with it is closed, which is what ends a barrier.
    fn hears(&self) -> String {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length])
            .trim_end()
            .to_owned()
    }
}

/// Says something from inside the container, once it can.
fn say(c: &Bundle<'_>, message: &str) {
    let container = UnixDatagram::unbound().unwrap();
    eventually("the container can notify", || {
        // While it is being made it has no pid yet.
        let path = format!("/proc/{}/root/run/notify/notify.sock", c.pid());
        container.connect(path).ok()
    });
    container.send(message.as_bytes()).unwrap();
}

fn ends_well(child: &mut Child) {
    let status = eventually("it returns", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[test]
fn start_waits_until_the_container_is_ready_and_tells_the_manager_its_pid() {
    let Some(case) = Case::new(&[]) else { return };
    let manager = Manager::new(&case);
    let c = case.bundle("c").args(&["/bin/sleep", "1000"]);
    let path = c.path.to_str().unwrap();
    case.finish(manager.service(&case, &["create", "--bundle", path, &c.id]))
        .ok();

    let mut start = manager.service(&case, &["start", &c.id]).spawn().unwrap();
    say(&c, "STATUS=about to be\n");
    eventually("the program is told where", || {
        let environment = fs::read_to_string(format!("/proc/{}/environ", c.pid())).unwrap();
        let expected = "NOTIFY_SOCKET=/run/notify/notify.sock";
        environment.split('\0').any(|v| v == expected).then_some(())
    });
    assert!(start.try_wait().unwrap().is_none(), "it is not ready");
    say(&c, "READY=1\n");
    assert_eq!(manager.hears(), "READY=1");
    assert_eq!(manager.hears(), format!("MAINPID={}", c.pid()));
    manager.hears_barrier();
    ends_well(&mut start);
    c.delete_force().ok();
}

#[test]
fn a_detached_run_waits_too_and_no_longer_than_the_container_lives() {
    let Some(case) = Case::new(&[]) else { return };
    let manager = Manager::new(&case);
    let c = case.bundle("c").args(&["/bin/sleep", "1000"]);
    let run = [
        "run",
        "--detach",
        "--bundle",
        c.path.to_str().unwrap(),
        &c.id,
    ];
    let mut command = manager.service(&case, &run);
    let mut child = command.spawn().unwrap();
    eventually("it runs", || {
        case.run(["state", &c.id]).status.success().then_some(())
    });
    say(&c, "READY=1");
    assert_eq!(manager.hears(), "READY=1");
    assert_eq!(manager.hears(), format!("MAINPID={}", c.pid()));
    manager.hears_barrier();
    ends_well(&mut child);
    c.delete_force().ok();

    if !is_runp() {
        return; // runc 1.1 takes a zombie for alive
    }
    let c = c.sh("exit 3");
    ends_well(&mut command.spawn().unwrap());
    c.delete().ok();
}

#[test]
fn in_the_foreground_the_runtime_stays_the_main_process() {
    let Some(case) = Case::new(&[]) else { return };
    let manager = Manager::new(&case);
    let c = case.bundle("c").args(&["/bin/sleep", "1000"]);
    let run = ["run", "--bundle", c.path.to_str().unwrap(), &c.id];
    let mut child = manager.service(&case, &run).spawn().unwrap();
    eventually("it runs", || {
        case.run(["state", &c.id]).status.success().then_some(())
    });
    say(&c, "READY=1");
    assert_eq!(manager.hears(), "READY=1");
    assert_eq!(manager.hears(), format!("MAINPID={}", child.id()));
    manager.hears_barrier();
    c.kill("KILL").ok();
    let status = eventually("it returns", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(137));
    case.assert_nothing_left();
}

#[test]
fn without_a_manager_there_is_nothing_to_notify() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("echo ${NOTIFY_SOCKET-none}; ls -d /run/notify 2>&1 | wc -l; test -e /run/notify || echo no");
    assert_eq!(c.prints(), "none\n1\nno\n");
}
