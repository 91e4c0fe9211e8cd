//! A process gives up what its program is not to have. The order matters, and each step says why it stands there.

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::{Context, Error, Result};
use crate::spec::plan::{Capabilities, Process};

/// Applies limits, user and groups, and enters the working directory.
///
/// # Errors
/// With the step that the kernel refused.
pub fn change_user(process: &Process) -> Result<()> {
    set_rlimits(&process.rlimits)?;
    // While CAP_SETPCAP is there.
    drop_bounding(process.capabilities.bounding)?;
    // As root, who may enter a directory that the user may not; the user gets a second try below.
    let entered = enter(process);
    set_user(process)?;
    if entered.is_err() {
        enter(process)?;
    }
    let umask = rustix::fs::Mode::from_raw_mode(process.umask);
    rustix::process::umask(umask);
    Ok(())
}

/// Sets the capabilities to those of the process, but for CAP_SYS_ADMIN, which is kept.
///
/// # Errors
/// As capset(2). Whoever does not have CAP_SYS_ADMIN does not get it.
pub fn keep_sys_admin(process: &Process) -> Result<()> {
    let mut capabilities = rustix::thread::capabilities(None).context(|| "capget")?;
    let wanted = CapabilitySet::from_bits_retain(process.capabilities.effective);
    capabilities.effective = capabilities.permitted & (wanted | CapabilitySet::SYS_ADMIN);
    rustix::thread::set_capabilities(None, capabilities).context(|| "capset")
}

/// Sets the capabilities and no_new_privs to those of the process.
///
/// # Errors
/// With the step that the kernel refused.
pub fn give_up_rights(process: &Process) -> Result<()> {
    // After the user, because changing it clears the effective set.
    set_capabilities(process.capabilities)?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).context(|| "prctl PR_SET_NO_NEW_PRIVS")?;
    }
    Ok(())
}

fn set_rlimits(rlimits: &[(u32, u64, u64)]) -> Result<()> {
    for &(resource, soft, hard) in rlimits {
        let step = || format!("set rlimit {resource} to {soft}:{hard}");
        let Some(resource) = resource_of(resource) else {
            return Err(Error::new(step()).hint("this kernel has no such limit"));
        };
        let limit = |value| (value != u64::MAX).then_some(value);
        let rlimit = Rlimit {
            current: limit(soft),
            maximum: limit(hard),
        };
        setrlimit(resource, rlimit).map_err(|e| match e {
            Errno::PERM => Error::sys(step(), e)
                .hint("raising a hard limit needs CAP_SYS_RESOURCE: lower process.rlimits to the caller's own"),
            e => Error::sys(step(), e),
        })?;
    }
    Ok(())
}

/// The `RLIMIT_*` numbers of asm-generic/resource.h.
pub(super) fn resource_of(number: u32) -> Option<Resource> {
    const ALL: [Resource; 16] = [
        Resource::Cpu,
        Resource::Fsize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::Rss,
        Resource::Nproc,
        Resource::Nofile,
        Resource::Memlock,
        Resource::As,
        Resource::Locks,
        Resource::Sigpending,
        Resource::Msgqueue,
        Resource::Nice,
        Resource::Rtprio,
        Resource::Rttime,
    ];
    ALL.into_iter().find(|&resource| resource as u32 == number)
}

/// Takes every capability that is not in `keep` out of the bounding set, up to the last one that the kernel has.
fn drop_bounding(keep: u64) -> Result<()> {
    for number in 0..u64::BITS {
        let capability = 1_u64 << number;
        if keep & capability != 0 {
            continue;
        }
        let capability = CapabilitySet::from_bits_retain(capability);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(e) => return Err(Error::sys(format!("drop capability {number}"), e)),
        }
    }
    Ok(())
}

fn set_user(process: &Process) -> Result<()> {
    let (uid, gid) = (process.uid, process.gid);
    if uid != 0 {
        // Leaving root clears the permitted set too, from which the others are set.
        rustix::thread::set_keep_capabilities(true).context(|| "prctl PR_SET_KEEPCAPS")?;
    }
    let groups: Vec<Gid> = process
        .additional_gids
        .iter()
        .map(|&gid| Gid::from_raw(gid))
        .collect();
    // Always: an empty list too must replace the caller's groups (CVE-2022-2995).
    match rustix::thread::set_thread_groups(&groups) {
        Err(Errno::PERM) if groups.is_empty() && groups_are_fixed()? => {}
        set => set.map_err(|e| {
            let error = Error::sys(format!("set groups {:?}", process.additional_gids), e);
            match e {
                Errno::PERM => error.hint(
                    "the user namespace may not change groups (setgroups: deny): leave process.user.additionalGids out, \
                     or map more than the own group with newgidmap",
                ),
                _ => error,
            }
        })?,
    }
    let gid_ = Gid::from_raw(gid);
    rustix::thread::set_thread_res_gid(gid_, gid_, gid_)
        .context(|| format!("become group {gid}"))?;
    let uid_ = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid_, uid_, uid_).context(|| format!("become user {uid}"))
}

/// Whether the process is in a user namespace that may not drop groups, as they could be there to deny something
/// (`/proc/pid/setgroups`, user_namespaces(7)). Then it has the right to, in vain, and no groups but some that the namespace
/// does not know and the one that is mapped.
fn groups_are_fixed() -> Result<bool> {
    /// What stands for a group that the namespace does not know, `/proc/sys/kernel/overflowgid`.
    const OVERFLOW: u32 = 65534;
    let own = rustix::thread::capabilities(None).context(|| "capget")?;
    let known = [OVERFLOW, rustix::process::getegid().as_raw()];
    let groups = rustix::process::getgroups().context(|| "getgroups")?;
    Ok(own.effective.contains(CapabilitySet::SETGID)
        && groups.iter().all(|group| known.contains(&group.as_raw())))
}

/// Sets the four sets of the thread. What the caller itself does not have it cannot give: it is left out.
fn set_capabilities(wanted: Capabilities) -> Result<()> {
    let step = || "capset";
    match rustix::thread::set_capabilities(None, sets(wanted, u64::MAX)) {
        Ok(()) => {}
        Err(Errno::PERM) => {
            let own = rustix::thread::capabilities(None).context(|| "capget")?;
            let available = own.permitted.bits();
            rustix::thread::set_capabilities(None, sets(wanted, available)).context(step)?;
        }
        Err(e) => return Err(Error::sys(step(), e)),
    }
    for number in (0..u64::BITS).filter(|number| wanted.ambient & (1 << number) != 0) {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // Only what is permitted and inheritable can be ambient; runc passes over the others too.
        match rustix::thread::configure_capability_in_ambient_set(capability, true) {
            Ok(()) | Err(Errno::PERM) => {}
            Err(e) => return Err(Error::sys(format!("raise ambient capability {number}"), e)),
        }
    }
    Ok(())
}

fn sets(wanted: Capabilities, available: u64) -> CapabilitySets {
    let set = |bits| CapabilitySet::from_bits_retain(bits & available);
    CapabilitySets {
        effective: set(wanted.effective & wanted.permitted),
        permitted: set(wanted.permitted),
        inheritable: set(wanted.inheritable),
    }
}

/// Becomes user and group 0 of a user namespace that was just made or joined.
///
/// # Errors
/// `EINVAL` when the namespace maps neither.
pub fn become_root() -> Result<()> {
    let step = || "become user 0 of the user namespace";
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    rustix::thread::set_thread_res_gid(gid, gid, gid).context(step)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).context(step)
}

fn enter(process: &Process) -> Result<()> {
    let step = || format!("enter process.cwd {}", process.cwd.to_string_lossy());
    rustix::process::chdir(&process.cwd).context(step)?;
    // A directory outside the root shows as "(unreachable)...": a leaked descriptor of the host (CVE-2024-21626).
    let cwd = rustix::process::getcwd(Vec::new()).context(step)?;
    match cwd.as_bytes().first() {
        Some(b'/') => Ok(()),
        _ => Err(Error::new(step()).hint("it leads out of the container's root")),
    }
}
