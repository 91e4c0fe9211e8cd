//! `linux.netDevices`: interfaces of the host that become the container's.

use std::collections::HashMap;

use oci_spec::runtime as oci;

use super::field::Field;
use super::plan::{Namespace, NetDevice};

/// In the order of their names on the host.
pub(crate) fn plan_net_devices(
    devices: Option<&HashMap<String, oci::LinuxNetDevice>>,
    network: &Namespace,
    field: &mut Field<'_>,
) -> Vec<NetDevice> {
    let mut devices: Vec<_> = devices.into_iter().flatten().collect();
    devices.sort_by_key(|(name, _)| *name);
    if !devices.is_empty() && *network == Namespace::Inherit {
        field.refuse_and_hint(
            "there is no network namespace to move them to",
            "add {\"type\": \"network\"} to linux.namespaces",
        );
    }
    let mut plan: Vec<NetDevice> = Vec::new();
    for (name, device) in devices {
        let field = &mut field.key(name);
        check_name(name, field);
        let new_name = device.name().as_deref().filter(|name| !name.is_empty());
        if let Some(new_name) = new_name {
            check_name(new_name, &mut field.at("name"));
        }
        let new_name = new_name.unwrap_or(name).to_owned();
        if let Some(other) = plan.iter().find(|other| other.new_name == new_name) {
            field.refuse(format_args!(
                "is called {new_name:?} in the container, as {:?} is",
                other.name
            ));
        }
        plan.push(NetDevice {
            name: name.clone(),
            new_name,
        });
    }
    plan
}

/// What the kernel takes (net/core/dev.c, `dev_valid_name`), and no `%`, from which it would make a name with a number.
fn check_name(name: &str, field: &mut Field<'_>) {
    let length = 1..libc::IFNAMSIZ;
    let illegal = |c: char| c.is_whitespace() || c.is_control() || "/:%".contains(c);
    if !length.contains(&name.len()) || [".", ".."].contains(&name) || name.contains(illegal) {
        field.refuse_and_hint(
            format_args!("{name:?} is no name of an interface"),
            "1 to 15 bytes without white space, \"/\", \":\" and \"%\"",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::spec::testing::{planned, refusals};

    #[test]
    fn devices_keep_their_names_or_get_new_ones() {
        let devices = json!({"eth1": {"name": "lan"}, "eth0": {}, "eth2": {"name": ""}});
        let plan = planned(&[("/linux/netDevices", devices)]).net_devices;
        let names: Vec<_> = plan
            .iter()
            .map(|device| (device.name.as_str(), device.new_name.as_str()))
            .collect();
        assert_eq!(names, [("eth0", "eth0"), ("eth1", "lan"), ("eth2", "eth2")]);
    }

    #[test]
    fn refused_devices() {
        let no_name = |name: &str| {
            format!(
                "{name:?} is no name of an interface (1 to 15 bytes without white space, \"/\", \":\" and \"%\")"
            )
        };
        let refused = |devices: Value| refusals(&[("/linux/netDevices", devices)]);
        for name in ["", "a b", "a/b", "a:b", "..", "0123456789abcdef", "a\n"] {
            let place = format!("linux.netDevices[{name:?}]");
            assert_eq!(
                refused(json!({name: {}})),
                [format!("{place}: {}", no_name(name))]
            );
        }
        assert_eq!(
            refused(json!({"eth0": {"name": "eth%d"}})),
            [format!(
                "linux.netDevices[\"eth0\"].name: {}",
                no_name("eth%d")
            )]
        );
        assert_eq!(
            refused(json!({"a": {"name": "b"}, "b": {}})),
            ["linux.netDevices[\"b\"]: is called \"b\" in the container, as \"a\" is"]
        );
        let changes = [
            ("/linux/namespaces", json!([{"type": "mount"}])),
            ("/hostname", json!("")),
            ("/linux/netDevices", json!({"eth0": {}})),
        ];
        assert_eq!(
            refusals(&changes),
            [
                "linux.netDevices: there is no network namespace to move them to (add {\"type\": \"network\"} to \
                 linux.namespaces)"
            ]
        );
    }
}
