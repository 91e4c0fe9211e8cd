//! What a manifest's documents are: one pod, or what holds a pod's template, and what it refers to.

use serde::de::DeserializeOwned;

use super::decode::{self, Problem};
use super::defaults::NAMESPACE;
use super::objects::{Objects, Wrong};
use super::tree::{Node, Place, Value};
use crate::error::{Error, Result};

/// A document and the file that it stands in.
pub(super) struct Document {
    pub(super) file: String,
    pub(super) node: Node,
}

/// A manifest taken apart.
pub(super) struct Input {
    /// The pod, or the template of one.
    pub(super) pod: Document,
    /// What gives the pod its name and namespace, if it is not the pod itself.
    pub(super) owner: Option<Owner>,
    pub(super) objects: Objects,
    pub(super) warnings: Vec<String>,
    /// What is wrong with the others.
    pub(super) errors: Vec<Error>,
}

/// A workload that has a pod's template.
pub(super) struct Owner {
    pub(super) kind: &'static str,
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    /// A StatefulSet's `volumeClaimTemplates`, by name.
    pub(super) claims: Vec<String>,
    /// A StatefulSet's `serviceName`.
    pub(super) service: Option<String>,
}

/// What a StatefulSet has besides its template that is done.
const STATEFUL: [&str; 2] = ["spec.serviceName", "spec.volumeClaimTemplates"];

/// What a document is to a pod.
#[derive(Clone, Copy)]
enum Role {
    Pod,
    /// Where the pod's template is in it.
    Owner(&'static [&'static str]),
    ConfigMap,
    Secret,
    Claim,
    Volume,
    Service,
    /// Its `items` are documents.
    List,
}

const TEMPLATE: Role = Role::Owner(&["spec", "template"]);

/// `apiVersion`, `kind`, and what it is.
const KINDS: [(&str, &str, Role); 15] = [
    ("v1", "Pod", Role::Pod),
    ("apps/v1", "Deployment", TEMPLATE),
    ("apps/v1", "StatefulSet", TEMPLATE),
    ("apps/v1", "DaemonSet", TEMPLATE),
    ("apps/v1", "ReplicaSet", TEMPLATE),
    ("v1", "ReplicationController", TEMPLATE),
    ("batch/v1", "Job", TEMPLATE),
    (
        "batch/v1",
        "CronJob",
        Role::Owner(&["spec", "jobTemplate", "spec", "template"]),
    ),
    ("v1", "PodTemplate", Role::Owner(&["template"])),
    ("v1", "ConfigMap", Role::ConfigMap),
    ("v1", "Secret", Role::Secret),
    ("v1", "PersistentVolumeClaim", Role::Claim),
    ("v1", "PersistentVolume", Role::Volume),
    ("v1", "Service", Role::Service),
    ("v1", "List", Role::List),
];

/// Finds out what each document is.
///
/// # Errors
/// None or several documents that have a pod; then also those that are none of Kubernetes'.
pub(super) fn sort(name: &str, documents: Vec<Document>) -> Result<Input> {
    let mut sorting = Sorting::default();
    for document in documents {
        sorting.add(document);
    }
    let namespace = sorting.namespace();
    for (file, node, role) in std::mem::take(&mut sorting.others) {
        sorting.refer_to(&file, &node, role, &namespace);
    }
    let Sorting {
        mut pods,
        objects,
        warnings,
        kinds,
        errors,
        ..
    } = sorting;
    if pods.len() != 1 {
        Error::all("manifest", errors.clone())?;
    }
    match (pods.pop(), pods.len()) {
        (Some((pod, owner)), 0) => Ok(Input {
            pod,
            owner,
            objects,
            warnings,
            errors,
        }),
        (None, _) if kinds.is_empty() => {
            Err(Error::new(format!("{name} is empty")).hint("expected a Pod"))
        }
        (None, _) => Err(Error::new(format!(
            "{name} holds no Pod, but {}",
            kinds.join(", ")
        ))),
        (Some(_), more) => Err(Error::new(format!(
            "{name} holds {} pods ({})",
            more + 1,
            kinds.join(", ")
        ))
        .hint("runp runs one pod: put each into a file of its own")),
    }
}

/// Just objects, if there is no pod among the documents: those of one namespace, the first one's.
///
/// # Errors
/// As [`sort`], but for the pod.
pub(super) fn sort_objects(documents: Vec<Document>) -> Result<Option<Loose>> {
    let mut sorting = Sorting::default();
    for document in documents {
        sorting.add(document);
    }
    if !sorting.pods.is_empty() {
        return Ok(None);
    }
    let mut named = sorting.others.iter().map(|(_, node, _)| namespace(node));
    let of_all = named.next().flatten().unwrap_or(NAMESPACE).to_owned();
    for (file, node, role) in std::mem::take(&mut sorting.others) {
        sorting.refer_to(&file, &node, role, &of_all);
    }
    Error::all("manifest", sorting.errors)?;
    Ok(Some(Loose {
        namespace: of_all,
        objects: sorting.objects,
        warnings: sorting.warnings,
    }))
}

/// Objects without a pod.
#[derive(Debug)]
pub struct Loose {
    /// Of all of them.
    pub namespace: String,
    /// What there is.
    pub objects: Objects,
    /// What was left out.
    pub warnings: Vec<String>,
}

#[derive(Default)]
struct Sorting {
    pods: Vec<(Document, Option<Owner>)>,
    /// What may be referred to: looked at once it is known in which namespace.
    others: Vec<(String, Node, Role)>,
    objects: Objects,
    warnings: Vec<String>,
    kinds: Vec<String>,
    errors: Vec<Error>,
}

impl Sorting {
    fn add(&mut self, document: Document) {
        let Document { file, node } = document;
        let errors = match &node.value {
            Value::Null => return,
            Value::Map(_) => is_typed(&file, &node),
            _ => {
                let error = Error::new(format!("{file} is not a mapping"));
                vec![error.hint("expected apiVersion, kind, metadata, spec")]
            }
        };
        if !errors.is_empty() {
            self.errors.extend(errors);
            return;
        }
        let kind = text(&node, "kind");
        self.kinds.push(kind.clone());
        let Some((api_version, kind, role)) = KINDS.iter().find(|row| row.1 == kind) else {
            let object = text_of(node.get("metadata").and_then(|m| m.get("name")));
            let warning = format!("kind {kind} {object:?}: no meaning on one machine, ignored");
            self.warnings.push(warning);
            return;
        };
        if let Some(found) = node
            .get("apiVersion")
            .filter(|v| v.as_str() != Some(api_version))
        {
            let at = found.place;
            let what = text_of(Some(found));
            self.errors.push(located(
                &file,
                at,
                "apiVersion",
                &format!("{what:?} is not supported: kind {kind} is of apiVersion {api_version}"),
            ));
            return;
        }
        match role {
            Role::Pod => self.pods.push((Document { file, node }, None)),
            Role::Owner(path) => self.owner(file, node, kind, path),
            Role::List => self.list(&file, node),
            role => self.others.push((file, node, *role)),
        }
    }

    /// The pod's.
    fn namespace(&self) -> String {
        let of = |(pod, owner): &(Document, Option<Owner>)| match owner {
            Some(owner) => owner.namespace.clone(),
            None => namespace(&pod.node).map(str::to_owned),
        };
        let named = self.pods.first().and_then(of);
        named.unwrap_or_else(|| NAMESPACE.to_owned())
    }

    fn refer_to(&mut self, file: &str, node: &Node, role: Role, of_pod: &str) {
        let own = namespace(node).unwrap_or(NAMESPACE);
        // A PersistentVolume is in none.
        if own != of_pod && !matches!(role, Role::Volume) {
            let kind = text(node, "kind");
            let name = text_of(node.get("metadata").and_then(|m| m.get("name")));
            self.warnings.push(format!(
                "kind {kind} {name:?} is in namespace {own:?} and not in {of_pod:?}: ignored"
            ));
            return;
        }
        match role {
            Role::ConfigMap => self.object(file, node, Objects::add_config_map),
            Role::Secret => self.object(file, node, Objects::add_secret),
            Role::Claim => self.object(file, node, Objects::add_claim),
            Role::Volume => self.object(file, node, Objects::add_volume),
            Role::Service => self.object(file, node, Objects::add_service),
            Role::Pod | Role::Owner(_) | Role::List => {}
        }
    }

    fn list(&mut self, file: &str, node: Node) {
        self.kinds.pop();
        if let Some(Value::List(items)) = take(node, &["items"]).map(|items| items.value) {
            for node in items {
                let file = file.to_owned();
                self.add(Document { file, node });
            }
        }
    }

    fn object<T: DeserializeOwned>(
        &mut self,
        file: &str,
        node: &Node,
        add: fn(&mut Objects, T) -> Vec<Wrong>,
    ) {
        match decode::decode(node) {
            Err(problems) => self
                .errors
                .extend(problems.into_iter().map(|p| told(file, p))),
            Ok(object) => {
                let wrong = add(&mut self.objects, object).into_iter();
                self.errors.extend(
                    wrong.map(|(path, why)| located(file, node.place_of(&path), &path, &why)),
                );
            }
        }
    }

    fn owner(&mut self, file: String, node: Node, kind: &'static str, path: &[&str]) {
        let metadata = node.get("metadata");
        let name = metadata.and_then(|m| m.get("name")).and_then(Node::as_str);
        let of_set = |field: &str| match kind {
            "StatefulSet" => node.get("spec").and_then(|spec| spec.get(field)),
            _ => None,
        };
        let claims = match of_set("volumeClaimTemplates").map(|list| &list.value) {
            Some(Value::List(list)) => list.as_slice(),
            _ => &[],
        };
        let claims = claims
            .iter()
            .filter_map(|claim| claim.get("metadata")?.get("name"));
        let owner = Owner {
            kind,
            claims: claims.map(|name| text_of(Some(name))).collect(),
            service: of_set("serviceName")
                .and_then(Node::as_str)
                .map(str::to_owned),
            name: name.map(str::to_owned),
            namespace: namespace(&node).map(str::to_owned),
        };
        let mut ignored = Vec::new();
        beside(&node, path, "", &mut ignored);
        if kind == "StatefulSet" {
            ignored.retain(|field| !STATEFUL.contains(&field.as_str()));
        }
        if !ignored.is_empty() {
            self.warnings.push(format!(
                "{kind} {:?}: one pod of its template is run, ignored: {}",
                name.unwrap_or_default(),
                ignored.join(", ")
            ));
        }
        let place = node.place;
        match take(node, path) {
            Some(node) => self.pods.push((Document { file, node }, Some(owner))),
            None => {
                let path = path.join(".");
                self.errors
                    .push(located(&file, place, &path, "Required value"));
            }
        }
    }
}

fn namespace(node: &Node) -> Option<&str> {
    let namespace = node.get("metadata")?.get("namespace")?.as_str();
    namespace.filter(|namespace| !namespace.is_empty())
}

/// `apiVersion` and `kind` must be there.
fn is_typed(file: &str, node: &Node) -> Vec<Error> {
    let missing = ["apiVersion", "kind"].into_iter().filter_map(|field| {
        match node.get(field).map(|value| (value.as_str(), value.place)) {
            None => Some(Error::new(format!("{file}: {field}: Required value"))),
            Some((None, at)) => Some(located(file, at, field, "expected a string")),
            Some((Some(_), _)) => None,
        }
    });
    missing.collect()
}

fn text(node: &Node, field: &str) -> String {
    text_of(node.get(field))
}

fn text_of(node: Option<&Node>) -> String {
    node.and_then(Node::as_str).unwrap_or_default().to_owned()
}

/// What stands in a workload beside the way to its template.
fn beside(node: &Node, way: &[&str], path: &str, found: &mut Vec<String>) {
    let (Some((next, rest)), Value::Map(entries)) = (way.split_first(), &node.value) else {
        return;
    };
    for entry in entries {
        let field = match path {
            "" => entry.key.clone(),
            path => format!("{path}.{}", entry.key),
        };
        if entry.key == *next {
            beside(&entry.node, rest, &field, found);
        } else if !["apiVersion", "kind", "metadata"].contains(&entry.key.as_str()) {
            found.push(field);
        }
    }
}

fn take(node: Node, path: &[&str]) -> Option<Node> {
    let Some((key, rest)) = path.split_first() else {
        return Some(node);
    };
    match node.value {
        Value::Map(entries) => {
            let entry = entries.into_iter().find(|entry| entry.key == *key)?;
            take(entry.node, rest)
        }
        _ => None,
    }
}

/// A problem with its place.
pub(super) fn told(file: &str, problem: Problem) -> Error {
    let field = match problem.path.as_str() {
        "" => "manifest",
        path => path,
    };
    located(file, problem.place, field, &problem.message)
}

/// `FILE:LINE:COLUMN: FIELD: WHY`.
pub(super) fn located(file: &str, at: Place, field: &str, why: &str) -> Error {
    let Place { line, column } = at;
    Error::new(format!("{file}:{line}:{column}: {field}: {why}"))
}
