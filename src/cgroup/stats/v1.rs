//! What the controllers of v1 count.

use super::{BlockIoEntry, Cpuset, Directory, Hugetlb, MemoryEntry, Stats, pids};
use crate::cgroup::limits::setting::numbers;
use crate::error::Result;

/// Of clock ticks, which are 100 a second on all machines.
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

pub(super) fn read(controller: &str, dir: &Directory<'_>, stats: &mut Stats) -> Result<()> {
    match controller {
        "cpu" => cpu(dir, stats),
        "cpuacct" => cpuacct(dir, stats),
        "cpuset" => cpuset(dir).map(|cpuset| stats.cpuset = cpuset),
        "memory" => memory(dir, stats),
        "pids" => pids(dir).map(|pids| stats.pids = pids),
        "blkio" => block_io(dir, stats),
        "hugetlb" => hugetlb(dir, stats),
        _ => Ok(()),
    }
}

fn cpu(dir: &Directory<'_>, stats: &mut Stats) -> Result<()> {
    let counted = dir.keyed("cpu.stat")?;
    let get = |key: &str| counted.get(key).copied().unwrap_or(0);
    let throttling = &mut stats.cpu.throttling;
    throttling.periods = get("nr_periods");
    throttling.throttled_periods = get("nr_throttled");
    throttling.throttled_time = get("throttled_time");
    Ok(())
}

fn cpuacct(dir: &Directory<'_>, stats: &mut Stats) -> Result<()> {
    let usage = &mut stats.cpu.usage;
    let ticks = dir.keyed("cpuacct.stat")?;
    let nanoseconds = |key: &str| ticks.get(key).copied().unwrap_or(0) * NANOSECONDS_PER_TICK;
    usage.user = nanoseconds("user");
    usage.kernel = nanoseconds("system");
    usage.total = dir.number("cpuacct.usage")?;
    let each = dir.text("cpuacct.usage_percpu")?.unwrap_or_default();
    usage.percpu = each
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    // A line of titles, then for each CPU its number, user and system.
    let all = dir.text("cpuacct.usage_all")?.unwrap_or_default();
    for line in all.lines().skip(1) {
        let words: Vec<u64> = line
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        if let [_, user, system] = words[..] {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(system);
        }
    }
    Ok(())
}

fn cpuset(dir: &Directory<'_>) -> Result<Cpuset> {
    let list = |name: &str| -> Result<Vec<u32>> {
        let list = dir.text(name)?.unwrap_or_default();
        Ok(numbers(&list).unwrap_or_default().into_iter().collect())
    };
    let relax = dir.text("cpuset.sched_relax_domain_level")?;
    Ok(Cpuset {
        cpus: list("cpuset.cpus")?,
        cpu_exclusive: dir.number("cpuset.cpu_exclusive")?,
        mems: list("cpuset.mems")?,
        mem_hardwall: dir.number("cpuset.mem_hardwall")?,
        mem_exclusive: dir.number("cpuset.mem_exclusive")?,
        memory_migrate: dir.number("cpuset.memory_migrate")?,
        memory_spread_page: dir.number("cpuset.memory_spread_page")?,
        memory_spread_slab: dir.number("cpuset.memory_spread_slab")?,
        memory_pressure: dir.number("cpuset.memory_pressure")?,
        sched_load_balance: dir.number("cpuset.sched_load_balance")?,
        sched_relax_domain_level: relax.and_then(|level| level.parse().ok()).unwrap_or(0),
    })
}

fn memory(dir: &Directory<'_>, stats: &mut Stats) -> Result<()> {
    let entry = |name: &str| -> Result<MemoryEntry> {
        Ok(MemoryEntry {
            limit: dir.number(&format!("{name}.limit_in_bytes"))?,
            usage: dir.number(&format!("{name}.usage_in_bytes"))?,
            max: dir.number(&format!("{name}.max_usage_in_bytes"))?,
            failcnt: dir.number(&format!("{name}.failcnt"))?,
        })
    };
    let memory = &mut stats.memory;
    memory.raw = dir.keyed("memory.stat")?;
    memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
    memory.usage = entry("memory")?;
    memory.swap = entry("memory.memsw")?;
    memory.kernel = entry("memory.kmem")?;
    memory.kernel_tcp = entry("memory.kmem.tcp")?;
    Ok(())
}

fn block_io(dir: &Directory<'_>, stats: &mut Stats) -> Result<()> {
    let io = &mut stats.blkio;
    // The BFQ scheduler counts, or the throttle of every scheduler.
    for prefix in ["blkio.bfq", "blkio.throttle"] {
        let read = |name: &str| -> Result<Vec<BlockIoEntry>> {
            let text = dir.text(&format!("{prefix}.{name}_recursive"))?;
            Ok(entries(&text.unwrap_or_default()))
        };
        io.io_serviced_recursive = read("io_serviced")?;
        io.io_service_bytes_recursive = read("io_service_bytes")?;
        if !io.io_serviced_recursive.is_empty() {
            io.io_queued_recursive = read("io_queued")?;
            io.io_service_time_recursive = read("io_service_time")?;
            io.io_wait_time_recursive = read("io_wait_time")?;
            io.io_merged_recursive = read("io_merged")?;
            io.io_time_recursive = read("time")?;
            io.sectors_recursive = read("sectors")?;
            break;
        }
    }
    Ok(())
}

/// Lines `8:0 Read 1282048` or `8:0 6792`; that of the sum of all devices is left out.
fn entries(text: &str) -> Vec<BlockIoEntry> {
    let entry = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let (op, value) = rest.rsplit_once(' ').unwrap_or(("", rest));
        Some(BlockIoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            op: op.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(entry).collect()
}

fn hugetlb(dir: &Directory<'_>, stats: &mut Stats) -> Result<()> {
    for size in dir.page_sizes(".usage_in_bytes") {
        let number = |name: &str| dir.number(&format!("hugetlb.{size}.{name}"));
        let entry = Hugetlb {
            usage: number("usage_in_bytes")?,
            max: number("max_usage_in_bytes")?,
            failcnt: number("failcnt")?,
        };
        stats.hugetlb.insert(size.clone(), entry);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lines_of_devices() {
        let entry = |minor, op: &str, value| BlockIoEntry {
            major: 8,
            minor,
            op: op.into(),
            value,
        };
        assert_eq!(
            entries("8:0 Read 124\n8:16 Total 228\n8:1 6792\nTotal 228\n"),
            [
                entry(0, "Read", 124),
                entry(16, "Total", 228),
                entry(1, "", 6792)
            ]
        );
    }
}
