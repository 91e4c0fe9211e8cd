//! `start`: finds the shim that the task's pod has, or makes one, and prints where it listens.

use std::convert::Infallible;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with};

use super::arguments::Arguments;
use super::bootstrap::Greeting;
use super::options::{Options, ROOT};
use super::{bundle, journal, print, server};
use crate::container::socket_address;
use crate::error::{Context, Error, Result};
use crate::state::Identity;
use crate::sys::process;

/// In bytes: what containerd may send on standard input.
const MAX_INPUT: u64 = 10 << 20;
/// How many may connect at the same time before they have to wait.
const BACKLOG: i32 = 128;

/// Makes sure that there is a shim, and prints its address.
///
/// # Errors
/// When there can be none.
pub(super) fn start(arguments: &Arguments) -> Result<()> {
    let bundle = match &arguments.bundle {
        Some(bundle) => std::path::absolute(bundle),
        None => std::env::current_dir(),
    };
    let bundle = bundle.context(|| "find the bundle")?;
    let input = read_input()?;
    let mut greeting = Greeting::new(&input, arguments, |name| std::env::var(name).ok());
    let group = bundle::group(&bundle, &arguments.id)?;
    let path = socket_path(arguments, &group);
    let address = format!("unix://{}", path.display());
    // Two tasks of one pod may come at once.
    let _lock = lock_directory()?;
    // First, so that `delete` finds whatever is left if this process is killed.
    bundle::note_address(&bundle, &address)?;
    if !is_served(&path)? {
        let listener = listen_at(&path)?;
        let parent = rustix::process::getppid();
        let settings = Settings {
            bundle: bundle.clone(),
            namespace: arguments.namespace.clone(),
            containerd: greeting.events.clone(),
            socket: path.clone(),
            debug: arguments.debug,
            options: std::mem::take(&mut greeting.options),
        };
        let shim_cgroup = settings.options.shim_cgroup.clone();
        let child = process::fork(|| become_server(listener, settings)).context(|| "fork")?;
        let settled = join_cgroup(&shim_cgroup, child.pid).and_then(|()| {
            adjust_oom_score(child.pid, parent.map(|pid| pid.as_raw_nonzero().get()))
        });
        if let Err(e) = settled {
            return Err(crate::container::end(&child.pidfd, e));
        }
    }
    print(greeting.answer(&address)?.as_bytes())
}

/// What the server is told.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) bundle: PathBuf,
    pub(super) namespace: String,
    /// containerd's socket for events.
    pub(super) containerd: PathBuf,
    /// Its own.
    pub(super) socket: PathBuf,
    pub(super) debug: bool,
    /// As far as containerd has told them already.
    pub(super) options: Options,
}

fn read_input() -> Result<Vec<u8>> {
    let mut input = Vec::new();
    std::io::stdin()
        .lock()
        .take(MAX_INPUT)
        .read_to_end(&mut input)
        .context(|| "read standard input")?;
    Ok(input)
}

/// The path of a pod's socket: the same for all of its tasks, another one for another containerd or namespace.
fn socket_path(arguments: &Arguments, group: &str) -> PathBuf {
    let key = [&arguments.address, &arguments.namespace, group].join("\0");
    Path::new(ROOT).join(format!("{:032x}.sock", fnv(key.as_bytes())))
}

/// FNV-1a, 128 bits: it must be the same for the next version of this program, too.
fn fnv(bytes: &[u8]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(PRIME)
    })
}

/// Only root may enter the directory of the sockets (CVE-2020-15257). It is locked as long as what this returns lives.
fn lock_directory() -> Result<OwnedFd> {
    let step = || format!("lock {ROOT}");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(ROOT)
        .context(|| format!("make directory {ROOT}"))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(ROOT, flags, Mode::empty()).context(step)?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&dir, FlockOperation::LockExclusive))
        .context(step)?;
    Ok(dir)
}

fn socket() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).context(|| "socket")
}

/// Whether a shim lives behind a socket.
///
/// That somebody listens says little: the first process of a container that was just being made has the socket open, too, and
/// ends only a moment after a shim that was killed. So it is asked who has called listen(2).
///
/// # Errors
/// When there can be no socket.
pub(super) fn is_served(path: &Path) -> Result<bool> {
    let socket = socket()?;
    let (_dir, address) = socket_address(path)?;
    match connect(&socket, &address) {
        Ok(()) => {
            let peer = rustix::net::sockopt::socket_peercred(&socket).context(|| "SO_PEERCRED")?;
            let shim = Identity::of(peer.pid.as_raw_nonzero().get());
            Ok(shim.is_ok_and(|shim| shim.is_alive()))
        }
        // So many ask that there is no place in the queue.
        Err(rustix::io::Errno::AGAIN) => Ok(true),
        Err(_) => Ok(false),
    }
}

/// Removes the sockets of shims that were killed before containerd knew them: for those it does not execute `delete`.
///
/// # Errors
/// When the directory cannot be locked or read.
pub(super) fn sweep() -> Result<()> {
    let _lock = lock_directory()?;
    let step = || format!("read directory {ROOT}");
    // Who is asked wakes up: only those are that nobody seems to listen to. Another network namespace has a list of its own.
    let known = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    for entry in std::fs::read_dir(ROOT).context(step)? {
        let path = entry.context(step)?.path();
        let is_socket = path
            .extension()
            .is_some_and(|extension| extension == "sock");
        let is_known = || {
            let mut paths = known.lines().filter_map(|line| line.split(' ').next_back());
            paths.any(|known| Path::new(known).file_name() == path.file_name())
        };
        if is_socket && !is_known() && !is_served(&path).unwrap_or(true) {
            let _ = rustix::fs::unlink(&path);
        }
    }
    Ok(())
}

fn listen_at(path: &Path) -> Result<OwnedFd> {
    let step = || format!("listen on {}", path.display());
    let listener = socket()?;
    // Of a shim that is gone.
    let _ = rustix::fs::unlink(path);
    let (_dir, address) = socket_address(path)?;
    bind(&listener, &address).context(step)?;
    rustix::fs::chmod(path, Mode::from_raw_mode(0o600)).context(step)?;
    listen(&listener, BACKLOG).context(step)?;
    Ok(listener)
}

/// In the copy of this process that stays.
fn become_server(listener: OwnedFd, settings: Settings) -> Infallible {
    journal::begin(&settings.bundle, settings.debug);
    let socket = settings.socket.clone();
    let ended = detach(&listener).and_then(|()| server::run(listener, settings));
    if let Err(e) = &ended {
        log::error!("{e}");
    }
    let _ = rustix::fs::unlink(&socket);
    process::exit(i32::from(ended.is_err()))
}

/// Lets go of who has executed `start`: of its session, its files, which it reads to their end, and its signals.
fn detach(listener: &OwnedFd) -> Result<()> {
    let step = || "leave containerd's session";
    rustix::process::setsid().context(step)?;
    // Once more: whoever connects sees who has done it last. Before the lock is let go of.
    listen(listener, BACKLOG).context(step)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context(|| "open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).context(step)?;
    rustix::stdio::dup2_stdout(&null).context(step)?;
    rustix::stdio::dup2_stderr(&null).context(step)?;
    drop(null);
    process::close_all_but(&[0, 1, 2, listener.as_fd().as_raw_fd()]).context(step)?;
    rustix::thread::set_name(c"containerd-shim").context(step)?;
    // Nothing of the bundle, which is removed before this process ends, is held by it.
    rustix::process::chdir("/").context(step)
}

/// The runtime's option `ShimCgroup`.
fn join_cgroup(path: &str, pid: i32) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    let step = || format!("move the shim to cgroup {path}");
    let root = Path::new("/sys/fs/cgroup");
    let is_v2 = root.join("cgroup.procs").exists();
    let hierarchies = match is_v2 {
        true => vec![root.to_owned()],
        false => {
            let entries = std::fs::read_dir(root).context(step)?.flatten();
            entries.map(|entry| entry.path()).collect()
        }
    };
    for hierarchy in hierarchies {
        let dir = hierarchy.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(&dir).context(step)?;
        std::fs::write(dir.join("cgroup.procs"), pid.to_string()).context(step)?;
    }
    Ok(())
}

/// One more than containerd's: rather the shim of one pod than what holds all of them.
fn adjust_oom_score(pid: i32, containerd: Option<i32>) -> Result<()> {
    let Some(containerd) = containerd else {
        return Ok(());
    };
    let read = std::fs::read_to_string(format!("/proc/{containerd}/oom_score_adj"));
    let Some(score) = read.ok().and_then(|text| text.trim().parse::<i32>().ok()) else {
        return Ok(());
    };
    let score = (score + 1).min(1000);
    let path = format!("/proc/{pid}/oom_score_adj");
    match std::fs::write(&path, score.to_string()) {
        // Less than its own needs CAP_SYS_RESOURCE.
        Err(e) if e.kind() != std::io::ErrorKind::PermissionDenied => Err(Error::sys(path, e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sockets_are_the_same_for_ever() {
        // The published test vectors.
        assert_eq!(fnv(b""), 0x6c62272e07bb014262b821756295c58d);
        assert_eq!(fnv(b"foobar"), 0x343e1662793c64bf6f0d3597ba446f18);
    }
}
