//! `linux.resources.memory`.

use oci_spec::runtime::LinuxMemory;

use super::Bound;
use super::check::Check;
use super::setting::{Absent, Expect, NOT_ON_V2, Setting, Table, or_max, or_minus_one};

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

impl Memory {
    pub(super) fn read(check: &mut Check<'_>, memory: &LinuxMemory) -> Self {
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
        Self {
            limit,
            reservation: check.bound("memory.reservation", memory.reservation(), 1),
            swap,
            swappiness,
            disable_oom_killer: memory.disable_oom_killer().unwrap_or(false),
            check_before_update: memory.check_before_update().unwrap_or(false),
        }
    }

    pub(super) fn settings(&self, table: &mut Table<'_>) {
        if let Some(limit) = self.limit {
            table.add(
                "memory.limit",
                v1("memory.limit_in_bytes", limit),
                v2("memory.max", limit),
            );
        }
        if let Some(reservation) = self.reservation {
            table.add(
                "memory.reservation",
                v1("memory.soft_limit_in_bytes", reservation),
                v2("memory.low", reservation),
            );
        }
        self.swap(table);
        if let Some(swappiness) = self.swappiness {
            let v1 = Setting::new("memory", "memory.swappiness", swappiness);
            table.add("memory.swappiness", v1, NOT_ON_V2);
        }
        if self.disable_oom_killer {
            let disabled = Expect::line("oom_kill_disable 1");
            let v1 = Setting::new("memory", "memory.oom_control", 1).expect(disabled);
            table.add("memory.disableOOMKiller", v1, NOT_ON_V2);
        }
    }

    fn swap(&self, table: &mut Table<'_>) {
        let Some(both) = self.memory_and_swap() else {
            return;
        };
        // A kernel without swap accounting needs not be told that there is no limit, or no swap.
        let skip = |nothing_to_limit| match nothing_to_limit {
            true => Absent::Skip,
            false => Absent::Refuse,
        };
        let alone = self.swap_alone(both);
        let nothing = matches!(alone, Bound::Unlimited | Bound::At(0));
        table.add(
            "memory.swap",
            v1("memory.memsw.limit_in_bytes", both).or(skip(self.swap.is_none())),
            v2("memory.swap.max", alone).or(skip(nothing)),
        );
    }

    /// As runc: memory without a limit is without a limit of swap too, unless one is named.
    fn memory_and_swap(&self) -> Option<Bound> {
        let implied = self.limit == Some(Bound::Unlimited);
        self.swap.or(implied.then_some(Bound::Unlimited))
    }

    /// What v2 counts: swap without memory.
    fn swap_alone(&self, both: Bound) -> Bound {
        match (both, self.limit) {
            (Bound::At(both), Some(Bound::At(limit))) => Bound::At(both.saturating_sub(limit)),
            _ => Bound::Unlimited,
        }
    }

    /// The limit of swap without memory, if there is to be one.
    pub fn swap_of_v2(&self) -> Option<Bound> {
        self.memory_and_swap().map(|both| self.swap_alone(both))
    }
}

fn v1(name: &str, bound: Bound) -> Setting {
    let expect = Expect::Exactly(v1_bytes(bound));
    Setting::new("memory", name, or_minus_one(bound)).expect(expect)
}

fn v2(name: &str, bound: Bound) -> Setting {
    let expect = Expect::Exactly(v2_bytes(bound));
    Setting::new("memory", name, or_max(bound)).expect(expect)
}

/// `PAGE_COUNTER_MAX` in bytes: what v1 shows for no limit.
pub(super) fn no_limit() -> u64 {
    whole_pages(i64::MAX.cast_unsigned())
}

/// The kernel counts memory in whole pages and rounds down.
fn whole_pages(bytes: u64) -> u64 {
    let page = rustix::param::page_size() as u64;
    bytes / page * page
}

pub(super) fn v1_bytes(bound: Bound) -> String {
    match bound {
        Bound::Unlimited => no_limit().to_string(),
        Bound::At(n) => whole_pages(n).min(no_limit()).to_string(),
    }
}

pub(super) fn v2_bytes(bound: Bound) -> String {
    match bound {
        Bound::At(n) if whole_pages(n) < no_limit() => whole_pages(n).to_string(),
        _ => "max".to_owned(),
    }
}
