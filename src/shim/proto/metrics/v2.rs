//! `io.containerd.cgroups.v2.Metrics`: containerd/cgroups, cgroup2/stats/metrics.proto.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Metrics {
    #[prost(message, optional, tag = "1")]
    pub(in crate::shim) pids: Option<Pids>,
    #[prost(message, optional, tag = "2")]
    pub(in crate::shim) cpu: Option<Cpu>,
    #[prost(message, optional, tag = "4")]
    pub(in crate::shim) memory: Option<Memory>,
    #[prost(message, optional, tag = "6")]
    pub(in crate::shim) io: Option<Io>,
    #[prost(message, repeated, tag = "7")]
    pub(in crate::shim) hugetlb: Vec<Hugetlb>,
    #[prost(message, optional, tag = "8")]
    pub(in crate::shim) memory_events: Option<MemoryEvents>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Pids {
    #[prost(uint64, tag = "1")]
    pub(in crate::shim) current: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::shim) limit: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Cpu {
    #[prost(uint64, tag = "1")]
    pub(in crate::shim) usage_usec: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::shim) user_usec: u64,
    #[prost(uint64, tag = "3")]
    pub(in crate::shim) system_usec: u64,
    #[prost(uint64, tag = "4")]
    pub(in crate::shim) nr_periods: u64,
    #[prost(uint64, tag = "5")]
    pub(in crate::shim) nr_throttled: u64,
    #[prost(uint64, tag = "6")]
    pub(in crate::shim) throttled_usec: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Memory {
    #[prost(uint64, tag = "1")]
    pub(in crate::shim) anon: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::shim) file: u64,
    #[prost(uint64, tag = "3")]
    pub(in crate::shim) kernel_stack: u64,
    #[prost(uint64, tag = "4")]
    pub(in crate::shim) slab: u64,
    #[prost(uint64, tag = "5")]
    pub(in crate::shim) sock: u64,
    #[prost(uint64, tag = "6")]
    pub(in crate::shim) shmem: u64,
    #[prost(uint64, tag = "7")]
    pub(in crate::shim) file_mapped: u64,
    #[prost(uint64, tag = "8")]
    pub(in crate::shim) file_dirty: u64,
    #[prost(uint64, tag = "9")]
    pub(in crate::shim) file_writeback: u64,
    #[prost(uint64, tag = "10")]
    pub(in crate::shim) anon_thp: u64,
    #[prost(uint64, tag = "11")]
    pub(in crate::shim) inactive_anon: u64,
    #[prost(uint64, tag = "12")]
    pub(in crate::shim) active_anon: u64,
    #[prost(uint64, tag = "13")]
    pub(in crate::shim) inactive_file: u64,
    #[prost(uint64, tag = "14")]
    pub(in crate::shim) active_file: u64,
    #[prost(uint64, tag = "15")]
    pub(in crate::shim) unevictable: u64,
    #[prost(uint64, tag = "16")]
    pub(in crate::shim) slab_reclaimable: u64,
    #[prost(uint64, tag = "17")]
    pub(in crate::shim) slab_unreclaimable: u64,
    #[prost(uint64, tag = "18")]
    pub(in crate::shim) pgfault: u64,
    #[prost(uint64, tag = "19")]
    pub(in crate::shim) pgmajfault: u64,
    #[prost(uint64, tag = "20")]
    pub(in crate::shim) workingset_refault: u64,
    #[prost(uint64, tag = "21")]
    pub(in crate::shim) workingset_activate: u64,
    #[prost(uint64, tag = "22")]
    pub(in crate::shim) workingset_nodereclaim: u64,
    #[prost(uint64, tag = "23")]
    pub(in crate::shim) pgrefill: u64,
    #[prost(uint64, tag = "24")]
    pub(in crate::shim) pgscan: u64,
    #[prost(uint64, tag = "25")]
    pub(in crate::shim) pgsteal: u64,
    #[prost(uint64, tag = "26")]
    pub(in crate::shim) pgactivate: u64,
    #[prost(uint64, tag = "27")]
    pub(in crate::shim) pgdeactivate: u64,
    #[prost(uint64, tag = "28")]
    pub(in crate::shim) pglazyfree: u64,
    #[prost(uint64, tag = "29")]
    pub(in crate::shim) pglazyfreed: u64,
    #[prost(uint64, tag = "30")]
    pub(in crate::shim) thp_fault_alloc: u64,
    #[prost(uint64, tag = "31")]
    pub(in crate::shim) thp_collapse_alloc: u64,
    #[prost(uint64, tag = "32")]
    pub(in crate::shim) usage: u64,
    #[prost(uint64, tag = "33")]
    pub(in crate::shim) usage_limit: u64,
    #[prost(uint64, tag = "34")]
    pub(in crate::shim) swap_usage: u64,
    #[prost(uint64, tag = "35")]
    pub(in crate::shim) swap_limit: u64,
    #[prost(uint64, tag = "36")]
    pub(in crate::shim) max_usage: u64,
    #[prost(uint64, tag = "37")]
    pub(in crate::shim) swap_max_usage: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct MemoryEvents {
    #[prost(uint64, tag = "1")]
    pub(in crate::shim) low: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::shim) high: u64,
    #[prost(uint64, tag = "3")]
    pub(in crate::shim) max: u64,
    #[prost(uint64, tag = "4")]
    pub(in crate::shim) oom: u64,
    #[prost(uint64, tag = "5")]
    pub(in crate::shim) oom_kill: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Io {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::shim) usage: Vec<IoEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct IoEntry {
    #[prost(uint64, tag = "1")]
    pub(in crate::shim) major: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::shim) minor: u64,
    #[prost(uint64, tag = "3")]
    pub(in crate::shim) rbytes: u64,
    #[prost(uint64, tag = "4")]
    pub(in crate::shim) wbytes: u64,
    #[prost(uint64, tag = "5")]
    pub(in crate::shim) rios: u64,
    #[prost(uint64, tag = "6")]
    pub(in crate::shim) wios: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Hugetlb {
    #[prost(uint64, tag = "1")]
    pub(in crate::shim) current: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::shim) max: u64,
    #[prost(string, tag = "3")]
    pub(in crate::shim) pagesize: String,
}
