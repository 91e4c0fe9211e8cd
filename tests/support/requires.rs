//! What a test needs of the machine. Where it is missing the test is skipped; in strict mode it fails.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Something that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Uid 0.
    Root,
    /// strace(1).
    Strace,
    /// The runtime under test is runp: the test is about what no other runtime has.
    Runp,
    /// Something that the runtime under test says it can: a JSON pointer into its `features`.
    Feature(&'static str),
    /// A criu that works on this kernel: `scripts/criu` finds one.
    Criu,
    /// Something that this criu can do here, by its name in `criu check --feature`.
    CriuFeature(&'static str),
    /// A program on the PATH or where root has them.
    Program(&'static str),
    /// A file, of a Debian package mostly.
    File(&'static str),
    /// A cgroup controller, in whichever version.
    Controller(&'static str),
    /// The same, in its v1 form.
    V1(&'static str),
    /// The same, on cgroup v2, which may be mounted beside v1.
    V2(&'static str),
    /// A way to freeze a cgroup.
    Freezer,
    /// systemd, as the machine's first process.
    Systemd,
    /// cgroup v2 alone.
    PureV2,
    /// AppArmor, enabled.
    AppArmor,
    /// SELinux, enabled.
    SeLinux,
    /// CAP_SYS_RESOURCE.
    SysResource,
    /// At least this Linux.
    Kernel(u32, u32),
}

impl Need {
    /// What a machine has instead of something else is not missing: no machine has both versions of cgroups whole, and none
    /// both AppArmor and SELinux. Root of a machine in a box may lack CAP_SYS_RESOURCE.
    fn is_a_choice(self) -> bool {
        matches!(
            self,
            Self::Runp
                | Self::V1(_)
                | Self::V2(_)
                | Self::Systemd
                | Self::PureV2
                | Self::AppArmor
                | Self::SeLinux
                | Self::SysResource
                | Self::Kernel(..)
                | Self::CriuFeature(_)
        )
    }
}

/// Says whether the test can run: `if !requires(&[Root]) { return; }`.
pub(crate) fn requires(needs: &[Need]) -> bool {
    for need in needs {
        if let Some(missing) = missing(*need) {
            assert!(
                !strict() || need.is_a_choice(),
                "this machine lacks {missing}"
            );
            eprintln!("skipped: needs {missing}");
            return false;
        }
    }
    true
}

/// Whether the machine has it.
pub(crate) fn has(need: Need) -> bool {
    missing(need).is_none()
}

/// Nothing may be skipped: in CI, or with `RUNP_TEST_STRICT`.
pub(crate) fn strict() -> bool {
    ["CI", "RUNP_TEST_STRICT"]
        .iter()
        .any(|variable| std::env::var_os(variable).is_some())
}

fn missing(need: Need) -> Option<String> {
    match need {
        Need::Root => (!rustix::process::geteuid().is_root()).then(|| "root".into()),
        Need::Strace => Command::new("strace")
            .arg("-V")
            .output()
            .is_err()
            .then(|| "strace".into()),
        Need::Runp => {
            std::env::var_os("RUNP_TEST_RUNTIME").map(|_| "runp as the runtime under test".into())
        }
        Need::Feature(pointer) => {
            let output = Command::new(super::binary()).arg("features").output();
            let features: serde_json::Value =
                serde_json::from_slice(&output.unwrap().stdout).unwrap_or_default();
            (features.pointer(pointer).is_none())
                .then(|| format!("the runtime's feature {pointer}"))
        }
        Need::Criu => criu()
            .is_none()
            .then(|| "a criu that works here (scripts/criu)".into()),
        Need::CriuFeature(name) => {
            let check = |criu: PathBuf| {
                Command::new(criu)
                    .args(["check", "--feature", name])
                    .output()
            };
            let can = criu().is_some_and(|criu| check(criu).unwrap().status.success());
            (!can).then(|| format!("criu's feature {name}"))
        }
        Need::Program(name) => {
            let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
            let found = std::env::split_paths(&path).any(|dir| dir.join(name).exists());
            (!found).then(|| format!("the program {name}"))
        }
        Need::File(path) => (!Path::new(path).exists()).then(|| path.into()),
        Need::Controller(name) => {
            (!v1(name) && !v2(name)).then(|| format!("the cgroup controller {name}"))
        }
        Need::V1(name) => (!v1(name)).then(|| format!("the cgroup controller {name} of v1")),
        Need::V2(name) => (!v2(name)).then(|| format!("the cgroup controller {name} of v2")),
        Need::AppArmor => {
            let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
            (!enabled.is_ok_and(|enabled| enabled.starts_with('Y'))).then(|| "AppArmor".into())
        }
        Need::SeLinux => (!Path::new("/sys/fs/selinux/enforce").exists()).then(|| "SELinux".into()),
        Need::SysResource => {
            const CAP_SYS_RESOURCE: u64 = 1 << 24;
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let effective = status
                .lines()
                .find_map(|line| line.strip_prefix("CapEff:\t"));
            let effective = u64::from_str_radix(effective.unwrap(), 16).unwrap();
            (effective & CAP_SYS_RESOURCE == 0).then(|| "CAP_SYS_RESOURCE".into())
        }
        Need::Kernel(major, minor) => {
            let uname = rustix::system::uname();
            let release = uname.release().to_string_lossy();
            let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
            let here: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            (here < (major, minor)).then(|| format!("Linux {major}.{minor}"))
        }
        Need::Systemd => {
            let booted = Path::new("/run/systemd/system").is_dir();
            (!booted).then(|| "systemd".into())
        }
        Need::PureV2 => (!pure_v2()).then(|| "cgroup v2 without v1".into()),
        Need::Freezer => (!v1("freezer") && !pure_v2()).then(|| "a freezer".into()),
    }
}

fn v1(controller: &str) -> bool {
    Path::new("/sys/fs/cgroup").join(controller).is_dir()
}

/// Whether cgroup v2 is all there is.
pub(crate) fn pure_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn v2(controller: &str) -> bool {
    if controller == "devices" {
        return pure_v2(); // a program of the kernel's, which is in no list
    }
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .iter()
        .filter_map(|root| std::fs::read_to_string(format!("{root}/cgroup.controllers")).ok())
        .any(|list| list.split_whitespace().any(|c| c == controller))
}

/// The criu that `scripts/criu` has unpacked, if it works on this kernel.
pub(crate) fn criu() -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/criu/criu");
    let works = |criu: &PathBuf| {
        let check = Command::new(criu).arg("check").output();
        check.is_ok_and(|output| output.status.success())
    };
    Some(unpacked).filter(works)
}
