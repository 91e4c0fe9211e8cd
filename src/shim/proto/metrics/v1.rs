//! `io.containerd.cgroups.v1.Metrics`: containerd/cgroups, cgroup1/stats/metrics.proto.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Metrics {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::shim) hugetlb: Vec<Hugetlb>,
    #[prost(message, optional, tag = "2")]
    pub(in crate::shim) pids: Option<Pids>,
    #[prost(message, optional, tag = "3")]
    pub(in crate::shim) cpu: Option<Cpu>,
    #[prost(message, optional, tag = "4")]
    pub(in crate::shim) memory: Option<Memory>,
    #[prost(message, optional, tag = "5")]
    pub(in crate::shim) blkio: Option<BlockIo>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Hugetlb {
    #[prost(uint64, tag = "1")]
    pub(in crate::shim) usage: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::shim) max: u64,
    #[prost(uint64, tag = "3")]
    pub(in crate::shim) failcnt: u64,
    #[prost(string, tag = "4")]
    pub(in crate::shim) pagesize: String,
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
    #[prost(message, optional, tag = "1")]
    pub(in crate::shim) usage: Option<CpuUsage>,
    #[prost(message, optional, tag = "2")]
    pub(in crate::shim) throttling: Option<Throttle>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct CpuUsage {
    #[prost(uint64, tag = "1")]
    pub(in crate::shim) total: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::shim) kernel: u64,
    #[prost(uint64, tag = "3")]
    pub(in crate::shim) user: u64,
    #[prost(uint64, repeated, tag = "4")]
    pub(in crate::shim) per_cpu: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Throttle {
    #[prost(uint64, tag = "1")]
    pub(in crate::shim) periods: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::shim) throttled_periods: u64,
    #[prost(uint64, tag = "3")]
    pub(in crate::shim) throttled_time: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Memory {
    #[prost(uint64, tag = "1")]
    pub(in crate::shim) cache: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::shim) rss: u64,
    #[prost(uint64, tag = "3")]
    pub(in crate::shim) rss_huge: u64,
    #[prost(uint64, tag = "4")]
    pub(in crate::shim) mapped_file: u64,
    #[prost(uint64, tag = "5")]
    pub(in crate::shim) dirty: u64,
    #[prost(uint64, tag = "6")]
    pub(in crate::shim) writeback: u64,
    #[prost(uint64, tag = "7")]
    pub(in crate::shim) pg_pg_in: u64,
    #[prost(uint64, tag = "8")]
    pub(in crate::shim) pg_pg_out: u64,
    #[prost(uint64, tag = "9")]
    pub(in crate::shim) pg_fault: u64,
    #[prost(uint64, tag = "10")]
    pub(in crate::shim) pg_maj_fault: u64,
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
    pub(in crate::shim) hierarchical_memory_limit: u64,
    #[prost(uint64, tag = "17")]
    pub(in crate::shim) hierarchical_swap_limit: u64,
    #[prost(uint64, tag = "18")]
    pub(in crate::shim) total_cache: u64,
    #[prost(uint64, tag = "19")]
    pub(in crate::shim) total_rss: u64,
    #[prost(uint64, tag = "20")]
    pub(in crate::shim) total_rss_huge: u64,
    #[prost(uint64, tag = "21")]
    pub(in crate::shim) total_mapped_file: u64,
    #[prost(uint64, tag = "22")]
    pub(in crate::shim) total_dirty: u64,
    #[prost(uint64, tag = "23")]
    pub(in crate::shim) total_writeback: u64,
    #[prost(uint64, tag = "24")]
    pub(in crate::shim) total_pg_pg_in: u64,
    #[prost(uint64, tag = "25")]
    pub(in crate::shim) total_pg_pg_out: u64,
    #[prost(uint64, tag = "26")]
    pub(in crate::shim) total_pg_fault: u64,
    #[prost(uint64, tag = "27")]
    pub(in crate::shim) total_pg_maj_fault: u64,
    #[prost(uint64, tag = "28")]
    pub(in crate::shim) total_inactive_anon: u64,
    #[prost(uint64, tag = "29")]
    pub(in crate::shim) total_active_anon: u64,
    #[prost(uint64, tag = "30")]
    pub(in crate::shim) total_inactive_file: u64,
    #[prost(uint64, tag = "31")]
    pub(in crate::shim) total_active_file: u64,
    #[prost(uint64, tag = "32")]
    pub(in crate::shim) total_unevictable: u64,
    #[prost(message, optional, tag = "33")]
    pub(in crate::shim) usage: Option<MemoryEntry>,
    #[prost(message, optional, tag = "34")]
    pub(in crate::shim) swap: Option<MemoryEntry>,
    #[prost(message, optional, tag = "35")]
    pub(in crate::shim) kernel: Option<MemoryEntry>,
    #[prost(message, optional, tag = "36")]
    pub(in crate::shim) kernel_tcp: Option<MemoryEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct MemoryEntry {
    #[prost(uint64, tag = "1")]
    pub(in crate::shim) limit: u64,
    #[prost(uint64, tag = "2")]
    pub(in crate::shim) usage: u64,
    #[prost(uint64, tag = "3")]
    pub(in crate::shim) max: u64,
    #[prost(uint64, tag = "4")]
    pub(in crate::shim) failcnt: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct BlockIo {
    #[prost(message, repeated, tag = "1")]
    pub(in crate::shim) io_service_bytes_recursive: Vec<BlockIoEntry>,
    #[prost(message, repeated, tag = "2")]
    pub(in crate::shim) io_serviced_recursive: Vec<BlockIoEntry>,
    #[prost(message, repeated, tag = "3")]
    pub(in crate::shim) io_queued_recursive: Vec<BlockIoEntry>,
    #[prost(message, repeated, tag = "4")]
    pub(in crate::shim) io_service_time_recursive: Vec<BlockIoEntry>,
    #[prost(message, repeated, tag = "5")]
    pub(in crate::shim) io_wait_time_recursive: Vec<BlockIoEntry>,
    #[prost(message, repeated, tag = "6")]
    pub(in crate::shim) io_merged_recursive: Vec<BlockIoEntry>,
    #[prost(message, repeated, tag = "7")]
    pub(in crate::shim) io_time_recursive: Vec<BlockIoEntry>,
    #[prost(message, repeated, tag = "8")]
    pub(in crate::shim) sectors_recursive: Vec<BlockIoEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct BlockIoEntry {
    #[prost(string, tag = "1")]
    pub(in crate::shim) op: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) device: String,
    #[prost(uint64, tag = "3")]
    pub(in crate::shim) major: u64,
    #[prost(uint64, tag = "4")]
    pub(in crate::shim) minor: u64,
    #[prost(uint64, tag = "5")]
    pub(in crate::shim) value: u64,
}
