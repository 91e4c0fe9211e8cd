//! A network without any set-up: pasta(1) gives the pod the host's own addresses, and speaks for it from user space.

use std::ffi::{CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount,
    open_tree,
};
use rustix::thread::UnshareFlags;

use super::Port;
use crate::cgroup::Cgroup;
use crate::container::host_program::{self, HostProgram};
use crate::error::{Context, Error, Result};
use crate::security::labels::has_apparmor;
use crate::sys::ns;
use crate::sys::process::Exit;

/// In a pod's network this address stands for the host's first nameserver, which may be on the host's loopback, where no
/// pod reaches it. Podman takes the same.
pub const RESOLVER: &str = "169.254.1.1";

/// Debian's AppArmor profile of pasta lets it open the network namespaces that Podman names, which are all below this.
const PODMANS: &str = "/run/user";

/// Such a name.
const NAME: &str = "/run/user/0/netns/runp";

/// It goes into the background once it is ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where it is.
///
/// # Errors
/// When it is not on the PATH.
pub(super) fn find() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|dir| dir.join("pasta"));
    found.find(|program| program.is_file()).ok_or_else(|| {
        Error::new("--network pasta: no pasta is on the PATH")
            .hint("install it: the Debian package is passt")
    })
}

/// Starts it for a network namespace, in this cgroup.
///
/// # Errors
/// What it says, a port that is taken for example.
pub(super) fn start(program: &Path, cgroup: &Cgroup, netns: &Path, ports: &[Port]) -> Result<()> {
    let c_string = |text: &OsStr| {
        CString::new(text.as_bytes()).map_err(|e| Error::new(format!("{}: {e}", text.display())))
    };
    let is_confined = has_apparmor() && Path::new(PODMANS).is_dir();
    let name = match is_confined {
        true => Path::new(NAME),
        false => netns,
    };
    let args = arguments(name, ports);
    let args: Vec<CString> = args
        .iter()
        .map(|arg| c_string(arg.as_ref()))
        .collect::<Result<_>>()?;
    let output = host_program::memory(b"").context(|| "pasta")?;
    let input = host_program::memory(b"").context(|| "pasta")?;
    let program = HostProgram {
        path: &c_string(program.as_os_str())?,
        args: &args,
        env: &[],
        directory: None,
        timeout: Some(PATIENCE),
        ends_with_us: true,
        cgroup: Some(cgroup),
        first: is_confined.then_some((name_as_podman, netns)),
    };
    let exit = program.run([input.as_fd(), output.as_fd(), output.as_fd()])?;
    let what = match exit {
        Some(Exit::Code(0)) => return Ok(()),
        Some(exit) => format!("pasta ended with exit code {}", exit.code()),
        None => format!("pasta was not ready after {} s", PATIENCE.as_secs()),
    };
    Err(match host_program::tail(output).as_str() {
        "" => Error::new(what),
        said => Error::new(what).hint(format!("it said: {said}")),
    })
}

/// Gives a network namespace [`NAME`] in a mount namespace of this process's own: nobody else sees it.
fn name_as_podman(netns: &Path) -> Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, netns, flags).context(|| format!("open {}", netns.display()))?;
    let step = || format!("name the network namespace {NAME}");
    ns::unshare(UnshareFlags::NEWNS).context(step)?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).context(step)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("tmpfs", PODMANS, "tmpfs", flags, None).context(step)?;
    let name = Path::new(NAME);
    if let Some(dir) = name.parent() {
        std::fs::create_dir_all(dir).context(step)?;
    }
    std::fs::File::create(name).context(step)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&mount, "", CWD, name, flags).context(step)
}

fn arguments(netns: &Path, ports: &[Port]) -> Vec<String> {
    let mut args: Vec<String> = [
        "pasta",
        "--config-net",
        "--quiet",
        "--no-map-gw",
        "--netns-only",
    ]
    .map(str::to_owned)
    .into();
    if rustix::process::geteuid().is_root() {
        // Else it becomes nobody, who may not enter the namespace. It gives its capabilities away by itself.
        args.extend(["--runas".to_owned(), "0".to_owned()]);
    }
    args.extend(["--dns-forward".to_owned(), RESOLVER.to_owned()]);
    // By its name: to open that of a process it would have to be allowed to trace it.
    args.extend(["--netns".to_owned(), netns.display().to_string()]);
    for (protocol, option) in [("TCP", "-t"), ("UDP", "-u")] {
        let before = args.len();
        for port in ports.iter().filter(|port| port.protocol == protocol) {
            let Port {
                host, container, ..
            } = port;
            let spec = match port.host_ip.filter(|ip| !ip.is_unspecified()) {
                Some(ip) => format!("{ip}/{host}:{container}"),
                None => format!("{host}:{container}"),
            };
            args.extend([option.to_owned(), spec]);
        }
        if args.len() == before {
            args.extend([option.to_owned(), "none".to_owned()]);
        }
    }
    // From the pod to the host's loopback leads nothing.
    args.extend(["-T", "none", "-U", "none"].map(str::to_owned));
    args
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ports_lead_into_the_pod_and_nothing_else_does() {
        let port = |host_ip: Option<&str>, host, container, protocol: &str| Port {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host,
            container,
            protocol: protocol.into(),
        };
        let ports = [
            port(None, 8080, 80, "TCP"),
            port(Some("127.0.0.1"), 8443, 443, "TCP"),
            port(Some("0.0.0.0"), 53, 53, "UDP"),
        ];
        let args = arguments(Path::new("/n"), &ports).join(" ");
        assert!(
            args.ends_with("--netns /n -t 8080:80 -t 127.0.0.1/8443:443 -u 53:53 -T none -U none"),
            "{args}"
        );
        let args = arguments(Path::new("/n"), &[]).join(" ");
        assert!(args.ends_with("-t none -u none -T none -U none"), "{args}");
    }
}
