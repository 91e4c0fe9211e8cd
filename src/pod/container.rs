//! One run of one of the pod's containers: a fresh root, its volumes, its log, then [`container::create`].

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::data::Data;
use super::env_file;
use super::kept::{File, Kept, Key};
use super::lifecycle::{Index, StartFailure};
use super::logs::Stream;
use super::output::Output;
use super::plan::{ContainerPlan, FileKey, IDS, Input, PAUSE, PodPlan, VolumeMountPlan};
use super::store::PodDir;
use super::volumes::Volumes;
use super::{termination, tree};
use crate::cgroup::{self, Cgroup, Layout};
use crate::container::{self, Created, Launch, Made, Request, Stdio};
use crate::error::{Context, Error, Result};
use crate::rootfs;
use crate::state::{ContainerId, Store};
use crate::sys::process::Child;

/// The overflow id, user_namespaces(7).
const NOBODY: u32 = 65534;

/// What the containers of a pod are made of.
#[derive(Debug)]
pub struct Pod<'a> {
    /// All decisions.
    pub plan: &'a PodPlan,
    /// Where the containers' records are.
    pub store: &'a Store,
    /// The pod's directory.
    pub dir: &'a PodDir,
    /// Where the containers' roots are.
    pub data: &'a Data,
    /// What outlives the supervisor.
    pub kept: &'a Kept,
}

/// Which run of which container, and where.
#[derive(Debug, Clone, Copy)]
pub struct RunOf<'a> {
    /// Which.
    pub container: Index,
    /// Its restart number: numbers its log file.
    pub restart: u32,
    /// The process that holds the pod's namespaces.
    pub pause: &'a Child,
}

impl RunOf<'_> {
    fn key(self, file: File) -> Key {
        Key {
            container: self.container.0,
            restart: self.restart,
            file,
        }
    }
}

/// What a run needs and nobody changes before its turn comes, made ahead of that.
#[derive(Debug)]
pub struct Prepared {
    /// Whose run it is.
    pub container: Index,
    /// An empty writable layer over the image.
    root: OwnedFd,
    /// By index into the configuration's mounts: what others cannot have changed when its turn comes.
    volumes: BTreeMap<usize, OwnedFd>,
    /// The file for its termination message.
    termination: Option<OwnedFd>,
}

/// A run that has begun.
#[derive(Debug)]
pub struct Run {
    /// Its first process.
    pub created: Created,
    /// What it writes.
    pub output: Output,
}

impl Pod<'_> {
    /// Starts a container; `prepared` was made in time, see [`Self::prepare`]. `meanwhile` is called while it starts.
    ///
    /// # Errors
    /// Why it did not start; then nothing of it is left but its log.
    pub fn start(
        &self,
        plan: &ContainerPlan,
        run: RunOf<'_>,
        prepared: Option<Prepared>,
        meanwhile: &mut dyn FnMut(),
    ) -> std::result::Result<Run, (StartFailure, Error)> {
        if let Some(error) = &plan.config_error {
            let error = Error::new(error.clone());
            return Err((StartFailure::CreateContainerConfigError, error));
        }
        let mut spec = with_pause(&plan.spec, run.pause.pid);
        if let (Some(late), Some(process)) = (&plan.late, spec.process_mut()) {
            late.set(process, &mut |file| self.variable(file))
                .map_err(|why| (StartFailure::CreateContainerConfigError, Error::new(why)))?;
            // Once more below, where they are used: here it is known whose fault it is.
            let paths = plan.volume_mounts.iter();
            for path in paths.filter_map(|mount| mount.sub_path.as_ref()) {
                path.resolve(variables(&spec))
                    .map_err(|why| (StartFailure::CreateContainerConfigError, Error::new(why)))?;
            }
        }
        self.create(plan, spec, run, prepared, meanwhile)
            .map_err(|e| {
                let failure = match e.is_of_program() {
                    true => StartFailure::StartError,
                    false => StartFailure::CreateContainerError,
                };
                (failure, e)
            })
    }

    fn create(
        &self,
        plan: &ContainerPlan,
        mut spec: Spec,
        run: RunOf<'_>,
        prepared: Option<Prepared>,
        meanwhile: &mut dyn FnMut(),
    ) -> Result<Run> {
        let id = container_id(&self.plan.name, &plan.name)?;
        // The previous run's record and cgroup.
        container::delete(self.store, &id, true)?;
        let prepared = match prepared {
            Some(prepared) => prepared,
            None => self.prepare(run.container, Some(run.pause.pid))?,
        };
        let mut sources =
            self.sources(plan, &spec, Some(run.pause.pid), prepared.volumes, |_| true)?;
        if let Some((path, file)) = plan.termination.path.as_ref().zip(prepared.termination) {
            let index = termination::bind(path, &self.directory(plan), &mut spec);
            sources.insert(index, file);
        }
        let mut output = Output::new(&self.dir.logs(&plan.name), run.restart)?;
        let (stdio, announce_terminal) = match plan.has_terminal() {
            true => {
                let announce = self.kept.announce(run.key(File::Terminal))?;
                (Stdio::Terminal, Some(announce))
            }
            false => (self.pipes(plan, run, &mut output)?, None),
        };
        let request = Request {
            id: &id,
            bundle: plan.bundle.clone(),
            spec: &spec,
            root: Some(prepared.root),
            sources,
            stdio,
            options: container::Options {
                announce_terminal,
                announce: Some(self.kept.announce(run.key(File::Process))?),
                holder: Some(run.pause.try_clone().context(|| "dup pause's pidfd")?),
                ..container::Options::default()
            },
        };
        let made = container::create_meanwhile(self.store, &request, Launch::Now, meanwhile)?;
        let mut created = made.process;
        if let Some(terminal) = created.console.take() {
            output = output
                .of_terminal(terminal)
                .map_err(|e| container::end(&created.pidfd, e))?;
        }
        Ok(Run { created, output })
    }

    /// What a container without a terminal reads and writes.
    fn pipes(&self, plan: &ContainerPlan, run: RunOf<'_>, output: &mut Output) -> Result<Stdio> {
        let [stdout, stderr] = output.open_pipes()?;
        for (stream, pipe) in output.files() {
            let file = match stream {
                Stream::Stdout => File::Stdout,
                Stream::Stderr => File::Stderr,
            };
            self.kept.keep(run.key(file), pipe.as_fd());
        }
        let stdin = match plan.input {
            Input::Empty => open("/dev/null".as_ref(), OFlags::RDONLY)?,
            Input::Open | Input::Once => {
                let (read, write) = fifo(&self.dir.input(&plan.name))?;
                self.kept.keep(run.key(File::Stdin), write.as_fd());
                read
            }
        };
        Ok(Stdio::Files([stdin, stdout, stderr]))
    }

    /// A program in the place of a container that has ended: its root as it left it, its volumes, namespaces, user and
    /// limits. When the container is started again, that root is replaced.
    ///
    /// # Errors
    /// When the container has never run, or the program cannot be started.
    pub fn debug(
        &self,
        plan: &ContainerPlan,
        pause: i32,
        command: Vec<String>,
        terminal: bool,
    ) -> Result<Made> {
        let id = debug_id(&self.plan.name)?;
        container::delete(self.store, &id, true)?;
        let mut spec = with_pause(&plan.spec, pause);
        if let Some(process) = spec.process_mut() {
            if let Some(late) = &plan.late {
                late.set(process, &mut |file| self.variable(file))
                    .map_err(Error::new)?;
            }
            process.set_args(Some(command)).set_terminal(Some(terminal));
        }
        if let Some(linux) = spec.linux_mut() {
            let cgroup = format!("{}/_debug", self.plan.sandbox.cgroup);
            linux.set_cgroups_path(Some(cgroup.into()));
        }
        let request = Request {
            id: &id,
            bundle: plan.bundle.clone(),
            spec: &spec,
            root: Some(self.last_root(plan, pause)?),
            sources: self.sources(plan, &spec, Some(pause), BTreeMap::new(), |_| true)?,
            stdio: match terminal {
                true => Stdio::Terminal,
                false => Stdio::Inherit,
            },
            options: container::Options::default(),
        };
        container::create(self.store, &request, Launch::Now)
    }

    /// An ephemeral container: a program of its own in the pod's namespaces.
    ///
    /// # Errors
    /// When it cannot be started; then nothing of it is left.
    pub fn ephemeral(&self, plan: &ContainerPlan, pause: i32, stdio: Stdio) -> Result<Made> {
        let id = container_id(&self.plan.name, &plan.name)?;
        let mut spec = with_pause(&plan.spec, pause);
        if let Some(process) = spec.process_mut() {
            let terminal = matches!(stdio, Stdio::Terminal);
            process.set_terminal(Some(terminal));
        }
        let request = Request {
            id: &id,
            bundle: plan.bundle.clone(),
            spec: &spec,
            root: Some(self.fresh_root(plan, Some(pause))?),
            sources: self.sources(plan, &spec, Some(pause), BTreeMap::new(), |_| true)?,
            stdio,
            options: container::Options::default(),
        };
        let made = container::create(self.store, &request, Launch::Now);
        made.map_err(|e| e.and_cleanup(self.remove_root(plan)))
    }

    /// The root of a container that has ended, as it left it.
    fn last_root(&self, plan: &ContainerPlan, pause: i32) -> Result<OwnedFd> {
        let dir = self.directory(plan);
        let (upper, work) = (dir.join("upper"), dir.join("debug"));
        if !upper.is_dir() {
            return Err(Error::new(format!(
                "container {:?} has never run",
                plan.name
            )));
        }
        // Not the one that it had itself: overlayfs takes that for torn, which it is not.
        let containers = fs::File::open(&dir).context(|| format!("open {}", dir.display()))?;
        tree::remove(containers, "debug".as_ref())?;
        fs::create_dir(&work).context(|| format!("make directory {}", work.display()))?;
        let users = self.users(Some(pause))?;
        let users = users.as_ref().map(|(_, file)| file.as_fd());
        rootfs::overlay(&root(plan), &upper, &work, users, plan.mount_label())
    }

    /// A variable in a file that another container has written to a volume of the pod.
    fn variable(&self, file: &FileKey) -> std::result::Result<Option<String>, String> {
        let FileKey {
            volume,
            path,
            key,
            optional,
        } = file;
        let mut plans = self.plan.volumes.iter();
        let plan = plans.find(|plan| plan.name == *volume);
        let plan = plan.ok_or_else(|| format!("volume {volume:?} not found"))?;
        let text = Volumes::open(self.data.volumes())
            .and_then(|volumes| volumes.read(plan, path, env_file::MOST))
            .map_err(|e| e.to_string())?;
        let value = env_file::value(text.as_deref().unwrap_or_default(), key).map_err(|line| {
            let path = path.display();
            format!("line {line} of {path} in volume {volume:?} is not of the form NAME='value'")
        })?;
        match value {
            None if !optional => {
                let path = path.display();
                let what = "environment variable key";
                Err(format!(
                    "{what} {key:?} not found in file \"{path}\" of volume {volume:?}"
                ))
            }
            value => Ok(value),
        }
    }

    /// What a container of this configuration mounts of the volumes that are `wanted`, in addition to what is opened already.
    fn sources(
        &self,
        plan: &ContainerPlan,
        spec: &Spec,
        pause: Option<i32>,
        mut opened: BTreeMap<usize, OwnedFd>,
        wanted: impl Fn(&VolumeMountPlan) -> bool,
    ) -> Result<BTreeMap<usize, OwnedFd>> {
        let missing =
            |mount: &&VolumeMountPlan| !opened.contains_key(&mount.mount) && wanted(mount);
        let missing: Vec<_> = plan.volume_mounts.iter().filter(missing).collect();
        if missing.is_empty() {
            return Ok(opened);
        }
        let volumes = Volumes::open(self.data.volumes())?;
        let users = self.users(pause)?;
        let users = users.as_ref().map(|(_, file)| file.as_fd());
        for mount in missing {
            let volume = &self.plan.volumes[mount.volume];
            let path = mount.sub_path.as_ref();
            let path = path.map(|path| path.resolve(variables(spec))).transpose();
            let path = path.map_err(Error::new)?;
            let part = (path.as_deref(), mount.propagation);
            opened.insert(mount.mount, volumes.mount(volume, part, users)?);
        }
        Ok(opened)
    }

    /// Makes what a container needs and what no other one can change before its turn comes.
    ///
    /// # Errors
    /// When something cannot be made; without a `pause` for a pod that has its users from it.
    pub fn prepare(&self, container: Index, pause: Option<i32>) -> Result<Prepared> {
        let plan = &self.plan.containers[container.0];
        let root = self.fresh_root(plan, pause)?;
        let settled = |mount: &VolumeMountPlan| self.plan.is_settled(mount);
        let volumes = self.sources(plan, &plan.spec, pause, BTreeMap::new(), settled)?;
        if self.plan.sandbox.users.is_none() {
            make_mount_points(&root, plan, &volumes);
        }
        // It is tried again, and told, when they are set.
        if let Err(e) = cgroup::load_devices(plan.spec.linux().as_ref()) {
            log::debug!("{e}");
        }
        Ok(Prepared {
            container,
            root,
            volumes,
            termination: termination::make(plan, &self.directory(plan))?,
        })
    }

    /// What is on the disk of a container.
    fn directory(&self, plan: &ContainerPlan) -> PathBuf {
        self.data.containers().join(&plan.name)
    }

    /// With `hostUsers: false`: the first id of the host that is the pod's, and the user namespace that pause holds.
    fn users(&self, pause: Option<i32>) -> Result<Option<(u32, fs::File)>> {
        let Some(first) = self.plan.sandbox.users else {
            return Ok(None);
        };
        let pause = pause.ok_or_else(|| Error::new("the pod has no user namespace yet"))?;
        let path = format!("/proc/{pause}/ns/user");
        let file = fs::File::open(&path).context(|| format!("open {path}"))?;
        Ok(Some((first, file)))
    }

    /// An empty writable layer over the image: what the run before wrote is gone.
    fn fresh_root(&self, plan: &ContainerPlan, pause: Option<i32>) -> Result<OwnedFd> {
        let users = self.users(pause)?;
        let first = users.as_ref().map_or(0, |(first, _)| *first);
        let dir = self.directory(plan);
        self.remove_root(plan)?;
        let (upper, work) = (dir.join("upper"), dir.join("work"));
        for dir in [&dir, &upper, &work] {
            fs::create_dir(dir).context(|| format!("make directory {}", dir.display()))?;
        }
        // The root directory that the container sees is the upper one.
        let image = root(plan);
        let like = fs::metadata(&image).context(|| format!("look at image {}", image.display()))?;
        let step = || format!("make {} like {}", upper.display(), image.display());
        let made = fs::metadata(&upper).context(step)?;
        // As the image's mapped files, an id that the pod does not have is nobody's.
        let own = |id: u32| match users.is_some() && id >= IDS {
            true => NOBODY,
            false => first.saturating_add(id),
        };
        let (uid, gid) = (own(like.uid()), own(like.gid()));
        if (made.uid(), made.gid()) != (uid, gid) {
            std::os::unix::fs::chown(&upper, Some(uid), Some(gid)).context(step)?;
        }
        if made.mode() != like.mode() {
            let mode = fs::Permissions::from_mode(like.mode() & 0o7777);
            fs::set_permissions(&upper, mode).context(step)?;
        }
        let users = users.as_ref().map(|(_, file)| file.as_fd());
        rootfs::overlay(&image, &upper, &work, users, plan.mount_label())
    }

    /// Removes what a container has written.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_root(&self, plan: &ContainerPlan) -> Result<()> {
        let containers = self.data.containers();
        let dir =
            fs::File::open(&containers).context(|| format!("open {}", containers.display()))?;
        tree::remove(dir, plan.name.as_ref()).context(|| containers.display().to_string())
    }
}

/// A new fifo: an end to read, and one to write.
fn fifo(path: &Path) -> Result<(OwnedFd, OwnedFd)> {
    match rustix::fs::unlink(path) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(Error::sys(format!("remove {}", path.display()), e)),
    }
    let mode = Mode::RUSR | Mode::WUSR;
    rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0)
        .context(|| format!("make fifo {}", path.display()))?;
    // Nobody has it open, and so one end alone would wait for the other.
    let both = open(path, OFlags::RDWR)?;
    let ends = (open(path, OFlags::RDONLY)?, open(path, OFlags::WRONLY)?);
    drop(both);
    Ok(ends)
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    opened.context(|| format!("open {}", path.display()))
}

/// The id of a pod's container among all containers: `<pod>.<container>`.
///
/// # Errors
/// Never for names that were validated.
pub fn container_id(pod: &str, container: &str) -> Result<ContainerId> {
    format!("{pod}.{container}").parse()
}

/// The id of what looks at a pod's container that has ended. No container has a name with `_` in it.
///
/// # Errors
/// Never for names that were validated.
pub fn debug_id(pod: &str) -> Result<ContainerId> {
    container_id(pod, "_debug")
}

/// The container's cgroup.
///
/// # Errors
/// When no hierarchy is mounted.
pub fn cgroup(plan: &ContainerPlan) -> Result<Cgroup> {
    let linux = plan.spec.linux().as_ref();
    let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
    let path =
        path.ok_or_else(|| Error::new(format!("container {:?} has no cgroup", plan.name)))?;
    Layout::detect()?.open(path)
}

/// Makes the mount points of these volumes in a root, so that the container's first process finds them. What goes wrong goes
/// wrong there, too, and is told.
fn make_mount_points(root: &OwnedFd, plan: &ContainerPlan, volumes: &BTreeMap<usize, OwnedFd>) {
    let mounts = plan.spec.mounts().as_deref().unwrap_or_default();
    // The modes of what is made are the container's business, not the caller's.
    let umask = rustix::process::umask(Mode::empty());
    for (index, volume) in volumes {
        let Some(point) = mounts
            .get(*index)
            .map(|mount| mount.destination().as_path())
        else {
            continue;
        };
        let covers = |other: &Path| other != point && point.starts_with(other);
        if mounts.iter().any(|other| covers(other.destination())) {
            continue;
        }
        let _ = rootfs::make_mount_point(root.as_fd(), point, volume.as_fd());
    }
    rustix::process::umask(umask);
}

/// A configuration's variables, `NAME=value`.
pub(super) fn variables(spec: &Spec) -> &[String] {
    let process = spec.process().as_ref();
    let variables = process.and_then(|process| process.env().as_deref());
    variables.unwrap_or_default()
}

fn root(plan: &ContainerPlan) -> PathBuf {
    let root = plan.spec.root().as_ref();
    plan.bundle
        .join(root.map_or(Path::new(""), |root| root.path().as_path()))
}

/// The configuration with the pause process's pid in its namespaces.
fn with_pause(spec: &Spec, pause: i32) -> Spec {
    let mut spec = spec.clone();
    let linux = spec.linux_mut().as_mut();
    let namespaces = linux.and_then(|linux| linux.namespaces_mut().as_mut());
    for namespace in namespaces.into_iter().flatten() {
        if let Some(path) = namespace.path() {
            let path = path.to_string_lossy().replace(PAUSE, &pause.to_string());
            namespace.set_path(Some(path.into()));
        }
    }
    spec
}
