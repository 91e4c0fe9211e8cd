//! `seccompProfile`: containerd's default profile, or a file.

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::core::v1::SeccompProfile;
use oci_spec::runtime::{Capabilities, LinuxSeccomp};
use serde_json::{Value, json};

use crate::error::{Context, Error, Result};

/// What `RuntimeDefault` allows: the facts of containerd's `contrib/seccomp`, one line per condition.
const DEFAULT: &str = include_str!("seccomp.txt");

/// Where the kubelet looks for `localhostProfile`; here after `seccomp/` beside the manifest.
const KUBELET: &str = "/var/lib/kubelet/seccomp";

/// `socket(AF_VSOCK)` is not allowed: it would lead past the network namespace.
const AF_VSOCK: u32 = 40;

/// `CLONE_NEW*`, except for time: clone(2) without them needs no privilege.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// What personality(2) may be set to: Linux, Linux as on 32 bits, and both with `UNAME26`; and the question which it is.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];

/// The filter of a profile; `None` for `Unconfined`.
///
/// # Errors
/// A file that cannot be read or is no profile.
pub(super) fn filter(
    profile: &SeccompProfile,
    capabilities: &Capabilities,
    directory: &Path,
) -> Result<Option<LinuxSeccomp>> {
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(Some(runtime_default(capabilities)?)),
        "Localhost" => {
            let name = profile.localhost_profile.as_deref().unwrap_or_default();
            local(name, directory).map(Some)
        }
        _ => Ok(None),
    }
}

/// Refuses what is not listed with EPERM, or with ENOSYS what programs then do without.
fn runtime_default(capabilities: &Capabilities) -> Result<LinuxSeccomp> {
    let has = |name: &str| capabilities.iter().any(|c| c.to_string() == name);
    let mut allowed = BTreeSet::new();
    for line in DEFAULT.lines().filter(|line| !line.starts_with('#')) {
        let (condition, names) = line.split_once(": ").unwrap_or_default();
        let holds = match condition {
            "all" => true,
            "x86_64" | "aarch64" => condition == std::env::consts::ARCH,
            capability => has(capability),
        };
        if holds {
            allowed.extend(names.split(' '));
        }
    }
    let allow = |names: &[&str], args: Value| json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": args});
    let all: Vec<&str> = allowed.into_iter().collect();
    let mut rules = vec![
        allow(&all, json!([])),
        allow(
            &["socket"],
            json!([{"index": 0, "value": AF_VSOCK, "op": "SCMP_CMP_NE"}]),
        ),
    ];
    rules.extend(PERSONALITIES.map(|value| {
        allow(
            &["personality"],
            json!([{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]),
        )
    }));
    if !has("SYS_ADMIN") {
        // Masked with the flags nothing is left.
        let none = json!([{"index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
        rules.push(allow(&["clone"], none));
        // Its flags are behind a pointer: libraries then fall back to clone.
        rules.push(
            json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}),
        );
    }
    let architectures = match std::env::consts::ARCH {
        "x86_64" => json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        _ => json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
    };
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": architectures,
        "syscalls": rules,
    });
    serde_json::from_value(profile)
        .map_err(|e| Error::new(format!("the default seccomp profile: {e}")))
}

/// A profile in the form of `linux.seccomp` of a config.json, as containerd takes it.
fn local(name: &str, directory: &Path) -> Result<LinuxSeccomp> {
    let beside = directory.join("seccomp").join(name);
    let path = match beside.exists() {
        true => beside,
        false => Path::new(KUBELET).join(name),
    };
    let step = || format!("read seccomp profile {}", path.display());
    let text = std::fs::read(&path).context(step)?;
    serde_json::from_slice(&text).map_err(|e| Error::new(step()).hint(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use oci_spec::runtime::Capability;

    fn profile(kind: &str, name: Option<&str>) -> SeccompProfile {
        SeccompProfile {
            type_: kind.into(),
            localhost_profile: name.map(str::to_owned),
        }
    }

    fn allowed(capabilities: Capabilities) -> BTreeSet<String> {
        let filter = runtime_default(&capabilities).unwrap();
        filter.syscalls().as_ref().unwrap()[0]
            .names()
            .iter()
            .cloned()
            .collect()
    }

    #[test]
    fn what_a_capability_is_for_is_allowed_with_it() {
        let none = allowed(Capabilities::new());
        for name in ["read", "execve", "openat2", "futex", "fchmodat2"] {
            assert!(none.contains(name), "{name}");
        }
        for name in [
            "mount",
            "bpf",
            "reboot",
            "chroot",
            "io_uring_setup",
            "keyctl",
            "unshare",
            "clone",
            "userfaultfd",
        ] {
            assert!(!none.contains(name), "{name}");
        }
        let admin = allowed([Capability::SysAdmin, Capability::SysChroot].into());
        for name in ["mount", "bpf", "chroot", "unshare", "clone", "clone3"] {
            assert!(admin.contains(name), "{name}");
        }
    }

    #[test]
    fn every_line_of_the_list_is_understood() {
        for line in DEFAULT.lines().filter(|line| !line.starts_with('#')) {
            let (condition, names) = line.split_once(": ").unwrap();
            let known = ["all", "x86_64", "aarch64"].contains(&condition)
                || condition.parse::<Capability>().is_ok();
            assert!(known, "{condition}");
            assert!(
                names
                    .split(' ')
                    .all(|n| n.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                        && !n.is_empty())
            );
        }
    }

    #[test]
    fn a_profile_is_found_beside_the_manifest() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("seccomp")).unwrap();
        let write = |text: &str| std::fs::write(dir.path().join("seccomp/p.json"), text).unwrap();
        let load = |profile: &SeccompProfile| filter(profile, &Capabilities::new(), dir.path());
        assert!(load(&profile("Unconfined", None)).unwrap().is_none());
        assert!(load(&profile("Localhost", Some("p.json"))).is_err());
        write(r#"{"defaultAction": "SCMP_ACT_LOG"}"#);
        assert!(
            load(&profile("Localhost", Some("p.json")))
                .unwrap()
                .is_some()
        );
        write("{}");
        let error = load(&profile("Localhost", Some("p.json")))
            .unwrap_err()
            .to_string();
        assert!(error.contains("p.json (missing field"), "{error}");
    }
}
