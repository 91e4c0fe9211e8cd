//! What a pod is called, whom it asks for names, what it sets of the kernel, and what its containers may do.

use std::fs;

use serde_json::json;

use crate::support::pod::container_status;
use crate::support::{Case, Need, Pod, sh};

#[test]
fn containers_share_the_files_that_tell_names() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut reader = sh(
        "reader",
        "until [ -e /etc/hosts ] && grep -q added /etc/hosts; do sleep 0.01; done; cat /etc/hosts; touch /etc/hostname 2>&1",
    );
    reader["securityContext"] = json!({"readOnlyRootFilesystem": true});
    let mut own = sh("own", "cat /etc/hosts");
    own["volumeMounts"] = json!([{"name": "e", "mountPath": "/etc/hosts", "subPath": "mine"}]);
    let mut init = sh("init", "echo mine > /e/mine");
    init["volumeMounts"] = json!([{"name": "e", "mountPath": "/e"}]);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "hostname": "box", "subdomain": "sub", "setHostnameAsFQDN": true,
            "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["db.example", "db"]}],
            "dnsPolicy": "None",
            "dnsConfig": {"nameservers": ["10.0.0.10"], "searches": ["a.example"], "options": [{"name": "ndots", "value": "2"}]},
            "volumes": [{"name": "e"}],
            "initContainers": [init],
            "containers": [
                sh("writer", "hostname; cat /etc/hostname /etc/resolv.conf; echo 10.9.9.9 added >> /etc/hosts"),
                reader,
                own,
            ],
        }),
    );
    pod.run().code(1);
    let name = "box.sub.default.svc.cluster.local";
    assert_eq!(
        pod.log("writer"),
        format!("{name}\n{name}\nsearch a.example\nnameserver 10.0.0.10\noptions ndots:2\n")
    );
    let hosts = pod.log("reader");
    assert!(
        hosts.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"),
        "{hosts}"
    );
    for line in [
        &format!("127.0.0.1\t{name}\tbox\n"),
        "# Entries added by HostAliases.\n10.1.2.3\tdb.example\tdb\n10.9.9.9 added\n",
        "/etc/hostname: Read-only file system",
    ] {
        assert!(hosts.contains(line), "{line:?} is not in {hosts}");
    }
    // Who mounts something there has that.
    assert_eq!(pod.log("own"), "mine\n");
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn with_the_hosts_network_names_are_the_hosts() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Never", "hostNetwork": true, "containers": [sh("app", "cat /etc/hosts; hostname")]}),
    );
    pod.run().ok();
    let hosts = fs::read_to_string("/etc/hosts").unwrap();
    let hostname = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    assert_eq!(
        pod.log("app"),
        format!("# Kubernetes-managed hosts file (host network).\n{hosts}{hostname}\n")
    );
    pod.delete().ok();
}

#[test]
fn sysctls_are_set_in_the_pods_namespaces_only() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let here = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).unwrap();
    let before = (here("net/ipv4/ip_forward"), here("kernel/shmmni"));
    let value = if before.0.trim() == "1" { "0" } else { "1" };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "restartPolicy": "Never",
            "securityContext": {"sysctls": [
                {"name": "net.ipv4.ip_forward", "value": value}, {"name": "kernel.shmmni", "value": "77"}]},
            "initContainers": [sh("init", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni")],
            "containers": [sh("app", "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni")],
        }),
    );
    pod.run().ok();
    for container in ["init", "app"] {
        assert_eq!(pod.log(container), format!("{value}\n77\n"));
    }
    assert_eq!((here("net/ipv4/ip_forward"), here("kernel/shmmni")), before);
    pod.delete().ok();
}

#[test]
fn a_sysctl_that_the_kernel_does_not_have_is_told() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "securityContext": {"sysctls": [{"name": "net.no.such", "value": "1"}]},
            "containers": [sh("app", "true")],
        }),
    );
    pod.run_detached();
    let status = pod.until("the sandbox cannot be made", |pod| {
        container_status(pod, "app")["state"]
            .to_string()
            .contains("net/no/such")
    });
    let state = container_status(&status, "app")["state"].to_string();
    assert!(state.contains("this kernel has no such sysctl"), "{state}");
    pod.delete_force().ok();
}

#[test]
fn the_default_profile_refuses_what_containers_have_no_need_for() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    // keyctl(2) needs no privilege: only a filter can refuse it. mount(2) is there as one that busybox can call.
    let script = "grep Seccomp: /proc/self/status; mount -t tmpfs none /tmp 2>&1; cat /proc/self/comm; (sleep 0 & wait)";
    let capabilities = json!({"add": ["SYS_ADMIN"], "drop": []});
    for (name, profile, mode) in [
        ("none", json!({"type": "Unconfined"}), 0),
        ("default", json!({"type": "RuntimeDefault"}), 2),
    ] {
        let mut app = sh("app", script);
        let mut without = sh(
            "without",
            &script.replace("mount -t tmpfs none /tmp", "unshare -U true"),
        );
        app["securityContext"] = json!({"capabilities": capabilities, "seccompProfile": profile});
        without["securityContext"] = json!({"seccompProfile": profile});
        let pod = Pod::new(
            &case,
            name,
            json!({"restartPolicy": "Never", "containers": [app, without]}),
        );
        pod.run().ok();
        // With the capability it is allowed in either case.
        assert_eq!(pod.log("app"), format!("Seccomp:\t{mode}\ncat\n"));
        let log = pod.log("without");
        assert!(log.starts_with(&format!("Seccomp:\t{mode}\n")), "{log}");
        assert_eq!(log.contains("Operation not permitted"), mode == 2, "{log}");
        assert!(log.ends_with("cat\n"), "programs run on: {log}");
        pod.delete().ok();
    }
}

#[test]
fn a_local_profile_is_found_beside_the_manifest() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut app = sh("app", "mkdir /tmp/x 2>&1; echo on");
    app["securityContext"] =
        json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "no-mkdir.json"}});
    let pod = Pod::new(
        &case,
        "p",
        json!({"restartPolicy": "Never", "containers": [app]}),
    );
    let message = pod.run().fails();
    assert!(message.contains("no-mkdir.json"), "{message}");
    fs::create_dir(pod.dir.join("seccomp")).unwrap();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}],
    });
    fs::write(pod.dir.join("seccomp/no-mkdir.json"), profile.to_string()).unwrap();
    pod.run().ok();
    let log = pod.log("app");
    assert!(
        log.contains("Permission denied") && log.ends_with("on\n"),
        "{log}"
    );
    pod.delete().ok();
}

#[test]
fn groups_are_those_of_the_image_and_of_the_pod() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    for (policy, groups) in [("Merge", "34 4 9"), ("Strict", "34 9")] {
        let pod = Pod::new(
            &case,
            &policy.to_lowercase(),
            json!({
                "restartPolicy": "Never",
                "securityContext": {"runAsUser": 33, "supplementalGroups": [9], "supplementalGroupsPolicy": policy},
                "containers": [sh("app", "id -u; id -G")],
            }),
        );
        let etc = pod.dir.join("images/busybox/etc");
        fs::write(etc.join("passwd"), "web:x:33:34::/:\n").unwrap();
        fs::write(etc.join("group"), "adm:x:4:web\n").unwrap();
        pod.run().ok();
        assert_eq!(pod.log("app"), format!("33\n{groups}\n"));
        pod.delete().ok();
    }
}

#[test]
fn the_pods_own_limit_holds_its_containers_together() {
    let Some(case) = Case::new(&[Need::Runp, Need::Controller("memory")]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "resources": {"limits": {"memory": "64Mi"}},
            "containers": [sh("a", "exec sleep 1000"), sh("b", "exec sleep 1000")],
        }),
    );
    pod.run_detached();
    pod.until_running("a");
    let plan = pod.plan().ok().stdout;
    assert!(
        plan.contains("resources       memory 64 MiB") || plan.contains("memory 64 MiB"),
        "{plan}"
    );
    let group = format!("runp/pod@{}", pod.name);
    let limit = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
        .iter()
        .find_map(|root| {
            let file = |name: &str| fs::read_to_string(format!("{root}/{group}/{name}")).ok();
            file("memory.limit_in_bytes").or_else(|| file("memory.max"))
        });
    assert_eq!(limit.as_deref().map(str::trim), Some("67108864"));
    pod.delete_force().ok();
}

#[test]
fn the_default_apparmor_profile_confines_containers() {
    let Some(case) = Case::new(&[Need::Runp, Need::AppArmor]) else {
        return;
    };
    let script = "cat /proc/self/attr/current; mount -t tmpfs none /tmp 2>&1; echo x > /written && cat /written; (sleep 0 & wait); exec sleep inf";
    let add = json!({"add": ["SYS_ADMIN"]});
    let mut plain = sh("plain", script);
    plain["securityContext"] =
        json!({"capabilities": add, "appArmorProfile": {"type": "Unconfined"}});
    let mut confined = sh("confined", script);
    confined["securityContext"] = json!({"capabilities": add});
    let mut privileged = sh("privileged", script);
    privileged["securityContext"] = json!({"privileged": true});
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}},
            "containers": [plain, confined, privileged],
        }),
    );
    pod.run_detached();
    for container in ["plain", "confined", "privileged"] {
        pod.until_running(container);
        crate::support::eventually("it has written", || {
            pod.log(container).ends_with("x\n").then_some(())
        });
    }
    assert_eq!(pod.log("plain"), "unconfined\nx\n");
    assert_eq!(pod.log("privileged"), "unconfined\nx\n");
    let log = pod.log("confined");
    assert!(log.starts_with("runp-default (enforce)\nmount: "), "{log}");
    let inside = pod.exec("confined", &["/bin/cat", "/proc/self/attr/current"]);
    assert_eq!(inside.ok().stdout, "runp-default (enforce)\n");
    // It can be asked to end.
    pod.stop(&["--grace", "1"]).ok();
    pod.delete().ok();
    case.assert_nothing_left();
}
