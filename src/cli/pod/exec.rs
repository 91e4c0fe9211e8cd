//! `runp pod exec`.

use rustix::fs::{Mode, OFlags};

use super::Places;
use crate::cli::exec;
use crate::error::{Context, Error, Result};
use crate::pod::container::container_id;
use crate::pod::observe::{Observed, Which};
use crate::pod::store::PodName;

/// Run another program in a container of a pod
///
/// Exits with the program's exit code.
#[derive(Debug, clap::Args)]
pub(super) struct Exec {
    /// The pod's name
    name: PodName,
    /// Which container; else the one that the annotation kubectl.kubernetes.io/default-container names, or the first app
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Give it standard input
    #[arg(short = 'i', long)]
    stdin: bool,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Exec {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let pod = places.pods.open(&self.name)?;
        let observed = Observed::of(&pod, &places.store)?;
        let (which, name) = observed.any_container(self.container.as_deref())?;
        let runs = match which {
            Which::Own(index) => observed.alive.containers[index.0],
            Which::Ephemeral(container) => container.ended.is_none(),
        };
        if !runs {
            let step = format!("exec in container {name:?} of pod {:?}", self.name.as_str());
            return Err(
                Error::new(step).hint(format!("it does not run: {}", observed.waiting(&name)))
            );
        }
        if !self.stdin {
            let null =
                rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            null.and_then(rustix::stdio::dup2_stdin)
                .context(|| "open /dev/null")?;
        }
        let id = container_id(self.name.as_str(), &name)?;
        exec::Exec::of(id, self.tty, self.command).run(&places.store)
    }
}
