//! `runp pod debug`.

use std::io::IsTerminal;

use super::Places;
use crate::cli::terminal::Foreground;
use crate::error::{Error, Result};
use crate::pod::container::Pod;
use crate::pod::data::Data;
use crate::pod::kept::Kept;
use crate::pod::observe::Observed;
use crate::pod::sandbox;
use crate::pod::store::PodName;
use crate::pod::supervisor::plan_of;

/// Run a shell in the place of a container that has ended
///
/// With its files as it left them, its volumes, variables, namespaces, user and limits: to see why it failed. When the
/// container is started again meanwhile, its files are replaced; rerun or stop the pod when you are done. Exits with the
/// program's exit code.
#[derive(Debug, clap::Args)]
pub(super) struct Debug {
    /// The pod's name
    name: PodName,
    /// Which container, mostly an init container that failed
    #[arg(short, long, value_name = "NAME")]
    container: String,
    /// The program and its arguments instead of a shell
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        default_value = "sh"
    )]
    command: Vec<String>,
}

impl Debug {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let dir = places.pods.open(&self.name)?;
        let observed = Observed::of(&dir, &places.store)?;
        let (index, name) = observed.container(Some(&self.container))?;
        if observed.alive.containers[index.0] {
            return Err(Error::new(format!("container {name:?} runs"))
                .hint(format!("use runp pod exec {} -c {name} -- sh", self.name)));
        }
        // The root that is ready for it is the supervisor's as yet.
        if observed.life.containers()[index.0].last.is_none() {
            return Err(Error::new(format!("container {name:?} has never run")));
        }
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
        let pod = Pod {
            plan: &plan,
            store: &places.store,
            dir: &dir,
            data: &Data::at(record.data.clone()),
            kept: &Kept::new()?,
        };
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let foreground = Foreground::prepare()?;
        let container = &plan.containers[index.0];
        let mut made = pod.debug(container, pause.pid, self.command, terminal)?;
        let console = made.process.console.take();
        let exit = foreground.wait(&made.process.pidfd, console, None);
        let removed = made.remove();
        let code = exit?.code();
        removed.map(|()| code)
    }
}
