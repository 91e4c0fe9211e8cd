//! `runp restore`: a container of the processes that a checkpoint has written.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, mount_bind_recursive, mount_change, move_mount,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use super::criu::namespaces::Joined;
use super::criu::{self, Criu, DESCRIPTORS, Kind, Notification};
use super::remove::{self, Made};
use super::{Created, Request, Stdio, console, create, end, hooks};
use crate::cgroup::layout::View;
use crate::cgroup::{Cgroup, Layout};
use crate::error::{Context, Error, Result};
use crate::spec::plan::{BindSource, Mount, MountKind, Namespace, Plan};
use crate::spec::validate;
use crate::state::{Entry, Identity, Record, Store};
use crate::sys::ns;
use crate::sys::path::{self, Make};

/// How a checkpoint is restored.
#[derive(Debug, Default)]
pub struct Restore {
    /// What checkpoint can be told, too.
    pub common: criu::Options,
    /// `apparmor:PROFILE` or `selinux:LABEL`, instead of what it had.
    pub lsm_profile: Option<String>,
    /// The SELinux context of mounts that have one.
    pub lsm_mount_context: Option<String>,
}

/// Makes a container whose processes go on where a checkpoint found them. They are children of this process.
///
/// # Errors
/// As [`super::create`], and when criu cannot do it; then nothing of the container is left.
pub fn restore(store: &Store, request: &Request<'_>, options: &Restore) -> Result<Made> {
    let step = || format!("restore container {:?}", request.id.as_str());
    let mut plan = validate::plan(request)?;
    let joined = Joined::open(&plan.namespaces).context(step)?;
    plan.cgroup.resolve().context(step)?;
    let layout = Layout::detect().context(step)?;
    let intent = create::intent(request, &plan)?;
    let mut entry = store.create(request.id, &intent).context(step)?;
    let cgroup = match layout.create(&plan.cgroup) {
        Ok(cgroup) => cgroup,
        Err(e) => return Err(e.and_cleanup(entry.remove()).step(step())),
    };
    let prepared = Prepared {
        plan: &plan,
        joined: &joined,
        layout: &layout,
        cgroup: &cgroup,
        intent: &intent,
    };
    let made = make(&prepared, request, &entry, options).and_then(|process| match entry.unlock() {
        Ok(()) => Ok(process),
        Err(e) => Err(end(&process.pidfd, e)),
    });
    match made {
        Ok(process) => Ok(Made {
            process,
            notify: None,
            entry,
            cgroup,
            intent,
        }),
        Err(e) => {
            let removed = remove::remove(entry, &cgroup, None);
            hooks::poststop(&intent);
            Err(e.and_cleanup(removed).step(step()))
        }
    }
}

/// What is ready before criu is started.
struct Prepared<'a> {
    plan: &'a Plan,
    joined: &'a Joined<'a>,
    layout: &'a Layout,
    cgroup: &'a Cgroup,
    intent: &'a Record,
}

fn make(
    prepared: &Prepared<'_>,
    asked: &Request<'_>,
    entry: &Entry,
    options: &Restore,
) -> Result<Created> {
    let Prepared {
        plan,
        joined,
        layout,
        cgroup,
        intent,
    } = *prepared;
    let common = &options.common;
    cgroup.restrict_devices(&plan.cgroup)?;
    let apart = Apart::new(plan, asked.root.as_ref())?;
    let has_own_network = !matches!(plan.namespaces.network, Namespace::Join(_));
    let is_left_empty = has_own_network && !has_network(&common.images)?;
    let mut request = joined
        .ask(criu::Request::new(Kind::Restore, common)?)
        .empty_network(common.empty_network || is_left_empty)
        .flag(6, true)
        .bytes(13, plan.root.path.as_os_str().as_bytes())
        .flag(26, true);
    for (point, source) in external_mounts(plan, layout) {
        request = request.texts(23, &point, source.as_os_str().as_bytes());
    }
    let descriptors = descriptors(&common.images)?;
    let mut standard = match &asked.stdio {
        Stdio::Files(files) => files.each_ref().map(OwnedFd::as_fd),
        Stdio::Inherit | Stdio::Terminal => [
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            rustix::stdio::stderr(),
        ],
    };
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context(|| "open /dev/null")?;
    // Those that were pipes, or the host's: ours take their place.
    for ((fd, entry), ours) in (0..).zip(&descriptors).zip(&mut standard) {
        let name = match criu::host_file(entry) {
            // Who had none before has no use for one now, and criu wants a file of the same kind.
            Some(file) if file.path == "/dev/null" => {
                *ours = null.as_fd();
                file.name
            }
            Some(file) => {
                check_kind(Path::new(file.path), *ours)?;
                file.name
            }
            None if entry.starts_with("pipe:") => entry,
            None => continue,
        };
        request = request.text_and_int(27, name, fd);
    }
    if let Some(profile) = &options.lsm_profile {
        request = request.bytes(53, profile);
    }
    if let Some(context) = &options.lsm_mount_context {
        request = request.bytes(63, context);
    }
    let criu = Criu::start(&common.program, Some(cgroup), || {
        console::set_stdio(standard)?;
        joined.keep_open()?;
        cgroup.join()
    })?;
    // It stays in there. Hooks are called here.
    drop(apart);
    // What it was told to join is where the processes shall be.
    for (controllers, path) in memberships(criu.pid())? {
        request = request.texts(25, &controllers, path.as_bytes());
    }
    let (mut process, mut console) = (None, None);
    let served = criu.serve(&request, |notification| match &*notification.script {
        "setup-namespaces" => create::call_runtime_hooks(plan, intent, notification.pid),
        "post-restore" => {
            process = Some(record(&notification, entry, intent)?);
            Ok(())
        }
        "orphan-pts-master" => {
            console = notification.file;
            Ok(())
        }
        _ => Ok(()),
    });
    match (served, process) {
        (Ok(()), Some((pid, pidfd))) => Ok(Created {
            pid,
            pidfd,
            console,
        }),
        (Ok(()), None) => Err(Error::new("criu restored no process")),
        (Err(e), Some((_, pidfd))) => Err(end(&pidfd, e)),
        (Err(e), None) => Err(e),
    }
}

/// Records the first process before it goes on.
fn record(notification: &Notification, entry: &Entry, intent: &Record) -> Result<(i32, OwnedFd)> {
    let pid = notification.pid;
    let step = || format!("pidfd_open {pid}");
    let raw = Pid::from_raw(pid).ok_or_else(|| Error::new(step()))?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).context(step)?;
    let record = Record {
        init: Some(Identity::of(pid)?),
        ..intent.clone()
    };
    entry.write(&record)?;
    Ok((pid, pidfd))
}

/// This process in a mount namespace of its own, until this is dropped: in it the root is a mount, as criu wants it, and
/// nobody else sees that. criu mounts in its working directory, too, which must therefore be opened in here.
struct Apart {
    mounts: OwnedFd,
    directory: OwnedFd,
}

impl Apart {
    /// `root` is a mount to attach where the root is to be.
    fn new(plan: &Plan, root: Option<&OwnedFd>) -> Result<Self> {
        let open = |path: &str, flags: OFlags| {
            rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())
                .context(|| format!("open {path}"))
        };
        let apart = Self {
            mounts: open("/proc/self/ns/mnt", OFlags::RDONLY)?,
            directory: open(".", OFlags::PATH)?,
        };
        ns::unshare(UnshareFlags::NEWNS).context(|| "unshare a mount namespace")?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).context(|| "make the mounts private")?;
        let path = &plan.root.path;
        match root {
            Some(root) => {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
                move_mount(root, "", CWD, path, flags)
                    .context(|| format!("attach the root at {}", path.display()))?;
            }
            None => mount_bind_recursive(path, path)
                .context(|| format!("bind {} to itself", path.display()))?,
        }
        make_mount_points(plan)?;
        Ok(apart)
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let kind = Some(LinkNameSpaceType::Mount);
        let _ = move_into_link_name_space(self.mounts.as_fd(), kind);
        let _ = rustix::process::fchdir(&self.directory);
    }
}

/// What is mounted on, except what is in mounts that criu makes itself.
fn make_mount_points(plan: &Plan) -> Result<()> {
    let root = &plan.root.path;
    let tree = rustix::fs::open(root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("open {}", root.display()))?;
    for mount in &plan.mounts {
        let is_below = |other: &Mount| {
            other.destination != mount.destination
                && mount.destination.starts_with(&other.destination)
        };
        if plan.mounts.iter().any(is_below) {
            continue;
        }
        let kind = match &mount.kind {
            MountKind::Bind {
                source: BindSource::Path(source),
                ..
            } if !source.is_dir() => Make::File,
            _ => Make::Directory,
        };
        path::make(&tree, &mount.destination, kind)
            .context(|| format!("make {}", mount.destination.display()))?;
    }
    Ok(())
}

/// What a checkpoint takes for the host's, by its mount point, and where the host has it.
fn external_mounts(plan: &Plan, layout: &Layout) -> Vec<(String, PathBuf)> {
    let mut mounts = Vec::new();
    let mut add = |point: &Path, source: &Path| {
        mounts.push((point.to_string_lossy().into_owned(), source.to_owned()));
    };
    for mount in &plan.mounts {
        match &mount.kind {
            MountKind::Bind {
                source: BindSource::Path(source),
                ..
            } => add(&mount.destination, source),
            MountKind::Cgroup if plan.namespaces.cgroup == Namespace::Inherit => {
                match layout.view(&plan.cgroup.path) {
                    View::Unified { source } => add(&mount.destination, &source),
                    View::Legacy { mounts, .. } => mounts.iter().for_each(|view| {
                        add(&mount.destination.join(&view.directory), &view.source);
                    }),
                }
            }
            _ => {}
        }
    }
    for path in &plan.masked_paths {
        add(path, Path::new("/dev/null"));
    }
    mounts
}

/// criu puts a file in the place of a file, and nothing else.
fn check_kind(was: &Path, is: BorrowedFd<'_>) -> Result<()> {
    let is = rustix::fs::fstat(is).context(|| "look at a standard file")?;
    match was.is_file() && FileType::from_raw_mode(is.st_mode) != FileType::RegularFile {
        true => Err(
            Error::new("put a pipe or terminal in the place of a file").hint(format!(
                "it wrote to {}: let it write to a file again",
                was.display()
            )),
        ),
        false => Ok(()),
    }
}

/// Whether a checkpoint has what was in its network namespace.
fn has_network(images: &Path) -> Result<bool> {
    let names = std::fs::read_dir(images).context(|| format!("read {}", images.display()))?;
    let is_interfaces = |name: &OsStr| name.as_bytes().starts_with(b"netdev-");
    Ok(names
        .flatten()
        .any(|entry| is_interfaces(&entry.file_name())))
}

/// What the standard files were, as the checkpoint has noted it.
fn descriptors(images: &Path) -> Result<Vec<String>> {
    let path = images.join(DESCRIPTORS);
    let step = || format!("read {}", path.display());
    let json = std::fs::read(&path).context(step)?;
    serde_json::from_slice(&json).map_err(|e| Error::new(format!("{}: {e}", step())))
}

/// The controllers of each hierarchy and the cgroup that a process is in, cgroups(7).
fn memberships(pid: i32) -> Result<Vec<(String, String)>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).context(|| format!("read {path}"))?;
    let membership = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    Ok(text.lines().filter_map(membership).collect())
}
