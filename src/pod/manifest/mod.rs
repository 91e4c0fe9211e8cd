//! What is accepted as a manifest; refuses the rest by field.
//!
//! ```text
//! file, directory, standard input
//!   -> tree      YAML or JSON with line and column                        (tree)
//!   -> input     the pod, or a template of one, and what it refers to      (input, objects)
//!   -> Pod       unknown fields and wrong types, all of them              (decode)
//!   -> defaults  as the API server fills them in                         (defaults)
//!   -> valid     in Kubernetes' words; what is not done yet is refused    (super::validate, support)
//! ```
//!
//! A [`Manifest`] that exists is valid, and everything in it is done or warned about.

mod decode;
mod defaults;
mod input;
mod object;
mod objects;
mod support;
mod tree;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::network::Network;
use super::validate;
use crate::error::{Context, Error, Result};
use input::{Document, Input, Owner};
use object::Object;
use support::Support;
use tree::Node;

pub use input::Loose;
pub use objects::{Config, Keys, Objects, Service, ServicePort};

/// Where a manifest comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file; or a directory: its `pod.yaml`, `pod.yml` or `pod.json`, else everything in it that is named like
    /// YAML or JSON.
    Path(PathBuf),
    /// Standard input; relative paths then start from the working directory.
    Stdin,
}

impl From<&str> for Source {
    /// `-` is standard input.
    fn from(argument: &str) -> Self {
        match argument {
            "-" => Self::Stdin,
            path => Self::Path(path.into()),
        }
    }
}

/// A valid pod.
#[derive(Debug)]
pub struct Manifest {
    /// With Kubernetes' defaults filled in.
    pub pod: Pod,
    /// What the pod refers to.
    pub objects: Objects,
    /// Where `images/` and bundles are looked for. Absolute.
    pub directory: PathBuf,
    /// What its network is made by: [`Network::Host`] with `hostNetwork`, and only then.
    pub network: Network,
    /// What is accepted and has no effect here.
    pub warnings: Vec<String>,
}

/// The names of a manifest in a directory, in the order in which they are tried.
const NAMES: [&str; 3] = ["pod.yaml", "pod.yml", "pod.json"];

/// The API server's own limit on a request, in bytes.
const SIZE: u64 = 3 << 20;

/// A text and its name for messages.
struct File {
    name: String,
    text: String,
}

/// Reads a manifest and makes sure that it can be done; with the network that is asked for, if one is.
///
/// # Errors
/// What cannot be read or is not YAML; not just one pod; every unknown field and every value of a wrong type with its
/// line and column; every violation of Kubernetes' validation; every field that this version does not do.
pub fn load(source: &Source, network: Option<Network>) -> Result<Manifest> {
    let (name, files, directory) = read(source)?;
    let directory = match directory.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => directory,
    };
    let directory = std::path::absolute(&directory)
        .context(|| format!("make {} absolute", directory.display()))?;
    parse(&name, &files, directory, network)
}

/// Reads objects that are for pods that exist; `None` if there is a pod among the documents.
///
/// # Errors
/// As [`load`].
pub fn load_objects(source: &Source) -> Result<Option<Loose>> {
    let (_, files, _) = read(source)?;
    input::sort_objects(all_documents(&files)?)
}

/// Gives the manifest's name for messages, its files, and its directory.
fn read(source: &Source) -> Result<(String, Vec<File>, PathBuf)> {
    let path = match source {
        Source::Stdin => {
            let name = "standard input".to_owned();
            let bytes = read_limited(std::io::stdin().lock()).context(|| "read standard input")?;
            return Ok((name.clone(), vec![file(name, bytes)?], PathBuf::from(".")));
        }
        Source::Path(path) => path,
    };
    if !path.is_dir() {
        let name = path.display().to_string();
        let directory = path.parent().unwrap_or(Path::new("")).into();
        return Ok((name, vec![read_file(path)?], directory));
    }
    let files = find(path)?;
    let files = files.iter().map(|file| read_file(file));
    let files = files.collect::<Result<Vec<_>>>()?;
    let name = match files.as_slice() {
        [only] => only.name.clone(),
        _ => path.display().to_string(),
    };
    Ok((name, files, path.clone()))
}

fn read_file(path: &Path) -> Result<File> {
    let name = path.display().to_string();
    let bytes = std::fs::File::open(path)
        .and_then(read_limited)
        .context(|| format!("read manifest {name}"))?;
    file(name, bytes)
}

fn file(name: String, bytes: Vec<u8>) -> Result<File> {
    if bytes.len() as u64 > SIZE {
        return Err(Error::new(format!("{name} is larger than {SIZE} bytes")));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(File { name, text }),
        Err(e) => {
            let why = e.utf8_error();
            Err(Error::new(format!("{name} is not UTF-8 text: {why}")))
        }
    }
}

fn read_limited(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The manifests in a directory, by name.
fn find(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut named = NAMES.iter().map(|name| directory.join(name));
    if let Some(found) = named.find(|candidate| candidate.exists()) {
        return Ok(vec![found]);
    }
    let step = || format!("read {}", directory.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).context(step)? {
        let path = entry.context(step)?.path();
        let extension = path.extension().and_then(|e| e.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        let what = format!("{} holds no manifest", directory.display());
        return Err(Error::new(what).hint(format!(
            "expected one of {}, or any *.yaml, *.yml, *.json",
            NAMES.join(", ")
        )));
    }
    Ok(found)
}

/// Texts to a valid pod, with warnings.
fn parse(
    name: &str,
    files: &[File],
    directory: PathBuf,
    network: Option<Network>,
) -> Result<Manifest> {
    let Input {
        pod: Document { file, node },
        owner,
        mut objects,
        mut warnings,
        mut errors,
    } = input::sort(name, all_documents(files)?)?;
    let mut pod = match decode_pod(&node) {
        Ok(pod) => pod,
        Err(problems) => {
            errors.extend(problems.into_iter().map(|p| input::told(&file, p)));
            return Err(refused("manifest", errors));
        }
    };
    if let Some(owner) = owner {
        errors.extend(own(&mut pod, &mut objects, &node, &file, owner).err());
    }
    generate_name(&mut pod.metadata);
    let network = network_of(&mut pod, network).unwrap_or_else(|(path, why)| {
        errors.push(input::located(&file, node.place_of(path), path, &why));
        Network::Host
    });
    defaults::fill_in(&mut pod);
    let support = support::check(&pod, &network);
    let (what, wrong) = check(&pod, &node, &file, &support);
    errors.extend(wrong);
    if !errors.is_empty() {
        let error = refused(what, errors);
        return Err(match support.refused().is_empty() {
            true => error,
            false => error.hint("remove what the pod can do without: nothing is ignored silently"),
        });
    }
    pod.status = None;
    warnings.extend(support.warnings());
    Ok(Manifest {
        pod,
        objects,
        directory,
        network,
        warnings,
    })
}

fn refused(what: impl Into<String>, errors: Vec<Error>) -> Error {
    Error::all(what, errors)
        .err()
        .unwrap_or(Error::new("manifest"))
}

/// What the API server makes names of: no vowels, and nothing that looks like something else.
const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// `generateName`: as the API server, with five letters that nobody can foretell.
fn generate_name(metadata: &mut ObjectMeta) {
    let name = metadata.name.as_deref().unwrap_or_default();
    let Some(prefix) = metadata
        .generate_name
        .as_deref()
        .filter(|_| name.is_empty())
    else {
        return;
    };
    // The hash of nothing, by a key of its own.
    let mut random = RandomState::new().build_hasher().finish();
    let mut name: String = prefix.chars().take(58).collect();
    for _ in 0..5 {
        let letter = random % LETTERS.len() as u64;
        name.push(char::from(LETTERS[letter as usize]));
        random /= LETTERS.len() as u64;
    }
    metadata.name = Some(name);
}

/// The network that the manifest and `--network` agree on.
fn network_of(
    pod: &mut Pod,
    asked: Option<Network>,
) -> std::result::Result<Network, (&'static str, String)> {
    let spec = pod.spec.get_or_insert_default();
    match (spec.host_network, asked) {
        (Some(true), None | Some(Network::Host)) => Ok(Network::Host),
        (Some(true), Some(other)) => {
            let what = other.describe();
            Err((
                "spec.hostNetwork",
                format!("not together with another network: {what}"),
            ))
        }
        (_, Some(Network::Host)) => {
            spec.host_network = Some(true);
            Ok(Network::Host)
        }
        (_, asked) => Ok(asked.unwrap_or_default()),
    }
}

fn all_documents(files: &[File]) -> Result<Vec<Document>> {
    let mut all = Vec::new();
    for File { name, text } in files {
        let file = || name.clone();
        let nodes = documents(name, text)?.into_iter();
        all.extend(nodes.map(|node| Document { file: file(), node }));
    }
    Ok(all)
}

/// The first pod of a StatefulSet: with claims of its own, which are kept for the next one of that name.
fn first_of_set(
    pod: &mut Pod,
    objects: &mut Objects,
    claims: Vec<String>,
    service: Option<String>,
) {
    let name = format!("{}-0", pod.metadata.name.as_deref().unwrap_or_default());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name.clone());
    spec.subdomain = service;
    let volumes = spec.volumes.get_or_insert_default();
    for template in claims {
        let claim_name = format!("{template}-{name}");
        objects.claims.entry(claim_name.clone()).or_default();
        volumes.retain(|volume| volume.name != template);
        volumes.push(Volume {
            name: template,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name,
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    pod.metadata.name = Some(name);
}

/// Everything that is wrong with a pod, and everything that is not done, in the order of the file.
fn check(pod: &Pod, node: &Node, file: &str, support: &Support) -> (String, Vec<Error>) {
    let located = |path: &str, why: &str| {
        let place = node.place_of(path);
        (place, input::located(file, place, path, why))
    };
    let invalid = validate::validate(pod);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let what = match invalid.is_empty() {
        true => "manifest".to_owned(),
        // The API server's words.
        false => format!("The Pod {name:?} is invalid"),
    };
    let invalid = invalid.iter().map(|text| {
        let (path, why) = text.split_once(": ").unwrap_or((text, ""));
        located(path, why)
    });
    let refused = support.refused().iter();
    let mut all: Vec<_> = invalid
        .chain(refused.map(|(path, why)| located(path, why)))
        .collect();
    all.sort_by_key(|(place, _)| *place);
    (what, all.into_iter().map(|(_, error)| error).collect())
}

/// What a pod has from the workload that its template stands in.
fn own(
    pod: &mut Pod,
    objects: &mut Objects,
    template: &Node,
    file: &str,
    owner: Owner,
) -> Result<()> {
    pod.metadata.name = owner.name;
    if owner.kind == "StatefulSet" {
        first_of_set(pod, objects, owner.claims, owner.service);
    }
    pod.metadata.namespace = owner.namespace.or(pod.metadata.namespace.take());
    let policy = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref());
    let why = match (owner.kind, policy) {
        ("Job" | "CronJob", None | Some("Always")) => {
            "must be \"OnFailure\" or \"Never\" in a job's template"
        }
        (
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController",
            Some(policy),
        ) if policy != "Always" => "Unsupported value: supported values: \"Always\"",
        _ => return Ok(()),
    };
    let path = "spec.restartPolicy";
    Err(input::located(file, template.place_of(path), path, why))
}

fn decode_pod(node: &Node) -> std::result::Result<Pod, Vec<decode::Problem>> {
    decode::decode::<Object<PodSpec>>(node).map(Pod::from)
}

/// Reads back what was made of a manifest before.
///
/// # Errors
/// The deserializer's, and the first field that is not as it was written.
pub fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Pod, D::Error> {
    // By the decoder that there is: the code for Kubernetes' types is large, and made anew for every format.
    let value = serde_json::Value::deserialize(deserializer)?;
    decode_pod(&value.into()).map_err(|problems| {
        let first = problems
            .first()
            .map(|p| format!("{}: {}", p.path, p.message));
        D::Error::custom(first.unwrap_or_default())
    })
}

/// Parses every document of a YAML stream. JSON is YAML.
fn documents(name: &str, text: &str) -> Result<Vec<Node>> {
    // Far beyond any pod, and an alias bomb reaches them within a few milliseconds.
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            flow_nesting_limit: 32,
            max_nodes: 50_000,
            max_aliases: 1_000,
            max_recorded_anchor_events: 5_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
        },
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    let nodes: Vec<Spanned<tree::Value>> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|e| {
            let at = match e.location() {
                Some(at) => format!(":{}:{}", at.line(), at.column()),
                None => String::new(),
            };
            let message = e.without_snippet().to_string();
            let message = message.lines().next().unwrap_or_default();
            let message = message.split(" at line ").next().unwrap_or_default();
            Error::new(format!("manifest: {name}{at}: {message}"))
        })?;
    Ok(nodes.into_iter().map(Node::from).collect())
}

#[cfg(test)]
mod fields;
#[cfg(test)]
mod tests;
