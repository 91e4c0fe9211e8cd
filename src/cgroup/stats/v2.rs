//! What the controllers of v2 count.

use super::{BlockIoEntry, Directory, Hugetlb, MemoryEntry, MemoryEvents, Pressure, Stats, pids};
use crate::error::Result;

pub(super) fn read(dir: &Directory<'_>, stats: &mut Stats) -> Result<()> {
    cpu(dir, stats)?;
    memory(dir, stats)?;
    stats.pids = pids(dir)?;
    let io = dir.text("io.stat")?.unwrap_or_default();
    block_io(&io, stats);
    stats.blkio.psi = pressure(dir, "io.pressure")?;
    hugetlb(dir, stats)
}

fn cpu(dir: &Directory<'_>, stats: &mut Stats) -> Result<()> {
    let counted = dir.keyed("cpu.stat")?;
    let get = |key: &str| counted.get(key).copied().unwrap_or(0);
    let cpu = &mut stats.cpu;
    cpu.usage.total = get("usage_usec") * 1000;
    cpu.usage.user = get("user_usec") * 1000;
    cpu.usage.kernel = get("system_usec") * 1000;
    cpu.throttling.periods = get("nr_periods");
    cpu.throttling.throttled_periods = get("nr_throttled");
    cpu.throttling.throttled_time = get("throttled_usec") * 1000;
    cpu.psi = pressure(dir, "cpu.pressure")?;
    Ok(())
}

fn memory(dir: &Directory<'_>, stats: &mut Stats) -> Result<()> {
    let memory = &mut stats.memory;
    memory.raw = dir.keyed("memory.stat")?;
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
    let entry = |name: &str| -> Result<MemoryEntry> {
        Ok(MemoryEntry {
            limit: dir.number(&format!("{name}.max"))?,
            usage: dir.number(&format!("{name}.current"))?,
            max: dir.number(&format!("{name}.peak"))?,
            failcnt: 0,
        })
    };
    memory.usage = entry("memory")?;
    memory.swap = with_memory(entry("memory.swap")?, memory.usage);
    memory.psi = pressure(dir, "memory.pressure")?;
    let events = dir.keyed("memory.events")?;
    let get = |key: &str| events.get(key).copied().unwrap_or(0);
    memory.event_count = MemoryEvents {
        low: get("low"),
        high: get("high"),
        max: get("max"),
        oom: get("oom"),
        oom_kill: get("oom_kill"),
    };
    Ok(())
}

/// v1 counts memory and swap together. Of their peaks there is no sum.
fn with_memory(swap: MemoryEntry, memory: MemoryEntry) -> MemoryEntry {
    MemoryEntry {
        limit: swap.limit.saturating_add(memory.limit),
        usage: swap.usage + memory.usage,
        max: 0,
        ..swap
    }
}

/// Lines `8:0 rbytes=1 wbytes=2 rios=3 wios=4`, in the tables of v1.
fn block_io(text: &str, stats: &mut Stats) {
    for line in text.lines() {
        let mut words = line.split(' ');
        let device = words.next().and_then(|device| device.split_once(':'));
        let Some((Ok(major), Ok(minor))) = device.map(|(a, b)| (a.parse(), b.parse())) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (table, op) = match key {
                "rbytes" => (&mut stats.blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut stats.blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut stats.blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut stats.blkio.io_serviced_recursive, "Write"),
                _ => continue,
            };
            table.push(BlockIoEntry {
                major,
                minor,
                op: op.to_owned(),
                value: value.parse().unwrap_or(0),
            });
        }
    }
}

fn hugetlb(dir: &Directory<'_>, stats: &mut Stats) -> Result<()> {
    for size in dir.page_sizes(".current") {
        let events = dir.keyed(&format!("hugetlb.{size}.events"))?;
        let entry = Hugetlb {
            usage: dir.number(&format!("hugetlb.{size}.current"))?,
            max: 0,
            failcnt: events.get("max").copied().unwrap_or(0),
        };
        stats.hugetlb.insert(size, entry);
    }
    Ok(())
}

fn pressure(dir: &Directory<'_>, name: &str) -> Result<Option<Pressure>> {
    Ok(dir.text(name)?.map(|text| parse_pressure(&text)))
}

/// Lines `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`; of the CPU the kernel has `full` since 5.13.
fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let stalled = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => stalled.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => stalled.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => stalled.avg300 = value.parse().unwrap_or(0.0),
                "total" => stalled.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    pressure
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A cgroup of v2 as files in a directory.
    fn read_files(files: &[(&str, &str)]) -> Stats {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), format!("{text}\n")).unwrap();
        }
        let mut stats = Stats::default();
        read(&Directory(dir.path()), &mut stats).unwrap();
        stats
    }

    #[test]
    fn prints_what_runc_prints() {
        let pressure = "some avg10=1.25 avg60=0.00 avg300=0.00 total=42\n\
            full avg10=0.50 avg60=0.00 avg300=0.00 total=7";
        let stats = read_files(&[
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2",
            ),
            ("cpu.pressure", pressure),
            ("memory.current", "4096"),
            ("memory.max", "max"),
            ("memory.peak", "8192"),
            ("memory.swap.current", "1000"),
            ("memory.swap.max", "0"),
            ("memory.stat", "anon 1\nfile 5"),
            (
                "memory.events",
                "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0",
            ),
            ("pids.current", "3"),
            ("pids.max", "max"),
            (
                "io.stat",
                "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0",
            ),
            ("hugetlb.2MB.current", "2097152"),
            ("hugetlb.2MB.events", "max 6"),
            ("hugetlb.2MB.rsvd.current", "0"),
        ]);
        let io = |op: &str, value: u64| json!({"major": 8, "op": op, "value": value});
        let zero = json!({"limit": 0, "failcnt": 0});
        let expected = json!({
            "cpu": {
                "usage": {"total": 30_000, "kernel": 10_000, "user": 20_000},
                "throttling": {"periods": 4, "throttledPeriods": 3, "throttledTime": 2000},
                "psi": {
                    "some": {"avg10": 1.25, "avg60": 0.0, "avg300": 0.0, "total": 42},
                    "full": {"avg10": 0.5, "avg60": 0.0, "avg300": 0.0, "total": 7},
                },
            },
            "cpuset": {
                "cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0,
                "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0,
                "sched_load_balance": 0, "sched_relax_domain_level": 0,
            },
            "memory": {
                "cache": 5,
                "usage": {"limit": u64::MAX, "usage": 4096, "max": 8192, "failcnt": 0},
                "swap": {"limit": u64::MAX, "usage": 5096, "failcnt": 0},
                "kernel": zero,
                "kernelTCP": zero,
                "raw": {"anon": 1, "file": 5},
                "event_count": {"low": 0, "high": 0, "max": 9, "oom": 2, "oom_kill": 1},
            },
            "pids": {"current": 3},
            "blkio": {
                "ioServiceBytesRecursive": [io("Read", 1), io("Write", 2)],
                "ioServicedRecursive": [io("Read", 3), io("Write", 4)],
            },
            "hugetlb": {"2MB": {"usage": 2_097_152, "failcnt": 6}},
            "intel_rdt": {},
            "network_interfaces": null,
        });
        assert_eq!(serde_json::to_value(stats).unwrap(), expected);
    }

    #[test]
    fn what_is_not_there_is_zero() {
        assert_eq!(read_files(&[]), Stats::default());
    }
}
