//! `securityContext`, of the pod and of its containers.

use k8s_openapi::api::core::v1::{
    AppArmorProfile, PodSecurityContext, PodSpec, SeccompProfile, SecurityContext,
};

use super::field::{Errors, Path};
use super::{IDS, host};

pub(super) fn pod(errors: &mut Errors, path: &Path, context: &PodSecurityContext) {
    let ids = [
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
        ("fsGroup", context.fs_group),
    ];
    for (field, id) in ids {
        if let Some(id) = id {
            errors.within(&path.child(field), id, IDS);
        }
    }
    errors.one_of(
        &path.child("fsGroupChangePolicy"),
        context.fs_group_change_policy.as_deref(),
        &["Always", "OnRootMismatch"],
    );
    let groups = context.supplemental_groups.iter().flatten();
    for (index, group) in groups.enumerate() {
        errors.within(&path.child("supplementalGroups").index(index), *group, IDS);
    }
    errors.one_of(
        &path.child("supplementalGroupsPolicy"),
        context.supplemental_groups_policy.as_deref(),
        &["Merge", "Strict"],
    );
    errors.one_of(
        &path.child("seLinuxChangePolicy"),
        context.se_linux_change_policy.as_deref(),
        &["MountOption", "Recursive"],
    );
    let sysctls = context.sysctls.as_deref().unwrap_or_default();
    host::sysctls(errors, &path.child("sysctls"), sysctls);
    profiles(
        errors,
        path,
        context.seccomp_profile.as_ref(),
        context.app_armor_profile.as_ref(),
    );
}

pub(super) fn container(
    errors: &mut Errors,
    path: &Path,
    context: &SecurityContext,
    pod: &PodSpec,
) {
    for (field, id) in [
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
    ] {
        if let Some(id) = id {
            errors.within(&path.child(field), id, IDS);
        }
    }
    let mount = context.proc_mount.as_deref();
    errors.one_of(&path.child("procMount"), mount, &["Default", "Unmasked"]);
    if mount == Some("Unmasked") && pod.host_users != Some(false) {
        errors.invalid(
            &path.child("procMount"),
            "Unmasked",
            "`hostUsers` must be false to use `Unmasked`",
        );
    }
    profiles(
        errors,
        path,
        context.seccomp_profile.as_ref(),
        context.app_armor_profile.as_ref(),
    );
    escalation(errors, path, context);
}

fn profiles(
    errors: &mut Errors,
    path: &Path,
    seccomp: Option<&SeccompProfile>,
    apparmor: Option<&AppArmorProfile>,
) {
    let seccomp = seccomp.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref()));
    let apparmor = apparmor.map(|p| (p.type_.as_str(), p.localhost_profile.as_deref()));
    let all = [
        ("seccompProfile", "seccomp", seccomp),
        ("appArmorProfile", "AppArmor", apparmor),
    ];
    for (field, what, profile) in all {
        let Some((kind, local)) = profile else {
            continue;
        };
        let path = path.child(field);
        let name = path.child("localhostProfile");
        match (kind, local) {
            ("", _) => errors.required(
                &path.child("type"),
                &format!("type is required when {field} is set"),
            ),
            ("Localhost", None | Some("")) => {
                errors.required(&name, &format!("must be set when {what} type is Localhost"));
            }
            ("Localhost", Some(text)) if what == "seccomp" => {
                super::volumes::relative(errors, &name, text);
            }
            ("Localhost", Some(text)) if text.trim() != text => {
                errors.invalid(&name, text, "must not be padded with whitespace");
            }
            ("Localhost", Some(_)) => {}
            (_, Some(text)) => errors.invalid(
                &name,
                text,
                format_args!("can only be set when {what} type is Localhost"),
            ),
            (_, None) => errors.one_of(
                &path.child("type"),
                Some(kind),
                &["Localhost", "RuntimeDefault", "Unconfined"],
            ),
        }
    }
}

fn escalation(errors: &mut Errors, path: &Path, context: &SecurityContext) {
    if context.allow_privilege_escalation != Some(false) {
        return;
    }
    let shown = serde_json::to_value(context).unwrap_or_default();
    if context.privileged == Some(true) {
        errors.invalid(
            path,
            &shown,
            "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        );
    }
    let added = context
        .capabilities
        .iter()
        .flat_map(|c| c.add.iter().flatten());
    if added.into_iter().any(|name| name == "CAP_SYS_ADMIN") {
        errors.invalid(
            path,
            &shown,
            "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
        );
    }
}
