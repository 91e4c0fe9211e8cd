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
    if let Some(linux) = spec.linux() {
        let label = linux.mount_label().as_deref().unwrap_or_default();
        let devices = linux.net_devices().as_ref();
        refuse(
            &[
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

fn refuse(rows: &[(&str, bool)], field: &mut Field<'_>) {
    for (name, _) in rows.iter().filter(|(_, present)| *present) {
        field.at(name).refuse("is not supported yet");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::spec::testing::{assert_refused, planned};

    #[test]
    fn refused_by_name() {
        for (pointer, value) in [
            ("/linux/mountLabel", json!("a")),
            ("/linux/intelRdt", json!({})),
            ("/linux/memoryPolicy", json!({"mode": "MPOL_LOCAL"})),
            ("/linux/personality", json!({"domain": "LINUX"})),
            ("/linux/netDevices", json!({"eth0": {}})),
            ("/vm", json!({"kernel": {"path": "/k"}})),
        ] {
            let field = pointer[1..].replace('/', ".");
            assert_refused(&[(pointer, value, &format!("{field}: is not supported yet"))]);
        }
    }

    #[test]
    fn what_asks_for_nothing_is_fine() {
        planned(&[
            ("/hooks", json!({"prestart": [], "poststop": null})),
            ("/linux/mountLabel", json!("")),
            ("/linux/netDevices", json!({})),
            ("/process/apparmorProfile", json!("")),
            ("/process/selinuxLabel", json!("")),
            ("/process/commandLine", json!("windows")),
            ("/annotations", json!({"org.systemd.property.X": "1"})),
            ("/solaris", json!({})),
            ("/zos", json!({})),
        ]);
    }
}
