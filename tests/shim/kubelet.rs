//! Pods as the kubelet makes them, by containerd's CRI.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use super::cri::{CONTAINER, Cri, Kind, Network, POD, RUNNING, pod_config, processes, test};
use super::wire::{bytes_of, field, number};
use super::{report, shims, streams};
use crate::support::{Case, eventually, eventually_or, process};

/// The life of a pod: two init containers, one of which is tried again, then an app.
fn a_pods_life(case: &Case, kind: Kind) {
    let mut cri = Cri::new(case, kind);
    // Before 2.3 containerd panics with a pod on the node's network and the shim's sandbox (containerd issue 12983).
    if kind != Kind::ForkyShim {
        one_pod(&mut cri, case, kind, Network::Node);
    }
    one_pod(&mut cri, case, kind, Network::Bridge);
    cri.leaves_nothing();
}

fn one_pod(cri: &mut Cri<'_>, case: &Case, kind: Kind, network: Network) {
    let config = pod_config(case, network, CONTAINER);
    let pod = cri.run_pod(&config);
    assert_eq!(
        processes("pause").len(),
        usize::from(kind == Kind::ForkyShim)
    );
    assert!(cri.is_ready(&pod));

    for (name, script, code) in [
        ("first", "echo one; exit 1", 1),
        ("again", "echo two; exit 0", 0),
    ] {
        let init = cri.create(&pod, &config, name, script);
        cri.start(&init);
        assert_eq!(cri.wait_for_exit(&init), code);
        cri.call("RemoveContainer", &field(1, &init));
    }
    let log = fs::read_to_string(case.dir().join("logs/first.log")).unwrap();
    assert!(log.contains("stdout F one"), "{log}");

    let script = "echo started; trap 'exit 5' TERM; while :; do sleep 0.1; done";
    let app = cri.create(&pod, &config, "app", script);
    cri.start(&app);
    assert_eq!(cri.status(&app).0, RUNNING);
    let (output, code) = cri.exec(&app, &["sh", "-c", "cat /etc/resolv.conf; exit 3"]);
    assert_eq!(output, "search svc.cluster.local\nnameserver 10.0.0.10\n");
    assert_eq!(code, 3);
    let (output, _) = cri.exec(
        &app,
        &["sh", "-c", "grep ' /dev/shm ' /proc/mounts | wc -l"],
    );
    assert_eq!(output.trim(), "1");
    // /dev/shm is the pod's: another container finds what this one puts there.
    cri.exec(&app, &["sh", "-c", "echo hello > /dev/shm/x"]);
    let other = cri.create(&pod, &config, "other", "test $(cat /dev/shm/x) = hello");
    cri.start(&other);
    assert_eq!(cri.wait_for_exit(&other), 0);
    assert_eq!(shims().len(), 1, "one for the whole pod");
    let stats = cri.call("ContainerStats", &field(1, &app));
    assert!(!bytes_of(&stats, 1).is_empty());

    streams::update(cri, &app);
    streams::exec(cri, &app);
    streams::attach(cri, &pod, &config);
    streams::rotate_log(cri, case, &pod, &config);
    if let Network::Bridge = network {
        streams::port_forward(cri, &pod, &config);
    }
    containerd_is_killed(cri, &pod, &app, &config);

    cri.call("StopContainer", &[field(1, &app), number(2, 10)].concat());
    assert_eq!(cri.wait_for_exit(&app), 5);
    cri.call("StopPodSandbox", &field(1, &pod));
    cri.call("StopPodSandbox", &field(1, &pod));
    assert!(!cri.is_ready(&pod));
    cri.call("RemovePodSandbox", &field(1, &pod));
    eventually_or(|| shims().is_empty().then_some(()), report);
}

/// What runs goes on, and what ends meanwhile has its code.
fn containerd_is_killed(cri: &mut Cri<'_>, pod: &str, app: &str, config: &[u8]) {
    let script = "trap 'exit 42' TERM; while :; do sleep 0.1; done";
    let ends = cri.create(pod, config, "ends", script);
    cri.start(&ends);
    let (output, _) = cri.exec(&ends, &["sh", "-c", "cat /proc/self/cgroup"]);
    let before = shims();
    let pid = processes("sh").into_iter().find(|pid| {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        cgroups.contains(&ends)
    });
    let pid = pid.unwrap_or_else(|| panic!("{output}"));
    cri.containerd.kill();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    eventually("it ends", || (!process::runs(pid)).then_some(()));
    cri.restart();
    assert_eq!(shims(), before);
    assert!(cri.is_ready(pod));
    assert_eq!(cri.status(app).0, RUNNING);
    assert_eq!(cri.wait_for_exit(&ends), 42);
    cri.call("RemoveContainer", &field(1, &ends));
    streams::exec(cri, app);
}

/// A pod with one pid namespace for all, whose pause is killed, and then its shim.
fn a_pods_deaths(case: &Case, kind: Kind) {
    let cri = Cri::new(case, kind);
    let config = pod_config(case, Network::Bridge, POD);
    let pod = cri.run_pod(&config);
    let app = cri.create(&pod, &config, "app", "sleep 12345");
    cri.start(&app);
    let (output, _) = cri.exec(&app, &["sh", "-c", "cat /proc/1/comm; echo $$"]);
    assert!(
        output.starts_with("pause\n") && output.trim() != "pause\n1",
        "{output}"
    );
    let stats = cri.call("PodSandboxStats", &field(1, &pod));
    assert!(!bytes_of(&stats, 1).is_empty());
    let [pause] = processes("pause")[..] else {
        panic!("{:?}", processes("pause"));
    };
    kill(pause);
    assert_eq!(cri.wait_for_exit(&app), 137);
    eventually("the sandbox is not ready", || {
        (!cri.is_ready(&pod)).then_some(())
    });
    cri.remove_pod(&pod);
    eventually("the shim ends", || shims().is_empty().then_some(()));

    let pod = cri.run_pod(&config);
    let app = cri.create(&pod, &config, "app", "sleep 54321");
    cri.start(&app);
    let [shim] = shims()[..] else {
        panic!("{:?}", shims());
    };
    kill(shim);
    // 137 is what `delete` says; containerd may not wait for that, and then it does not know.
    let code = cri.wait_for_exit(&app);
    assert!([137, 255].contains(&code), "{code}");
    eventually("the sandbox is not ready", || {
        (!cri.is_ready(&pod)).then_some(())
    });
    cri.remove_pod(&pod);
    assert_eq!(processes("pause").len() + processes("sleep").len(), 0);
    cri.leaves_nothing();
}

fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn a_pod_with_a_pause_image_on_containerd_1_6() {
    let name = "kubelet::a_pod_with_a_pause_image_on_containerd_1_6";
    test(name, Kind::Bookworm, a_pods_life);
}

#[test]
fn a_pod_with_a_pause_image_on_containerd_2_1() {
    let name = "kubelet::a_pod_with_a_pause_image_on_containerd_2_1";
    test(name, Kind::ForkyPodsandbox, a_pods_life);
}

#[test]
fn a_pod_without_a_pause_image_on_containerd_2_1() {
    let name = "kubelet::a_pod_without_a_pause_image_on_containerd_2_1";
    test(name, Kind::ForkyShim, a_pods_life);
}

#[test]
fn a_pod_whose_pause_and_whose_shim_are_killed() {
    let name = "kubelet::a_pod_whose_pause_and_whose_shim_are_killed";
    test(name, Kind::ForkyShim, a_pods_deaths);
}
