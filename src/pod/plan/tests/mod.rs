#![allow(clippy::unwrap_used)]

mod env;
mod mounts;
mod process;
mod resources;
mod volumes;

use std::fs;
use std::path::Path;

use super::*;
use crate::pod::manifest::{Source, load};

/// A directory with `pod.yaml` and the images `busybox` and `registry:5000/team/tool`.
pub(super) struct Place(tempfile::TempDir);

impl Place {
    pub(super) fn new(manifest: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.path().join("images/busybox")).unwrap();
        fs::create_dir_all(place.path().join("images/registry:5000/team/tool")).unwrap();
        fs::write(place.path().join("pod.yaml"), manifest).unwrap();
        place
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn try_plan(&self, rootfs: &[(&str, &Path)]) -> Result<PodPlan> {
        let manifest = load(&Source::Path(self.path().into()), None)?;
        let rootfs = rootfs
            .iter()
            .map(|(name, path)| ((*name).into(), (*path).into()));
        let options = PlanOptions {
            rootfs: rootfs.collect(),
            ..self.options()
        };
        plan(&manifest, &options)
    }

    /// On some machine.
    pub(super) fn options(&self) -> PlanOptions {
        PlanOptions {
            back_off: None,
            kubelet_order: false,
            rootfs: Vec::new(),
            uid: "the-uid".into(),
            claims: "/claims".into(),
            attachment: None,
            ids: 0x7000_0000,
            node: Node {
                hostname: "machine".into(),
                memory: 1 << 30,
                cpus: 4,
                disk: 1 << 40,
                addresses: vec!["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()].into(),
                ..Node::default()
            },
        }
    }

    pub(super) fn plan(&self) -> PodPlan {
        self.try_plan(&[]).unwrap()
    }
}

/// A pod of one app with these lines added to `spec` and to the container.
pub(super) fn pod(spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {{a: b}}}}\nspec:\n  containers:\n  - name: c\n    image: busybox\n    command: [run]\n{container}\n{spec}\n"
    )
}

pub(super) fn planned(spec: &str, container: &str) -> PodPlan {
    Place::new(&pod(spec, container)).plan()
}

pub(super) fn config(plan: &PodPlan, pointer: &str) -> serde_json::Value {
    let json = render_json(plan, &Default::default());
    json["containers"][0]["config"]
        .pointer(pointer)
        .cloned()
        .unwrap_or_default()
}

pub(super) fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_plain_container_has_the_defaults_of_cri() {
    let plan = planned("", "");
    assert_eq!(config(&plan, "/process/args"), json(r#"["run"]"#));
    assert_eq!(
        config(&plan, "/process/env"),
        json(
            r#"["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=p"]"#
        )
    );
    assert_eq!(
        config(&plan, "/process/user"),
        json(r#"{"uid": 0, "gid": 0}"#)
    );
    assert_eq!(config(&plan, "/process/noNewPrivileges"), json("false"));
    assert_eq!(config(&plan, "/process/oomScoreAdj"), json("1000"));
    let fourteen = r#"["CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT"]"#;
    for set in ["bounding", "effective", "permitted"] {
        assert_eq!(
            config(&plan, &format!("/process/capabilities/{set}")),
            json(fourteen)
        );
    }
    for set in ["inheritable", "ambient"] {
        assert_eq!(
            config(&plan, &format!("/process/capabilities/{set}")),
            json("null")
        );
    }
    assert_eq!(
        config(&plan, "/linux/cgroupsPath"),
        json(r#""/runp/pod@p/c""#)
    );
    assert_eq!(config(&plan, "/hostname"), json("null"));
    assert_eq!(config(&plan, "/root/readonly"), json("false"));
    assert_eq!(
        config(&plan, "/linux/namespaces"),
        json(
            r#"[{"type": "mount"}, {"type": "cgroup"}, {"type": "pid"}, {"type": "network", "path": "/proc/<pause>/ns/net"},
                {"type": "ipc", "path": "/proc/<pause>/ns/ipc"}, {"type": "uts", "path": "/proc/<pause>/ns/uts"}]"#
        )
    );
    let masked = config(&plan, "/linux/maskedPaths");
    for path in [
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
        "/proc/interrupts",
        "/proc/kcore",
    ] {
        assert!(masked.as_array().unwrap().contains(&path.into()), "{path}");
    }
}

#[test]
fn namespaces_are_the_pods_or_the_hosts() {
    for (spec, network, ipc, pid, types) in [
        (
            "",
            Shared::Pod,
            Shared::Pod,
            Shared::Container,
            "mount cgroup pid network ipc uts",
        ),
        (
            "  hostNetwork: true",
            Shared::Host,
            Shared::Pod,
            Shared::Container,
            "mount cgroup pid ipc",
        ),
        (
            "  hostIPC: true",
            Shared::Pod,
            Shared::Host,
            Shared::Container,
            "mount cgroup pid network uts",
        ),
        (
            "  hostPID: true",
            Shared::Pod,
            Shared::Pod,
            Shared::Host,
            "mount cgroup network ipc uts",
        ),
        (
            "  shareProcessNamespace: true",
            Shared::Pod,
            Shared::Pod,
            Shared::Pod,
            "mount cgroup pid network ipc uts",
        ),
    ] {
        let plan = planned(spec, "");
        let sandbox = &plan.sandbox;
        assert_eq!(
            (sandbox.network, sandbox.ipc, sandbox.pid),
            (network, ipc, pid),
            "{spec}"
        );
        let namespaces = config(&plan, "/linux/namespaces");
        let found: Vec<&str> = namespaces
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n["type"].as_str().unwrap())
            .collect();
        assert_eq!(found.join(" "), types, "{spec}");
    }
    let shared = planned("  shareProcessNamespace: true", "");
    assert_eq!(
        config(&shared, "/linux/namespaces/2/path"),
        json(r#""/proc/<pause>/ns/pid""#)
    );
}

#[test]
fn the_hostname_is_the_pods() {
    let long = "a".repeat(62) + "-b";
    for (name, spec, hostname) in [
        ("p", "", "p"),
        ("p", "  hostname: h", "h"),
        ("p", "  hostNetwork: true", "machine"),
        (long.as_str(), "", &long[..62]),
    ] {
        let text = pod(spec, "").replace("name: p,", &format!("name: {name},"));
        let plan = Place::new(&text).plan();
        assert_eq!(plan.sandbox.hostname, hostname);
        let env = config(&plan, "/process/env/1");
        assert_eq!(env, json(&format!("\"HOSTNAME={hostname}\"")));
    }
}

#[test]
fn an_image_is_a_directory() {
    let root = |image: &str, rootfs: &[(&str, &Path)]| -> Result<String> {
        let place =
            Place::new(&pod("", "").replace("image: busybox", &format!("image: {image:?}")));
        fs::create_dir_all(place.path().join("images/busybox:1")).unwrap();
        let plan = place.try_plan(rootfs)?;
        let root = config(&plan, "/root/path").as_str().unwrap().to_owned();
        Ok(root.replace(&format!("{}/", place.path().display()), ""))
    };
    for (image, expected) in [
        ("busybox", "images/busybox"),
        ("busybox:1", "images/busybox:1"),
        ("busybox:2", "images/busybox"),
        ("busybox@sha256:00", "images/busybox"),
        (
            "registry:5000/team/tool:3",
            "images/registry:5000/team/tool",
        ),
    ] {
        assert_eq!(root(image, &[]).unwrap(), expected, "{image}");
    }
    assert_eq!(
        root("busybox:1", &[("busybox:1", Path::new("/usr"))]).unwrap(),
        "/usr"
    );
    assert_eq!(
        root("busybox:1", &[("busybox", Path::new("/usr"))]).unwrap(),
        "/usr"
    );
    for (image, rootfs, message) in [
        ("../../etc", None, "no image name: it leads out of"),
        ("/etc", None, "no image name: it leads out of"),
        (
            "none:1",
            None,
            "spec.containers[0].image: no root file system for image \"none:1\" (images are directories: make ",
        ),
        ("none:1", None, "/images/none, or pass --rootfs none=DIR)"),
        (
            "busybox",
            Some("busybox"),
            "spec.containers[0].image: --rootfs busybox=/nowhere: no such directory",
        ),
        (
            "busybox",
            Some("bsybox"),
            "--rootfs bsybox=/nowhere: no container has this image (the pod's images: busybox)",
        ),
    ] {
        let rootfs: Vec<_> = rootfs
            .map(|name| (name, Path::new("/nowhere")))
            .into_iter()
            .collect();
        let error = root(image, &rootfs).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn all_missing_images_are_told_at_once() {
    let text = pod(
        "  initContainers: [{name: i, image: none, command: [a]}]",
        "",
    )
    .replace("busybox", "nothing");
    let error = Place::new(&text).try_plan(&[]).unwrap_err().to_string();
    assert!(
        error.starts_with("plan pod \"p\": 2 errors:\n  spec.initContainers[0].image: no root"),
        "{error}"
    );
    assert!(
        error.contains("\n  spec.containers[0].image: no root"),
        "{error}"
    );
}

#[test]
fn a_container_needs_a_command_unless_a_bundle_has_one() {
    let text = pod("", "").replace("    command: [run]\n", "");
    let error = Place::new(&text).try_plan(&[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "plan pod \"p\": spec.containers[0].command: Required value: an image directory has no entry point of its own (set command or args)"
    );
    let relative = Place::new(&pod("", "    workingDir: a"))
        .try_plan(&[])
        .unwrap_err()
        .to_string();
    assert_eq!(
        relative,
        "plan pod \"p\": spec.containers[0].workingDir: Invalid value: \"a\": must be an absolute path"
    );
}

#[test]
fn a_bundle_named_like_the_container_is_its_base() {
    for (container, args) in [
        ("", r#"["sh"]"#),
        ("    command: [a, b]", r#"["a", "b"]"#),
        ("    args: [c]", r#"["sh", "c"]"#),
        ("    command: [a]\n    args: [c]", r#"["a", "c"]"#),
    ] {
        let text = pod("", container)
            .replace("    command: [run]\n", "")
            .replace(
                "image: busybox",
                "image: anything\n    env: [{name: TERM, value: dumb}]",
            );
        let place = Place::new(&text);
        let bundle = place.path().join("c");
        fs::create_dir_all(bundle.join("rootfs")).unwrap();
        fs::write(bundle.join("config.json"), crate::spec::template::TEMPLATE).unwrap();
        let plan = place.plan();
        assert_eq!(plan.containers[0].bundle, bundle);
        assert_eq!(
            config(&plan, "/root/path"),
            bundle.join("rootfs").to_str().unwrap()
        );
        assert_eq!(config(&plan, "/root/readonly"), json("true"));
        assert_eq!(config(&plan, "/process/args"), json(args));
        assert_eq!(config(&plan, "/process/terminal"), json("false"));
        assert_eq!(
            config(&plan, "/process/env"),
            json(
                r#"["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=dumb", "HOSTNAME=p"]"#
            )
        );
        assert_eq!(config(&plan, "/process/noNewPrivileges"), json("true"));
        assert_eq!(config(&plan, "/hostname"), json("null"));
        assert_eq!(config(&plan, "/process/rlimits/0/soft"), json("1024"));
        let shm = plan.containers[0]
            .spec
            .mounts()
            .iter()
            .flatten()
            .filter(|m| m.destination() == Path::new("/dev/shm"));
        assert_eq!(shm.count(), 1);
    }
}

#[test]
fn a_broken_bundle_is_told_with_its_place() {
    for (config, message) in [
        ("{", "EOF while parsing"),
        (
            r#"{"ociVersion": "1.0.0", "process": {"args": 3}}"#,
            "/c: config.json: process.args: ",
        ),
        (
            r#"{"ociVersion": "1.0.0", "root": {"path": "no"}}"#,
            "root.path: no directory",
        ),
        (
            r#"{"ociVersion": "1.0.0", "root": {"path": "."}}"#,
            "spec.containers[0]: the bundle's config.json has no process section",
        ),
    ] {
        let place = Place::new(&pod("", ""));
        fs::create_dir(place.path().join("c")).unwrap();
        fs::write(place.path().join("c/config.json"), config).unwrap();
        let error = place.try_plan(&[]).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn the_text_says_what_happens_in_which_order() {
    let plan = planned(
        "  initContainers: [{name: i, image: busybox, command: [sh, -c, \"echo > /opt/x\"], volumeMounts: [{name: v, mountPath: /opt/data}]}]\n  volumes: [{name: v}]\n  nodeName: here",
        "    resources: {limits: {cpu: 1, memory: 32Mi}}",
    );
    let text = render_text(&plan);
    for part in [
        "pod p\n  restart policy  Always\n  grace period    30 s\n  QoS class       Burstable\n",
        "  pause holds     network, ipc, uts\n  of the host     user\n  per container   mount, cgroup, pid\n  cgroup          /runp/pod@p\n",
        "\nvolumes\n  v        emptyDir on disk, mode 0777\n  dev-shm  emptyDir in memory, mode 1777, at most 64 MiB\n",
        "\norder\n  1.  volumes\n  2.  sandbox: pause with its namespaces\n  3.  init i, to its end with success\n  4.  apps c, together\n",
        "\ninit container i\n  runs        sh -c 'echo > /opt/x'\n",
        "\n    /opt/data         <volumes>/v  rbind,rprivate,rw\n",
        "  resources   cpu shares 1024, cpu quota 100000/100000 us, memory 32 MiB\n",
        "\nwarnings\n  no meaning on one machine, ignored: spec.nodeName\n  container \"i\" writes /opt/x, which is beside",
    ] {
        assert!(text.contains(part), "{part}\n--- is not in ---\n{text}");
    }
}
