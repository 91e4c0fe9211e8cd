//! `runp pod debug`.

use std::io::IsTerminal;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Capabilities, Container, SecurityContext};

use super::attach::supervised;
use super::{Places, mapping};
use crate::cli::terminal::Foreground;
use crate::container::{Made, Stdio};
use crate::error::{Context, Error, Result};
use crate::pod::container::{Pod, container_id};
use crate::pod::control::{self, Request};
use crate::pod::data::Data;
use crate::pod::delete::first_pid;
use crate::pod::kept::Kept;
use crate::pod::lifecycle::EphemeralSpec;
use crate::pod::logs::{self, LogWriter};
use crate::pod::observe::Observed;
use crate::pod::plan::{self, ContainerPlan, PodPlan};
use crate::pod::sandbox;
use crate::pod::store::{PodDir, PodName, Record};
use crate::pod::supervisor::{plan_of, with_manifest};
use crate::sys::process::{self, Exit};

/// Run a shell in the place of a container that has ended, or in an ephemeral container beside the others
///
/// Without --image: with the container's files as it left them, its volumes, variables, namespaces, user and limits, to see
/// why it failed. When it is started again meanwhile, its files are replaced; rerun or stop the pod when you are done.
///
/// With --image: a container of its own in the pod's namespaces, as `kubectl debug` makes it (with CAP_SYS_PTRACE); it is
/// shown in status.ephemeralContainerStatuses and ends with the pod at the latest; `logs -c` and `exec -c` know it, too.
/// Exits with the program's exit code.
#[derive(Debug, clap::Args)]
pub(super) struct Debug {
    /// The pod's name
    name: PodName,
    /// Which container, mostly an init container that failed; with --image what the new one is called, else debugger-N
    #[arg(short, long, value_name = "NAME", required_unless_present = "image")]
    container: Option<String>,
    /// The image of an ephemeral container
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// See the processes of this container
    #[arg(long, value_name = "CONTAINER", requires = "image")]
    target: Option<String>,
    /// Directory with the root file system of an image, besides those that the pod was given
    #[arg(long, value_name = "IMAGE=DIR", value_parser = mapping, requires = "image")]
    rootfs: Vec<(String, PathBuf)>,
    /// The program and its arguments instead of a shell
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        default_value = "sh"
    )]
    command: Vec<String>,
}

/// A pod that can be looked into.
struct Opened {
    dir: PodDir,
    record: Record,
    observed: Observed,
    plan: PodPlan,
    pause: i32,
}

impl Debug {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let opened = self.open(places)?;
        match &self.image {
            Some(image) => self.beside(places, opened, image),
            None => self.in_place(places, &opened),
        }
    }

    fn open(&self, places: &Places) -> Result<Opened> {
        let dir = places.pods.open(&self.name)?;
        let observed = Observed::of(&dir, &places.store)?;
        let mut record = dir.record()?;
        let plan = plan_of(
            &mut record,
            &observed.journal.pod.spec,
            &places.pods.claims(),
        )?;
        let pause = sandbox::pause(&record.cgroup)?.ok_or_else(|| {
            Error::new(format!("pod {:?} has no sandbox", self.name.as_str()))
                .hint("it is over: nothing is left of its namespaces and files")
        })?;
        Ok(Opened {
            dir,
            record,
            observed,
            plan,
            pause: pause.pid,
        })
    }

    fn in_place(&self, places: &Places, opened: &Opened) -> Result<i32> {
        let observed = &opened.observed;
        let (index, name) = observed.container(self.container.as_deref())?;
        if observed.alive.containers[index.0] {
            return Err(Error::new(format!("container {name:?} runs"))
                .hint(format!("use runp pod exec {} -c {name} -- sh", self.name)));
        }
        // The root that is ready for it is the supervisor's as yet.
        if observed.life.containers()[index.0].last.is_none() {
            return Err(Error::new(format!("container {name:?} has never run")));
        }
        let container = &opened.plan.containers[index.0];
        let foreground = Foreground::prepare()?;
        let made = opened.pod(places, |pod| {
            pod.debug(container, opened.pause, self.command.clone(), terminal())
        })?;
        attend(foreground, made).map(|exit| exit.code())
    }

    fn beside(&self, places: &Places, mut opened: Opened, image: &str) -> Result<i32> {
        supervised(places, &opened.dir)?;
        let name = self.ephemeral_name(&opened.observed);
        let target = match &self.target {
            Some(target) => {
                let (_, target) = opened.observed.container(Some(target))?;
                let id = container_id(self.name.as_str(), &target)?;
                let pid = first_pid(&places.store, &id);
                let pid =
                    pid.ok_or_else(|| Error::new(format!("container {target:?} does not run")));
                Some(pid?)
            }
            None => None,
        };
        let planned = self.plan(places, &mut opened, image, &name, target)?;
        let mut foreground = Foreground::prepare()?;
        let log = LogWriter::open(&opened.dir.logs(&name), 0)?;
        let (stdio, tee) = match terminal() {
            true => {
                foreground = foreground.logged(log);
                (Stdio::Terminal, None)
            }
            false => {
                let (tee, files) = logs::tee(log)?;
                (Stdio::Files(files), Some(tee))
            }
        };
        let pause = opened.pause;
        let made = opened.pod(places, |pod| pod.ephemeral(&planned, pause, stdio))?;
        let started = Request::EphemeralStarted {
            container: EphemeralSpec {
                name: name.clone(),
                image: image.to_owned(),
                target: self.target.clone(),
            },
            pid: made.process.pid,
            id: container_id(self.name.as_str(), &name)?.to_string(),
        };
        let told = tell(&opened.dir, started);
        let exit = attend(foreground, made);
        if let Some(tee) = tee {
            process::wait(&tee.pidfd).context(|| "wait for its last words")?;
        }
        if let Ok(exit) = exit {
            // A pod that has ended meanwhile has ended it, too, and knows that.
            let _ = tell(&opened.dir, Request::EphemeralEnded { name, exit });
        }
        let removed = match Observed::of(&opened.dir, &places.store) {
            Ok(observed) if !observed.life.finished() => {
                opened.pod(places, |pod| pod.remove_root(&planned))
            }
            _ => Ok(()),
        };
        told.and(removed)?;
        exit.map(|exit| exit.code())
    }

    /// Its own, or the first that is free.
    fn ephemeral_name(&self, observed: &Observed) -> String {
        let taken = |name: &String| {
            let mut ephemeral = observed.life.ephemeral().iter();
            ephemeral.any(|e| e.spec.name == *name)
        };
        let numbered = || {
            let mut names = (1..).map(|n: u32| format!("debugger-{n}"));
            names.find(|name| !taken(name)).unwrap_or_default()
        };
        self.container.clone().unwrap_or_else(numbered)
    }

    fn plan(
        &self,
        places: &Places,
        opened: &mut Opened,
        image: &str,
        name: &str,
        target: Option<i32>,
    ) -> Result<ContainerPlan> {
        let life = &opened.observed.life;
        let own = life.spec().containers.iter().any(|c| c.name == name);
        let other = life.ephemeral().iter().any(|e| e.spec.name == name);
        if own || other {
            return Err(Error::new(format!("the pod has a container {name:?}"))
                .hint("choose another name with -c"));
        }
        let container = Container {
            name: name.to_owned(),
            image: Some(image.to_owned()),
            command: Some(self.command.clone()),
            security_context: Some(SecurityContext {
                capabilities: Some(Capabilities {
                    add: Some(vec!["SYS_PTRACE".into()]),
                    drop: None,
                }),
                ..SecurityContext::default()
            }),
            ..Container::default()
        };
        let pod = &opened.plan;
        with_manifest(
            &mut opened.record,
            &places.pods.claims(),
            |manifest, options| {
                let mut options = options.clone();
                options.rootfs.splice(0..0, self.rootfs.iter().cloned());
                plan::ephemeral(manifest, &options, pod, &container, target)
            },
        )
    }
}

impl Opened {
    fn pod<T>(&self, places: &Places, then: impl FnOnce(&Pod<'_>) -> Result<T>) -> Result<T> {
        then(&Pod {
            plan: &self.plan,
            store: &places.store,
            dir: &self.dir,
            data: &Data::at(self.record.data.clone()),
            kept: &Kept::new()?,
        })
    }
}

fn terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Waits for its end, and removes it.
fn attend(foreground: Foreground, mut made: Made) -> Result<Exit> {
    let console = made.process.console.take();
    let exit = foreground.wait(&made.process.pidfd, console, None);
    let removed = made.remove();
    let exit = exit?;
    removed.map(|()| exit)
}

fn tell(dir: &PodDir, what: Request) -> Result<()> {
    let step = || "tell the pod's supervisor of the ephemeral container";
    let told = control::ask(dir.as_fd(), what, control::PATIENCE).context(step)?;
    told.map(drop)
        .ok_or_else(|| Error::new(step()).hint("the pod has ended meanwhile"))
}
