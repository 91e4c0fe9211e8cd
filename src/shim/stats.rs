//! What a cgroup uses, as containerd wants to be told: in the form of the machine's cgroup version.

use super::proto::Any;
use super::proto::metrics::{v1, v2};
use crate::cgroup::Stats;
use crate::cgroup::stats::{BlockIoEntry, MemoryEntry};

/// The `Metrics` of cgroup v1, or of v2 where nothing but that is mounted: as containerd tells them apart.
pub(super) fn metrics(stats: &Stats) -> Any {
    let root = rustix::fs::statfs("/sys/fs/cgroup");
    match root.is_ok_and(|root| root.f_type == libc::CGROUP2_SUPER_MAGIC) {
        true => Any::of("io.containerd.cgroups.v2.Metrics", &unified(stats)),
        false => Any::of("io.containerd.cgroups.v1.Metrics", &legacy(stats)),
    }
}

fn legacy(stats: &Stats) -> v1::Metrics {
    let hugetlb = stats.hugetlb.iter().map(|(size, huge)| v1::Hugetlb {
        usage: huge.usage,
        max: huge.max,
        failcnt: huge.failcnt,
        pagesize: size.clone(),
    });
    let (cpu, throttling) = (&stats.cpu.usage, &stats.cpu.throttling);
    v1::Metrics {
        hugetlb: hugetlb.collect(),
        pids: Some(v1::Pids {
            current: stats.pids.current,
            limit: stats.pids.limit,
        }),
        cpu: Some(v1::Cpu {
            usage: Some(v1::CpuUsage {
                total: cpu.total,
                kernel: cpu.kernel,
                user: cpu.user,
                per_cpu: cpu.percpu.clone(),
            }),
            throttling: Some(v1::Throttle {
                periods: throttling.periods,
                throttled_periods: throttling.throttled_periods,
                throttled_time: throttling.throttled_time,
            }),
        }),
        memory: Some(legacy_memory(stats)),
        blkio: Some(legacy_block_io(stats)),
    }
}

fn legacy_memory(stats: &Stats) -> v1::Memory {
    let memory = &stats.memory;
    let get = |key: &str| memory.raw.get(key).copied().unwrap_or(0);
    let entry = |entry: &MemoryEntry| {
        Some(v1::MemoryEntry {
            limit: entry.limit,
            usage: entry.usage,
            max: entry.max,
            failcnt: entry.failcnt,
        })
    };
    v1::Memory {
        cache: get("cache"),
        rss: get("rss"),
        rss_huge: get("rss_huge"),
        mapped_file: get("mapped_file"),
        dirty: get("dirty"),
        writeback: get("writeback"),
        pg_pg_in: get("pgpgin"),
        pg_pg_out: get("pgpgout"),
        pg_fault: get("pgfault"),
        pg_maj_fault: get("pgmajfault"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        hierarchical_memory_limit: get("hierarchical_memory_limit"),
        hierarchical_swap_limit: get("hierarchical_memsw_limit"),
        total_cache: get("total_cache"),
        total_rss: get("total_rss"),
        total_rss_huge: get("total_rss_huge"),
        total_mapped_file: get("total_mapped_file"),
        total_dirty: get("total_dirty"),
        total_writeback: get("total_writeback"),
        total_pg_pg_in: get("total_pgpgin"),
        total_pg_pg_out: get("total_pgpgout"),
        total_pg_fault: get("total_pgfault"),
        total_pg_maj_fault: get("total_pgmajfault"),
        total_inactive_anon: get("total_inactive_anon"),
        total_active_anon: get("total_active_anon"),
        total_inactive_file: get("total_inactive_file"),
        total_active_file: get("total_active_file"),
        total_unevictable: get("total_unevictable"),
        usage: entry(&memory.usage),
        swap: entry(&memory.swap),
        kernel: entry(&memory.kernel),
        kernel_tcp: entry(&memory.kernel_tcp),
    }
}

fn legacy_block_io(stats: &Stats) -> v1::BlockIo {
    let table = |entries: &[BlockIoEntry]| {
        let entries = entries.iter().map(|entry| v1::BlockIoEntry {
            op: entry.op.clone(),
            device: String::new(),
            major: entry.major,
            minor: entry.minor,
            value: entry.value,
        });
        entries.collect()
    };
    let io = &stats.blkio;
    v1::BlockIo {
        io_service_bytes_recursive: table(&io.io_service_bytes_recursive),
        io_serviced_recursive: table(&io.io_serviced_recursive),
        io_queued_recursive: table(&io.io_queued_recursive),
        io_service_time_recursive: table(&io.io_service_time_recursive),
        io_wait_time_recursive: table(&io.io_wait_time_recursive),
        io_merged_recursive: table(&io.io_merged_recursive),
        io_time_recursive: table(&io.io_time_recursive),
        sectors_recursive: table(&io.sectors_recursive),
    }
}

fn unified(stats: &Stats) -> v2::Metrics {
    let hugetlb = stats.hugetlb.iter().map(|(size, huge)| v2::Hugetlb {
        current: huge.usage,
        max: huge.max,
        pagesize: size.clone(),
    });
    let (cpu, throttling) = (&stats.cpu.usage, &stats.cpu.throttling);
    let events = stats.memory.event_count;
    v2::Metrics {
        pids: Some(v2::Pids {
            current: stats.pids.current,
            limit: stats.pids.limit,
        }),
        cpu: Some(v2::Cpu {
            usage_usec: cpu.total / 1000,
            user_usec: cpu.user / 1000,
            system_usec: cpu.kernel / 1000,
            nr_periods: throttling.periods,
            nr_throttled: throttling.throttled_periods,
            throttled_usec: throttling.throttled_time / 1000,
        }),
        memory: Some(unified_memory(stats)),
        io: Some(v2::Io {
            usage: unified_io(stats),
        }),
        hugetlb: hugetlb.collect(),
        memory_events: Some(v2::MemoryEvents {
            low: events.low,
            high: events.high,
            max: events.max,
            oom: events.oom,
            oom_kill: events.oom_kill,
        }),
    }
}

fn unified_memory(stats: &Stats) -> v2::Memory {
    let memory = &stats.memory;
    let get = |key: &str| memory.raw.get(key).copied().unwrap_or(0);
    // Memory and swap together, minus memory. Without a limit both are the largest number.
    let swap_limit = match memory.swap.limit {
        u64::MAX => u64::MAX,
        limit => limit.saturating_sub(memory.usage.limit),
    };
    v2::Memory {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        slab_reclaimable: get("slab_reclaimable"),
        slab_unreclaimable: get("slab_unreclaimable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        workingset_refault: get("workingset_refault_anon") + get("workingset_refault_file"),
        workingset_activate: get("workingset_activate_anon") + get("workingset_activate_file"),
        workingset_nodereclaim: get("workingset_nodereclaim"),
        pgrefill: get("pgrefill"),
        pgscan: get("pgscan"),
        pgsteal: get("pgsteal"),
        pgactivate: get("pgactivate"),
        pgdeactivate: get("pgdeactivate"),
        pglazyfree: get("pglazyfree"),
        pglazyfreed: get("pglazyfreed"),
        thp_fault_alloc: get("thp_fault_alloc"),
        thp_collapse_alloc: get("thp_collapse_alloc"),
        usage: memory.usage.usage,
        usage_limit: memory.usage.limit,
        swap_usage: memory.swap.usage.saturating_sub(memory.usage.usage),
        swap_limit,
        max_usage: memory.usage.max,
        swap_max_usage: 0,
    }
}

/// The tables of v1, an entry for each device.
fn unified_io(stats: &Stats) -> Vec<v2::IoEntry> {
    let mut devices: Vec<v2::IoEntry> = Vec::new();
    let tables = [
        (&stats.blkio.io_service_bytes_recursive, true),
        (&stats.blkio.io_serviced_recursive, false),
    ];
    for (table, counts_bytes) in tables {
        for entry in table {
            let is_it =
                |device: &v2::IoEntry| (device.major, device.minor) == (entry.major, entry.minor);
            let index = devices.iter().position(is_it).unwrap_or_else(|| {
                devices.push(v2::IoEntry {
                    major: entry.major,
                    minor: entry.minor,
                    ..v2::IoEntry::default()
                });
                devices.len() - 1
            });
            let device = &mut devices[index];
            match (counts_bytes, entry.op.as_str()) {
                (true, "Read") => device.rbytes = entry.value,
                (true, "Write") => device.wbytes = entry.value,
                (false, "Read") => device.rios = entry.value,
                (false, "Write") => device.wios = entry.value,
                _ => {}
            }
        }
    }
    devices
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn v2_counts_swap_alone() {
        let mut stats = Stats::default();
        stats.memory.usage = MemoryEntry {
            limit: 100,
            usage: 60,
            ..MemoryEntry::default()
        };
        stats.memory.swap = MemoryEntry {
            limit: 150,
            usage: 70,
            ..MemoryEntry::default()
        };
        let memory = unified(&stats).memory.unwrap();
        assert_eq!((memory.swap_limit, memory.swap_usage), (50, 10));
        stats.memory.swap.limit = u64::MAX;
        assert_eq!(unified(&stats).memory.unwrap().swap_limit, u64::MAX);
    }

    #[test]
    fn v2_has_an_entry_for_each_device() {
        let mut stats = Stats::default();
        let entry = |major, op: &str, value| BlockIoEntry {
            major,
            minor: 0,
            op: op.into(),
            value,
        };
        stats.blkio.io_service_bytes_recursive = vec![
            entry(8, "Read", 10),
            entry(8, "Write", 20),
            entry(9, "Read", 30),
        ];
        stats.blkio.io_serviced_recursive = vec![entry(8, "Read", 1)];
        let io = unified(&stats).io.unwrap().usage;
        assert_eq!(io.len(), 2);
        assert_eq!((io[0].rbytes, io[0].wbytes, io[0].rios), (10, 20, 1));
        assert_eq!(io[1].rbytes, 30);
    }
}
