//! The configuration that `runp spec` writes: the same as that of `runc spec`.

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

/// The text that `runc spec` (1.1) writes. To be written out as it stands: oci-spec keeps capabilities in no order.
///
/// Text rather than oci-spec's `Default`, which fills the inheritable and ambient capability sets (CVE-2022-29162).
pub const TEMPLATE: &str = include_str!("template.json");

/// The default configuration: `sh` in `rootfs`, which it cannot write to.
#[allow(clippy::expect_used)] // a constant; the tests parse it
pub fn template() -> Spec {
    serde_json::from_str(TEMPLATE).expect("the embedded template is a configuration")
}

/// The configuration that `runc spec --rootless` (1.1) writes for the user and group with these ids on the host: they become
/// root in a user namespace, nothing is limited, the network is the host's, and so is `/sys`, which goes with that.
#[allow(clippy::expect_used)] // a constant; the tests parse it
pub fn rootless(uid: u32, gid: u32) -> Value {
    let mut spec: Value = serde_json::from_str(TEMPLATE).expect("the embedded template is JSON");
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
            *mount = json!({"destination": "/sys", "type": "none", "source": "/sys", "options": options});
        }
        if let Some(options) = mount["options"].as_array_mut() {
            // Ids that are not mapped.
            let own = |option: &Value| option.as_str().is_some_and(|o| o.starts_with("gid="));
            options.retain(|option| !own(option));
        }
    }
    let linux = &mut spec["linux"];
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "user"}));
    }
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    spec
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_or_added_on_the_way_through_the_types() {
        let text: serde_json::Value = serde_json::from_str(TEMPLATE).unwrap();
        let mut through = serde_json::to_value(template()).unwrap();
        let sets = through["process"]["capabilities"].as_object_mut().unwrap();
        for names in sets.values_mut() {
            let names = names.as_array_mut().unwrap();
            names.sort_by_key(|name| name.to_string());
        }
        assert_eq!(through, text);
    }

    #[test]
    fn no_capability_is_inheritable() {
        let spec = template();
        let process = spec.process().as_ref().unwrap();
        let capabilities = process.capabilities().as_ref().unwrap();
        assert_eq!(capabilities.inheritable(), &None);
    }
}
