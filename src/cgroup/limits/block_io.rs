//! `linux.resources.blockIO`.

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

use super::check::Check;
use super::setting::{Expect, Setting, Table};

/// `linux.resources.blockIO`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// `major:minor` and weight.
    pub weight_device: Vec<(String, u16)>,
    /// By [`Throttle::index`]: `major:minor` and rate.
    pub throttle: Vec<(Throttle, String, u64)>,
}

/// The four kinds of `throttle*Device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Throttle {
    ReadBps,
    WriteBps,
    ReadIops,
    WriteIops,
}

impl BlockIo {
    pub(super) fn read(check: &mut Check<'_>, io: &LinuxBlockIo) -> Self {
        let weight = |check: &mut Check<'_>, field: &str, value: Option<u16>| {
            let value = check.range(field, value.map(u64::from), 10, 1000)?;
            u16::try_from(value).ok()
        };
        const GONE: &str = "kernels since 5.0 have no leaf weight";
        if let Some(value) = io.leaf_weight().filter(|v| *v != 0) {
            check.refuse("blockIO.leafWeight", value, GONE, "leave it out");
        }
        let mut weight_device = Vec::new();
        for (i, entry) in io.weight_device().iter().flatten().enumerate() {
            let field = format!("blockIO.weightDevice[{i}]");
            if let Some(value) = entry.leaf_weight().filter(|v| *v != 0) {
                check.refuse(format!("{field}.leafWeight"), value, GONE, "leave it out");
            }
            let device = check.device(&field, entry.major(), entry.minor());
            let weight = weight(check, &format!("{field}.weight"), entry.weight());
            weight_device.extend(device.zip(weight));
        }
        let mut throttle = Vec::new();
        let mut read = |kind, name: &str, list: &Option<Vec<LinuxThrottleDevice>>| {
            for (i, entry) in list.iter().flatten().enumerate() {
                let field = format!("blockIO.{name}[{i}]");
                if let Some(device) = check.device(&field, entry.major(), entry.minor()) {
                    throttle.push((kind, device, entry.rate()));
                }
            }
        };
        read(
            Throttle::ReadBps,
            "throttleReadBpsDevice",
            io.throttle_read_bps_device(),
        );
        read(
            Throttle::WriteBps,
            "throttleWriteBpsDevice",
            io.throttle_write_bps_device(),
        );
        read(
            Throttle::ReadIops,
            "throttleReadIOPSDevice",
            io.throttle_read_iops_device(),
        );
        read(
            Throttle::WriteIops,
            "throttleWriteIOPSDevice",
            io.throttle_write_iops_device(),
        );
        Self {
            weight: weight(check, "blockIO.weight", io.weight()),
            weight_device,
            throttle,
        }
    }

    pub(super) fn settings(&self, table: &mut Table<'_>) {
        if let Some(weight) = self.weight {
            // The BFQ scheduler has its own file; without it v1 kernels before 5.0 and v2 kernels have the general one.
            let v1 = |name: &str| Setting::new("blkio", name, weight);
            let v2 = |name: &str, weight: u64| {
                let expect = Expect::line(&format!("default {weight}"));
                Setting::new("io", name, weight).expect(expect)
            };
            table.add(
                "blockIO.weight",
                v1("blkio.bfq.weight").or_else(v1("blkio.weight")),
                v2("io.bfq.weight", weight.into())
                    .or_else(v2("io.weight", weight_of_block_io(weight))),
            );
        }
        for (i, (device, weight)) in self.weight_device.iter().enumerate() {
            let line = format!("{device} {weight}");
            let v1 = |name: &str| Setting::line("blkio", name, &line);
            let general = format!("{device} {}", weight_of_block_io(*weight));
            table.add(
                &format!("blockIO.weightDevice[{i}]"),
                v1("blkio.bfq.weight_device").or_else(v1("blkio.weight_device")),
                Setting::line("io", "io.bfq.weight", &line).or_else(Setting::line(
                    "io",
                    "io.weight",
                    general,
                )),
            );
        }
        for (kind, device, rate) in &self.throttle {
            let (field, v1, v2) = match kind {
                Throttle::ReadBps => ("throttleReadBpsDevice", "read_bps_device", "rbps"),
                Throttle::WriteBps => ("throttleWriteBpsDevice", "write_bps_device", "wbps"),
                Throttle::ReadIops => ("throttleReadIOPSDevice", "read_iops_device", "riops"),
                Throttle::WriteIops => ("throttleWriteIOPSDevice", "write_iops_device", "wiops"),
            };
            let v1 = Setting::line(
                "blkio",
                format!("blkio.throttle.{v1}"),
                format!("{device} {rate}"),
            );
            // 0 lifts the limit on v1; v2 has a word for that.
            let (v1, v2) = match rate {
                0 => {
                    let lifted = |word: &str| Expect::Lifted(device.clone(), word.to_owned());
                    let max = format!("{v2}=max");
                    let v2 = Setting::new("io", "io.max", format!("{device} {max}"));
                    (v1.expect(lifted("0")), v2.expect(lifted(&max)))
                }
                rate => (
                    v1,
                    Setting::line("io", "io.max", format!("{device} {v2}={rate}")),
                ),
            };
            table.add(&format!("blockIO.{field}"), v1, v2);
        }
    }
}

/// `blockIO.weight` (10 to 1000) as `io.weight` (1 to 10000), linear, as runc documents it.
pub(super) fn weight_of_block_io(weight: u16) -> u64 {
    1 + u64::from(weight.clamp(10, 1000) - 10) * 9999 / 990
}
