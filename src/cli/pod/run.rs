//! Verbs that start from a manifest: plan, run, create.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use super::{Places, mapping, warn};
use crate::cli::{print, print_json};
use crate::error::{Context, Error, Result};
use crate::pod::detach::{self, Begin};
use crate::pod::export;
use crate::pod::lifecycle::{BackOffLimits, Pod as Life};
use crate::pod::manifest::{self, Manifest, Source};
use crate::pod::network::{self, Asked, Network};
use crate::pod::observe;
use crate::pod::plan::{self, Node, PlanOptions, PodPlan};
use crate::pod::progress::Progress;
use crate::pod::store::{PodDir, PodName, Record};
use crate::pod::supervisor::{Seen, Supervisor, Watcher};
use crate::state::boot_id;

/// How often the terminal shows that time goes on.
pub(super) const REFRESH: Duration = Duration::from_millis(100);

/// A manifest, and what it is to be made of.
#[derive(Debug, clap::Args)]
struct Given {
    /// Kubernetes manifest, YAML or JSON; a directory with a pod.yaml or other manifests in it; or - for standard input.
    /// One Pod, or one Deployment, StatefulSet, DaemonSet, Job or CronJob, whose template is run; and in more documents
    /// the ConfigMaps, Secrets, PersistentVolumeClaims and Services that it refers to
    #[arg(value_name = "FILE")]
    file: String,
    /// Name of the pod, instead of metadata.name
    #[arg(long, value_name = "NAME")]
    name: Option<PodName>,
    #[command(flatten)]
    options: Options,
}

/// How a manifest is to be understood.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// Directory with the root file system of an image; can be given again. Without it, images are looked for in
    /// images/ beside the manifest
    #[arg(long, value_name = "IMAGE=DIR", value_parser = mapping)]
    rootfs: Vec<(String, PathBuf)>,
    /// What the pod's network is: none (just a loopback, the default), host, path:FILE (a network namespace, like those
    /// of ip-netns(8)), cni:NAME or cni (a configuration of that name or the first one), or pasta (the host's own
    /// addresses without any set-up, if pasta(1) is installed). hostPort takes cni with portmap, or pasta
    #[arg(long, value_name = "NETWORK")]
    network: Option<Asked>,
    /// Directories of CNI plugins, separated by colons [default: $CNI_PATH, else /opt/cni/bin:/usr/lib/cni:/usr/libexec/cni]
    #[arg(long, value_name = "DIRS")]
    cni_path: Option<OsString>,
    /// Directory of CNI configurations [default: $NETCONFPATH, else /etc/cni/net.d]
    #[arg(long, value_name = "DIR")]
    cni_netconfpath: Option<OsString>,
    /// The longest back-off of a container that keeps failing, 1 to 300: a kubelet's crashLoopBackOff.maxContainerRestartPeriod
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=300))]
    max_container_restart_period: Option<u64>,
    /// Start the apps one by one in their order, each once the one before runs and its postStart hook is over, as the
    /// kubelet does; they are started together otherwise
    #[arg(long)]
    kubelet_order: bool,
}

/// A pod that can be made.
pub(super) struct Prepared {
    name: PodName,
    plan: PodPlan,
    record: Record,
}

impl Options {
    fn back_off(&self) -> Option<BackOffLimits> {
        let max = self.max_container_restart_period?;
        Some(BackOffLimits {
            max: Duration::from_secs(max),
        })
    }

    /// `None` if it is left to the manifest.
    pub(super) fn network(&self) -> Result<Option<Network>> {
        let Some(asked) = &self.network else {
            return Ok(None);
        };
        let given = |option: &Option<OsString>, variable: &str| {
            let given = option.clone().or_else(|| std::env::var_os(variable));
            given.filter(|value| !value.is_empty())
        };
        let plugins = given(&self.cni_path, "CNI_PATH");
        let configurations = given(&self.cni_netconfpath, "NETCONFPATH");
        let found = Network::find(
            asked.clone(),
            &network::Places {
                plugins: std::env::split_paths(&plugins.unwrap_or_else(|| network::PLUGINS.into()))
                    .collect(),
                configurations: configurations
                    .map_or_else(|| network::CONFIGURATIONS.into(), PathBuf::from),
            },
        )?;
        Ok(Some(found))
    }

    /// The plan of a manifest's pod.
    fn plan(&self, places: &Places, manifest: &Manifest) -> Result<PodPlan> {
        let spec = manifest.pod.spec.as_ref();
        let uid = uuid()?;
        let options = PlanOptions {
            rootfs: self.rootfs.clone(),
            claims: places.pods.claims(),
            ids: match spec.and_then(|spec| spec.host_users) {
                Some(false) => places.pods.free_ids(&uid),
                _ => 0,
            },
            uid,
            node: Node::this_machine(),
            attachment: None,
            back_off: self.back_off(),
            kubelet_order: self.kubelet_order,
        };
        let plan = plan::plan(manifest, &options)?;
        for warning in &plan.warnings {
            warn(warning);
        }
        Ok(plan)
    }

    /// All that is needed to make it.
    pub(super) fn prepare(&self, places: &Places, manifest: Manifest) -> Result<Prepared> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::new("pods need root: their cgroups, volumes and networks are the machine's").hint(
                "as a plain user: `runp pod plan` shows what would be done, `runp run` runs a single container",
            ));
        }
        let plan = self.plan(places, &manifest)?;
        let name: PodName = plan.name.parse()?;
        let record = Record {
            version: Record::VERSION,
            uid: plan.uid.clone(),
            boot_id: boot_id()?,
            data: places.pods.data(&name),
            cgroup: plan.sandbox.cgroup.clone(),
            manifest_directory: manifest.directory,
            images: self.rootfs.iter().cloned().collect(),
            ids: plan.sandbox.users,
            network: manifest.network,
            attachment: None,
            objects: manifest.objects,
            manifest: manifest.pod,
        };
        Ok(Prepared { name, plan, record })
    }
}

impl Given {
    fn load(&self) -> Result<Manifest> {
        let source = Source::from(self.file.as_str());
        let mut manifest = manifest::load(&source, self.options.network()?)?;
        if let Some(name) = &self.name {
            manifest.pod.metadata.name = Some(name.to_string());
        }
        Ok(manifest)
    }

    fn prepare(&self, places: &Places) -> Result<Prepared> {
        self.options.prepare(places, self.load()?)
    }
}

/// `/proc/sys/kernel/random/uuid`: random(4).
fn uuid() -> Result<String> {
    let path = "/proc/sys/kernel/random/uuid";
    let uuid = std::fs::read_to_string(path).context(|| format!("read {path}"))?;
    Ok(uuid.trim_end().into())
}

#[derive(Debug, Clone)]
enum PlanFormat {
    /// For people.
    Text,
    /// With every container's config.json.
    Json,
    /// Every container as an OCI bundle, in this directory.
    Bundles(PathBuf),
}

impl std::str::FromStr for PlanFormat {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(match text {
            "text" => Self::Text,
            "json" => Self::Json,
            dir => Self::Bundles(dir.into()),
        })
    }
}

/// Show what would be done for a pod, without doing it
///
/// Or, with --output DIR, write every container as an OCI bundle into a new directory: `runp run --bundle DIR/NAME ID`, or any
/// other OCI runtime, runs it, in namespaces of its own, with a copy of its image and with the pod's volumes.
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    #[command(flatten)]
    given: Given,
    /// How it is written: text, json (with every container's config.json), or a directory to make
    #[arg(short, long, value_name = "FORMAT|DIR", default_value = "text")]
    output: PlanFormat,
}

impl Plan {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let manifest = self.given.load()?;
        let plan = self.given.options.plan(places, &manifest)?;
        match self.output {
            PlanFormat::Text => print(&plan::render_text(&plan))?,
            PlanFormat::Json => print_json(&plan::render_json(&plan, &manifest.pod))?,
            PlanFormat::Bundles(dir) => export::export(&plan, &dir)?,
        }
        Ok(0)
    }
}

/// Create a pod, start it, and show how it comes along until it is over
///
/// Exits with 0 if the pod succeeded, else with the exit code of the container that failed it. Ctrl-C stops the pod in
/// order, a second one at once. Status, logs and timeline stay until `pod delete`.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    given: Given,
    /// Return once the pod is set up, and leave it running
    #[arg(short, long)]
    detach: bool,
    /// Delete the pod when it is over
    #[arg(long, conflicts_with = "detach")]
    rm: bool,
    /// Show nothing
    #[arg(short, long)]
    quiet: bool,
}

impl Run {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let pod = self.given.prepare(places)?;
        if self.detach {
            return pod.supervise_detached(places, Begin::Start);
        }
        let life = Life::new(pod.plan.lifecycle.clone(), observe::now());
        let supervisor = pod.supervisor(places)?;
        let (dir, life) = watched(&life, self.quiet, |watcher| supervisor.run(true, watcher))?;
        if self.rm {
            dir.remove()?;
        }
        Ok(life.exit_code())
    }
}

/// Lives a pod's life, or the rest of it, and shows how it comes along.
pub(super) fn watched(
    life: &Life,
    quiet: bool,
    live: impl FnOnce(Watcher<&mut dyn FnMut(Seen<'_>)>) -> Result<(PodDir, Life)>,
) -> Result<(PodDir, Life)> {
    let mut progress = Progress::new(life, quiet);
    let shown = !quiet && std::io::stderr().is_terminal();
    let lived = live(Watcher {
        refresh: shown.then_some(REFRESH),
        see: &mut |seen: Seen<'_>| match seen {
            Seen::Event(event, life) => progress.observe(event, life),
            Seen::Log(container, line, now) => progress.log_line(container, line, now),
            Seen::Tick(now) => progress.tick(now),
        },
    });
    progress.finish(observe::now());
    lived
}

/// Create a pod: volumes and namespaces; its containers are started by `start`
#[derive(Debug, clap::Args)]
pub(super) struct Create {
    #[command(flatten)]
    given: Given,
}

impl Create {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        self.given
            .prepare(places)?
            .supervise_detached(places, Begin::Wait)
    }
}

impl Prepared {
    fn supervisor(self, places: &Places) -> Result<Supervisor<'_>> {
        let Places { store, pods } = places;
        Supervisor::new(pods, store, &self.name, self.plan, &self.record)
            .context(|| format!("create pod {:?}", self.name.as_str()))
    }

    pub(super) fn supervise_detached(self, places: &Places, begin: Begin) -> Result<i32> {
        let name = self.name.clone();
        if let Some(why) = detach::supervise(|| self.supervisor(places), begin)? {
            warn(format!("the pod waits, and tries again: {why}"));
        }
        print(&format!("{name}\n"))?;
        Ok(0)
    }
}
