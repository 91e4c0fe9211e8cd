//! The smaller parts of `linux.resources`: hugepageLimits, network, rdma, unified.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxNetwork, LinuxResources};

use super::check::{Check, is_word};
use super::memory::{no_limit, v2_bytes};
use super::setting::{Absent, Expect, Form, NOT_ON_V2, Setting, Table};
use super::{Bound, Limits};

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

/// Bytes in a page of this size: `2MB`.
fn page_bytes(size: &str) -> Option<u64> {
    let (digits, unit) = size.split_at_checked(size.len().checked_sub(2)?)?;
    let shift = match unit {
        "KB" => 10,
        "MB" => 20,
        "GB" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The kernel counts whole pages of that size, and rounds down.
fn whole(size: &str, bytes: u64) -> u64 {
    match page_bytes(size) {
        Some(page) if page > 0 => bytes / page * page,
        _ => bytes,
    }
}

impl Limits {
    pub(super) fn read_others(&mut self, check: &mut Check<'_>, resources: &LinuxResources) {
        if let Some(network) = resources.network() {
            // 0 is what every cgroup has.
            self.class_id = network.class_id().filter(|id| *id != 0);
            self.priorities = priorities(check, network);
        }
        self.hugepages = hugepages(check, resources);
        self.rdma = rdma(check, resources);
        self.unified = unified(check, resources);
    }

    pub(super) fn other_settings(&self, table: &mut Table<'_>) {
        for (i, (size, limit)) in self.hugepages.iter().enumerate() {
            let (v1, v2) = hugetlb(size, *limit);
            table.add(&format!("hugepageLimits[{i}]"), v1, v2);
        }
        if let Some(class) = self.class_id {
            let v1 = Setting::new("net_cls", "net_cls.classid", class);
            table.add("network.classID", v1, NOT_ON_V2);
        }
        for (i, (interface, priority)) in self.priorities.iter().enumerate() {
            let line = format!("{interface} {priority}");
            let v1 = Setting::line("net_prio", "net_prio.ifpriomap", line);
            table.add(&format!("network.priorities[{i}]"), v1, NOT_ON_V2);
        }
        for (device, (handles, objects)) in &self.rdma {
            let words = [
                handles.map(|n| format!(" hca_handle={n}")),
                objects.map(|n| format!(" hca_object={n}")),
            ];
            let words: String = words.into_iter().flatten().collect();
            let line = Setting::line("rdma", "rdma.max", format!("{device}{words}"));
            table.add(&format!("rdma.{device}"), line.clone(), line);
        }
        for (name, value) in &self.unified {
            let controller = name
                .split_once('.')
                .map_or("", |(controller, _)| controller);
            // Files such as io.max take one line with each write.
            let lines = value.trim_end().split('\n').map(|line| {
                Setting::new(controller, name, line).expect(unified_expect(name, line.trim()))
            });
            let v1 = Form::Impossible("only a pure cgroup v2 machine has this");
            table.add(&format!("unified.{name}"), v1, Form::Files(lines.collect()));
        }
    }
}

/// The reservation is limited too where the kernel (5.7) can, or mmap would promise what a fault cannot keep.
fn hugetlb(size: &str, limit: u64) -> (Form, Form) {
    let most = whole(size, no_limit());
    let bytes = whole(size, limit).min(most);
    let files = |plain: &str, reserved: &str, expect: String| {
        let set = |name: &str| {
            Setting::new("hugetlb", format!("hugetlb.{size}.{name}"), limit)
                .expect(Expect::Exactly(expect.clone()))
        };
        Form::Files(vec![set(plain), set(reserved).or(Absent::Skip)])
    };
    let v2 = match bytes {
        bytes if bytes == most => "max".to_owned(),
        bytes => bytes.to_string(),
    };
    (
        files("limit_in_bytes", "rsvd.limit_in_bytes", bytes.to_string()),
        files("max", "rsvd.max", v2),
    )
}

/// What a file of v2 must say when this line was written into it, as far as its form is known.
fn unified_expect(name: &str, line: &str) -> Expect {
    let plain = line.bytes().all(|b| b.is_ascii_digit());
    match name {
        "memory.high" | "memory.low" | "memory.max" | "memory.min" | "memory.swap.high"
        | "memory.swap.max" => match line.parse() {
            Ok(bytes) => Expect::Exactly(v2_bytes(Bound::At(bytes))),
            // The kernel takes units too.
            Err(_) if line != "max" => Expect::Anything,
            Err(_) => Expect::Exactly(line.to_owned()),
        },
        "pids.max" | "cpu.weight" | "cpu.idle" | "memory.oom.group" => {
            Expect::Exactly(line.to_owned())
        }
        "cpu.max" if line.split_whitespace().count() == 2 => Expect::Exactly(line.to_owned()),
        "cpuset.cpus" | "cpuset.mems" => Expect::Numbers(line.to_owned()),
        "io.weight" | "io.bfq.weight" if plain => Expect::line(&format!("default {line}")),
        "io.weight" | "io.bfq.weight" => Expect::line(line),
        _ => Expect::Anything,
    }
}
