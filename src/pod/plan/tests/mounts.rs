//! Volumes and where they are mounted.

use super::*;

#[test]
fn volumes_are_bound_outer_before_inner() {
    let plan = planned(
        "  volumes: [{name: a, emptyDir: {medium: Memory, sizeLimit: 1Mi}}, {name: b, hostPath: {path: /srv, type: Directory}}]",
        "    volumeMounts:
    - {name: b, mountPath: /x/y/z, readOnly: true, subPath: d/e}
    - {name: a, mountPath: x}
    - {name: a, mountPath: /sys}",
    );
    let names: Vec<&str> = plan.volumes.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "dev-shm", "etc"]);
    assert!(matches!(
        plan.volumes[0].source,
        VolumeSource::EmptyDir {
            memory: true,
            size_limit: Some(1_048_576),
            mode: 0o777
        }
    ));
    assert!(matches!(
        &plan.volumes[1].source,
        VolumeSource::HostPath { path, kind: HostPathKind::Directory } if path == Path::new("/srv")
    ));
    assert!(matches!(
        plan.volumes[2].source,
        VolumeSource::EmptyDir {
            memory: true,
            size_limit: Some(67_108_864),
            mode: 0o1777
        }
    ));

    let container = &plan.containers[0];
    let mounts = container.spec.mounts().as_ref().unwrap();
    let shown: Vec<String> = mounts
        .iter()
        .map(|m| m.destination().display().to_string())
        .collect();
    assert_eq!(
        shown,
        [
            "/proc",
            "/dev",
            "/dev/pts",
            "/dev/mqueue",
            "/sys/fs/cgroup",
            "/x",
            "/sys",
            "/dev/shm",
            "/etc/hostname",
            "/etc/hosts",
            "/etc/resolv.conf",
            "/x/y/z"
        ]
    );
    let bound: Vec<_> = container
        .volume_mounts
        .iter()
        .map(|m| {
            let mount = &mounts[m.mount];
            let name = &plan.volumes[m.volume].name;
            assert_eq!(
                mount.source().as_ref().unwrap(),
                &Path::new(VOLUMES).join(name)
            );
            (shown[m.mount].as_str(), name.as_str(), m.sub_path.clone())
        })
        .collect();
    assert_eq!(
        bound,
        [
            ("/x", "a", None),
            ("/sys", "a", None),
            ("/dev/shm", "dev-shm", None),
            (
                "/etc/hostname",
                "etc",
                Some(SubPath::Known("hostname".into()))
            ),
            ("/etc/hosts", "etc", Some(SubPath::Known("hosts".into()))),
            (
                "/etc/resolv.conf",
                "etc",
                Some(SubPath::Known("resolv.conf".into()))
            ),
            ("/x/y/z", "b", Some(SubPath::Known("d/e".into()))),
        ]
    );
    let options = mounts[11].options().as_ref().unwrap();
    assert_eq!(options, &["rbind", "rprivate", "ro"]);
}

#[test]
fn dev_shm_is_the_pods_the_hosts_or_a_volume() {
    let host = planned("  hostIPC: true", "");
    let names: Vec<&str> = host.volumes.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["etc"]);
    assert_eq!(host.containers[0].volume_mounts.len(), 3);
    assert_eq!(config(&host, "/mounts/6/source"), json(r#""/dev/shm""#));

    let clash = planned(
        "  volumes: [{name: dev-shm}]",
        "    volumeMounts: [{name: dev-shm, mountPath: /dev/shm}]",
    );
    let names: Vec<&str> = clash.volumes.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names, ["dev-shm", "-dev-shm", "etc"]);
    let mounts: Vec<_> = clash.containers[0]
        .volume_mounts
        .iter()
        .map(|m| m.volume)
        .collect();
    assert_eq!(mounts, [0, 2, 2, 2]);
}
