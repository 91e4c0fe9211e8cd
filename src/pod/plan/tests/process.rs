//! What runs, with which variables, as whom.

use super::*;

#[test]
fn the_environment_is_expanded_in_order() {
    let plan = planned(
        "",
        "    args: [\"$(A)$(B)\", $(HOSTNAME), $$(A)]
    env:
    - {name: A, value: one}
    - {name: B, value: $(A)-$(C)}
    - {name: C, value: three}
    - {name: A, value: again}
    - {name: PATH, value: /bin}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a']\"}}}
    - {name: NONE, valueFrom: {fieldRef: {fieldPath: \"metadata.annotations['a']\"}}}
    - {name: WHO, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
    - {name: ID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}",
    );
    assert_eq!(
        config(&plan, "/process/env"),
        json(
            r#"["PATH=/bin", "HOSTNAME=p", "A=again", "B=one-$(C)", "C=three", "LABEL=b", "NONE=", "WHO=default", "ID=the-uid"]"#
        )
    );
    assert_eq!(
        config(&plan, "/process/args"),
        json(r#"["run", "againone-$(C)", "$(HOSTNAME)", "$(A)"]"#)
    );
}

#[test]
fn who_it_runs_as_is_the_containers_word_then_the_pods() {
    let plan = planned(
        "  securityContext: {runAsUser: 1, runAsGroup: 2, supplementalGroups: [3, 4, 3]}",
        "    securityContext: {runAsUser: 5}",
    );
    assert_eq!(
        config(&plan, "/process/user"),
        json(r#"{"uid": 5, "gid": 2, "additionalGids": [3, 4]}"#)
    );
}

#[test]
fn non_root_is_checked_in_kubernetes_words() {
    let pod = "(pod: \"p_default(the-uid)\", container: c)";
    for (spec, container, expected) in [
        (
            "",
            "    securityContext: {runAsNonRoot: true}",
            format!("container has runAsNonRoot and image will run as root {pod}"),
        ),
        (
            "  securityContext: {runAsNonRoot: true, runAsUser: 0}",
            "",
            format!("container's runAsUser breaks non-root policy {pod}"),
        ),
    ] {
        assert_eq!(
            planned(spec, container).containers[0].config_error,
            Some(expected)
        );
    }
    for (spec, container) in [
        ("  securityContext: {runAsNonRoot: true, runAsUser: 1}", ""),
        (
            "  securityContext: {runAsNonRoot: true}",
            "    securityContext: {runAsNonRoot: false}",
        ),
    ] {
        assert_eq!(planned(spec, container).containers[0].config_error, None);
    }
}

#[test]
fn capabilities_are_dropped_then_added() {
    for (context, expected) in [
        ("{capabilities: {drop: [ALL]}}", "[]"),
        (
            "{capabilities: {drop: [all], add: [net_admin, CAP_KILL]}}",
            r#"["CAP_KILL", "CAP_NET_ADMIN"]"#,
        ),
        (
            "{capabilities: {drop: [CHOWN, DAC_OVERRIDE, FOWNER, FSETID, MKNOD, NET_RAW, SETFCAP, SETPCAP, SYS_CHROOT]}}",
            r#"["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"]"#,
        ),
    ] {
        let plan = planned("", &format!("    securityContext: {context}"));
        assert_eq!(
            config(&plan, "/process/capabilities/bounding"),
            json(expected),
            "{context}"
        );
        assert_eq!(
            config(&plan, "/process/capabilities/effective"),
            json(expected),
            "{context}"
        );
        assert_eq!(
            config(&plan, "/process/capabilities/inheritable"),
            json("null"),
            "{context}"
        );
    }
    let all = planned("", "    securityContext: {capabilities: {add: [ALL]}}");
    let count = config(&all, "/process/capabilities/bounding")
        .as_array()
        .unwrap()
        .len();
    assert_eq!(count, caps::all().len());
    let place = Place::new(&pod(
        "",
        "    securityContext: {capabilities: {add: [CHOWN, FLY]}}",
    ));
    assert_eq!(
        place.try_plan(&[]).unwrap_err().to_string(),
        "plan pod \"p\": spec.containers[0].securityContext.capabilities.add[1]: unknown capability \"FLY\" (see capabilities(7))"
    );
}

#[test]
fn a_privileged_container_is_hardly_contained() {
    let plan = planned("", "    securityContext: {privileged: true}");
    assert_eq!(config(&plan, "/linux/maskedPaths"), json("null"));
    assert_eq!(config(&plan, "/linux/readonlyPaths"), json("null"));
    assert_eq!(
        config(&plan, "/linux/resources/devices"),
        json(r#"[{"allow": true, "access": "rwm"}]"#)
    );
    let mounts = config(&plan, "/mounts");
    for mount in mounts.as_array().unwrap() {
        let options = mount["options"].as_array().unwrap();
        assert!(!options.contains(&"ro".into()), "{mount}");
    }
    let devices = config(&plan, "/linux/devices");
    let paths: Vec<_> = devices
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["path"])
        .collect();
    assert!(paths.contains(&&json(r#""/dev/null""#)), "{paths:?}");
}

#[test]
fn escalation_and_root_follow_the_security_context() {
    let plan = planned(
        "",
        "    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true}",
    );
    assert_eq!(config(&plan, "/process/noNewPrivileges"), json("true"));
    assert_eq!(config(&plan, "/root/readonly"), json("true"));
}
