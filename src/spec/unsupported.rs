//! What a configuration can ask for and runp does not do yet: refused by name, never ignored.

use oci_spec::runtime as oci;

use super::field::Field;

/// Refuses what is set. `solaris`, `windows` and `zos` are not for this system and ignored, as in runc.
pub(crate) fn refuse_in_spec(spec: &oci::Spec, field: &mut Field<'_>) {
    refuse(&[("vm", spec.vm().is_some())], field);
    if let Some(linux) = spec.linux() {
        if linux.intel_rdt().is_some() {
            field.at("linux").at("intelRdt").refuse_and_hint(
                "is not supported yet",
                "it needs a processor with Intel RDT, and resctrl mounted on /sys/fs/resctrl",
            );
        }
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
        for (pointer, value) in [("/vm", json!({"kernel": {"path": "/k"}}))] {
            let field = pointer[1..].replace('/', ".");
            assert_refused(&[(pointer, value, &format!("{field}: is not supported yet"))]);
        }
        let message = "linux.intelRdt: is not supported yet (it needs a processor with Intel RDT, and resctrl mounted on \
                       /sys/fs/resctrl)";
        assert_refused(&[("/linux/intelRdt", json!({}), message)]);
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
