//! The default devices of the runtime-spec, and `linux.devices`.

use std::collections::BTreeSet;
use std::path::Path;

use oci_spec::runtime as oci;

use super::field::Field;
use super::plan::{Device, DeviceNode, Mount};

/// runtime-spec, config-linux.md, "Default Devices": path, major and minor number of a character device.
///
/// `/dev/ptmx` and `/dev/console` are there too, but no nodes: a link to devpts, and the terminal.
const DEFAULT: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The kernel keeps 12 bits of the major and 20 bits of the minor number (`include/linux/kdev_t.h`).
const MAX: (i64, i64) = ((1 << 12) - 1, (1 << 20) - 1);

/// The nodes to make. One of `linux.devices` replaces a default one with the same path.
///
/// None if `/dev` is a bind mount: it has nodes, and they are the host's (as in runc).
pub(crate) fn plan_devices(
    devices: &[oci::LinuxDevice],
    mounts: &[Mount],
    field: &mut Field<'_>,
) -> Vec<Device> {
    let own: Vec<Device> = devices
        .iter()
        .enumerate()
        .map(|(index, device)| plan_device(device, &mut field.item(index)))
        .collect();
    let mut paths = BTreeSet::new();
    for (index, device) in own.iter().enumerate() {
        if !paths.insert(&device.path) {
            let duplicate = format_args!("{:?} is there twice", device.path).to_string();
            field.item(index).at("path").refuse(duplicate);
        }
    }
    if mounts.iter().any(Mount::binds_dev) {
        return Vec::new();
    }
    let default = DEFAULT
        .iter()
        .filter(|(path, ..)| !paths.contains(&Path::new(path).to_path_buf()))
        .map(|&(path, major, minor)| Device {
            path: path.into(),
            node: DeviceNode::Char { major, minor },
            mode: 0o666,
            uid: 0,
            gid: 0,
        });
    default.chain(own.iter().cloned()).collect()
}

fn plan_device(device: &oci::LinuxDevice, field: &mut Field<'_>) -> Device {
    let number = |name: &str, value: i64, max: i64, field: &mut Field<'_>| {
        if !(0..=max).contains(&value) {
            field
                .at(name)
                .refuse(format_args!("{value} is not between 0 and {max}"));
        }
        u32::try_from(value).unwrap_or_default()
    };
    let mut numbers = || {
        (
            number("major", device.major(), MAX.0, field),
            number("minor", device.minor(), MAX.1, field),
        )
    };
    let node = match device.typ() {
        oci::LinuxDeviceType::C | oci::LinuxDeviceType::U => {
            let (major, minor) = numbers();
            DeviceNode::Char { major, minor }
        }
        oci::LinuxDeviceType::B => {
            let (major, minor) = numbers();
            DeviceNode::Block { major, minor }
        }
        oci::LinuxDeviceType::P => DeviceNode::Fifo,
        oci::LinuxDeviceType::A => {
            field
                .at("type")
                .refuse("\"a\" is for cgroup rules, a device is one of c, b, u, p");
            DeviceNode::Fifo
        }
    };
    Device {
        path: field.at("path").absolute(device.path()),
        node,
        // Callers copy st_mode, with the file's type in it.
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: field.at("uid").id(device.uid().unwrap_or(0)),
        gid: field.at("gid").id(device.gid().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::testing::{assert_refused, planned};

    #[test]
    fn the_default_devices_are_there() {
        let devices = planned(&[]).devices;
        let text: Vec<String> = devices
            .iter()
            .map(|d| {
                format!(
                    "{} {:?} {:o} {} {}",
                    d.path.display(),
                    d.node,
                    d.mode,
                    d.uid,
                    d.gid
                )
            })
            .collect();
        assert_eq!(
            text,
            [
                "/dev/null Char { major: 1, minor: 3 } 666 0 0",
                "/dev/zero Char { major: 1, minor: 5 } 666 0 0",
                "/dev/full Char { major: 1, minor: 7 } 666 0 0",
                "/dev/random Char { major: 1, minor: 8 } 666 0 0",
                "/dev/urandom Char { major: 1, minor: 9 } 666 0 0",
                "/dev/tty Char { major: 5, minor: 0 } 666 0 0",
            ]
        );
    }

    #[test]
    fn devices_of_the_configuration_come_last_and_replace_default_ones() {
        let devices = json!([
            {"path": "/dev/sda", "type": "b", "major": 8, "minor": 0, "fileMode": 0o60660, "uid": 1, "gid": 6},
            {"path": "/dev//null", "type": "u", "major": 1, "minor": 3, "fileMode": 0o600},
            {"path": "/run/queue", "type": "p"},
        ]);
        let devices = planned(&[("/linux/devices", devices)]).devices;
        let paths: Vec<&str> = devices.iter().filter_map(|d| d.path.to_str()).collect();
        assert_eq!(paths[..2], ["/dev/zero", "/dev/full"]);
        assert_eq!(paths[5..], ["/dev/sda", "/dev/null", "/run/queue"]);
        assert_eq!(
            devices[5],
            Device {
                path: "/dev/sda".into(),
                node: DeviceNode::Block { major: 8, minor: 0 },
                mode: 0o660,
                uid: 1,
                gid: 6
            }
        );
        assert_eq!(devices[6].mode, 0o600);
        assert_eq!(
            (devices[7].node, devices[7].mode),
            (DeviceNode::Fifo, 0o666)
        );
    }

    #[test]
    fn no_node_is_made_in_the_hosts_dev() {
        let dev = json!({"destination": "/dev/", "source": "/dev", "options": ["rbind"]});
        let device = json!([{"path": "/dev/x", "type": "c"}]);
        let changes = [("/mounts/1", dev), ("/linux/devices", device)];
        assert_eq!(planned(&changes).devices, []);
    }

    #[test]
    fn refusals() {
        let device = |change: serde_json::Value| {
            let mut device = json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 1});
            for (key, value) in change.as_object().into_iter().flatten() {
                device[key] = value.clone();
            }
            json!([device])
        };
        let change = |change, message| ("/linux/devices", device(change), message);
        assert_refused(&[
            change(
                json!({"path": "dev/x"}),
                "linux.devices[0].path: \"dev/x\" is not an absolute path",
            ),
            change(
                json!({"type": "a"}),
                "linux.devices[0].type: \"a\" is for cgroup rules, a device is one of c, b, u, p",
            ),
            change(
                json!({"major": -1}),
                "linux.devices[0].major: -1 is not between 0 and 4095",
            ),
            change(
                json!({"minor": 1_048_576}),
                "linux.devices[0].minor: 1048576 is not between 0 and 1048575",
            ),
            change(
                json!({"uid": u32::MAX}),
                "linux.devices[0].uid: 4294967295 is no id (it is -1 for the kernel, which means no change)",
            ),
            (
                "/linux/devices",
                json!([{"path": "/dev/x", "type": "p"}, {"path": "/dev/./x", "type": "p"}]),
                "linux.devices[1].path: \"/dev/x\" is there twice",
            ),
        ]);
    }
}
