//! Limits in the kernel's words: which file of which controller gets which value, on v1 and on v2. Pure.
//!
//! <https://docs.kernel.org/admin-guide/cgroup-v1/> and <https://docs.kernel.org/admin-guide/cgroup-v2.html>.

use super::limits::{Bound, Limits, Throttle};

/// One write into one file of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// As in `cgroup.controllers` or `/proc/cgroups`; `cgroup` for files that every v2 cgroup has.
    pub controller: String,
    /// Its name in the cgroup's directory.
    pub file: String,
    /// What is written.
    pub value: String,
    /// What the kernel must say afterwards.
    pub expect: Option<String>,
    /// What to do if there is no such file.
    pub absent: Absent,
}

/// What to do if a kernel does not have a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The limit cannot be set: an error.
    Refuse,
    /// Nothing: there is nothing to limit.
    Skip,
    /// This file gets this value.
    Instead(String, String),
}

/// One limit, in the words of both versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Its JSON path.
    pub field: String,
    /// On a v1 hierarchy.
    pub v1: Form,
    /// On the v2 hierarchy.
    pub v2: Form,
}

/// How a version expresses a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// Never empty, all of one controller.
    Files(Vec<Setting>),
    /// Not at all, and why.
    Impossible(&'static str),
}

impl Setting {
    fn new(controller: &str, file: impl Into<String>, value: impl ToString) -> Self {
        Self {
            controller: controller.to_owned(),
            file: file.into(),
            value: value.to_string(),
            expect: None,
            absent: Absent::Refuse,
        }
    }

    /// The kernel must show what was written.
    fn verified(mut self) -> Self {
        self.expect = Some(self.value.clone());
        self
    }

    fn or(self, absent: Absent) -> Self {
        Self { absent, ..self }
    }
}

fn file(controller: &str, file: impl Into<String>, value: impl ToString) -> Form {
    Form::Files(vec![Setting::new(controller, file, value)])
}

fn verified(controller: &str, file: &str, value: impl ToString) -> Form {
    Form::Files(vec![Setting::new(controller, file, value).verified()])
}

const NOT_ON_V2: Form = Form::Impossible("cgroup v2 has no such limit");

impl Limits {
    /// Every limit that is set, with what to write on either version of cgroups.
    pub fn table(&self) -> Vec<Limit> {
        let mut table = Vec::new();
        let mut add = |field: &str, v1: Form, v2: Form| {
            table.push(Limit {
                field: format!("{}.{field}", self.field),
                v1,
                v2,
            });
        };
        self.cpu(&mut add);
        self.memory(&mut add);
        if let Some(limit) = self.pids {
            let value = or_max(limit);
            add(
                "pids.limit",
                verified("pids", "pids.max", &value),
                verified("pids", "pids.max", &value),
            );
        }
        self.block_io(&mut add);
        self.others(&mut add);
        table
    }

    fn cpu(&self, add: &mut impl FnMut(&str, Form, Form)) {
        let cpu = &self.cpu;
        if let Some(idle) = cpu.idle.map(u8::from) {
            add(
                "cpu.idle",
                verified("cpu", "cpu.idle", idle),
                verified("cpu", "cpu.idle", idle),
            );
        }
        if let Some(shares) = cpu.shares {
            add(
                "cpu.shares",
                verified("cpu", "cpu.shares", shares),
                verified("cpu", "cpu.weight", weight_of_shares(shares)),
            );
        }
        if cpu.quota.is_some() || cpu.period.is_some() {
            let mut v1 = Vec::new();
            if let Some(period) = cpu.period {
                v1.push(Setting::new("cpu", "cpu.cfs_period_us", period).verified());
            }
            if let Some(quota) = cpu.quota {
                v1.push(Setting::new("cpu", "cpu.cfs_quota_us", or_minus_one(quota)).verified());
            }
            // As runc: a period alone means no quota. 100 ms is the kernel's default.
            let quota = or_max(cpu.quota.unwrap_or(Bound::Unlimited));
            let max = format!("{quota} {}", cpu.period.unwrap_or(100_000));
            let field = if cpu.quota.is_some() {
                "cpu.quota"
            } else {
                "cpu.period"
            };
            add(field, Form::Files(v1), verified("cpu", "cpu.max", max));
        }
        if let Some(burst) = cpu.burst {
            add(
                "cpu.burst",
                verified("cpu", "cpu.cfs_burst_us", burst),
                verified("cpu", "cpu.max.burst", burst),
            );
        }
        if let Some(period) = cpu.realtime_period {
            let v1 = verified("cpu", "cpu.rt_period_us", period);
            add("cpu.realtimePeriod", v1, NOT_ON_V2);
        }
        if let Some(runtime) = cpu.realtime_runtime {
            let v1 = verified("cpu", "cpu.rt_runtime_us", runtime);
            add("cpu.realtimeRuntime", v1, NOT_ON_V2);
        }
        for (field, name, list) in [
            ("cpu.cpus", "cpuset.cpus", &cpu.cpus),
            ("cpu.mems", "cpuset.mems", &cpu.mems),
        ] {
            if let Some(list) = list {
                add(
                    field,
                    file("cpuset", name, list),
                    file("cpuset", name, list),
                );
            }
        }
    }

    fn memory(&self, add: &mut impl FnMut(&str, Form, Form)) {
        let memory = &self.memory;
        if let Some(limit) = memory.limit {
            add(
                "memory.limit",
                bytes("memory.limit_in_bytes", limit, v1_bytes),
                bytes("memory.max", limit, v2_bytes),
            );
        }
        if let Some(reservation) = memory.reservation {
            add(
                "memory.reservation",
                bytes("memory.soft_limit_in_bytes", reservation, v1_bytes),
                bytes("memory.low", reservation, v2_bytes),
            );
        }
        // As runc: memory without a limit is without a limit of swap too, unless one is named.
        let implied = memory.swap.is_none() && memory.limit == Some(Bound::Unlimited);
        let swap = memory.swap.or(implied.then_some(Bound::Unlimited));
        if let Some(swap) = swap {
            let v2 = match (swap, memory.limit) {
                (Bound::At(swap), Some(Bound::At(limit))) => Bound::At(swap.saturating_sub(limit)),
                _ => Bound::Unlimited,
            };
            // A kernel without swap accounting needs not be told that there is no limit, or no swap.
            let skip = |nothing_to_limit| {
                if nothing_to_limit {
                    Absent::Skip
                } else {
                    Absent::Refuse
                }
            };
            let v1 = Setting::new("memory", "memory.memsw.limit_in_bytes", or_minus_one(swap));
            let v1 = Setting {
                expect: Some(v1_bytes(swap)),
                ..v1
            };
            let v2_file = Setting::new("memory", "memory.swap.max", or_max(v2));
            let v2_file = Setting {
                expect: Some(v2_bytes(v2)),
                ..v2_file
            };
            add(
                "memory.swap",
                Form::Files(vec![v1.or(skip(implied))]),
                Form::Files(vec![
                    v2_file.or(skip(matches!(v2, Bound::Unlimited | Bound::At(0)))),
                ]),
            );
        }
        if let Some(swappiness) = memory.swappiness {
            let v1 = verified("memory", "memory.swappiness", swappiness);
            add("memory.swappiness", v1, NOT_ON_V2);
        }
        if memory.disable_oom_killer {
            let v1 = file("memory", "memory.oom_control", 1);
            add("memory.disableOOMKiller", v1, NOT_ON_V2);
        }
    }

    fn block_io(&self, add: &mut impl FnMut(&str, Form, Form)) {
        if let Some(weight) = self.block_io.weight {
            // The BFQ scheduler has its own file; without it v1 kernels before 5.0 and v2 kernels have the general one.
            let v1 = Setting::new("blkio", "blkio.bfq.weight", weight)
                .or(Absent::Instead("blkio.weight".into(), weight.to_string()));
            let v2 = Setting::new("io", "io.bfq.weight", weight).or(Absent::Instead(
                "io.weight".into(),
                weight_of_block_io(weight).to_string(),
            ));
            add(
                "blockIO.weight",
                Form::Files(vec![v1]),
                Form::Files(vec![v2]),
            );
        }
        for (i, (device, weight)) in self.block_io.weight_device.iter().enumerate() {
            let line = format!("{device} {weight}");
            let v1 = Setting::new("blkio", "blkio.bfq.weight_device", &line)
                .or(Absent::Instead("blkio.weight_device".into(), line.clone()));
            let v2 = Setting::new("io", "io.bfq.weight", &line).or(Absent::Instead(
                "io.weight".into(),
                format!("{device} {}", weight_of_block_io(*weight)),
            ));
            add(
                &format!("blockIO.weightDevice[{i}]"),
                Form::Files(vec![v1]),
                Form::Files(vec![v2]),
            );
        }
        for (kind, device, rate) in &self.block_io.throttle {
            let (field, v1, v2) = match kind {
                Throttle::ReadBps => ("throttleReadBpsDevice", "read_bps_device", "rbps"),
                Throttle::WriteBps => ("throttleWriteBpsDevice", "write_bps_device", "wbps"),
                Throttle::ReadIops => ("throttleReadIOPSDevice", "read_iops_device", "riops"),
                Throttle::WriteIops => ("throttleWriteIOPSDevice", "write_iops_device", "wiops"),
            };
            // 0 lifts the limit on v1; v2 has a word for that.
            let max = if *rate == 0 {
                "max".to_owned()
            } else {
                rate.to_string()
            };
            add(
                &format!("blockIO.{field}"),
                file(
                    "blkio",
                    format!("blkio.throttle.{v1}"),
                    format!("{device} {rate}"),
                ),
                file("io", "io.max", format!("{device} {v2}={max}")),
            );
        }
    }

    fn others(&self, add: &mut impl FnMut(&str, Form, Form)) {
        for (i, (size, limit)) in self.hugepages.iter().enumerate() {
            // The reservation is limited too where the kernel (5.7) can, or mmap would promise what a fault cannot keep.
            let files = |plain: &str, reserved: &str| {
                Form::Files(vec![
                    Setting::new("hugetlb", format!("hugetlb.{size}.{plain}"), limit),
                    Setting::new("hugetlb", format!("hugetlb.{size}.{reserved}"), limit)
                        .or(Absent::Skip),
                ])
            };
            add(
                &format!("hugepageLimits[{i}]"),
                files("limit_in_bytes", "rsvd.limit_in_bytes"),
                files("max", "rsvd.max"),
            );
        }
        if let Some(class) = self.class_id {
            let v1 = file("net_cls", "net_cls.classid", class);
            add("network.classID", v1, NOT_ON_V2);
        }
        for (i, (interface, priority)) in self.priorities.iter().enumerate() {
            let line = format!("{interface} {priority}");
            let v1 = file("net_prio", "net_prio.ifpriomap", line);
            add(&format!("network.priorities[{i}]"), v1, NOT_ON_V2);
        }
        for (device, (handles, objects)) in &self.rdma {
            let words = [
                handles.map(|n| format!(" hca_handle={n}")),
                objects.map(|n| format!(" hca_object={n}")),
            ];
            let line = format!(
                "{device}{}",
                words.into_iter().flatten().collect::<String>()
            );
            add(
                &format!("rdma.{device}"),
                file("rdma", "rdma.max", &line),
                file("rdma", "rdma.max", &line),
            );
        }
        for (name, value) in &self.unified {
            let controller = name
                .split_once('.')
                .map_or("", |(controller, _)| controller);
            // Files such as io.max take one line with each write.
            let lines = value.trim_end().split('\n');
            let lines = lines.map(|line| Setting::new(controller, name, line));
            let v2 = Form::Files(lines.collect());
            let v1 = Form::Impossible("only a pure cgroup v2 machine has this");
            add(&format!("unified.{name}"), v1, v2);
        }
    }
}

fn bytes(name: &str, bound: Bound, expect: fn(Bound) -> String) -> Form {
    let value = match expect(Bound::Unlimited).as_str() {
        "max" => or_max(bound),
        _ => or_minus_one(bound),
    };
    Form::Files(vec![Setting {
        expect: Some(expect(bound)),
        ..Setting::new("memory", name, value)
    }])
}

fn or_max(bound: Bound) -> String {
    match bound {
        Bound::Unlimited => "max".to_owned(),
        Bound::At(n) => n.to_string(),
    }
}

fn or_minus_one(bound: Bound) -> String {
    match bound {
        Bound::Unlimited => "-1".to_owned(),
        Bound::At(n) => n.to_string(),
    }
}

/// `PAGE_COUNTER_MAX` in bytes: what v1 shows for no limit.
fn no_limit() -> u64 {
    whole_pages(i64::MAX.cast_unsigned())
}

/// The kernel counts memory in whole pages and rounds down.
fn whole_pages(bytes: u64) -> u64 {
    let page = rustix::param::page_size() as u64;
    bytes / page * page
}

fn v1_bytes(bound: Bound) -> String {
    match bound {
        Bound::Unlimited => no_limit().to_string(),
        Bound::At(n) => whole_pages(n).min(no_limit()).to_string(),
    }
}

fn v2_bytes(bound: Bound) -> String {
    match bound {
        Bound::At(n) if whole_pages(n) < no_limit() => whole_pages(n).to_string(),
        _ => "max".to_owned(),
    }
}

/// `cpu.shares` (2 to 262144, default 1024) as `cpu.weight` (1 to 10000, default 100): a quadratic function of the
/// logarithm through these three points, as runc 1.4 and crun 1.23; the older linear one made the default 39.
fn weight_of_shares(shares: u64) -> u64 {
    let l = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    // The three points are exact; 1e-9 keeps rounding errors from lifting them to the next integer.
    (10f64.powf(exponent) - 1e-9).ceil() as u64
}

/// `blockIO.weight` (10 to 1000) as `io.weight` (1 to 10000), linear, as runc documents it.
fn weight_of_block_io(weight: u16) -> u64 {
    1 + u64::from(weight.clamp(10, 1000) - 10) * 9999 / 990
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
}
