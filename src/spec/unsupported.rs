//! What a configuration can ask for and runp does not do yet: refused by name, never ignored.

use oci_spec::runtime as oci;

use super::field::Field;

/// Refuses what is set in `process`.
pub(crate) fn refuse_in_process(process: &oci::Process, field: &mut Field<'_>) {
    let text = |value: &Option<String>| value.as_ref().is_some_and(|text| !text.is_empty());
    refuse(
        &[
            ("apparmorProfile", text(process.apparmor_profile())),
            ("selinuxLabel", text(process.selinux_label())),
            ("ioPriority", process.io_priority().is_some()),
            ("scheduler", process.scheduler().is_some()),
            ("execCPUAffinity", process.exec_cpu_affinity().is_some()),
        ],
        field,
    );
}

/// Refuses what is set elsewhere. `solaris`, `windows` and `zos` are not for this system and ignored, as in runc.
pub(crate) fn refuse_in_spec(spec: &oci::Spec, field: &mut Field<'_>) {
    refuse(&[("vm", spec.vm().is_some())], field);
    if let Some(hooks) = spec.hooks() {
        refuse_hooks(hooks, &mut field.at("hooks"));
    }
    if let Some(linux) = spec.linux() {
        let label = linux.mount_label().as_deref().unwrap_or_default();
        let devices = linux.net_devices().as_ref();
        refuse(
            &[
                ("seccomp", linux.seccomp().is_some()),
                ("mountLabel", !label.is_empty()),
                ("intelRdt", linux.intel_rdt().is_some()),
                ("memoryPolicy", linux.memory_policy().is_some()),
                ("personality", linux.personality().is_some()),
                ("netDevices", devices.is_some_and(|d| !d.is_empty())),
            ],
            &mut field.at("linux"),
        );
    }
}

#[allow(deprecated)] // prestart hooks are, and callers still ask for them
fn refuse_hooks(hooks: &oci::Hooks, field: &mut Field<'_>) {
    let any = |list: &Option<Vec<oci::Hook>>| list.as_ref().is_some_and(|list| !list.is_empty());
    refuse(
        &[
            ("prestart", any(hooks.prestart())),
            ("createRuntime", any(hooks.create_runtime())),
            ("createContainer", any(hooks.create_container())),
            ("startContainer", any(hooks.start_container())),
            ("poststart", any(hooks.poststart())),
            ("poststop", any(hooks.poststop())),
        ],
        field,
    );
}

fn refuse(rows: &[(&str, bool)], field: &mut Field<'_>) {
    for (name, _) in rows.iter().filter(|(_, present)| *present) {
        field.at(name).refuse("is not supported yet");
    }
}
