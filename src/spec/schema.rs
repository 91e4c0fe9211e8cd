//! Every field of the runtime-spec's schema (config-schema.json, config-linux.json, defs-linux.json of 1.3) against what runp
//! makes of it: none is dropped unread, and each is planned or refused by name.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::Value;

use super::load;
use super::testing::refusals_of;

/// A configuration that sets every field.
const EVERY_FIELD: &str = include_str!("../../tests/manifests/every-field.json");

/// The schema: each object (`[]`: in a list, `*`: by any key) with its fields. What is for other systems is left out.
const SCHEMA: &str = "
: ociVersion hostname domainname
annotations: *
root: path readonly
process: terminal args[] env[] cwd noNewPrivileges apparmorProfile selinuxLabel oomScoreAdj
process.consoleSize: height width
process.user: uid gid umask additionalGids[]
process.capabilities: bounding[] effective[] inheritable[] permitted[] ambient[]
process.rlimits[]: type hard soft
process.scheduler: policy nice priority flags[] runtime deadline period
process.ioPriority: class priority
process.execCPUAffinity: initial final
mounts[]: destination type source options[]
mounts[].uidMappings[]: containerID hostID size
mounts[].gidMappings[]: containerID hostID size
hooks.prestart[]: path args[] env[] timeout
hooks.createRuntime[]: path args[] env[] timeout
hooks.createContainer[]: path args[] env[] timeout
hooks.startContainer[]: path args[] env[] timeout
hooks.poststart[]: path args[] env[] timeout
hooks.poststop[]: path args[] env[] timeout
linux: cgroupsPath rootfsPropagation maskedPaths[] readonlyPaths[] mountLabel
linux.uidMappings[]: containerID hostID size
linux.gidMappings[]: containerID hostID size
linux.namespaces[]: type path
linux.timeOffsets.monotonic: secs nanosecs
linux.timeOffsets.boottime: secs nanosecs
linux.sysctl: *
linux.devices[]: path type major minor fileMode uid gid
linux.netDevices.*: name
linux.resources.devices[]: allow type major minor access
linux.resources.memory: limit reservation swap kernel kernelTCP swappiness disableOOMKiller useHierarchy checkBeforeUpdate
linux.resources.cpu: shares quota burst period realtimeRuntime realtimePeriod cpus mems idle
linux.resources.pids: limit
linux.resources.blockIO: weight leafWeight
linux.resources.blockIO.weightDevice[]: major minor weight leafWeight
linux.resources.blockIO.throttleReadBpsDevice[]: major minor rate
linux.resources.blockIO.throttleWriteBpsDevice[]: major minor rate
linux.resources.blockIO.throttleReadIOPSDevice[]: major minor rate
linux.resources.blockIO.throttleWriteIOPSDevice[]: major minor rate
linux.resources.hugepageLimits[]: pageSize limit
linux.resources.network: classID
linux.resources.network.priorities[]: name priority
linux.resources.rdma.*: hcaHandles hcaObjects
linux.resources.unified: *
linux.seccomp: defaultAction defaultErrnoRet architectures[] flags[] listenerPath listenerMetadata
linux.seccomp.syscalls[]: names[] action errnoRet
linux.seccomp.syscalls[].args[]: index value valueTwo op
linux.intelRdt: closID l3CacheSchema memBwSchema schemata[] enableMonitoring
linux.memoryPolicy: mode nodes flags[]
linux.personality: domain flags[]
";

/// Objects whose keys are not the schema's.
const MAPS: [&str; 5] = [
    "annotations",
    "linux.sysctl",
    "linux.netDevices",
    "linux.resources.rdma",
    "linux.resources.unified",
];

fn schema() -> BTreeSet<String> {
    let line = |line: &'static str| {
        let (object, fields) = line.split_once(':').unwrap();
        let fields = fields.split_whitespace();
        fields.map(move |field| {
            format!("{object}.{field}")
                .trim_start_matches('.')
                .to_owned()
        })
    };
    SCHEMA.trim().lines().flat_map(line).collect()
}

/// The paths of all values in a configuration, as the schema names them.
fn fields(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = if MAPS.contains(&path) { "*" } else { key };
                fields(
                    value,
                    format!("{path}.{key}").trim_start_matches('.'),
                    found,
                );
            }
        }
        Value::Array(list) if list.is_empty() => drop(found.insert(format!("{path}[]"))),
        Value::Array(list) => list
            .iter()
            .for_each(|item| fields(item, &format!("{path}[]"), found)),
        _ => drop(found.insert(path.into())),
    }
}

fn fields_of(value: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    fields(value, "", &mut found);
    found
}

fn every_field() -> Value {
    serde_json::from_str(EVERY_FIELD).unwrap()
}

/// As it is read from a bundle.
fn spec() -> oci_spec::runtime::Spec {
    load::parse(EVERY_FIELD.as_bytes()).unwrap()
}

#[test]
fn the_example_has_every_field_of_the_schema() {
    let (schema, example) = (schema(), fields_of(&every_field()));
    let missing: Vec<_> = schema.difference(&example).collect();
    let unknown: Vec<_> = example.difference(&schema).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing {missing:?}, unknown {unknown:?}"
    );
}

#[test]
fn no_field_is_dropped_when_it_is_read() {
    let read = fields_of(&serde_json::to_value(spec()).unwrap());
    let dropped: Vec<_> = schema()
        .into_iter()
        .filter(|field| !read.contains(field))
        .collect();
    assert_eq!(dropped, Vec::<String>::new());
}

/// What cannot be, and why.
const REFUSED: [&str; 3] = [
    // Nobody who builds runp has such a processor.
    "linux.intelRdt: is not supported yet",
    // Linux 5.0 took them away.
    "linux.resources.blockIO.leafWeight: 10: kernels since 5.0",
    "linux.resources.blockIO.weightDevice[0].leafWeight: 300: kernels since 5.0",
];

#[test]
fn every_field_is_planned_or_refused_by_its_name() {
    let refusals = refusals_of(&every_field());
    let is_of = |message: &String, start: &&str| message.starts_with(start);
    let unexpected: Vec<_> = refusals
        .iter()
        .filter(|message| !REFUSED.iter().any(|start| is_of(message, start)))
        .collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    for start in REFUSED {
        let is_there = refusals.iter().any(|message| is_of(message, &start));
        assert!(is_there, "not refused any more: {start}");
    }
}
