//! A pod whose supervisor was killed, taken over.
//!
//! The journal says what was known and ordered; pause holds the pidfds and pipes of the containers ([`kept`]); the rest
//! is looked for. What nobody can know any more is said to be unknown: `ContainerStatusUnknown`.
//!
//! [`kept`]: crate::pod::kept

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::{Clock, Seen, Slot, Supervisor, Watch, Watcher, announce_supervisor, signals};
use crate::error::{Context, Error, Result};
use crate::pod::container::container_id;
use crate::pod::control::Listener;
use crate::pod::data::Data;
use crate::pod::journal::{self, Journal};
use crate::pod::kept::{File, Kept, Key};
use crate::pod::lifecycle::{Action, Event, Index, Pod as Life, PodSpec, Sandbox, State, Volumes};
use crate::pod::manifest::Manifest;
use crate::pod::output::Output;
use crate::pod::plan::{self, Node, PlanOptions, PodPlan};
use crate::pod::store::{PodDir, Pods, Record};
use crate::pod::{delete, sandbox};
use crate::state::{Store, boot_id};
use crate::sys::process::{self, Child, End};

/// How long the making of a container takes at most that goes on without anybody who makes it.
const EXECUTED: Duration = Duration::from_secs(2);

/// The plan of a pod that exists, made again from its record and what its lifecycle was made from; `claims` is where
/// PersistentVolumeClaims are.
///
/// # Errors
/// When its images are not there any more.
pub fn plan_of(record: &mut Record, lifecycle: &PodSpec, claims: &Path) -> Result<PodPlan> {
    with_manifest(record, claims, |manifest, options| {
        let mut plan = plan::plan(manifest, options)?;
        plan.lifecycle = lifecycle.clone();
        Ok(plan)
    })
}

/// Does something with what a pod that exists is planned from.
///
/// # Errors
/// Those of `then`.
pub fn with_manifest<T>(
    record: &mut Record,
    claims: &Path,
    then: impl FnOnce(&Manifest, &PlanOptions) -> Result<T>,
) -> Result<T> {
    let manifest = Manifest {
        pod: std::mem::take(&mut record.manifest),
        objects: std::mem::take(&mut record.objects),
        directory: record.manifest_directory.clone(),
        network: std::mem::take(&mut record.network),
        warnings: Vec::new(),
    };
    let images = record.images.iter();
    let options = PlanOptions {
        rootfs: images
            .map(|(image, dir)| (image.clone(), dir.clone()))
            .collect(),
        claims: claims.to_owned(),
        // Looked at only with `hostUsers: false`, and then they are recorded.
        ids: record.ids.unwrap_or_default(),
        uid: record.uid.clone(),
        node: Node::this_machine(),
        attachment: record.attachment.clone(),
        // As the lifecycle's whole plan, they are the journal's.
        back_off: None,
        kubelet_order: false,
    };
    let done = then(&manifest, &options);
    // Lent, not copied: the code that copies a Pod is large.
    (record.manifest, record.objects) = (manifest.pod, manifest.objects);
    record.network = manifest.network;
    done
}

impl<'a> Supervisor<'a> {
    /// Takes a pod over that nobody supervises. Nothing has happened to it yet when this returns.
    ///
    /// # Errors
    /// When somebody does, or it is over, or its journal cannot be read.
    pub fn take_over(
        pods: &Pods,
        store: &'a Store,
        dir: PodDir,
        record: &Record,
        plan: PodPlan,
    ) -> Result<Self> {
        let name = dir.name().to_string();
        if !dir.try_lock()? {
            let holder = dir.holder()?.map_or(0, |holder| holder.pid);
            return Err(Error::new(format!(
                "pod {name:?} is supervised by process {holder}"
            )));
        }
        if boot_id()? != record.boot_id {
            return Err(Error::new(format!("pod {name:?} is from before a reboot"))
                .hint(format!("remove it: runp pod delete {name}")));
        }
        let recorded = journal::read(&dir.journal())?;
        let life = recorded.replay();
        if life.finished() {
            return Err(Error::new(format!("pod {name:?} is over")));
        }
        let mut journal = Journal::open(&dir.journal())?;
        let clock = Clock::not_before(life.now());
        announce_supervisor(&mut journal, clock.now())?;
        let listener = Listener::bind_again(dir.as_fd())?;
        let mut supervisor = Self::with(
            plan,
            store,
            pods.claims(),
            (dir, Data::at(record.data.clone())),
            journal,
            clock,
            (listener, signals()?, Kept::new()?),
        );
        supervisor.life = life;
        Ok(supervisor)
    }

    /// Finds out what has happened meanwhile, and lives the pod's life to its end.
    ///
    /// # Errors
    /// As [`Supervisor::run`].
    pub fn go_on(mut self, mut watcher: Watcher<impl FnMut(Seen<'_>)>) -> Result<(PodDir, Life)> {
        self.catch_up(&mut watcher.see)?;
        self.live(watcher)
    }

    fn catch_up(&mut self, watch: Watch<'_>) -> Result<()> {
        self.find_pause()?;
        self.check_network();
        if self.life.volumes() == Volumes::Ready {
            self.next_check = self.watches_disk().then(|| self.clock.now());
        }
        // An update may have been cut short.
        if let Err(e) = self.refresh_files() {
            log::error!("{e}");
        }
        let mut kept = self.kept.all()?;
        let mut news = Vec::new();
        for i in 0..self.plan.containers.len() {
            news.extend(self.find_container(Index(i), &mut kept)?);
        }
        let gone = matches!(
            self.life.sandbox(),
            Sandbox::Running { .. } | Sandbox::Stopping
        );
        if gone && self.pause.is_none() {
            news.push(Event::SandboxExited);
        }
        if self.life.start_time().is_none() {
            news.push(Event::Accepted);
        }
        let ordered = self.life.outstanding();
        for event in news {
            self.happens(event, watch);
        }
        for action in ordered {
            let still = self.life.outstanding().contains(&action);
            let alive = |c: Index| self.containers[c.0].process.is_some();
            let under_way = matches!(action, Action::Start { container, .. } if alive(container));
            if still && !under_way {
                self.carry_out_and_tell(action, watch);
            }
        }
        self.keep_probes();
        Ok(())
    }

    fn find_pause(&mut self) -> Result<()> {
        let found = sandbox::pause(&self.plan.sandbox.cgroup)?;
        if self.life.sandbox() == Sandbox::Starting {
            // Nobody knows how far it has come.
            if let Some(pause) = found {
                let _ = pidfd_send_signal(&pause.pidfd, Signal::KILL);
                wait_for_end(&pause.pidfd, EXECUTED)?;
            }
            return Ok(());
        }
        if let Some(kept) = found.as_ref().map(Kept::of).transpose()?.flatten() {
            self.kept = kept;
        }
        self.pause = found;
        Ok(())
    }

    /// What runs of a container, and what is to be told of it.
    fn find_container(
        &mut self,
        container: Index,
        kept: &mut Vec<(Key, OwnedFd)>,
    ) -> Result<Vec<Event>> {
        let c = &self.life.containers()[container.0];
        let restart = c.restart_count;
        let running = match c.state {
            State::Running { .. } => true,
            State::Creating => false,
            _ => return Ok(Vec::new()),
        };
        let mut take = |file| {
            let key = Key {
                container: container.0,
                restart,
                file,
            };
            // Of a start that was repeated, the last.
            let at = kept.iter().rposition(|(k, _)| *k == key)?;
            Some(kept.swap_remove(at).1)
        };
        let pipes = [take(File::Stdout), take(File::Stderr)];
        let terminal = take(File::Terminal);
        let pidfd = take(File::Process);
        let id = container_id(&self.plan.name, self.name(container))?;
        let pid = delete::first_pid(self.store, &id);
        let pidfd = match pidfd {
            None if running => delete::first_process(self.store, &id),
            pidfd => pidfd,
        };
        let Some(pidfd) = pidfd else {
            // One that was not made yet is made again.
            return Ok(match running {
                true => vec![Event::Vanished { container }],
                false => Vec::new(),
            });
        };
        // One that is not recorded has executed nothing, and will not: it waits for that.
        let Some(pid) = pid.or(running.then_some(0)) else {
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            return Ok(Vec::new());
        };
        let child = Child { pid, pidfd };
        if !running && !was_executed(&child)? {
            return Ok(Vec::new());
        }
        let output = Output::new(&self.dir.logs(self.name(container)), restart)?;
        self.containers[container.0] = Slot {
            process: Some(child),
            output: Some(match terminal {
                Some(master) => output.of_terminal(master)?,
                None => output.of_pipes(pipes),
            }),
        };
        let id = id.to_string();
        let started = Event::Started { container, pid, id };
        Ok(match running {
            true => Vec::new(),
            false => vec![started],
        })
    }
}

/// Whether a process that was being made a container's has become that. One that has not will not do it any more.
fn was_executed(child: &Child) -> Result<bool> {
    let end = Instant::now() + EXECUTED;
    loop {
        match process::ended(child).context(|| "look at a container")? {
            // Whatever a process says that was left alone is no success.
            Some(End::Seen(exit)) => return Ok(exit.code() == 0),
            Some(End::Unseen) => return Ok(true),
            None => {}
        }
        let program = |who: &str| {
            let metadata = std::fs::metadata(Path::new("/proc").join(who).join("exe")).ok()?;
            Some((metadata.dev(), metadata.ino()))
        };
        let its = program(&child.pid.to_string());
        if its.is_some() && its != program("self") {
            return Ok(true);
        }
        if Instant::now() >= end {
            let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
            return Ok(false);
        }
        wait_for_end(&child.pidfd, Duration::from_millis(5))?;
    }
}

fn wait_for_end(pidfd: &OwnedFd, longest: Duration) -> Result<()> {
    let timeout = Timespec::try_from(longest).ok();
    let mut files = [PollFd::new(pidfd, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut files, timeout.as_ref())).context(|| "poll")?;
    Ok(())
}
