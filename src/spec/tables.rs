//! Names of capabilities, signals and rlimits.

use std::str::FromStr;

use nix::sys::signal::Signal;
use oci_spec::runtime::PosixRlimitType;

/// The bit of a capability, by its name with or without `CAP_`, in any case.
///
/// capabilities(7); `None` for a name that this version of runp does not know.
pub fn capability(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let capability = caps::Capability::from_str(&format!("CAP_{name}")).ok()?;
    Some(1 << capability.index())
}

/// The names of the capabilities in a bit set, in the kernel's order, as `CAP_KILL`.
pub fn capability_names(bits: u64) -> Vec<String> {
    let mut known: Vec<caps::Capability> = caps::all()
        .into_iter()
        .filter(|c| bits & (1 << c.index()) != 0)
        .collect();
    known.sort_by_key(caps::Capability::index);
    known.iter().map(ToString::to_string).collect()
}

/// A signal by number (`0` to `64`) or by name: `TERM`, `SIGTERM`, `sigterm`, `RTMIN+1`, `SIGRTMAX-1`.
///
/// signal(7). Real-time signals count from the C library's SIGRTMIN, as in kill(1).
pub fn signal(name: &str) -> Option<i32> {
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return name.parse().ok().filter(|n| (0..=64).contains(n));
    }
    let upper = name.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    real_time_signal(name).or_else(|| {
        let name = match name {
            "IOT" => "ABRT",
            "CLD" => "CHLD",
            "POLL" => "IO",
            name => name,
        };
        let signal = Signal::from_str(&format!("SIG{name}")).ok()?;
        Some(signal as i32)
    })
}

fn real_time_signal(name: &str) -> Option<i32> {
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let (base, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(offset), _) => (first, offset),
        (_, Some(offset)) => (last, offset),
        _ => return None,
    };
    let offset: i32 = match offset.as_bytes() {
        [] => 0,
        [b'+' | b'-', b'0'..=b'9', ..] => offset.parse().ok()?,
        _ => return None,
    };
    base.checked_add(offset)
        .filter(|n| (first..=last).contains(n))
}

/// The number of a resource limit, getrlimit(2).
pub(crate) fn rlimit(resource: PosixRlimitType) -> u32 {
    match resource {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_their_kernel_number() {
        for (name, bit) in [
            ("CAP_CHOWN", 0),
            ("kill", 5),
            ("CAP_SYS_ADMIN", 21),
            ("Cap_Checkpoint_Restore", 40),
        ] {
            assert_eq!(capability(name), Some(1 << bit), "{name}");
        }
        for name in ["", "CAP_", "CAP_NEWER", "CAP_CAP_KILL", "ALL", "KILL "] {
            assert_eq!(capability(name), None, "{name}");
        }
        assert_eq!(capability_names((1 << 5) | 1), ["CAP_CHOWN", "CAP_KILL"]);
        // every capability of oci-spec has a bit, and all 41 are told apart
        let all = capability_names(u64::MAX);
        assert_eq!(all.len(), 41);
        for name in all {
            let quoted = format!("{name:?}");
            let parsed: oci_spec::runtime::Capability = serde_json::from_str(&quoted).unwrap();
            assert_eq!(capability(&parsed.to_string()), capability(&name));
        }
    }

    #[test]
    fn signals_by_name_and_number() {
        for (name, number) in [
            ("15", 15),
            ("0", 0),
            ("64", 64),
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("IOT", 6),
            ("POLL", libc::SIGIO),
            ("CLD", 17),
            ("RTMIN", 34),
            ("SIGRTMIN+1", 35),
            ("rtmax", 64),
            ("RTMAX-14", 50),
        ] {
            assert_eq!(signal(name), Some(number), "{name}");
        }
        for name in [
            "",
            "65",
            "-1",
            "+1",
            " 9",
            "9x",
            "SIG",
            "SIGSIGTERM",
            "TERMX",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+",
            "RTMIN+99999999999",
            "RTMIN1",
            "RTMIN++1",
        ] {
            assert_eq!(signal(name), None, "{name}");
        }
    }

    #[test]
    fn rlimits_have_their_kernel_number() {
        assert_eq!(rlimit(PosixRlimitType::RlimitNofile), 7);
        assert_eq!(rlimit(PosixRlimitType::RlimitRttime), 15);
    }
}
