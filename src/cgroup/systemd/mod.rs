//! Cgroups that systemd makes: transient scopes, delegated to the container.
//!
//! systemd makes a scope around a process that exists: the container's first process, before it is let go. What systemd has
//! no words for, and all exact values, are written into the cgroup's files afterwards, as everywhere.

mod bus;
mod message;
mod properties;
mod variant;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::bus::{Bus, Refusal};
use self::message::Value;
use self::properties::Property;
use super::Limits;
use crate::error::{Context, Error, Result};
use crate::state::ContainerId;

/// Annotations of config.json that are properties of the scope, as in runc.
const ANNOTATION: &str = "org.systemd.property.";

/// A scope, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unit {
    /// `PREFIX-NAME.scope`.
    pub name: String,
    /// Of the manager of the user, not of the machine.
    pub user: bool,
}

/// A scope that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    /// Its name.
    pub unit: Unit,
    /// The slice that it is in.
    slice: String,
    /// Those of the annotations.
    properties: Vec<Property>,
}

/// Decides on the scope of the container `id`, and on its path below the manager's own cgroup. `given` is
/// `linux.cgroupsPath`, `slice:prefix:name`.
pub(super) fn plan(
    id: &ContainerId,
    given: Option<&Path>,
    annotations: &HashMap<String, String>,
    user: bool,
    errors: &mut Vec<Error>,
) -> (Scope, PathBuf) {
    let given = given.map(|given| given.to_string_lossy().into_owned());
    let parts = match given.as_deref().filter(|given| !given.is_empty()) {
        None => Some(["", "runp", id.as_str()]),
        Some(given) => {
            let parts: Vec<&str> = given.split(':').collect();
            parts.try_into().ok()
        }
    };
    let Some([slice, prefix, name]) = parts else {
        let given = given.unwrap_or_default();
        errors.push(
            Error::new(format!(
                "linux.cgroupsPath: {given:?}: not of the form slice:prefix:name"
            ))
            .hint("as \"system.slice:runp:name\", or leave out --systemd-cgroup"),
        );
        return (Scope::default_of(user), PathBuf::new());
    };
    let slice = match (slice, user) {
        ("", true) => "user.slice",
        ("", false) => "system.slice",
        (slice, _) => slice,
    };
    let name = match prefix {
        "" => format!("{name}.scope"),
        prefix => format!("{prefix}-{name}.scope"),
    };
    let mut refuse = |value: &str, why: &str, hint: &str| {
        errors.push(Error::new(format!("linux.cgroupsPath: {value:?}: {why}")).hint(hint));
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.len() > 255 || !name.chars().all(legal) {
        let hint = "at most 255 of the characters A-Z a-z 0-9 : - _ . \\ @, see systemd.unit(5)";
        refuse(&name, "not the name of a unit", hint);
    }
    let path = expand(slice).unwrap_or_else(|| {
        let hint = "as \"a-b.slice\", which is below \"a.slice\": see systemd.slice(5)";
        refuse(slice, "not the name of a slice", hint);
        PathBuf::new()
    });
    let path = path.join(&name);
    let scope = Scope {
        unit: Unit { name, user },
        slice: slice.to_owned(),
        properties: of_annotations(annotations, errors),
    };
    (scope, path)
}

/// Where a slice is: `/a.slice/a-b.slice` for `a-b.slice`, systemd.slice(5).
fn expand(slice: &str) -> Option<PathBuf> {
    let names = slice.strip_suffix(".slice")?;
    let mut path = PathBuf::from("/");
    if names == "-" {
        return Some(path);
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || ":_.\\@".contains(c);
    let mut prefix = String::new();
    for name in names.split('-') {
        if name.is_empty() || !name.chars().all(legal) {
            return None;
        }
        path.push(format!("{prefix}{name}.slice"));
        prefix = format!("{prefix}{name}-");
    }
    Some(path)
}

/// `org.systemd.property.NAME`; one that ends with `Sec` has seconds, which systemd counts in microseconds (`USec`).
fn of_annotations(annotations: &HashMap<String, String>, errors: &mut Vec<Error>) -> Vec<Property> {
    let mut found = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(ANNOTATION) else {
            continue;
        };
        let mut refuse = |why: String| {
            let hint = "a property of systemd.scope(5) and a value as uint64 5, true, 'text' or ['a', 'b']";
            errors.push(Error::new(format!("annotations.{key}: {text:?}: {why}")).hint(hint));
        };
        // Not what makes the scope the container's.
        let ours = [
            "Delegate",
            "PIDs",
            "Slice",
            "Description",
            "DefaultDependencies",
        ];
        if name.len() < 3 || !name.chars().all(|c| c.is_ascii_alphabetic()) || ours.contains(&name)
        {
            refuse("not a property that can be set".into());
            continue;
        }
        match (variant::parse(text), name.strip_suffix("Sec")) {
            (Err(why), _) => refuse(why),
            (Ok(value), Some(stem)) if !name.ends_with("USec") => match microseconds(&value) {
                Some(value) => found.push((format!("{stem}USec"), value)),
                None => refuse("not a number of seconds".into()),
            },
            (Ok(value), _) => found.push((name.to_owned(), value)),
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

fn microseconds(seconds: &Value) -> Option<Value> {
    let whole = |n: u64| n.checked_mul(1_000_000).map(Value::U64);
    match seconds {
        Value::I32(n) => whole(u64::try_from(*n).ok()?),
        Value::I64(n) => whole(u64::try_from(*n).ok()?),
        Value::U16(n) => whole((*n).into()),
        Value::U32(n) => whole((*n).into()),
        Value::U64(n) => whole(*n),
        Value::F64(n) if *n >= 0.0 && *n < 1e12 => Some(Value::U64((n * 1e6) as u64)),
        _ => None,
    }
}

impl Scope {
    fn default_of(user: bool) -> Self {
        Self {
            unit: Unit {
                name: String::new(),
                user,
            },
            slice: String::new(),
            properties: Vec::new(),
        }
    }

    /// Makes the scope around the process `pid`, with these limits.
    ///
    /// # Errors
    /// systemd's: a scope of this name exists, a property that it does not have.
    pub(super) fn start(&self, pid: i32, limits: &Limits, v2: bool) -> Result<()> {
        let name = &self.unit.name;
        let step = || format!("start {name}");
        let mut properties = vec![
            property("Description", Value::Str(format!("container {name}"))),
            property("Slice", Value::Str(self.slice.clone())),
            property("Delegate", Value::Bool(true)),
            property(
                "PIDs",
                Value::Array("u".into(), vec![Value::U32(pid.cast_unsigned())]),
            ),
            property("DefaultDependencies", Value::Bool(false)),
        ];
        for accounting in ["Memory", "CPU", "IO", "Tasks"] {
            properties.push(property(
                &format!("{accounting}Accounting"),
                Value::Bool(true),
            ));
        }
        properties.extend(self.properties.iter().map(variant_of));
        let limits = properties::of_limits(limits, v2);
        properties.extend(limits.iter().map(variant_of));
        let arguments = [
            Value::Str(name.clone()),
            Value::Str("replace".into()),
            Value::Array("(sv)".into(), properties),
            Value::Array("(sa(sv))".into(), Vec::new()),
        ];
        let mut bus = Bus::connect(self.unit.user).context(step)?;
        let mut result = bus.job("StartTransientUnit", &arguments);
        if result.as_ref().is_err_and(|e| e.is("UnitExists")) {
            // One that failed stays until somebody has looked.
            reset_failed(&mut bus, name);
            result = bus.job("StartTransientUnit", &arguments);
        }
        match result {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                reset_failed(&mut bus, name);
                Err(Error::new(format!("{}: systemd says {result}", step()))
                    .hint("see `systemctl status` and `journalctl` of it"))
            }
            Err(refusal) => {
                let exists = refusal.is("UnitExists");
                let error = Error::from(refusal).step(step());
                Err(match exists {
                    true => {
                        error.hint("another container has it: choose another linux.cgroupsPath")
                    }
                    false => error,
                })
            }
        }
    }
}

impl Unit {
    /// Where the cgroups of a user's manager begin: below its own. Empty for that of the machine, whose is the root.
    ///
    /// # Errors
    /// There is no systemd.
    pub(crate) fn home(&self) -> Result<PathBuf> {
        if !bus::is_booted() {
            return Err(Error::new("--systemd-cgroup: systemd does not run here")
                .hint("leave it out, and runp makes the cgroups itself"));
        }
        match self.user {
            false => Ok(PathBuf::new()),
            true => Bus::connect(true)?
                .manager_property("ControlGroup")
                .map(PathBuf::from),
        }
    }

    /// Tells systemd of changed limits; it sets them before it answers.
    ///
    /// # Errors
    /// systemd's.
    pub(super) fn set(&self, limits: &Limits, v2: bool) -> Result<()> {
        let properties = properties::of_limits(limits, v2);
        if properties.is_empty() {
            return Ok(());
        }
        let step = || format!("set properties of {}", self.name);
        let properties = properties.iter().map(variant_of).collect();
        let arguments = [
            Value::Str(self.name.clone()),
            Value::Bool(true),
            Value::Array("(sv)".into(), properties),
        ];
        let mut bus = Bus::connect(self.user).context(step)?;
        let set = bus.manager("SetUnitProperties", &arguments);
        set.map(drop).map_err(Error::from).context(step)
    }

    /// Moves a process into a cgroup of the scope, from wherever it is: a plain user's process may not move itself out of what is
    /// not delegated to that user, but systemd may. Since systemd 238.
    ///
    /// # Errors
    /// systemd's.
    pub(crate) fn attach(&self, cgroup: &Path, pid: i32) -> Result<()> {
        let step = || format!("move process {pid} into {}", self.name);
        let mut parts = cgroup.components();
        parts.find(|part| part.as_os_str() == self.name.as_str());
        let below = format!("/{}", parts.as_path().display());
        let arguments = [
            Value::Str(self.name.clone()),
            Value::Str(below),
            Value::Array("u".into(), vec![Value::U32(pid.cast_unsigned())]),
        ];
        let mut bus = Bus::connect(self.user).context(step)?;
        let moved = bus.manager("AttachProcessesToUnit", &arguments);
        moved.map(drop).map_err(Error::from).context(step)
    }

    /// Stops the scope, which most often has gone with its last process, and lets systemd forget it.
    ///
    /// # Errors
    /// systemd's.
    pub(super) fn stop(&self) -> Result<()> {
        let step = || format!("stop {}", self.name);
        let mut bus = Bus::connect(self.user).context(step)?;
        let arguments = [self.name.as_str(), "replace"].map(|s| Value::Str(s.into()));
        match bus.job("StopUnit", &arguments) {
            Ok(_) => {}
            Err(refusal) if refusal.is("NoSuchUnit") => return Ok(()),
            Err(Refusal::Broken(e)) => return Err(e.step(step())),
            Err(refusal) => log::warn!("{}: {}", step(), Error::from(refusal)),
        }
        reset_failed(&mut bus, &self.name);
        Ok(())
    }
}

/// A unit that did not fail needs no reset.
fn reset_failed(bus: &mut Bus, name: &str) {
    if let Err(refusal) = bus.manager("ResetFailedUnit", &[Value::Str(name.into())]) {
        log::debug!("reset {name}: {}", Error::from(refusal));
    }
}

fn property(name: &str, value: Value) -> Value {
    Value::Struct(vec![
        Value::Str(name.into()),
        Value::Variant(Box::new(value)),
    ])
}

fn variant_of((name, value): &Property) -> Value {
    property(name, value.clone())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn planned(given: Option<&str>, annotations: &[(&str, &str)]) -> (Scope, PathBuf, Vec<String>) {
        let mut errors = Vec::new();
        let annotations = annotations
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()));
        let (scope, path) = plan(
            &"c1".parse().unwrap(),
            given.map(Path::new),
            &annotations.collect(),
            false,
            &mut errors,
        );
        (
            scope,
            path,
            errors.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn a_scope_is_in_its_slice() {
        let table = [
            (None, "/system.slice/runp-c1.scope"),
            (Some(""), "/system.slice/runp-c1.scope"),
            (Some(":docker:abc"), "/system.slice/docker-abc.scope"),
            (
                Some("machine.slice:libpod:abc"),
                "/machine.slice/libpod-abc.scope",
            ),
            (
                Some("kubepods-burstable-podx.slice:cri-containerd:abc"),
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice/cri-containerd-abc.scope",
            ),
            (Some("-.slice:a:b"), "/a-b.scope"),
            (Some("a.slice::b"), "/a.slice/b.scope"),
        ];
        for (given, expected) in table {
            let (scope, path, errors) = planned(given, &[]);
            assert_eq!(errors, Vec::<String>::new(), "{given:?}");
            assert_eq!(path, Path::new(expected), "{given:?}");
            assert_eq!(
                Some(scope.unit.name.as_str()),
                path.file_name().unwrap().to_str()
            );
        }
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        let table = [
            ("/a/b", "linux.cgroupsPath: \"/a/b\": not of the form"),
            ("a:b", "linux.cgroupsPath: \"a:b\": not of the form"),
            ("a:b:c", "linux.cgroupsPath: \"a\": not the name of a slice"),
            ("a--b.slice:b:c", "linux.cgroupsPath: \"a--b.slice\": not"),
            ("../a.slice:b:c", "linux.cgroupsPath: \"../a.slice\": not"),
            ("a.slice:b:../c", "linux.cgroupsPath: \"b-../c.scope\": not"),
            ("a.slice:b:c+d", "linux.cgroupsPath: \"b-c+d.scope\": not"),
        ];
        for (given, start) in table {
            let (_, _, errors) = planned(Some(given), &[]);
            assert_eq!(errors.len(), 1, "{given}: {errors:?}");
            assert!(errors[0].starts_with(start), "{given}: {}", errors[0]);
        }
    }

    #[test]
    fn annotations_are_properties() {
        let (scope, _, errors) = planned(
            None,
            &[
                ("org.systemd.property.TimeoutStopSec", "123"),
                ("org.systemd.property.CollectMode", "'inactive-or-failed'"),
                ("org.systemd.property.TimeoutStopUSec", "uint64 7"),
                ("something.else", "'"),
            ],
        );
        assert_eq!(errors, Vec::<String>::new());
        let expected = [
            ("CollectMode", Value::Str("inactive-or-failed".into())),
            ("TimeoutStopUSec", Value::U64(123_000_000)),
            ("TimeoutStopUSec", Value::U64(7)),
        ];
        let mut found: Vec<_> = scope
            .properties
            .iter()
            .map(|(n, v)| (n.as_str(), v.clone()))
            .collect();
        found.sort_by_key(|(name, value)| (*name, format!("{value:?}").len() < 9));
        assert_eq!(found, expected);
        for (key, text) in [
            ("org.systemd.property.X", "1"),
            ("org.systemd.property.Delegate", "false"),
            ("org.systemd.property.Exec-Start", "1"),
            ("org.systemd.property.TimeoutStopSec", "'x'"),
            ("org.systemd.property.CollectMode", "x"),
        ] {
            let (_, _, errors) = planned(None, &[(key, text)]);
            assert_eq!(errors.len(), 1, "{key}");
            assert!(
                errors[0].starts_with(&format!("annotations.{key}: ")),
                "{}",
                errors[0]
            );
        }
    }
}
