//! Pods whose cgroups systemd makes: the option SystemdCgroup. systemd sees the machine's pids, so these tests have a mount
//! namespace of their own only.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::client::{Client, Shim, create, exec_of};
use super::wire::{bytes_of, decode, field, number, number_of};
use super::{binary, left_in_root, private_run_dir};
use crate::support::alone::alone_with_mounts;
use crate::support::{Case, Need, eventually, process};

const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";

/// `SystemdCgroup`.
fn options() -> Vec<u8> {
    let options = [
        field(1, "containerd.runc.v1.Options"),
        field(2, number(9, 1)),
    ];
    options.concat()
}

fn world(test: &str) -> Option<Case> {
    if !alone_with_mounts(&format!("shim::systemd::{test}")) {
        return None;
    }
    let case = Case::new(&[Need::Runp, Need::Systemd, Need::PureV2])?;
    private_run_dir();
    Some(case)
}

/// The cgroup of a process, as cgroup v2 names it.
fn cgroup(pid: u64) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.trim().strip_prefix("0::").unwrap().to_owned()
}

fn is_active(unit: &str) -> bool {
    let mut systemctl = Command::new("systemctl");
    let status = systemctl.args(["--quiet", "is-active", unit]).status();
    status.unwrap().success()
}

/// A sandbox in this slice that is ready: pause's pid.
fn ready(client: &mut Client, slice: &str, pod: &str, bundle: &Path) -> u64 {
    let security = field(2, field(1, number(1, 2)));
    let linux = [field(1, slice), security].concat();
    let config = [
        field(1, "runtime.v1.PodSandboxConfig"),
        field(2, field(8, linux)),
    ];
    let path = bundle.to_str().unwrap();
    let made = [field(1, pod), field(2, path), field(4, config.concat())];
    let mut call = |method, message: &[u8]| client.call_service(SANDBOX, method, message).unwrap();
    call("CreateSandbox", &made.concat());
    number_of(&call("StartSandbox", &field(1, pod)), 1)
}

#[test]
fn a_pods_cgroups_are_systemds() {
    let Some(case) = world("a_pods_cgroups_are_systemds") else {
        return;
    };
    // A dash would make a slice in a slice.
    let slice = format!("{}.slice", case.token);
    let (id, pod) = (&*case.id("c"), &*case.id("p"));
    let cgroups = format!("{slice}:cri-containerd:{id}");
    let bundle = case.bundle("b").sh("sleep 1000");
    let bundle = bundle.with("/linux/cgroupsPath", serde_json::json!(cgroups));
    let path = bundle.rootfs().parent().unwrap().to_owned();
    let shim = Shim::with_options(&case, &bundle, &options());
    let client = &mut shim.client();
    let pause = ready(client, &slice, pod, &path);
    let scope = format!("cri-containerd-{pod}.scope");
    assert_eq!(cgroup(pause), format!("/{slice}/{scope}"));
    assert!(is_active(&scope));

    let create = [create(id, &bundle), field(10, options())].concat();
    let app = number_of(&client.ok("Create", &create), 1);
    let app_scope = format!("cri-containerd-{id}.scope");
    assert_eq!(cgroup(app), format!("/{slice}/{app_scope}"));
    client.ok("Start", &field(1, id));
    client.ok("Exec", &exec_of(id, "e", "exit 3"));
    let exec = [field(1, id), field(2, "e")].concat();
    client.ok("Start", &exec);
    assert_eq!(number_of(&client.ok("Wait", &exec), 1), 3);
    let metrics = client.call_service(SANDBOX, "SandboxMetrics", &field(1, pod));
    let metrics = decode(&bytes_of(&metrics.unwrap(), 1));
    assert!(!bytes_of(&metrics, 3).is_empty());

    for method in ["StopSandbox", "ShutdownSandbox"] {
        client
            .call_service(SANDBOX, method, &field(1, pod))
            .unwrap();
    }
    for unit in [&scope, &app_scope] {
        eventually("systemd forgets it", || (!is_active(unit)).then_some(()));
    }
    eventually("nothing is left", || {
        left_in_root().is_empty().then_some(())
    });
    end(&slice);
}

#[test]
fn a_killed_shims_scope_is_removed() {
    let Some(case) = world("a_killed_shims_scope_is_removed") else {
        return;
    };
    let slice = format!("{}.slice", case.token);
    let pod = &*case.id("p");
    let bundle = case.bundle("b").sh("true");
    let path = bundle.rootfs().parent().unwrap().to_owned();
    let shim = Shim::with_options(&case, &bundle, &options());
    let client = &mut shim.client();
    let pause = ready(client, &slice, pod, &path);
    let shim = number_of(&client.ok("Connect", &[]), 1);
    let [shim, pause] = [shim, pause].map(|pid| i32::try_from(pid).unwrap());
    kill_process(Pid::from_raw(shim).unwrap(), Signal::KILL).unwrap();
    let mut delete = Command::new(binary());
    delete
        .args(["-namespace", "test", "-address", "x", "-id", pod, "delete"])
        .current_dir(&path);
    case.finish(delete).ok();
    assert!(!process::runs(pause));
    let scope = format!("cri-containerd-{pod}.scope");
    eventually("systemd forgets it", || (!is_active(&scope)).then_some(()));
    assert_eq!(left_in_root(), Vec::<String>::new());
    end(&slice);
}

fn end(slice: &str) {
    let stopped = Command::new("systemctl").args(["stop", slice]).status();
    assert!(stopped.unwrap().success());
}
