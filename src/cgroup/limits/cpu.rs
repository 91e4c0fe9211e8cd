//! `linux.resources.cpu`.

use oci_spec::runtime::LinuxCpu;

use super::Bound;
use super::check::Check;
use super::setting::{Expect, Form, NOT_ON_V2, Setting, Table, numbers, or_max, or_minus_one};

/// `linux.resources.cpu`; times in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the runtime-spec's names
pub struct Cpu {
    /// 2 to 262144; the kernel's default is 1024.
    pub shares: Option<u64>,
    /// Of processor time per `period`.
    pub quota: Option<Bound>,
    pub period: Option<u64>,
    pub burst: Option<u64>,
    pub idle: Option<bool>,
    pub realtime_runtime: Option<i64>,
    pub realtime_period: Option<u64>,
    /// A list as in cpuset(7): `0-3,8`.
    pub cpus: Option<String>,
    pub mems: Option<String>,
}

impl Cpu {
    pub(super) fn read(check: &mut Check<'_>, cpu: &LinuxCpu) -> Self {
        let quota = check.bound("cpu.quota", cpu.quota(), 1000);
        let idle = match cpu.idle() {
            None => None,
            Some(0) => Some(false),
            Some(1) => Some(true),
            Some(other) => {
                check.refuse("cpu.idle", other, "out of range", "0 or 1");
                None
            }
        };
        let shares = check.range("cpu.shares", cpu.shares(), 2, 262_144);
        if let (Some(true), Some(shares)) = (idle, shares) {
            let hint = "an idle cgroup has no shares: leave out one of the two";
            check.refuse("cpu.shares", shares, "set beside cpu.idle = 1", hint);
        }
        let burst = cpu.burst();
        match (burst, quota) {
            (None | Some(0), _) => {}
            (Some(burst), Some(Bound::At(quota))) if burst <= quota => {}
            (Some(burst), _) => check.refuse(
                "cpu.burst",
                burst,
                "more than cpu.quota",
                "a burst needs a quota that is at least as large",
            ),
        }
        Self {
            shares,
            quota,
            period: check.range("cpu.period", cpu.period(), 1000, 1_000_000),
            burst,
            idle,
            realtime_runtime: cpu.realtime_runtime().filter(|v| *v != 0),
            realtime_period: cpu.realtime_period().filter(|v| *v != 0),
            cpus: list(check, "cpu.cpus", cpu.cpus().as_ref()),
            mems: list(check, "cpu.mems", cpu.mems().as_ref()),
        }
    }

    pub(super) fn settings(&self, table: &mut Table<'_>) {
        let set = |name: &str, value: u64| Setting::new("cpu", name, value);
        if let Some(idle) = self.idle.map(u64::from) {
            table.add("cpu.idle", set("cpu.idle", idle), set("cpu.idle", idle));
        }
        if let Some(shares) = self.shares {
            let v2 = set("cpu.weight", weight_of_shares(shares));
            table.add("cpu.shares", set("cpu.shares", shares), v2);
        }
        if self.quota.is_some() || self.period.is_some() {
            self.bandwidth(table);
        }
        if let Some(burst) = self.burst {
            let v1 = set("cpu.cfs_burst_us", burst);
            table.add("cpu.burst", v1, set("cpu.max.burst", burst));
        }
        if let Some(period) = self.realtime_period {
            let v1 = set("cpu.rt_period_us", period);
            table.add("cpu.realtimePeriod", v1, NOT_ON_V2);
        }
        if let Some(runtime) = self.realtime_runtime {
            let v1 = Setting::new("cpu", "cpu.rt_runtime_us", runtime);
            table.add("cpu.realtimeRuntime", v1, NOT_ON_V2);
        }
        let lists = [
            ("cpu.cpus", "cpuset.cpus", &self.cpus),
            ("cpu.mems", "cpuset.mems", &self.mems),
        ];
        for (field, name, list) in lists {
            if let Some(list) = list {
                let numbers = Expect::Numbers(list.clone());
                let set = Setting::new("cpuset", name, list).expect(numbers);
                table.add(field, set.clone(), set);
            }
        }
    }

    fn bandwidth(&self, table: &mut Table<'_>) {
        let mut v1 = Vec::new();
        if let Some(period) = self.period {
            v1.push(Setting::new("cpu", "cpu.cfs_period_us", period));
        }
        if let Some(quota) = self.quota {
            v1.push(Setting::new("cpu", "cpu.cfs_quota_us", or_minus_one(quota)));
        }
        // As runc: a period alone means no quota. 100 ms is the kernel's default.
        let quota = or_max(self.quota.unwrap_or(Bound::Unlimited));
        let max = format!("{quota} {}", self.period.unwrap_or(DEFAULT_PERIOD));
        let field = match self.quota {
            Some(_) => "cpu.quota",
            None => "cpu.period",
        };
        table.add(field, Form::Files(v1), Setting::new("cpu", "cpu.max", max));
    }
}

/// Microseconds.
pub(crate) const DEFAULT_PERIOD: u64 = 100_000;

/// A list of numbers and ranges, cpuset(7).
fn list(check: &mut Check<'_>, field: &str, value: Option<&String>) -> Option<String> {
    let list = value.filter(|v| !v.is_empty())?;
    let parts = list.split(',').all(|part| !part.is_empty());
    if parts && numbers(list).is_some() {
        return Some(list.clone());
    }
    check.refuse(
        field,
        format!("{list:?}"),
        "not a list of numbers",
        "for example \"0-3,8\"",
    );
    None
}

/// `cpu.shares` (2 to 262144, default 1024) as `cpu.weight` (1 to 10000, default 100): a quadratic function of the
/// logarithm through these three points, as runc 1.4 and crun 1.23; the older linear one made the default 39.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    let l = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    // The three points are exact; 1e-9 keeps rounding errors from lifting them to the next integer.
    (10f64.powf(exponent) - 1e-9).ceil() as u64
}
