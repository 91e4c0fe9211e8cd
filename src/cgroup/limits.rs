//! `linux.resources`, checked and typed. Pure; [`super::settings`] says what the kernel is told.

use std::collections::BTreeMap;
use std::fmt::Display;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources, LinuxThrottleDevice,
};

use crate::error::Error;

/// What a cgroup may use. `None`, an empty list and [`Default`] leave the kernel's own.
///
/// The devices that it may use are not in here: a pod has limits and no device rules, see [`super::devices`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Where these limits are written in the input, for errors: `linux.resources`.
    pub field: String,
    /// `cpu`.
    pub cpu: Cpu,
    /// `memory`.
    pub memory: Memory,
    /// `pids.limit`: processes and threads.
    pub pids: Option<Bound>,
    /// `blockIO`.
    pub block_io: BlockIo,
    /// `hugepageLimits`: page size as the kernel writes it (`2MB`) and bytes.
    pub hugepages: Vec<(String, u64)>,
    /// `network.classID`, of v1 only.
    pub class_id: Option<u32>,
    /// `network.priorities`, of v1 only: interface and priority.
    pub priorities: Vec<(String, u32)>,
    /// `rdma`: device to handles and objects.
    pub rdma: BTreeMap<String, (Option<u32>, Option<u32>)>,
    /// `unified`, of v2 only: file and what is written into it.
    pub unified: BTreeMap<String, String>,
}

/// A number, or no limit at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Bound {
    Unlimited,
    At(u64),
}

/// `linux.resources.cpu`; times in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the runtime-spec's names
pub struct Cpu {
    /// 2 to 262144; the kernel's default is 1024.
    pub shares: Option<u64>,
    /// Of processor time per `period`.
    pub quota: Option<Bound>,
    pub period: Option<u64>,
    pub burst: Option<u64>,
    pub idle: Option<bool>,
    pub realtime_runtime: Option<i64>,
    pub realtime_period: Option<u64>,
    /// A list as in cpuset(7): `0-3,8`.
    pub cpus: Option<String>,
    pub mems: Option<String>,
}

/// `linux.resources.memory`, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Memory {
    pub limit: Option<Bound>,
    pub reservation: Option<Bound>,
    /// Memory and swap together, as in v1.
    pub swap: Option<Bound>,
    /// 0 to 100, of v1 only.
    pub swappiness: Option<u64>,
    /// Of v1 only.
    pub disable_oom_killer: bool,
    /// A limit below what is in use is refused.
    pub check_before_update: bool,
}

/// `linux.resources.blockIO`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// `major:minor` and weight.
    pub weight_device: Vec<(String, u16)>,
    /// By [`Throttle::index`]: `major:minor` and rate.
    pub throttle: Vec<(Throttle, String, u64)>,
}

/// The four kinds of `throttle*Device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Throttle {
    ReadBps,
    WriteBps,
    ReadIops,
    WriteIops,
}

/// Collects errors, each with its JSON path, value and reason.
struct Check<'a> {
    prefix: &'a str,
    errors: &'a mut Vec<Error>,
}

impl Check<'_> {
    fn refuse(&mut self, field: impl Display, value: impl Display, why: &str, hint: &str) {
        self.errors
            .push(Error::new(format!("{}.{field}: {value}: {why}", self.prefix)).hint(hint));
    }

    /// A number in a range; 0 means that nothing was asked for, as in runc.
    fn range(&mut self, field: &str, value: Option<u64>, min: u64, max: u64) -> Option<u64> {
        let value = value.filter(|v| *v != 0)?;
        if (min..=max).contains(&value) {
            return Some(value);
        }
        let hint = format!("a number from {min} to {max}, or leave it out");
        self.refuse(field, value, "out of range", &hint);
        None
    }

    /// Negative is unlimited (-1, the only one allowed); 0 means that nothing was asked for, as in runc.
    fn bound(&mut self, field: &str, value: Option<i64>, min: u64) -> Option<Bound> {
        match value? {
            0 => None,
            -1 => Some(Bound::Unlimited),
            v if v > 0 && v.cast_unsigned() >= min => Some(Bound::At(v.cast_unsigned())),
            v => {
                let hint = format!("at least {min}, or -1 for no limit");
                self.refuse(field, v, "out of range", &hint);
                None
            }
        }
    }

    /// A list of numbers and ranges, cpuset(7).
    fn list(&mut self, field: &str, value: Option<&String>) -> Option<String> {
        let list = value.filter(|v| !v.is_empty())?;
        let number = |s: &str| s.parse::<u32>().ok();
        let well_formed = list.split(',').all(|part| match part.split_once('-') {
            None => number(part).is_some(),
            Some((from, to)) => {
                matches!((number(from), number(to)), (Some(from), Some(to)) if from <= to)
            }
        });
        if well_formed {
            return Some(list.clone());
        }
        let value = format!("{list:?}");
        self.refuse(
            field,
            value,
            "not a list of numbers",
            "for example \"0-3,8\"",
        );
        None
    }

    fn device(&mut self, field: &str, major: i64, minor: i64) -> Option<String> {
        if let (Ok(major), Ok(minor)) = (u32::try_from(major), u32::try_from(minor)) {
            return Some(format!("{major}:{minor}"));
        }
        let number = format!("{major}:{minor}");
        self.refuse(
            field,
            number,
            "not a device number",
            "`ls -l` shows major, minor",
        );
        None
    }
}

impl Limits {
    /// Reads `linux.resources`; `prefix` is where it stands in the input. Devices are read by [`super::devices`].
    ///
    /// Everything that is wrong is appended to `errors`, and left out of what is returned.
    pub fn from_resources(
        resources: &LinuxResources,
        prefix: &str,
        errors: &mut Vec<Error>,
    ) -> Self {
        let mut check = Check { prefix, errors };
        let mut limits = Self {
            field: prefix.to_owned(),
            ..Self::default()
        };
        if let Some(cpu) = resources.cpu() {
            limits.cpu = self::cpu(&mut check, cpu);
        }
        if let Some(memory) = resources.memory() {
            limits.memory = self::memory(&mut check, memory);
        }
        if let Some(pids) = resources.pids() {
            limits.pids = check.bound("pids.limit", Some(pids.limit()), 1);
        }
        if let Some(block_io) = resources.block_io() {
            limits.block_io = self::block_io(&mut check, block_io);
        }
        if let Some(network) = resources.network() {
            limits.class_id = network.class_id();
            limits.priorities = priorities(&mut check, network);
        }
        limits.hugepages = hugepages(&mut check, resources);
        limits.rdma = rdma(&mut check, resources);
        limits.unified = unified(&mut check, resources);
        limits
    }
}

fn cpu(check: &mut Check<'_>, cpu: &LinuxCpu) -> Cpu {
    let quota = check.bound("cpu.quota", cpu.quota(), 1000);
    let idle = match cpu.idle() {
        None => None,
        Some(0) => Some(false),
        Some(1) => Some(true),
        Some(other) => {
            check.refuse("cpu.idle", other, "out of range", "0 or 1");
            None
        }
    };
    let shares = check.range("cpu.shares", cpu.shares(), 2, 262_144);
    if let (Some(true), Some(shares)) = (idle, shares) {
        let hint = "an idle cgroup has no shares: leave out one of the two";
        check.refuse("cpu.shares", shares, "set beside cpu.idle = 1", hint);
    }
    let burst = cpu.burst();
    match (burst, quota) {
        (None | Some(0), _) => {}
        (Some(burst), Some(Bound::At(quota))) if burst <= quota => {}
        (Some(burst), _) => check.refuse(
            "cpu.burst",
            burst,
            "more than cpu.quota",
            "a burst needs a quota that is at least as large",
        ),
    }
    Cpu {
        shares,
        quota,
        period: check.range("cpu.period", cpu.period(), 1000, 1_000_000),
        burst,
        idle,
        realtime_runtime: cpu.realtime_runtime().filter(|v| *v != 0),
        realtime_period: cpu.realtime_period().filter(|v| *v != 0),
        cpus: check.list("cpu.cpus", cpu.cpus().as_ref()),
        mems: check.list("cpu.mems", cpu.mems().as_ref()),
    }
}

fn memory(check: &mut Check<'_>, memory: &LinuxMemory) -> Memory {
    let limit = check.bound("memory.limit", memory.limit(), 1);
    let swap = check.bound("memory.swap", memory.swap(), 1);
    match (swap, limit) {
        (Some(Bound::At(swap)), Some(Bound::At(limit))) if swap < limit => check.refuse(
            "memory.swap",
            swap,
            "less than memory.limit",
            "it counts memory and swap together: at least memory.limit, or -1 for no limit",
        ),
        (Some(Bound::At(swap)), None | Some(Bound::Unlimited)) => check.refuse(
            "memory.swap",
            swap,
            "set without memory.limit",
            "it counts memory and swap together: set memory.limit too",
        ),
        _ => {}
    }
    // Kernels since 5.16 have no separate limit of kernel memory; runc since 1.0 takes the field and goes on.
    for (field, value) in [
        ("kernel", memory.kernel()),
        ("kernelTCP", memory.kernel_tcp()),
    ] {
        if value.is_some_and(|v| v != 0) {
            log::warn!(
                "{}.memory.{field}: kernels have no such limit any more",
                check.prefix
            );
        }
    }
    if memory.use_hierarchy() == Some(false) {
        let hint = "leave it out: kernels since 5.11 always account for sub-cgroups";
        check.refuse(
            "memory.useHierarchy",
            false,
            "no kernel can do that any more",
            hint,
        );
    }
    // Docker writes "not set" as -1, which arrives as the largest number.
    let swappiness = memory.swappiness().filter(|v| *v != u64::MAX);
    if let Some(value) = swappiness.filter(|v| *v > 100) {
        check.refuse(
            "memory.swappiness",
            value,
            "out of range",
            "a number from 0 to 100",
        );
    }
    Memory {
        limit,
        reservation: check.bound("memory.reservation", memory.reservation(), 1),
        swap,
        swappiness,
        disable_oom_killer: memory.disable_oom_killer().unwrap_or(false),
        check_before_update: memory.check_before_update().unwrap_or(false),
    }
}

fn block_io(check: &mut Check<'_>, io: &LinuxBlockIo) -> BlockIo {
    let weight = |check: &mut Check<'_>, field: &str, value: Option<u16>| {
        let value = check.range(field, value.map(u64::from), 10, 1000)?;
        u16::try_from(value).ok()
    };
    const GONE: &str = "kernels since 5.0 have no leaf weight";
    if let Some(value) = io.leaf_weight().filter(|v| *v != 0) {
        check.refuse("blockIO.leafWeight", value, GONE, "leave it out");
    }
    let mut weight_device = Vec::new();
    for (i, entry) in io.weight_device().iter().flatten().enumerate() {
        let field = format!("blockIO.weightDevice[{i}]");
        if let Some(value) = entry.leaf_weight().filter(|v| *v != 0) {
            check.refuse(format!("{field}.leafWeight"), value, GONE, "leave it out");
        }
        let device = check.device(&field, entry.major(), entry.minor());
        let weight = weight(check, &format!("{field}.weight"), entry.weight());
        weight_device.extend(device.zip(weight));
    }
    let mut throttle = Vec::new();
    let mut read = |kind, name: &str, list: &Option<Vec<LinuxThrottleDevice>>| {
        for (i, entry) in list.iter().flatten().enumerate() {
            let field = format!("blockIO.{name}[{i}]");
            if let Some(device) = check.device(&field, entry.major(), entry.minor()) {
                throttle.push((kind, device, entry.rate()));
            }
        }
    };
    read(
        Throttle::ReadBps,
        "throttleReadBpsDevice",
        io.throttle_read_bps_device(),
    );
    read(
        Throttle::WriteBps,
        "throttleWriteBpsDevice",
        io.throttle_write_bps_device(),
    );
    read(
        Throttle::ReadIops,
        "throttleReadIOPSDevice",
        io.throttle_read_iops_device(),
    );
    read(
        Throttle::WriteIops,
        "throttleWriteIOPSDevice",
        io.throttle_write_iops_device(),
    );
    BlockIo {
        weight: weight(check, "blockIO.weight", io.weight()),
        weight_device,
        throttle,
    }
}

/// Page sizes become file names: only what the kernel itself would write passes.
fn hugepages(check: &mut Check<'_>, resources: &LinuxResources) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for (i, entry) in resources.hugepage_limits().iter().flatten().enumerate() {
        let size = entry.page_size();
        let digits = ["KB", "MB", "GB"]
            .iter()
            .find_map(|unit| size.strip_suffix(unit));
        let well_formed = digits.is_some_and(|d| {
            !d.is_empty() && !d.starts_with('0') && d.bytes().all(|b| b.is_ascii_digit())
        });
        if !well_formed {
            check.refuse(
                format!("hugepageLimits[{i}].pageSize"),
                format!("{size:?}"),
                "not a page size",
                "a number and KB, MB or GB, as \"2MB\"",
            );
        }
        match u64::try_from(entry.limit()) {
            Ok(limit) if well_formed => found.push((size.clone(), limit)),
            Ok(_) => {}
            Err(_) => check.refuse(
                format!("hugepageLimits[{i}].limit"),
                entry.limit(),
                "negative",
                "a number of bytes, or leave the entry out",
            ),
        }
    }
    found
}

fn priorities(check: &mut Check<'_>, network: &LinuxNetwork) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for (i, entry) in network.priorities().iter().flatten().enumerate() {
        if is_word(entry.name()) {
            found.push((entry.name().clone(), entry.priority()));
        } else {
            check.refuse(
                format!("network.priorities[{i}].name"),
                format!("{:?}", entry.name()),
                "not the name of an interface",
                "`ip link` lists them",
            );
        }
    }
    found
}

fn rdma(
    check: &mut Check<'_>,
    resources: &LinuxResources,
) -> BTreeMap<String, (Option<u32>, Option<u32>)> {
    let mut found = BTreeMap::new();
    for (device, entry) in resources.rdma().iter().flatten() {
        if is_word(device) {
            found.insert(device.clone(), (entry.hca_handles(), entry.hca_objects()));
        } else {
            let name = format!("{device:?}");
            check.refuse(
                "rdma",
                name,
                "not the name of a device",
                "`rdma dev` lists them",
            );
        }
    }
    found
}

/// Files through which a container would steer its processes rather than limit them.
const NOT_LIMITS: [&str; 6] = [
    "cgroup.freeze",
    "cgroup.kill",
    "cgroup.procs",
    "cgroup.subtree_control",
    "cgroup.threads",
    "cgroup.type",
];

fn unified(check: &mut Check<'_>, resources: &LinuxResources) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (file, value) in resources.unified().iter().flatten() {
        let is_file = file
            .split_once('.')
            .is_some_and(|(controller, rest)| !controller.is_empty() && !rest.is_empty())
            && file
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if is_file && !NOT_LIMITS.contains(&file.as_str()) {
            found.insert(file.clone(), value.clone());
        } else {
            check.refuse(
                "unified",
                format!("{file:?}"),
                "not a limit",
                "the name of a controller's file, as \"memory.high\"",
            );
        }
    }
    found
}

/// What can stand in a line of words of the kernel without becoming two of them.
fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Limits, Vec<String>) {
        let resources: LinuxResources = serde_json::from_str(json).unwrap();
        let mut errors = Vec::new();
        let limits = Limits::from_resources(&resources, "linux.resources", &mut errors);
        (limits, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn reads_what_is_asked_for() {
        let (limits, errors) = read(
            r#"{"memory": {"limit": 1048576, "swap": -1}, "pids": {"limit": 7}, "cpu": {"quota": 20000, "cpus": "0-1,3"}}"#,
        );
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(limits.memory.limit, Some(Bound::At(1 << 20)));
        assert_eq!(limits.memory.swap, Some(Bound::Unlimited));
        assert_eq!(limits.pids, Some(Bound::At(7)));
        assert_eq!(limits.cpu.cpus.as_deref(), Some("0-1,3"));
    }

    #[test]
    fn zero_asks_for_nothing() {
        let (limits, errors) = read(
            r#"{"memory": {"limit": 0, "swap": 0}, "pids": {"limit": 0}, "cpu": {"shares": 0, "quota": 0, "period": 0}}"#,
        );
        assert_eq!(errors, Vec::<String>::new());
        let nothing = Limits {
            field: "linux.resources".into(),
            ..Limits::default()
        };
        assert_eq!(limits, nothing);
    }

    #[test]
    fn names_every_wrong_field_at_once() {
        let table = [
            (
                r#"{"memory": {"limit": -5}}"#,
                "linux.resources.memory.limit: -5: out of range",
            ),
            (
                r#"{"memory": {"limit": 9, "swap": 8}}"#,
                "linux.resources.memory.swap: 8: less than",
            ),
            (
                r#"{"memory": {"swap": 8}}"#,
                "linux.resources.memory.swap: 8: set without",
            ),
            (
                r#"{"memory": {"swappiness": 101}}"#,
                "linux.resources.memory.swappiness: 101: ",
            ),
            (
                r#"{"memory": {"useHierarchy": false}}"#,
                "linux.resources.memory.useHierarchy: false",
            ),
            (
                r#"{"cpu": {"shares": 1}}"#,
                "linux.resources.cpu.shares: 1: out of range",
            ),
            (
                r#"{"cpu": {"quota": 999}}"#,
                "linux.resources.cpu.quota: 999: ",
            ),
            (
                r#"{"cpu": {"period": 1000001}}"#,
                "linux.resources.cpu.period: 1000001: ",
            ),
            (
                r#"{"cpu": {"burst": 5}}"#,
                "linux.resources.cpu.burst: 5: more than",
            ),
            (r#"{"cpu": {"idle": 2}}"#, "linux.resources.cpu.idle: 2: "),
            (
                r#"{"cpu": {"idle": 1, "shares": 100}}"#,
                "linux.resources.cpu.shares: 100: set beside",
            ),
            (
                r#"{"cpu": {"cpus": "3-1"}}"#,
                "linux.resources.cpu.cpus: \"3-1\": ",
            ),
            (
                r#"{"cpu": {"mems": "0\n1"}}"#,
                "linux.resources.cpu.mems: \"0\\n1\": ",
            ),
            (
                r#"{"pids": {"limit": -2}}"#,
                "linux.resources.pids.limit: -2: ",
            ),
            (
                r#"{"blockIO": {"weight": 9}}"#,
                "linux.resources.blockIO.weight: 9: ",
            ),
            (
                r#"{"blockIO": {"leafWeight": 9}}"#,
                "linux.resources.blockIO.leafWeight: 9: ",
            ),
            (
                r#"{"blockIO": {"throttleReadBpsDevice": [{"major": -8, "minor": 0, "rate": 1}]}}"#,
                "linux.resources.blockIO.throttleReadBpsDevice[0]: -8:0: ",
            ),
            (
                r#"{"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}"#,
                "linux.resources.hugepageLimits[0].pageSize: \"../2MB\": ",
            ),
            (
                r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}"#,
                "linux.resources.hugepageLimits[0].limit: -1: ",
            ),
            (
                r#"{"network": {"priorities": [{"name": "eth0 9", "priority": 1}]}}"#,
                "linux.resources.network.priorities[0].name: ",
            ),
            (
                r#"{"rdma": {"a b": {"hcaHandles": 1}}}"#,
                "linux.resources.rdma: \"a b\": ",
            ),
            (
                r#"{"unified": {"../x.y": "1"}}"#,
                "linux.resources.unified: \"../x.y\": ",
            ),
            (
                r#"{"unified": {"cgroup.procs": "0"}}"#,
                "linux.resources.unified: \"cgroup.procs\": ",
            ),
        ];
        for (json, start) in table {
            let (_, errors) = read(json);
            assert_eq!(errors.len(), 1, "{json}: {errors:?}");
            assert!(errors[0].starts_with(start), "{json}: {}", errors[0]);
        }
        let (_, errors) = read(r#"{"memory": {"limit": -5}, "pids": {"limit": -2}}"#);
        assert_eq!(errors.len(), 2);
    }
}
