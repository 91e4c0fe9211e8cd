//! What a configuration can ask for and runp does not do: refused by name, never ignored.

use oci_spec::runtime as oci;

use super::field::Field;

/// Refuses what is set. `solaris`, `windows` and `zos` are not for this system and ignored, as in runc.
pub(crate) fn refuse_in_spec(spec: &oci::Spec, field: &mut Field<'_>) {
    if spec.vm().is_some() {
        field
            .at("vm")
            .refuse("is not supported: runp starts containers, not virtual machines");
    }
    let linux = spec.linux().as_ref();
    if linux.is_some_and(|linux| linux.intel_rdt().is_some()) {
        field.at("linux").at("intelRdt").refuse_and_hint(
            "is not supported yet",
            "it needs a processor with Intel RDT, and resctrl mounted on /sys/fs/resctrl",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::spec::testing::{assert_refused, planned};

    #[test]
    fn refused_by_name() {
        let vm = json!({"kernel": {"path": "/k"}});
        let machine = "vm: is not supported: runp starts containers, not virtual machines";
        assert_refused(&[("/vm", vm, machine)]);
        let missing = "linux.intelRdt: is not supported yet (it needs a processor with Intel RDT, and resctrl mounted on \
                       /sys/fs/resctrl)";
        assert_refused(&[("/linux/intelRdt", json!({}), missing)]);
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
