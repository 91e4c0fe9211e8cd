//! What may change of a pod that exists: `pod apply`.
//!
//! As in Kubernetes: ConfigMaps and Secrets, unless they are immutable; labels and annotations; images of init containers,
//! which do not touch a pod that runs. What files show of it in volumes changes at once, all files of a volume together, but
//! not where a `subPath` is mounted; variables are those of a container's next start.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use serde::{Deserialize, Serialize};

use super::manifest::Objects;
use super::store::Record;
use crate::error::{Context, Error, Result};

/// What takes the place of what a pod's record has.
#[derive(Debug, Serialize, Deserialize)]
pub struct Update {
    /// With Kubernetes' defaults.
    #[serde(deserialize_with = "super::manifest::deserialize")]
    manifest: Pod,
    objects: Objects,
}

impl Update {
    /// Reads what [`Self::write`] has written.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let step = || format!("read {}", path.display());
        let text = fs::read(path).context(step)?;
        serde_json::from_slice(&text).map_err(|e| Error::new(format!("{}: {e}", step())))
    }

    /// Writes it for whoever supervises the pod.
    ///
    /// # Errors
    /// The kernel's.
    pub fn write(&self, path: &Path) -> Result<()> {
        let step = || format!("write {}", path.display());
        let text = serde_json::to_vec(self).map_err(|e| Error::new(e.to_string()));
        fs::write(path, text.context(step)?).context(step)
    }

    /// Puts it into the record.
    pub fn put_into(self, record: &mut Record) {
        record.manifest = self.manifest;
        record.objects = self.objects;
    }
}

/// What comes of a record with this pod, if one is given, and these objects; and what changes: `configmap/conf`, `labels`.
/// The record is empty then.
///
/// # Errors
/// Everything that may not change, in Kubernetes' words.
pub fn merge(record: &mut Record, pod: Option<Pod>, new: Objects) -> Result<(Update, Vec<String>)> {
    let mut changes = Changes::default();
    let mut manifest = std::mem::take(&mut record.manifest);
    let mut objects = std::mem::take(&mut record.objects);
    merge_objects(&mut objects, new, &mut changes);
    if let Some(pod) = pod {
        merge_pod(&mut manifest, pod, &mut changes);
    }
    let what = format!(
        "apply to pod {:?}",
        manifest.metadata.name.as_deref().unwrap_or_default()
    );
    Error::all(what, changes.refused)?;
    Ok((Update { manifest, objects }, changes.made))
}

#[derive(Default)]
struct Changes {
    made: Vec<String>,
    refused: Vec<Error>,
}

impl Changes {
    fn set<T: PartialEq>(&mut self, what: &str, old: &mut T, new: T) {
        if *old != new {
            *old = new;
            self.made.push(what.to_owned());
        }
    }

    fn refuse(&mut self, object: &str, field: &str) {
        self.refused.push(Error::new(format!(
            "{object}: {field}: Forbidden: field is immutable when `immutable` is set"
        )));
    }
}

fn merge_objects(old: &mut Objects, new: Objects, changes: &mut Changes) {
    for (name, config) in new.config_maps {
        let id = format!("configmap/{name}");
        let stays = new.immutable.contains(&id);
        let found = old.config_maps.entry(name).or_default();
        if old.immutable.contains(&id) {
            for (field, same) in [
                ("immutable", stays),
                ("data", found.data == config.data),
                ("binaryData", found.binary_data == config.binary_data),
            ] {
                if !same {
                    changes.refuse(&id, field);
                }
            }
        }
        changes.set(&id, found, config);
    }
    for (name, keys) in new.secrets {
        let id = format!("secret/{name}");
        let stays = new.immutable.contains(&id);
        let found = old.secrets.entry(name).or_default();
        if old.immutable.contains(&id) {
            for (field, same) in [("immutable", stays), ("data", *found == keys)] {
                if !same {
                    changes.refuse(&id, field);
                }
            }
        }
        changes.set(&id, found, keys);
    }
    for service in new.services {
        let id = format!("service/{}", service.name);
        match old.services.iter_mut().find(|s| s.name == service.name) {
            Some(found) => changes.set(&id, found, service),
            None => {
                old.services.push(service);
                changes.made.push(id);
            }
        }
    }
    // What a claim is bound to stays.
    for (name, volume) in new.claims {
        old.claims.entry(name).or_insert(volume);
    }
    for (name, path) in new.volumes {
        old.volumes.entry(name).or_insert(path);
    }
    old.immutable.extend(new.immutable);
}

fn merge_pod(old: &mut Pod, mut new: Pod, changes: &mut Changes) {
    let metadata = &mut old.metadata;
    // None and nothing in it are the same.
    let some = |map: Option<BTreeMap<String, String>>| map.filter(|map| !map.is_empty());
    changes.set(
        "labels",
        &mut metadata.labels,
        some(new.metadata.labels.take()),
    );
    let annotations = some(new.metadata.annotations.take());
    changes.set("annotations", &mut metadata.annotations, annotations);
    let (Some(old), Some(new)) = (&mut old.spec, &mut new.spec) else {
        return;
    };
    let pairs = inits(old).zip(inits(new));
    for (old, new) in pairs.filter(|(old, new)| old.name == new.name) {
        // The policy follows the tag.
        old.image_pull_policy.clone_from(&new.image_pull_policy);
        let what = format!("image of init container {}", old.name);
        changes.set(&what, &mut old.image, new.image.clone());
    }
    let text = |spec: &PodSpec| serde_json::to_value(spec).unwrap_or_default();
    if text(old) != text(new) {
        let error = Error::new(
            "spec: Forbidden: pod updates may not change fields other than `spec.initContainers[*].image`",
        );
        let error = error.hint("delete the pod and run it again");
        changes.refused.push(error);
    }
}

fn inits(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.init_containers.iter_mut().flatten()
}

/// Whether a pod refers to one of these objects.
pub fn refers(spec: &PodSpec, objects: &Objects) -> bool {
    let config_map = |name: &str| objects.config_maps.contains_key(name);
    let secret = |name: &str| objects.secrets.contains_key(name);
    let in_volumes = spec.volumes.iter().flatten().any(|volume| {
        let projected = volume
            .projected
            .iter()
            .flat_map(|p| p.sources.iter().flatten());
        let mut projected = projected.map(|source| {
            source
                .config_map
                .as_ref()
                .is_some_and(|s| config_map(&s.name))
                || source.secret.as_ref().is_some_and(|s| secret(&s.name))
        });
        let name = |s: &k8s_openapi::api::core::v1::SecretVolumeSource| {
            s.secret_name.as_deref().is_some_and(secret)
        };
        volume
            .config_map
            .as_ref()
            .is_some_and(|s| config_map(&s.name))
            || volume.secret.as_ref().is_some_and(name)
            || projected.any(|refers| refers)
    });
    let all = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let in_variables = all.into_iter().any(|container| {
        let mut from = container.env_from.iter().flatten();
        let mut each = container.env.iter().flatten();
        from.any(|from| {
            from.config_map_ref
                .as_ref()
                .is_some_and(|s| config_map(&s.name))
                || from.secret_ref.as_ref().is_some_and(|s| secret(&s.name))
        }) || each.any(|variable| {
            let from = variable.value_from.as_ref();
            let map = from.and_then(|from| from.config_map_key_ref.as_ref());
            let keys = from.and_then(|from| from.secret_key_ref.as_ref());
            map.is_some_and(|s| config_map(&s.name)) || keys.is_some_and(|s| secret(&s.name))
        })
    });
    in_volumes || in_variables
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pod::manifest::{Source, load, load_objects};

    const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {a: b}}
spec:
  volumes: [{name: v, configMap: {name: conf}}]
  initContainers: [{name: i, image: one, env: [{name: X, valueFrom: {secretKeyRef: {name: sec, key: k}}}]}]
  containers: [{name: c, image: app}]
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: conf}, data: {k: one}}
---
{apiVersion: v1, kind: Secret, metadata: {name: sec}, immutable: true, stringData: {k: one}}
";

    fn file(text: &str) -> (tempfile::TempDir, Source) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.yaml");
        fs::write(&path, text).unwrap();
        (dir, Source::Path(path))
    }

    fn record() -> Record {
        let manifest = load(&file(POD).1, None).unwrap();
        Record {
            version: Record::VERSION,
            uid: String::new(),
            boot_id: String::new(),
            data: "/d".into(),
            cgroup: String::new(),
            manifest_directory: "/m".into(),
            images: BTreeMap::new(),
            ids: None,
            network: manifest.network,
            attachment: None,
            objects: manifest.objects,
            manifest: manifest.pod,
        }
    }

    /// With this in the place of that.
    fn applied(from: &str, to: &str) -> Result<Vec<String>> {
        assert!(POD.contains(from), "{from}");
        let (_dir, source) = file(&POD.replace(from, to));
        let manifest = load(&source, None).unwrap();
        merge(&mut record(), Some(manifest.pod), manifest.objects).map(|(_, changes)| changes)
    }

    #[test]
    fn what_may_change_is_told() {
        for (from, to, expected) in [
            ("{a: b}", "{a: b}", vec![]),
            ("data: {k: one}", "data: {k: two}", vec!["configmap/conf"]),
            (
                "image: one",
                "image: two",
                vec!["image of init container i"],
            ),
            (
                "labels: {a: b}",
                "annotations: {a: b}",
                vec!["labels", "annotations"],
            ),
        ] {
            assert_eq!(applied(from, to).unwrap(), expected, "{to}");
        }
        let secret = "---\n{apiVersion: v1, kind: Secret";
        let service = format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {{ports: [{{port: 1}}]}}}}\n{secret}"
        );
        assert_eq!(applied(secret, &service).unwrap(), ["service/s"]);
    }

    #[test]
    fn what_is_immutable_or_of_the_spec_stays() {
        let immutable = "Forbidden: field is immutable when `immutable` is set";
        for (from, to, expected) in [
            (
                "stringData: {k: one}",
                "stringData: {k: two}",
                format!("secret/sec: data: {immutable}"),
            ),
            (
                "immutable: true",
                "immutable: false",
                format!("secret/sec: immutable: {immutable}"),
            ),
            (
                "image: app",
                "image: other",
                "spec: Forbidden: pod updates may not change fields other than".into(),
            ),
            (
                "name: conf}}]",
                "name: conf}}, {name: w}]",
                "spec: Forbidden".into(),
            ),
            ("name: i,", "name: j,", "spec: Forbidden".into()),
        ] {
            let error = applied(from, to).unwrap_err().to_string();
            assert!(error.contains(&expected), "{to}: {error}");
        }
    }

    #[test]
    fn who_refers_to_an_object_is_found() {
        let record = record();
        let spec = record.manifest.spec.as_ref().unwrap();
        for (kind, name, expected) in [
            ("ConfigMap", "conf", true),
            ("Secret", "sec", true),
            ("Secret", "conf", false),
            ("ConfigMap", "x", false),
        ] {
            let text = format!("{{apiVersion: v1, kind: {kind}, metadata: {{name: {name}}}}}");
            let (_dir, source) = file(&text);
            let loose = load_objects(&source).unwrap().unwrap();
            assert_eq!(refers(spec, &loose.objects), expected, "{kind} {name}");
        }
        assert!(
            load_objects(&file(POD).1).unwrap().is_none(),
            "there is a pod in it"
        );
    }

    #[test]
    fn an_update_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let (old, mut record) = (record(), record());
        let (update, _) = merge(&mut record, None, Objects::default()).unwrap();
        let path = dir.path().join("update.1");
        update.write(&path).unwrap();
        Update::read(&path).unwrap().put_into(&mut record);
        assert_eq!(record, old);
    }
}
