//! `runp pod apply`.

use k8s_openapi::api::core::v1::Pod;

use super::attach::supervised;
use super::run::Options;
use super::{Places, warn};
use crate::cli::print;
use crate::error::{Context, Error, Result};
use crate::pod::apply::{merge, refers};
use crate::pod::control::{self, Request};
use crate::pod::detach::Begin;
use crate::pod::manifest::{Objects, Source};
use crate::pod::store::{PodDir, PodName};
use crate::pod::{journal, manifest};

/// Change what may change of pods that exist: ConfigMaps, Secrets, labels and annotations
///
/// With a pod in the manifest: that pod, which is run in the background if it does not exist. With just ConfigMaps, Secrets
/// and Services: the named pods, or all that refer to them and are not over. Files in volumes change at once, but for those
/// mounted by subPath; variables are those of a container's next start. What is immutable stays.
#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    /// Kubernetes manifest, as for `run`
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    file: String,
    /// The pods' names
    #[arg(value_name = "NAME")]
    names: Vec<PodName>,
    #[command(flatten)]
    options: Options,
}

impl Apply {
    pub(super) fn run(self, places: &Places) -> Result<i32> {
        let source = Source::from(self.file.as_str());
        if source == Source::Stdin {
            return Err(Error::new(
                "apply: give a file: standard input cannot be read twice",
            ));
        }
        let Some(loose) = manifest::load_objects(&source)? else {
            return self.pod(&source, places);
        };
        for warning in loose.warnings {
            warn(warning);
        }
        let names = match self.names.is_empty() {
            true => users(places, &loose.namespace, &loose.objects)?,
            false => self.names,
        };
        if names.is_empty() {
            return Err(Error::new(
                "apply: no pod that is not over refers to what is in the manifest",
            ));
        }
        let mut errors = Vec::new();
        for name in &names {
            let pod = places.pods.open(name)?;
            errors.extend(apply(places, &pod, None, loose.objects.clone()).err());
        }
        Error::all("apply", errors).map(|()| 0)
    }

    fn pod(self, source: &Source, places: &Places) -> Result<i32> {
        let mut asked = self.options.network()?;
        let name = match self.names.as_slice() {
            [] => None,
            [name] => Some(name.clone()),
            _ => return Err(Error::new("apply: a manifest with a pod is for one pod")),
        };
        let named = |manifest: &mut manifest::Manifest| -> Result<PodName> {
            if let Some(name) = &name {
                manifest.pod.metadata.name = Some(name.to_string());
            }
            manifest
                .pod
                .metadata
                .name
                .as_deref()
                .unwrap_or_default()
                .parse()
        };
        let mut manifest = manifest::load(source, asked.clone())?;
        let name = named(&mut manifest)?;
        if places.pods.check_free(&name).is_ok() {
            return self
                .options
                .prepare(places, manifest)?
                .supervise_detached(places, Begin::Start);
        }
        let pod = places.pods.open(&name)?;
        if asked.is_none() {
            // As it was asked for then.
            asked = Some(pod.record()?.network);
            manifest = manifest::load(source, asked)?;
            named(&mut manifest)?;
        }
        apply(places, &pod, Some(manifest.pod), manifest.objects).map(|()| 0)
    }
}

/// The pods that refer to any of the objects and are not over.
fn users(places: &Places, namespace: &str, objects: &Objects) -> Result<Vec<PodName>> {
    let mut users = places.pods.names()?;
    users.retain(|name| {
        let pod = places.pods.open(name).ok();
        let record = pod.as_ref().and_then(|pod| pod.record().ok());
        let of_namespace = record
            .filter(|record| record.manifest.metadata.namespace.as_deref() == Some(namespace));
        let refers = of_namespace.is_some_and(|record| {
            record
                .manifest
                .spec
                .as_ref()
                .is_some_and(|spec| refers(spec, objects))
        });
        refers && pod.is_some_and(|pod| !is_over(&pod))
    });
    Ok(users)
}

fn is_over(pod: &PodDir) -> bool {
    let journal = journal::read(&pod.journal());
    journal.is_ok_and(|journal| journal.replay().finished())
}

fn apply(places: &Places, pod: &PodDir, new: Option<Pod>, objects: Objects) -> Result<()> {
    let name = pod.name();
    let (update, changes) = merge(&mut pod.record()?, new, objects)?;
    if changes.is_empty() {
        return print(&format!("pod/{name} unchanged\n"));
    }
    supervised(places, pod)?;
    let by = std::process::id();
    let path = pod.update(by);
    let step = || format!("apply to pod {:?}", name.as_str());
    update.write(&path).context(step)?;
    let asked = control::ask(pod.as_fd(), Request::Apply { by }, control::PATIENCE);
    // With the pod's directory, if that is gone.
    let _ = std::fs::remove_file(&path);
    match asked.context(step)? {
        Some(_) => print(&format!("pod/{name} configured: {}\n", changes.join(", "))),
        None => Err(Error::new(format!("{}: it is over", step())).hint(format!(
            "remove it and run it again: runp pod delete {name}"
        ))),
    }
}
