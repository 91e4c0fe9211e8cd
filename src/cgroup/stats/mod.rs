//! What a cgroup uses: in the form that `runc events` prints, which Docker and others read.

mod v1;
mod v2;

use std::collections::BTreeMap;
use std::path::Path;

use rustix::io::Errno;
use serde::Serialize;

use super::{Cgroup, file};
use crate::error::{Error, Result};

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)] // runc's names, like all below
pub struct Stats {
    pub cpu: Cpu,
    pub cpuset: Cpuset,
    pub memory: Memory,
    pub pids: Pids,
    pub blkio: BlockIo,
    /// By page size.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    /// Nothing: Intel RDT is no cgroup.
    pub intel_rdt: BTreeMap<String, String>,
    /// Nothing: a network namespace is no cgroup. runc too fills it for others only.
    pub network_interfaces: Option<Vec<()>>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Cpu {
    pub usage: CpuUsage,
    pub throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// In nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CpuUsage {
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    pub kernel: u64,
    pub user: u64,
}

/// By `cpu.quota`; the time in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Throttling {
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// Pressure stall information, of v2 only. <https://docs.kernel.org/accounting/psi.html>
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// Some process waited.
    pub some: Stalled,
    /// All did.
    pub full: Stalled,
}

/// Percent of the last 10, 60 and 300 seconds, and microseconds of all time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Stalled {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total: u64,
}

/// Of v1 only; cpuset(7).
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Cpuset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u32>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u32>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// In bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Memory {
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    pub usage: MemoryEntry,
    /// Memory and swap together, also on v2.
    pub swap: MemoryEntry,
    pub kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
    /// `memory.events`, of v2 only.
    pub event_count: MemoryEvents,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct MemoryEntry {
    pub limit: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct MemoryEvents {
    pub low: u64,
    pub high: u64,
    pub max: u64,
    pub oom: u64,
    pub oom_kill: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Pids {
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// 0 is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct BlockIo {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlockIoEntry>,
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    pub io_queued_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_time_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_wait_time_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_merged_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_time_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sectors_recursive: Vec<BlockIoEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct BlockIoEntry {
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Hugetlb {
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    pub failcnt: u64,
}

impl Cgroup {
    /// What it uses now, from whichever hierarchy counts it. What no hierarchy counts is zero.
    ///
    /// # Errors
    /// The kernel's, with the file.
    pub fn stats(&self) -> Result<Stats> {
        let mut stats = Stats::default();
        if let Some(dir) = self.v2() {
            v2::read(&Directory(&dir), &mut stats)?;
        }
        for (index, hierarchy) in self.layout.v1.iter().enumerate() {
            let dir = self.dir(Some(index));
            for controller in &hierarchy.controllers {
                v1::read(controller, &Directory(&dir), &mut stats)?;
            }
        }
        Ok(stats)
    }
}

/// A cgroup's directory in one hierarchy.
struct Directory<'a>(&'a Path);

impl Directory<'_> {
    /// A file's text; `None` if there is no such file, or the cgroup is gone, or the kernel has this switched off.
    fn text(&self, name: &str) -> Result<Option<String>> {
        let path = self.0.join(name);
        match file::read(&path) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(e) => Err(Error::sys(format!("read {}", path.display()), e)),
        }
    }

    /// A file's number; 0 if there is none. `max` is the largest one.
    fn number(&self, name: &str) -> Result<u64> {
        let text = self.text(name)?;
        Ok(text.map_or(0, |text| match text.as_str() {
            "max" => u64::MAX,
            text => text.parse().unwrap_or(0),
        }))
    }

    /// The numbers in a file's lines `key number`.
    fn keyed(&self, name: &str) -> Result<BTreeMap<String, u64>> {
        let text = self.text(name)?.unwrap_or_default();
        let entry = |line: &str| {
            let (key, number) = line.split_once(' ')?;
            Some((key.to_owned(), number.parse().ok()?))
        };
        Ok(text.lines().filter_map(entry).collect())
    }

    /// The page sizes of which there is a file `hugetlb.SIZE.suffix`.
    fn page_sizes(&self, suffix: &str) -> Vec<String> {
        let size = |name: &str| {
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
            (!size.contains('.')).then(|| size.to_owned())
        };
        let entries = std::fs::read_dir(self.0).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| size(entry.file_name().to_str()?))
            .collect()
    }
}

fn pids(dir: &Directory<'_>) -> Result<Pids> {
    let limit = dir.number("pids.max")?;
    Ok(Pids {
        current: dir.number("pids.current")?,
        limit: if limit == u64::MAX { 0 } else { limit },
    })
}
