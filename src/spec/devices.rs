//! The default devices of the runtime-spec, and `linux.devices`.

use std::collections::BTreeSet;
use std::path::Path;

use oci_spec::runtime as oci;

use super::field::Field;
use super::plan::{Device, DeviceNode, Mount, MountKind};

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
    if mounts.iter().any(binds_dev) {
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

fn binds_dev(mount: &Mount) -> bool {
    mount.destination == Path::new("/dev") && matches!(mount.kind, MountKind::Bind { .. })
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
