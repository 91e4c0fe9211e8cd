//! What volumes are made of.

use super::*;

const OBJECTS: &str = "---
{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {a: one, b.txt: two}, binaryData: {raw: //79}}
---
{apiVersion: v1, kind: Secret, metadata: {name: sec}, data: {pass: aHVudGVyMg==}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: kept}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: bound}, spec: {volumeName: disk}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: lost}, spec: {volumeName: gone}}
---
{apiVersion: v1, kind: PersistentVolume, metadata: {name: disk}, spec: {local: {path: /srv/disk}}}
";

fn place(spec: &str, container: &str) -> Place {
    Place::new(&(pod(spec, container) + OBJECTS))
}

/// The files of the only volume: path, content, mode.
fn files(volume: &str) -> Vec<(String, String, u32)> {
    let plan = place(&format!("  volumes: [{{name: v, {volume}}}]"), "").plan();
    match &plan.volumes[0].source {
        VolumeSource::Files { payload, .. } => payload
            .iter()
            .map(|(path, file)| {
                let content = String::from_utf8_lossy(&file.content).into_owned();
                (path.display().to_string(), content, file.mode)
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn file(path: &str, content: &str, mode: u32) -> (String, String, u32) {
    (path.into(), content.into(), mode)
}

#[test]
fn keys_become_files_under_their_own_names_or_those_of_items() {
    assert_eq!(
        files("configMap: {name: conf}"),
        [
            file("a", "one", 0o644),
            file("b.txt", "two", 0o644),
            file("raw", "\u{fffd}\u{fffd}\u{fffd}", 0o644)
        ]
    );
    assert_eq!(
        files(
            "configMap: {name: conf, defaultMode: 0400, items: [{key: a, path: x/y}, {key: b.txt, path: b, mode: 0755}]}"
        ),
        [file("b", "two", 0o755), file("x/y", "one", 0o400)]
    );
    assert_eq!(
        files("secret: {secretName: sec, defaultMode: 256}"),
        [file("pass", "hunter2", 0o400)]
    );
    assert_eq!(
        files("configMap: {name: conf, optional: true, items: [{key: no-such, path: x}]}"),
        []
    );
    assert_eq!(files("configMap: {name: none, optional: true}"), []);
    assert_eq!(files("secret: {secretName: none, optional: true}"), []);
}

#[test]
fn what_the_pod_knows_of_itself_becomes_files() {
    assert_eq!(
        files(
            "downwardAPI: {items: [{path: l, fieldRef: {fieldPath: metadata.labels}}, {path: name, mode: 0600, fieldRef: {fieldPath: metadata.name}}, {path: m, resourceFieldRef: {containerName: c, resource: limits.memory, divisor: 1Mi}}]}"
        ),
        [
            file("l", "a=\"b\"", 0o644),
            file("m", "1024", 0o644),
            file("name", "p", 0o600)
        ]
    );
    assert_eq!(
        files(
            "projected: {defaultMode: 0440, sources: [{secret: {name: sec}}, {configMap: {name: conf, items: [{key: a, path: c/a}]}}, {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}"
        ),
        [
            file("c/a", "one", 0o440),
            file("name", "p", 0o440),
            file("pass", "hunter2", 0o440)
        ]
    );
}

#[test]
fn what_is_not_there_keeps_the_pod_waiting_in_the_kubelets_words() {
    for (volume, why) in [
        ("configMap: {name: x}", "configmap \"x\" not found"),
        ("secret: {secretName: x}", "secret \"x\" not found"),
        (
            "projected: {sources: [{secret: {name: x}}]}",
            "secret \"x\" not found",
        ),
        (
            "configMap: {name: conf, items: [{key: k, path: p}]}",
            "references non-existent config key: k",
        ),
        (
            "secret: {secretName: sec, items: [{key: k, path: p}]}",
            "references non-existent secret key: k",
        ),
    ] {
        let plan = place(&format!("  volumes: [{{name: v, {volume}}}]"), "").plan();
        let expected = format!("MountVolume.SetUp failed for volume \"v\" : {why}");
        match &plan.volumes[0].source {
            VolumeSource::Missing(told) => assert_eq!(*told, expected),
            other => panic!("{other:?}"),
        }
        assert_eq!(
            plan.warnings,
            [format!("the pod will wait in vain: {expected}")]
        );
    }
}

#[test]
fn claims_are_directories() {
    let source = |name: &str| {
        let volume =
            format!("  volumes: [{{name: v, persistentVolumeClaim: {{claimName: {name}}}}}]");
        place(&volume, "").try_plan(&[])
    };
    let path = |name: &str| match &source(name).unwrap().volumes[0].source {
        VolumeSource::Claim { path, ours } => (path.display().to_string(), *ours),
        other => panic!("{other:?}"),
    };
    assert_eq!(path("kept"), ("/claims/default/kept".into(), true));
    assert_eq!(path("bound"), ("/srv/disk".into(), false));
    for (name, message) in [
        (
            "none",
            "spec.volumes[0].persistentVolumeClaim: persistentvolumeclaim \"none\" not found",
        ),
        (
            "lost",
            "spec.volumes[0].persistentVolumeClaim: persistentvolume \"gone\" not found",
        ),
    ] {
        let error = source(name).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn an_image_is_a_volume_too() {
    let spec = "  volumes: [{name: v, image: {reference: 'registry:5000/team/tool:2'}}]";
    let place = place(spec, "    volumeMounts: [{name: v, mountPath: /tool}]");
    let plan = place.plan();
    match &plan.volumes[0].source {
        VolumeSource::Image { root } => {
            assert_eq!(*root, place.path().join("images/registry:5000/team/tool"));
        }
        other => panic!("{other:?}"),
    }
    assert!(plan.volumes[0].read_only);
    let none = Place::new(&pod("  volumes: [{name: v, image: {reference: none}}]", ""));
    let error = none.try_plan(&[]).unwrap_err().to_string();
    assert!(
        error.contains("spec.volumes[0].image.reference: no root file system for image \"none\""),
        "{error}"
    );
}

/// The options of the mount at `/v`.
fn options(volume: &str, mount: &str) -> String {
    let plan = place(
        &format!("  volumes: [{{name: v, {volume}}}]"),
        &format!("    securityContext: {{privileged: true}}\n    volumeMounts: [{{name: v, mountPath: /v, {mount}}}]"),
    )
    .plan();
    let mounts = plan.containers[0].spec.mounts().as_ref().unwrap();
    let mount = mounts
        .iter()
        .find(|m| m.destination() == Path::new("/v"))
        .unwrap();
    mount.options().as_ref().unwrap().join(",")
}

#[test]
fn mounts_have_the_options_of_their_fields() {
    for (volume, mount, expected) in [
        ("emptyDir: {}", "", "rbind,rprivate,rw"),
        ("emptyDir: {}", "readOnly: true", "rbind,rprivate,ro"),
        (
            "emptyDir: {}",
            "readOnly: true, recursiveReadOnly: Enabled",
            "rbind,rprivate,rro",
        ),
        (
            "emptyDir: {}",
            "readOnly: true, recursiveReadOnly: Disabled",
            "rbind,rprivate,ro",
        ),
        (
            "emptyDir: {}",
            "mountPropagation: HostToContainer",
            "rbind,rslave,rw",
        ),
        (
            "emptyDir: {}",
            "mountPropagation: Bidirectional",
            "rbind,rshared,rw",
        ),
        (
            "emptyDir: {}",
            "bindMountOptions: [noexec, nodev]",
            "rbind,rprivate,rw,noexec,nodev",
        ),
        ("secret: {secretName: sec}", "", "rbind,rprivate,ro"),
        (
            "persistentVolumeClaim: {claimName: kept}",
            "",
            "rbind,rprivate,rw",
        ),
        (
            "persistentVolumeClaim: {claimName: kept, readOnly: true}",
            "",
            "rbind,rprivate,ro",
        ),
    ] {
        assert_eq!(options(volume, mount), expected, "{volume} {mount}");
    }
}

#[test]
fn a_sub_path_may_have_variables() {
    let plan = |expression: &str| {
        place(
            "  volumes: [{name: v}]",
            &format!("    env: [{{name: NAME, value: x}}, {{name: UP, value: ..}}, {{name: EMPTY, value: ''}}]\n    volumeMounts: [{{name: v, mountPath: /v, subPathExpr: {expression}}}]"),
        )
        .plan()
    };
    let good = plan("a/$(NAME)-$$(NAME)");
    let sub_path = &good.containers[0].volume_mounts[0].sub_path;
    assert_eq!(*sub_path, Some(SubPath::Known("a/x-$(NAME)".into())));
    for (expression, message) in [
        ("$(B)/$(A)/$(EMPTY)", "missing value for A, B, EMPTY"),
        (
            "a/$(UP)",
            "unable to provision SubPath `a/..`: must not contain '..'",
        ),
    ] {
        let error = plan(expression).containers[0].config_error.clone();
        assert_eq!(error.as_deref(), Some(message), "{expression}");
    }
}

#[test]
fn the_group_of_the_file_system_is_for_the_pods_own_volumes() {
    let spec = "  securityContext: {fsGroup: 2000, fsGroupChangePolicy: OnRootMismatch, supplementalGroups: [3000]}
  volumes: [{name: e}, {name: s, secret: {secretName: sec}}, {name: p, persistentVolumeClaim: {claimName: kept}}, {name: h, hostPath: {path: /srv}}]";
    let plan = place(spec, "").plan();
    let group = |read_only, on_root_mismatch| {
        Some(FsGroup {
            gid: 2000,
            read_only,
            on_root_mismatch,
        })
    };
    let named = plan.volumes.iter().take(4);
    let groups: Vec<_> = named.map(|v| v.fs_group).collect();
    assert_eq!(
        groups,
        [
            group(false, false),
            group(true, false),
            group(false, true),
            None
        ]
    );
    assert_eq!(
        config(&plan, "/process/user/additionalGids"),
        json("[2000, 3000]")
    );
}
