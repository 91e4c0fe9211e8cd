//! Volumes and their mounts.

use super::*;

#[test]
fn volumes_follow_the_rules() {
    check(
        &[
            (
                r#"{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/x", "type": "Socket"}}"#,
                "",
            ),
            (
                r#"{"name": "", "emptyDir": {}}"#,
                "spec.volumes[0].name: Required value",
            ),
            (
                r#"{"name": "A", "emptyDir": {}}"#,
                &format!("spec.volumes[0].name: Invalid value: \"A\": {LABEL}"),
            ),
            (
                r#"{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}"#,
                "spec.volumes[1].name: Duplicate value: \"a\"",
            ),
            (
                r#"{"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}"#,
                "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
            ),
            (
                r#"{"name": "a", "emptyDir": {"medium": "Disk"}}"#,
                "spec.volumes[0].emptyDir.medium: Unsupported value: \"Disk\": supported values: \"\", \"Memory\"",
            ),
            (
                r#"{"name": "a", "emptyDir": {"sizeLimit": "-1"}}"#,
                "spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
            ),
            (
                r#"{"name": "a", "emptyDir": {"sizeLimit": "1e400Ki"}}"#,
                &format!(
                    "spec.volumes[0].emptyDir.sizeLimit: Invalid value: \"1e400Ki\": {QUANTITY}"
                ),
            ),
            (
                r#"{"name": "a", "hostPath": {"path": ""}}"#,
                "spec.volumes[0].hostPath.path: Required value",
            ),
            (
                r#"{"name": "a", "hostPath": {"path": "/a/../b"}}"#,
                "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            ),
            (
                r#"{"name": "a", "hostPath": {"path": "a"}}"#,
                "spec.volumes[0].hostPath.path: Invalid value: \"a\": must be an absolute path",
            ),
            (
                r#"{"name": "a", "hostPath": {"path": "/a", "type": "Dir"}}"#,
                "spec.volumes[0].hostPath.type: Unsupported value: \"Dir\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ),
        ],
        |volumes| errors("", &format!(r#""volumes": [{volumes}]"#), ""),
    );
}

#[test]
fn volume_mounts_follow_the_rules() {
    let at = "spec.containers[0].volumeMounts";
    check(
        &[
            (
                r#"{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b", "subPath": "x/y..z"}"#,
                "",
            ),
            (
                r#"{"name": "w", "mountPath": "/a"}"#,
                &format!("{at}[0].name: Not found: \"w\""),
            ),
            (
                r#"{"name": "v", "mountPath": ""}"#,
                &format!("{at}[0].mountPath: Required value"),
            ),
            (
                r#"{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}"#,
                &format!("{at}[1].mountPath: Invalid value: \"/a\": must be unique"),
            ),
            (
                r#"{"name": "v", "mountPath": "/a", "subPath": "/x"}"#,
                &format!("{at}[0].subPath: Invalid value: \"/x\": must be a relative path"),
            ),
            (
                r#"{"name": "v", "mountPath": "/a", "subPath": "x/../../y"}"#,
                &format!("{at}[0].subPath: Invalid value: \"x/../../y\": must not contain '..'"),
            ),
        ],
        |mounts| {
            errors("", r#""volumes": [{"name": "v", "emptyDir": {}}]"#, "")
                .into_iter()
                .chain(with_mounts(mounts))
                .collect()
        },
    );
}

fn with_mounts(mounts: &str) -> Vec<String> {
    let container = format!(r#"{{"name": "c", "image": "i", "volumeMounts": [{mounts}]}}"#);
    errors(
        "",
        &format!(r#""volumes": [{{"name": "v", "emptyDir": {{}}}}], "containers": [{container}]"#),
        "",
    )
}

#[test]
fn files_in_volumes_follow_the_rules() {
    let volumes = "spec.volumes[0]";
    let mode = "must be a number between 0 and 0777 (octal), both inclusive";
    check(
        &[
            (
                r#""configMap": {"name": "c", "defaultMode": 256, "items": [{"key": "k", "path": "a/b", "mode": 511}]}"#,
                "",
            ),
            (
                r#""configMap": {}"#,
                &format!("{volumes}.configMap.name: Required value"),
            ),
            (
                r#""secret": {}"#,
                &format!("{volumes}.secret.secretName: Required value"),
            ),
            (
                r#""secret": {"secretName": "s", "defaultMode": 512}"#,
                &format!("{volumes}.secret.defaultMode: Invalid value: 512: {mode}"),
            ),
            (
                r#""configMap": {"name": "c", "items": [{"key": "", "path": "/a", "mode": -1}]}"#,
                &format!(
                    "{volumes}.configMap.items[0].key: Required value\n{}\n{}",
                    "volumes[0].configMap.items[0].path: Invalid value: \"/a\": must be a relative path",
                    format_args!("volumes[0].configMap.items[0].mode: Invalid value: -1: {mode}")
                ),
            ),
            (
                r#""configMap": {"name": "c", "items": [{"key": "k", "path": "..a"}]}"#,
                &format!(
                    "{volumes}.configMap.items[0].path: Invalid value: \"..a\": must not start with '..'"
                ),
            ),
            (
                r#""configMap": {"name": "c", "items": [{"key": "k", "path": "a/../b"}]}"#,
                &format!(
                    "{volumes}.configMap.items[0].path: Invalid value: \"a/../b\": must not contain '..'"
                ),
            ),
            (
                r#""downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "metadata.labels"}}, {"path": "b", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}}]}"#,
                "",
            ),
            (
                r#""downwardAPI": {"items": [{"path": "a"}]}"#,
                &format!(
                    "{volumes}.downwardAPI.items[0]: Required value: one of fieldRef and resourceFieldRef is required"
                ),
            ),
            (
                r#""downwardAPI": {"items": [{"path": "a", "resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}}]}"#,
                &format!(
                    "{volumes}.downwardAPI.items[0].resourceFieldRef.containerName: Required value\n{}",
                    "volumes[0].downwardAPI.items[0].resourceFieldRef.divisor: Invalid value: \"2\": only divisor's values 1m and 1 are supported with the cpu resource"
                ),
            ),
            (
                r#""projected": {"sources": [{"secret": {"name": "s", "items": [{"key": "k", "path": "p"}]}}, {"configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}]}"#,
                &format!(
                    "{volumes}.projected.sources[1]: Invalid value: \"p\": conflicting duplicate paths"
                ),
            ),
            (
                r#""persistentVolumeClaim": {"claimName": ""}, "image": {"reference": "i"}"#,
                &format!(
                    "{volumes}.persistentVolumeClaim: Forbidden: may not specify more than 1 volume type\n{}",
                    "volumes[0].persistentVolumeClaim.claimName: Required value"
                ),
            ),
            (
                r#""emptyDir": {"mode": 1024}"#,
                &format!(
                    "{volumes}.emptyDir.mode: Invalid value: 1024: must be a number between 0 and 01777 (octal), both inclusive"
                ),
            ),
        ],
        |volume| {
            errors(
                "",
                &format!(r#""volumes": [{{"name": "v", {volume}}}]"#),
                "",
            )
        },
    );
}

#[test]
fn kinds_of_mounts_follow_the_rules() {
    let at = "spec.containers[0].volumeMounts[0]";
    check(
        &[
            (
                r#""readOnly": true, "recursiveReadOnly": "Enabled", "mountPropagation": "None""#,
                "",
            ),
            (
                r#""mountPropagation": "HostToContainer", "bindMountOptions": ["noexec"]"#,
                "",
            ),
            (
                r#""mountPropagation": "Bidirectional""#,
                &format!(
                    "{at}.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"
                ),
            ),
            (
                r#""mountPropagation": "Both""#,
                &format!(
                    "{at}.mountPropagation: Unsupported value: \"Both\": supported values: \"Bidirectional\", \"HostToContainer\", \"None\""
                ),
            ),
            (
                r#""recursiveReadOnly": "Disabled""#,
                &format!(
                    "{at}.recursiveReadOnly: Forbidden: may only be specified when readOnly is true"
                ),
            ),
            (
                r#""readOnly": true, "recursiveReadOnly": "IfPossible", "mountPropagation": "HostToContainer""#,
                &format!(
                    "{at}.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified"
                ),
            ),
            (
                r#""subPath": "a", "subPathExpr": "$(A)""#,
                &format!(
                    "{at}.subPathExpr: Invalid value: \"$(A)\": subPathExpr and subPath are mutually exclusive"
                ),
            ),
            (
                r#""bindMountOptions": ["suid"]"#,
                &format!(
                    "{at}.bindMountOptions[0]: Unsupported value: \"suid\": supported values: \"nodev\", \"noexec\", \"nosuid\""
                ),
            ),
        ],
        |mount| {
            let mount = format!(r#""volumeMounts": [{{"name": "v", "mountPath": "/v", {mount}}}]"#);
            errors("", r#""volumes": [{"name": "v"}]"#, &mount)
        },
    );
}
