//! `hostUsers: false`: a pod whose root is nobody on the host.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::support::{Case, Need, Pod, process, sh};

/// The first id of the host that the process's user namespace has.
fn first_id(pid: i32) -> u32 {
    let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    let numbers: Vec<u32> = map.split_whitespace().map(|n| n.parse().unwrap()).collect();
    assert_eq!((numbers[0], numbers[2]), (0, 65536), "{map}");
    numbers[1]
}

#[test]
fn a_pods_users_are_nobody_on_the_host_and_own_what_they_should() {
    let Some(case) = Case::new(&[Need::Runp, Need::Kernel(6, 3)]) else {
        return;
    };
    let shared = case.dir().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("theirs"), "from the host\n").unwrap();
    let script = "
        id -u; cat /proc/self/uid_map; stat -c '%n %u:%g' / /bin/busybox /e /m /h/theirs /etc/hosts
        echo mine > /e/file; echo mine > /m/file; echo mine > /h/mine; echo changed > /etc/passwd; echo new > /new
        stat -c '%n %u' /e/file /m/file /h/mine /etc/passwd /new; cat /secret/key; echo; hostname
        chown 1000 /e/file && stat -c %u /e/file; mount -t tmpfs none /tmp 2>&1; exec sleep 1000";
    let mounts = json!([
        {"name": "e", "mountPath": "/e"}, {"name": "m", "mountPath": "/m"}, {"name": "h", "mountPath": "/h"},
        {"name": "s", "mountPath": "/secret"},
    ]);
    let mut app = sh("app", script);
    app["volumeMounts"] = mounts;
    app["image"] = json!("busybox");
    let mut init = sh("init", "id -u; echo before > /new");
    init["image"] = json!("busybox");
    let name = case.id("p");
    let text = format!(
        "{:#}\n---\n{:#}\n",
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sec"}, "stringData": {"key": "value"}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "hostUsers": false, "hostname": "box",
            "volumes": [
                {"name": "e"}, {"name": "m", "emptyDir": {"medium": "Memory"}},
                {"name": "h", "hostPath": {"path": shared}}, {"name": "s", "secret": {"secretName": "sec"}},
            ],
            "initContainers": [init], "containers": [app],
        }}),
    );
    let pod = Pod::from_text(&case, &name, &text);
    pod.run_detached();
    let pid = pod.until_running("app");
    let log = crate::support::eventually("it has done all", || {
        Some(pod.log("app")).filter(|log| log.contains("mount:"))
    });
    let first = first_id(pid);
    assert!(first >= 65536, "{first}");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[0], "0");
    assert_eq!(
        lines[2..],
        [
            "/ 0:0",
            "/bin/busybox 0:0",
            "/e 0:0",
            "/m 0:0",
            "/h/theirs 0:0",
            "/etc/hosts 0:0",
            "/e/file 0",
            "/m/file 0",
            "/h/mine 0",
            "/etc/passwd 0",
            "/new 0",
            "value",
            "box",
            "1000",
            "mount: permission denied (are you root?)",
        ],
        "{log}"
    );
    // On the host its processes are nobody's, and its files are as if it had no users of its own.
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), first);
    assert_eq!(fs::metadata(shared.join("mine")).unwrap().uid(), 0);
    let volume = case
        .data_root()
        .join("pods")
        .join(&pod.name)
        .join("volumes/e/file");
    assert_eq!(fs::metadata(volume).unwrap().uid(), 1000);
    let image = pod.dir.join("images/busybox");
    assert!(!image.join("new").exists());
    // All of the pod is in one user namespace, which pause holds.
    let pause = pod.pause("app");
    assert_eq!(
        process::namespace(pid, "user"),
        process::namespace(pause, "user")
    );
    assert_ne!(
        process::namespace(pid, "user"),
        process::namespace(std::process::id().cast_signed(), "user")
    );
    assert_eq!(first_id(pause), first);
    assert_eq!(pod.exec("app", &["/bin/id", "-u"]).ok().stdout, "0\n");

    // Another one has other users.
    let other = Pod::new(
        &case,
        "q",
        json!({"hostUsers": false, "shareProcessNamespace": true, "containers": [sh("app", "exec sleep 1000")]}),
    );
    other.run_detached();
    let second = first_id(other.until_running("app"));
    assert!(first.abs_diff(second) >= 65536, "{first} {second}");
    for pod in [pod, other] {
        pod.delete_force().ok();
    }
    case.assert_nothing_left();
}

#[test]
fn a_pod_with_users_of_its_own_has_nothing_of_the_host() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        let mut spec = json!({"hostUsers": false, "containers": [sh("app", "true")]});
        spec[field] = json!(true);
        let pod = Pod::new(&case, &field.to_lowercase(), spec);
        let message = pod.plan().fails();
        let told = format!("spec.{field}: Forbidden: when `hostUsers` is false");
        assert!(message.contains(&told), "{message}");
    }
}

#[test]
fn a_pod_with_users_of_its_own_has_its_sysctls_and_may_see_all_of_proc() {
    let Some(case) = Case::new(&[Need::Runp, Need::Kernel(6, 3)]) else {
        return;
    };
    let here = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).unwrap();
    let names = ["net/ipv4/ip_forward", "kernel/shmmni"];
    let before = names.map(here);
    let show =
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni; grep -c ' /proc/' /proc/mounts";
    let mut unmasked = sh("unmasked", show);
    unmasked["securityContext"] = json!({"procMount": "Unmasked"});
    let forward = if before[0].trim() == "1" { "0" } else { "1" };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never", "hostUsers": false,
            "securityContext": {"sysctls": [
                {"name": "net.ipv4.ip_forward", "value": forward}, {"name": "kernel.shmmni", "value": "77"}]},
            "containers": [sh("masked", show), unmasked],
        }),
    );
    pod.run().code(1);
    let log = pod.log("masked");
    let shown = format!("{forward}\n77\n");
    assert!(
        log.starts_with(&shown) && log != format!("{shown}0\n"),
        "{log}"
    );
    assert_eq!(
        pod.log("unmasked"),
        format!("{shown}0\n"),
        "nothing is mounted on it"
    );
    assert_eq!(names.map(here), before);
    pod.delete().ok();

    let spec = json!({"hostUsers": false, "securityContext": {"sysctls": [{"name": "net.no.such", "value": "1"}]},
        "containers": [sh("app", "true")]});
    let pod = Pod::new(&case, "q", spec);
    pod.run_detached();
    pod.until("the sandbox cannot be made", |pod| {
        pod["status"]
            .to_string()
            .contains("this kernel has no such sysctl")
    });
    pod.delete_force().ok();
    case.assert_nothing_left();
}
