//! What is read of config.json, and what the kernel is told of it.

use super::block_io::weight_of_block_io;
use super::cpu::weight_of_shares;
use super::memory::{v1_bytes, v2_bytes};
use super::setting::Form;
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
        r#"{"memory": {"limit": 0, "swap": 0}, "cpu": {"shares": 0, "quota": 0, "period": 0}, "network": {"classID": 0}}"#,
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

fn limits(json: &str) -> Limits {
    let mut errors = Vec::new();
    let limits = Limits::from_resources(&serde_json::from_str(json).unwrap(), "r", &mut errors);
    assert_eq!(errors, vec![], "{json}");
    limits
}

/// `controller file=value` for each write, or why there is none.
fn words(form: &Form) -> String {
    match form {
        Form::Impossible(_) => "impossible".to_owned(),
        Form::Files(files) => {
            let words: Vec<_> = files
                .iter()
                .map(|s| format!("{} {}={}", s.controller, s.file, s.value))
                .collect();
            words.join(", ")
        }
    }
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn says_it_in_both_versions() {
    let table = [
        (
            r#"{"pids": {"limit": 5}}"#,
            "pids pids.max=5",
            "pids pids.max=5",
        ),
        (
            r#"{"pids": {"limit": 0}}"#,
            "pids pids.max=1",
            "pids pids.max=1",
        ),
        (
            r#"{"pids": {"limit": -1}}"#,
            "pids pids.max=max",
            "pids pids.max=max",
        ),
        (
            r#"{"cpu": {"shares": 1024}}"#,
            "cpu cpu.shares=1024",
            "cpu cpu.weight=100",
        ),
        (
            r#"{"cpu": {"quota": 50000}}"#,
            "cpu cpu.cfs_quota_us=50000",
            "cpu cpu.max=50000 100000",
        ),
        (
            r#"{"cpu": {"quota": -1, "period": 5000}}"#,
            "cpu cpu.cfs_period_us=5000, cpu cpu.cfs_quota_us=-1",
            "cpu cpu.max=max 5000",
        ),
        (
            r#"{"cpu": {"period": 5000}}"#,
            "cpu cpu.cfs_period_us=5000",
            "cpu cpu.max=max 5000",
        ),
        (
            r#"{"cpu": {"idle": 1}}"#,
            "cpu cpu.idle=1",
            "cpu cpu.idle=1",
        ),
        (
            r#"{"cpu": {"realtimeRuntime": 9}}"#,
            "cpu cpu.rt_runtime_us=9",
            "impossible",
        ),
        (
            r#"{"cpu": {"cpus": "0-1"}}"#,
            "cpuset cpuset.cpus=0-1",
            "cpuset cpuset.cpus=0-1",
        ),
        (
            r#"{"memory": {"limit": 65536}}"#,
            "memory memory.limit_in_bytes=65536",
            "memory memory.max=65536",
        ),
        (
            r#"{"memory": {"reservation": 65536}}"#,
            "memory memory.soft_limit_in_bytes=65536",
            "memory memory.low=65536",
        ),
        (
            r#"{"memory": {"swappiness": 7}}"#,
            "memory memory.swappiness=7",
            "impossible",
        ),
        (
            r#"{"memory": {"disableOOMKiller": true}}"#,
            "memory memory.oom_control=1",
            "impossible",
        ),
        (
            r#"{"memory": {"swap": -1}}"#,
            "memory memory.memsw.limit_in_bytes=-1",
            "memory memory.swap.max=max",
        ),
        (
            r#"{"blockIO": {"weight": 10}}"#,
            "blkio blkio.bfq.weight=10",
            "io io.bfq.weight=10",
        ),
        (
            r#"{"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 1, "rate": 3}]}}"#,
            "blkio blkio.throttle.write_iops_device=8:1 3",
            "io io.max=8:1 wiops=3",
        ),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 0}]}}"#,
            "blkio blkio.throttle.read_bps_device=8:1 0",
            "io io.max=8:1 rbps=max",
        ),
        (
            r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4}]}"#,
            "hugetlb hugetlb.2MB.limit_in_bytes=4, hugetlb hugetlb.2MB.rsvd.limit_in_bytes=4",
            "hugetlb hugetlb.2MB.max=4, hugetlb hugetlb.2MB.rsvd.max=4",
        ),
        (
            r#"{"network": {"classID": 1048577}}"#,
            "net_cls net_cls.classid=1048577",
            "impossible",
        ),
        (
            r#"{"network": {"priorities": [{"name": "eth0", "priority": 5}]}}"#,
            "net_prio net_prio.ifpriomap=eth0 5",
            "impossible",
        ),
        (
            r#"{"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 9}}}"#,
            "rdma rdma.max=mlx5_1 hca_handle=3 hca_object=9",
            "rdma rdma.max=mlx5_1 hca_handle=3 hca_object=9",
        ),
        (
            r#"{"unified": {"io.max": "8:0 rbps=1\n8:1 rbps=2"}}"#,
            "impossible",
            "io io.max=8:0 rbps=1, io io.max=8:1 rbps=2",
        ),
    ];
    for (json, v1, v2) in table {
        let table = limits(json).table();
        assert_eq!(table.len(), 1, "{json}");
        assert_eq!(
            (words(&table[0].v1).as_str(), words(&table[0].v2).as_str()),
            (v1, v2),
            "{json}"
        );
    }
}

#[test]
fn swap_counts_memory_too_on_v1_and_not_on_v2() {
    let table = limits(r#"{"memory": {"limit": 65536, "swap": 98304}}"#).table();
    assert_eq!(table[1].field, "r.memory.swap");
    assert_eq!(
        words(&table[1].v1),
        "memory memory.memsw.limit_in_bytes=98304"
    );
    assert_eq!(words(&table[1].v2), "memory memory.swap.max=32768");
    let table = limits(r#"{"memory": {"limit": -1}}"#).table();
    assert_eq!(words(&table[1].v1), "memory memory.memsw.limit_in_bytes=-1");
    assert_eq!(words(&table[1].v2), "memory memory.swap.max=max");
}

#[test]
fn the_kernel_rounds_memory_down_to_pages() {
    assert_eq!(v1_bytes(Bound::At(65537)), "65536");
    assert_eq!(v2_bytes(Bound::At(65537)), "65536");
    assert_eq!(v1_bytes(Bound::Unlimited), "9223372036854771712");
    assert_eq!(v2_bytes(Bound::At(i64::MAX.cast_unsigned())), "max");
}

#[test]
fn the_three_points_of_cpu_weight_are_exact() {
    let points = [(2, 1), (1024, 100), (262_144, 10_000)];
    for (shares, weight) in points {
        assert_eq!(weight_of_shares(shares), weight);
    }
    let weights: Vec<u64> = (2..=262_144).map(weight_of_shares).collect();
    assert!(weights.is_sorted());
}

#[test]
fn the_ends_of_block_io_weight_are_exact() {
    assert_eq!(weight_of_block_io(10), 1);
    assert_eq!(weight_of_block_io(1000), 10_000);
}

/// The writes on v1 and on v2 of the only limit.
fn settings(json: &str) -> [Vec<Setting>; 2] {
    let table = limits(json).table();
    [&table[0].v1, &table[0].v2].map(|form| match form {
        Form::Files(files) => files.clone(),
        Form::Impossible(_) => Vec::new(),
    })
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn knows_what_the_kernel_says_of_a_limit_that_it_took_and_of_one_that_it_did_not() {
    const V1: usize = 0;
    const V2: usize = 1;
    let table = [
        (r#"{"pids": {"limit": 5}}"#, V2, 0, "5", "max"),
        (r#"{"cpu": {"cpus": "0,1,2"}}"#, V2, 0, "0-2", "0-1"),
        (r#"{"cpu": {"cpus": "0-1"}}"#, V1, 0, "0-1", ""),
        (
            r#"{"memory": {"limit": 65537}}"#,
            V2,
            0,
            "65536",
            "9223372036854771712",
        ),
        (
            r#"{"memory": {"disableOOMKiller": true}}"#,
            V1,
            0,
            "oom_kill_disable 1\nunder_oom 0\noom_kill 0",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 0",
        ),
        (
            r#"{"blockIO": {"weight": 200}}"#,
            V2,
            0,
            "default 200\n8:0 300",
            "default 100",
        ),
        (
            r#"{"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 300}]}}"#,
            V2,
            0,
            "default 100\n8:0 300",
            "default 300",
        ),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 3}]}}"#,
            V2,
            0,
            "8:0 rbps=3 wbps=max riops=max wiops=max",
            "8:0 rbps=max wbps=3 riops=max wiops=max",
        ),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 3}]}}"#,
            V1,
            0,
            "8:0 3",
            "8:1 3",
        ),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 0}]}}"#,
            V2,
            0,
            "",
            "8:0 rbps=3 wbps=max riops=max wiops=max",
        ),
        (
            r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194305}]}"#,
            V2,
            1,
            "4194304",
            "max",
        ),
        (
            r#"{"hugepageLimits": [{"pageSize": "1GB", "limit": 9223372036854775807}]}"#,
            V2,
            0,
            "max",
            "0",
        ),
        (
            r#"{"network": {"priorities": [{"name": "eth0", "priority": 5}]}}"#,
            V1,
            0,
            "lo 0\neth0 5",
            "lo 5\neth0 0",
        ),
        (
            r#"{"rdma": {"mlx": {"hcaHandles": 3}}}"#,
            V2,
            0,
            "mlx hca_handle=3 hca_object=max",
            "mlx hca_handle=max hca_object=max",
        ),
        (
            r#"{"unified": {"memory.high": "65537"}}"#,
            V2,
            0,
            "65536",
            "max",
        ),
        (r#"{"unified": {"cpuset.cpus": "0-1"}}"#, V2, 0, "0-1", "0"),
    ];
    for (json, version, n, taken, not_taken) in table {
        let expect = &settings(json)[version][n].expect;
        assert!(expect.is_met_by(taken), "{json}: {expect:?}");
        assert!(!expect.is_met_by(not_taken), "{json}: {expect:?}");
    }
}

#[test]
fn knows_how_to_go_back() {
    const V1: usize = 0;
    const V2: usize = 1;
    let rbps = r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 3}]}}"#;
    let table = [
        (r#"{"pids": {"limit": 5}}"#, V2, "max", "max"),
        (r#"{"cpu": {"cpus": "0"}}"#, V2, "", "\n"),
        (
            r#"{"memory": {"disableOOMKiller": true}}"#,
            V1,
            "oom_kill_disable 0\nunder_oom 0",
            "0",
        ),
        (
            r#"{"blockIO": {"weight": 200}}"#,
            V2,
            "default 100\n8:0 300",
            "default 100",
        ),
        (rbps, V1, "", "8:0 0"),
        (rbps, V1, "8:16 7\n8:0 5", "8:0 5"),
        (
            rbps,
            V2,
            "8:0 rbps=max wbps=7 riops=max wiops=max",
            "8:0 rbps=max wbps=7 riops=max wiops=max",
        ),
        (rbps, V2, "", "8:0 rbps=max wbps=max riops=max wiops=max"),
    ];
    for (json, version, before, written) in table {
        assert_eq!(
            settings(json)[version][0].back_to(before),
            written,
            "{json}"
        );
    }
}
