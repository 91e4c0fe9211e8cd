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
fn who_has_a_terminal_is_told_of_which_kind() {
    for (container, has_one, term) in [
        ("", false, None),
        ("    tty: false", false, None),
        ("    tty: true", true, Some("TERM=xterm")),
        (
            "    tty: true\n    env: [{name: TERM, value: dumb}]",
            true,
            Some("TERM=dumb"),
        ),
    ] {
        let plan = planned("", container);
        assert_eq!(plan.containers[0].has_terminal(), has_one, "{container}");
        let told = config(&plan, "/process/terminal");
        assert_eq!(told, json(&has_one.to_string()), "{container}");
        let env = config(&plan, "/process/env");
        let mut env = env.as_array().unwrap().iter().filter_map(|v| v.as_str());
        assert_eq!(env.find(|v| v.starts_with("TERM=")), term, "{container}");
    }
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

fn with_users(spec: &str, container: &str) -> serde_json::Value {
    let place = Place::new(&pod(spec, container));
    let etc = place.path().join("images/busybox/etc");
    fs::create_dir(&etc).unwrap();
    fs::write(
        etc.join("passwd"),
        "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:\n",
    )
    .unwrap();
    fs::write(
        etc.join("group"),
        "root:x:0:root\nadm:x:4:root,web\nweb:x:34:web\n",
    )
    .unwrap();
    config(&place.plan(), "/process/user")
}

#[test]
fn groups_come_from_the_image_unless_told_otherwise() {
    for (spec, container, expected) in [
        ("", "", r#"{"uid": 0, "gid": 0, "additionalGids": [4]}"#),
        (
            "  securityContext: {runAsUser: 33}",
            "",
            r#"{"uid": 33, "gid": 34, "additionalGids": [4]}"#,
        ),
        (
            "  securityContext: {runAsUser: 33, runAsGroup: 7}",
            "",
            r#"{"uid": 33, "gid": 7, "additionalGids": [4]}"#,
        ),
        (
            "  securityContext: {runAsUser: 1000, supplementalGroups: [9]}",
            "",
            r#"{"uid": 1000, "gid": 0, "additionalGids": [9]}"#,
        ),
        (
            "  securityContext: {supplementalGroupsPolicy: Strict, supplementalGroups: [9]}",
            "    securityContext: {runAsUser: 33}",
            r#"{"uid": 33, "gid": 34, "additionalGids": [9]}"#,
        ),
    ] {
        assert_eq!(
            with_users(spec, container),
            json(expected),
            "{spec} {container}"
        );
    }
}

#[test]
fn a_profile_is_the_containers_or_the_pods_and_none_for_the_privileged() {
    let action = |spec: &str, container: &str| {
        config(&planned(spec, container), "/linux/seccomp/defaultAction")
    };
    let default = "seccompProfile: {type: RuntimeDefault}";
    let none = "seccompProfile: {type: Unconfined}";
    let of_pod = |profile: &str| format!("  securityContext: {{{profile}}}");
    let own = |profile: &str| format!("    securityContext: {{{profile}}}");
    assert_eq!(action("", ""), json("null"));
    assert_eq!(action(&of_pod(default), ""), json(r#""SCMP_ACT_ERRNO""#));
    assert_eq!(action(&of_pod(default), &own(none)), json("null"));
    assert_eq!(
        action(&of_pod(none), &own(default)),
        json(r#""SCMP_ACT_ERRNO""#)
    );
    assert_eq!(
        action(&of_pod(default), &own("privileged: true")),
        json("null")
    );
}

#[test]
fn what_the_machine_does_not_have_is_told() {
    let local = "    securityContext: {appArmorProfile: {type: Localhost, localhostProfile: x}}";
    let error = Place::new(&pod("", local))
        .try_plan(&[])
        .unwrap_err()
        .to_string();
    assert!(error.contains("spec.containers[0].securityContext.appArmorProfile: Localhost: AppArmor is not enabled on the host"), "{error}");
    let default = planned(
        "",
        "    securityContext: {appArmorProfile: {type: RuntimeDefault}}",
    );
    assert_eq!(config(&default, "/process/apparmorProfile"), json("null"));
    let selinux = planned("", "    securityContext: {seLinuxOptions: {level: s0}}");
    assert_eq!(
        selinux.warnings,
        [
            "SELinux is off on this machine, or its policy has nothing for containers: no effect: spec.containers[0].securityContext.seLinuxOptions"
        ]
    );
}

#[test]
fn sysctls_are_those_of_the_pods_namespaces() {
    let sysctls = |list: &str, more: &str| {
        let spec = format!("  securityContext: {{sysctls: [{list}]}}\n{more}");
        Place::new(&pod(&spec, ""))
            .try_plan(&[])
            .map(|plan| plan.sandbox.sysctls)
    };
    let good = "{name: net.core.somaxconn, value: '7'}, {name: kernel/shmmni, value: '8'}";
    assert_eq!(
        sysctls(good, "").unwrap(),
        [
            ("net/core/somaxconn".to_owned(), "7".to_owned()),
            ("kernel/shmmni".into(), "8".into())
        ]
    );
    for (list, more, why) in [
        (
            good,
            "  hostNetwork: true",
            "sysctls[0].name: Invalid value: \"net.core.somaxconn\": not allowed with host net enabled",
        ),
        (
            good,
            "  hostIPC: true",
            "sysctls[1].name: Invalid value: \"kernel/shmmni\": not allowed with host ipc enabled",
        ),
        (
            "{name: kernel.core_pattern, value: '|/x'}",
            "",
            "belongs to the machine",
        ),
        ("{name: ../../x, value: '1'}", "", "is no name of a sysctl"),
    ] {
        let error = sysctls(list, more).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_pod_with_users_of_its_own_holds_a_user_namespace_and_has_no_ids_above_it() {
    let plan = planned(
        "  hostUsers: false",
        "    securityContext: {procMount: Unmasked}",
    );
    assert_eq!(plan.sandbox.users, Some(0x7000_0000));
    let namespaces = config(&plan, "/linux/namespaces");
    let user = json(r#"{"type": "user", "path": "/proc/<pause>/ns/user"}"#);
    assert!(
        namespaces.as_array().unwrap().contains(&user),
        "{namespaces}"
    );
    assert_eq!(config(&plan, "/linux/maskedPaths"), json("null"));
    assert_eq!(planned("  hostUsers: true", "").sandbox.users, None);
    for (context, fits) in [
        ("runAsUser: 65535", true),
        ("runAsUser: 65536", false),
        ("runAsGroup: 70000", false),
    ] {
        let plan = planned(
            "  hostUsers: false",
            &format!("    securityContext: {{{context}}}"),
        );
        assert_eq!(plan.containers[0].config_error.is_none(), fits, "{context}");
    }
}

#[test]
fn a_default_apparmor_profile_is_loaded_where_it_can_be() {
    let profile = |container: &str, parser: bool| {
        let default = "  securityContext: {appArmorProfile: {type: RuntimeDefault}}";
        let place = Place::new(&pod(
            default,
            &format!("    securityContext: {{{container}}}"),
        ));
        let manifest = load(&Source::Path(place.path().into()), None).unwrap();
        let node = Node {
            apparmor: true,
            apparmor_parser: parser,
            ..Node::default()
        };
        let options = PlanOptions {
            node,
            ..place.options()
        };
        let planned = plan(&manifest, &options)?;
        let process = planned.containers[0].spec.process().clone().unwrap();
        Ok::<_, Error>(process.apparmor_profile().clone())
    };
    assert_eq!(profile("", true).unwrap().as_deref(), Some("runp-default"));
    assert_eq!(profile("privileged: true", true).unwrap(), None);
    assert_eq!(
        profile("appArmorProfile: {type: Unconfined}", true).unwrap(),
        None
    );
    let error = profile("", false).unwrap_err().to_string();
    assert!(
        error.contains(
            "securityContext.appArmorProfile: RuntimeDefault: apparmor_parser is not there"
        ),
        "{error}"
    );
}

#[test]
fn selinux_contexts_are_those_of_the_container_or_else_of_the_pod() {
    let on = |spec: &str, container: &str| {
        let place = Place::new(&pod(spec, container));
        let manifest = load(&Source::Path(place.path().into()), None).unwrap();
        let policy = selinux::Policy {
            process: "system_u:system_r:container_t:s0".into(),
            file: "system_u:object_r:container_file_t:s0".into(),
        };
        let node = Node {
            selinux: Some(policy),
            ..Node::default()
        };
        let options = PlanOptions {
            node,
            ..place.options()
        };
        plan(&manifest, &options)
    };
    let labels = |plan: &PodPlan| {
        let pointers = ["/process/selinuxLabel", "/linux/mountLabel"];
        pointers.map(|pointer| config(plan, pointer).as_str().map(str::to_owned))
    };
    let both = |process: &str, files: &str| [Some(process.to_owned()), Some(files.to_owned())];
    let volume = "  volumes: [{name: v, emptyDir: {}}, {name: other, emptyDir: {}}, {name: host, hostPath: {path: /srv}}]\n";
    let mount = "    volumeMounts: [{name: v, mountPath: /v}, {name: host, mountPath: /host}]\n";
    let of_pod = volume.to_owned() + "  securityContext: {seLinuxOptions: {level: 's0:c1,c2'}}";

    let none = on(volume, mount).unwrap();
    assert_eq!(labels(&none), [None, None]);
    assert!(none.volumes.iter().all(|volume| volume.label.is_none()));

    let plan = on(&of_pod, mount).unwrap();
    let files = "system_u:object_r:container_file_t:s0:c1,c2";
    assert_eq!(
        labels(&plan),
        both("system_u:system_r:container_t:s0:c1,c2", files)
    );
    let volumes = plan.volumes.iter();
    let volumes = volumes.map(|volume| (volume.name.as_str(), volume.label.as_deref()));
    assert_eq!(
        volumes.collect::<Vec<_>>(),
        [
            ("v", Some(files)),
            ("other", None),
            ("host", None),
            ("dev-shm", Some(files)),
            ("etc", Some(files))
        ]
    );
    assert_eq!(plan.warnings, none.warnings);

    let own = mount.to_owned()
        + "    securityContext: {seLinuxOptions: {user: u, type: spc_t, level: s0}}";
    let plan = on(&of_pod, &own).unwrap();
    assert_eq!(
        labels(&plan),
        both("u:system_r:spc_t:s0", "u:object_r:container_file_t:s0")
    );
    let privileged = mount.to_owned() + "    securityContext: {privileged: true}";
    let [process, of_files] = labels(&on(&of_pod, &privileged).unwrap());
    assert_eq!((process, of_files.as_deref()), (None, Some(files)));

    let wrong = "  securityContext: {seLinuxOptions: {level: c1}}";
    let error = on(wrong, "").unwrap_err().to_string();
    assert!(
        error.contains("spec.securityContext.seLinuxOptions.level: Invalid value: \"c1\""),
        "{error}"
    );
}
