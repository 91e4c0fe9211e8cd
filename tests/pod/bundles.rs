//! The sample pods run as their READMEs say.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use crate::support::pod::{container_status, terminated, time};
use crate::support::{Case, Need, Pod, eventually};

fn sample(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = Command::new(root.join("scripts/rootfs")).status().unwrap();
    assert!(made.success());
    root.join("bundles").join(file)
}

#[test]
fn hello() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::from_file(&case, "hello", &sample("hello/pod.yaml"));
    pod.run().ok();
    let page = pod.log("visitor");
    assert!(page.starts_with("Hello from a pod on "), "{page}");
    assert!(pod.log("sign").ends_with("/site/page\n"));
    let status = pod.status();
    let terminated = |name: &str| terminated(&status, name);
    let inits = ["write", "sign"].map(|c| time(&terminated(c)["finishedAt"]));
    let apps = ["server", "visitor"].map(|c| time(&terminated(c)["startedAt"]));
    assert!(apps.iter().min() >= inits.iter().max());
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn first_pod() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::from_file(&case, "first", &sample("first-pod/pod.yaml"));
    pod.run().ok();
    for (container, file) in [
        ("centos1", "123.txt\n"),
        ("centos2", "456.txt\n"),
        ("centos3", "789.txt\n"),
    ] {
        assert_eq!(pod.log(container), file);
    }
    pod.delete().ok();
}

#[test]
fn shared_volume() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::from_file(&case, "right", &sample("shared-volume/pod.yaml"));
    pod.run().ok();
    assert_eq!(pod.log("read"), "123\n");
    pod.delete().ok();
    let pod = Pod::from_file(&case, "mistake", &sample("shared-volume/mistake.yaml"));
    pod.run().code(1);
    assert!(
        pod.log("read").contains("No such file"),
        "{}",
        pod.log("read")
    );
    pod.delete().ok();
}

#[test]
fn init_fails() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::from_file(&case, "never", &sample("init-fails/never.yaml"));
    pod.run().code(3);
    assert_eq!(pod.log("fails"), "no database\n");
    pod.delete().ok();
    for policy in ["always", "on-failure"] {
        let pod = Pod::from_file(&case, policy, &sample(&format!("init-fails/{policy}.yaml")));
        pod.run_detached();
        let status = pod.until("it backs off", |pod| {
            container_status(pod, "fails")["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        });
        assert_eq!(
            container_status(&status, "app")["state"]["waiting"]["reason"],
            "PodInitializing"
        );
        pod.delete_force().ok();
    }
}

#[test]
fn wait_for_service() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::from_file(&case, "wait", &sample("wait-for-service/pod.yaml"));
    pod.run_detached();
    pod.until_running("wait");
    eventually("it polls", || {
        pod.log("wait").contains("no answer yet").then_some(())
    });
    assert!(pod.table().contains("Init:0/1"));
    let service = Service(
        Command::new("busybox")
            .args(["nc", "-l", "-p", "7070"])
            .spawn()
            .unwrap(),
    );
    pod.until_phase("Succeeded");
    drop(service);
    assert_eq!(pod.log("app"), "the service is there\n");
    pod.delete().ok();
}

#[test]
fn ordered() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::from_file(&case, "ordered", &sample("ordered/pod.yaml"));
    pod.run().code(1);
    assert_eq!(pod.log("web"), "seeded\n", "the database answered");
    let status = pod.status();
    assert_eq!(container_status(&status, "web")["restartCount"], 1);
    pod.delete().ok();
    case.assert_nothing_left();
}

#[test]
fn uses() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    for (name, says) in [
        ("download", "v1.2.3\n"),
        ("wait", "/work/answered\n"),
        ("keygen", "132\n"),
        ("register", "member "),
        ("unpack", "hello\n"),
        ("inject", "name="),
    ] {
        let pod = Pod::from_file(&case, name, &sample(&format!("uses/{name}.yaml")));
        pod.run().ok();
        let log = pod.log("app");
        assert!(log.contains(says), "{name}: {log}");
        pod.delete().ok();
    }
    case.assert_nothing_left();
}

#[test]
fn sidecar() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::from_file(&case, "sidecar", &sample("sidecar/pod.yaml"));
    pod.run().ok();
    for name in ["fetch", "app"] {
        assert_eq!(pod.log(name), "pong\n");
    }
    assert_eq!(pod.log("proxy"), "the apps are done\n");
    pod.delete().ok();
    case.assert_nothing_left();
}

/// What answers; ended whatever happens.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn configured() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::from_file(&case, "configured", &sample("configured/pod.yaml"));
    // The last thing that the app does is to look for the key, which is not there.
    pod.run().code(1);
    let log = pod.log("app");
    let greeting = format!("Hello from configured, signed {}-28\n", pod.name);
    assert!(log.starts_with(&greeting), "{log}");
    assert!(log.contains("Be kind to your pods.\n"), "{log}");
    assert!(log.contains("/key: No such file or directory"), "{log}");
    pod.delete().ok();
}
