//! `linux.resources`, checked, typed, and in the kernel's words. Pure.
//!
//! Each part of it has a file of its own, from its JSON to the files of both versions of cgroups.

mod block_io;
mod check;
pub(super) mod cpu;
mod memory;
mod others;
pub mod setting;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxResources;

pub use block_io::BlockIo;
pub use cpu::Cpu;
pub use memory::Memory;

use check::Check;
use setting::{Limit, Setting, Table, or_max};

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
            limits.cpu = Cpu::read(&mut check, cpu);
        }
        if let Some(memory) = resources.memory() {
            limits.memory = Memory::read(&mut check, memory);
        }
        if let Some(pids) = resources.pids() {
            limits.pids = self::pids(&mut check, pids.limit());
        }
        if let Some(block_io) = resources.block_io() {
            limits.block_io = BlockIo::read(&mut check, block_io);
        }
        limits.read_others(&mut check, resources);
        limits
    }

    /// Every limit that is set, with what to write on either version of cgroups.
    pub fn table(&self) -> Vec<Limit> {
        let mut table = Table {
            prefix: &self.field,
            rows: Vec::new(),
        };
        self.cpu.settings(&mut table);
        self.memory.settings(&mut table);
        if let Some(limit) = self.pids {
            let pids = Setting::new("pids", "pids.max", or_max(limit));
            table.add("pids.limit", pids.clone(), pids);
        }
        self.block_io.settings(&mut table);
        self.other_settings(&mut table);
        table.rows
    }
}

/// 0 is a limit, as in the runtime-spec: that of 1, as in runc 1.4, because systemd cannot say 0. The first process is
/// there before the limit is.
fn pids(check: &mut Check<'_>, limit: i64) -> Option<Bound> {
    match limit {
        0 => Some(Bound::At(1)),
        limit => check.bound("pids.limit", Some(limit), 1),
    }
}
