//! Probes of hosts by their names.

use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::pod::container_status;
use crate::support::{Case, Need, Pod, eventually, sh};

/// Answers every question for the address of `web.pod.example` with 127.0.0.1, and others with nothing.
fn name_server() -> std::net::IpAddr {
    // Somewhere in 127.0.0.0/8, so that nobody else is there.
    let pid = std::process::id().to_be_bytes();
    let address = std::net::Ipv4Addr::new(127, 53, pid[2], pid[3].max(1));
    let socket = UdpSocket::bind((address, 53)).unwrap();
    std::thread::spawn(move || {
        let mut message = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut message).unwrap();
            let mut answer = message[..length].to_vec();
            answer[2] |= 0x80;
            if answer[12..].starts_with(b"\x03web\x03pod\x07example\0\0\x01") {
                answer[7] = 1;
                answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&answer, from).unwrap();
        }
    });
    address.into()
}

fn probed(name: &str, host: &str, port: u16) -> Value {
    let mut container = sh(name, "exec sleep 1000");
    container["readinessProbe"] =
        json!({"tcpSocket": {"host": host, "port": port}, "periodSeconds": 1, "timeoutSeconds": 5});
    container
}

#[test]
fn a_host_is_found_in_the_file_of_hosts_or_by_the_name_server() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let resolv_conf = case.dir().join("resolv.conf");
    let conf = format!("nameserver {}\nsearch pod.example\n", name_server());
    std::fs::write(&resolv_conf, conf).unwrap();
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "hostNetwork": true,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                probed("file", "localhost", port),
                probed("short", "web", port),
                probed("full", "web.pod.example", port),
                probed("unknown", "nobody.example", port),
            ],
        }),
    );
    // A machine with that name server.
    let script = "mount --bind \"$0\" /etc/resolv.conf; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", script]);
    command.arg(&resolv_conf);
    let runp = case.pod_runtime();
    command.arg(runp.get_program()).args(runp.get_args());
    command.env("RUNP_TEST", &case.token);
    command
        .args(["run", "--detach", "--name", &pod.name])
        .arg(&pod.dir);
    case.finish(command).ok();
    let status = pod.until("all that are known are ready", |pod| {
        ["file", "short", "full"]
            .iter()
            .all(|name| container_status(pod, name)["ready"] == true)
    });
    assert_eq!(container_status(&status, "unknown")["ready"], false);
    eventually("it says why", || {
        let events = case.pod(["events", "--warnings", &pod.name]).ok().stdout;
        events
            .contains("lookup nobody.example: no such host")
            .then_some(())
    });
    pod.delete_force().ok();
    case.assert_nothing_left();
}
