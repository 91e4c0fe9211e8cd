//! What is accepted as a manifest; refuses the rest by field.
//!
//! ```text
//! file, directory, standard input
//!   -> tree      YAML or JSON with line and column                        (tree)
//!   -> Pod       unknown fields and wrong types, all of them              (decode)
//!   -> defaults  as the API server fills them in                         (defaults)
//!   -> valid     in Kubernetes' words; what is not done yet is refused    (super::validate, support)
//! ```
//!
//! A [`Manifest`] that exists is valid, and everything in it is done or warned about.

mod decode;
mod defaults;
mod support;
mod tree;

use std::io::Read;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;

use super::validate;
use crate::error::{Context, Error, Result};
use tree::Node;

/// Where a manifest comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file, or a directory that holds `pod.yaml`, `pod.yml` or `pod.json`.
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
    /// Where `images/` and bundles are looked for. Absolute.
    pub directory: PathBuf,
    /// What is accepted and has no effect here.
    pub warnings: Vec<String>,
}

/// The names of a manifest in a directory, in the order in which they are tried.
const NAMES: [&str; 3] = ["pod.yaml", "pod.yml", "pod.json"];

/// The API server's own limit on a request, in bytes.
const SIZE: u64 = 3 << 20;

/// Reads a manifest and makes sure that it can be done.
///
/// # Errors
/// What cannot be read or is not YAML; a kind other than Pod; every unknown field and every value of a wrong type with
/// its line and column; every violation of Kubernetes' validation; every field that this version does not do.
pub fn load(source: &Source) -> Result<Manifest> {
    let (name, text, directory) = read(source)?;
    let (pod, warnings) = parse(&name, &text)?;
    Ok(Manifest {
        pod,
        directory,
        warnings,
    })
}

/// Gives the manifest's name for messages, its text, and its directory.
fn read(source: &Source) -> Result<(String, String, PathBuf)> {
    let (name, bytes, directory) = match source {
        Source::Stdin => {
            let bytes = read_limited(std::io::stdin().lock()).context(|| "read standard input")?;
            ("standard input".to_owned(), bytes, PathBuf::from("."))
        }
        Source::Path(path) => {
            let path = find(path)?;
            let name = path.display().to_string();
            let bytes = std::fs::File::open(&path)
                .and_then(read_limited)
                .context(|| format!("read manifest {name}"))?;
            (name, bytes, path.parent().unwrap_or(Path::new("")).into())
        }
    };
    if bytes.len() as u64 > SIZE {
        return Err(Error::new(format!("{name} is larger than {SIZE} bytes")));
    }
    let text = String::from_utf8(bytes)
        .map_err(|e| Error::new(format!("{name} is not UTF-8 text: {}", e.utf8_error())))?;
    let directory = if directory.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        directory
    };
    let directory = std::path::absolute(&directory)
        .context(|| format!("make {} absolute", directory.display()))?;
    Ok((name, text, directory))
}

fn read_limited(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn find(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    NAMES
        .iter()
        .map(|name| path.join(name))
        .find(|candidate| candidate.exists())
        .ok_or_else(|| {
            Error::new(format!("{} holds no manifest", path.display()))
                .hint(format!("expected one of {}", NAMES.join(", ")))
        })
}

/// Text to valid pod, with warnings.
fn parse(name: &str, text: &str) -> Result<(Pod, Vec<String>)> {
    let root = the_pod(name, documents(name, text)?)?;
    let mut pod: Pod = decode::decode(&root).or_else(|problems| {
        let errors = problems.into_iter().map(|p| {
            let field = if p.path.is_empty() {
                "manifest"
            } else {
                &p.path
            };
            let at = p.place;
            let (line, column) = (at.line, at.column);
            Error::new(format!("{name}:{line}:{column}: {field}: {}", p.message))
        });
        Error::all("manifest", errors.collect()).map(|()| Pod::default())
    })?;
    defaults::fill_in(&mut pod);
    let support = support::check(&pod);
    let refused = support.refused().map(|e| e.step(name));
    match (validate::validate(&pod), refused) {
        (None, None) => {}
        (Some(error), None) | (None, Some(error)) => return Err(error),
        (Some(invalid), Some(refused)) => Error::all(name, vec![invalid, refused])?,
    }
    pod.status = None;
    Ok((pod, support.warnings()))
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
    decode::decode(&value.into()).map_err(|problems| {
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

/// The only document, which must be a Pod.
fn the_pod(name: &str, documents: Vec<Node>) -> Result<Node> {
    let mut documents: Vec<Node> = documents
        .into_iter()
        .filter(|node| !matches!(node.value, tree::Value::Null))
        .collect();
    let root = match (documents.pop(), documents.len()) {
        (None, _) => return Err(Error::new(format!("{name} is empty")).hint("expected a Pod")),
        (Some(root), 0) => root,
        (Some(last), _) => {
            documents.push(last);
            let kinds: Vec<&str> = documents.iter().map(kind).collect();
            let kinds = kinds.join(", ");
            return Err(Error::new(format!(
                "{name} holds {} documents ({kinds})",
                documents.len()
            ))
            .hint("this version runs one document of kind Pod"));
        }
    };
    if !matches!(root.value, tree::Value::Map(_)) {
        return Err(Error::new(format!("{name} is not a mapping"))
            .hint("expected apiVersion, kind, metadata, spec"));
    }
    let errors = [("apiVersion", "v1"), ("kind", "Pod")]
        .into_iter()
        .filter_map(|(field, expected)| {
            let Some(node) = root.get(field) else {
                return Some(Error::new(format!(
                    "{name}: {field}: Required value: expected {expected}"
                )));
            };
            let (line, column) = (node.place.line, node.place.column);
            match node.as_str() {
                Some(value) if value == expected => None,
                Some(value) => Some(Error::new(format!(
                    "{name}:{line}:{column}: {field}: {value:?} is not supported: this version runs kind Pod of apiVersion v1"
                ))),
                None => Some(Error::new(format!(
                    "{name}:{line}:{column}: {field}: expected the string {expected}"
                ))),
            }
        });
    Error::all("manifest", errors.collect())?;
    Ok(root)
}

fn kind(document: &Node) -> &str {
    document
        .get("kind")
        .and_then(Node::as_str)
        .unwrap_or("no kind")
}

#[cfg(test)]
mod tests;
