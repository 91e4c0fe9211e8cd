//! Reads config.json; every error has its JSON path.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use oci_spec::runtime::{Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::tables;
use crate::error::{Context, Error, Result};

/// In bytes. Far above any configuration (the largest that we know of have some hundred kilobytes of environment and
/// mounts), far below what hurts.
const MAX_SIZE: u64 = 16 << 20;

/// Where the names of capabilities are, in config.json and in the process.json of `exec --process`.
const CAPABILITIES: [&str; 2] = ["/process/capabilities", "/capabilities"];
/// Where the flags of the scheduler are.
const SCHEDULER_FLAGS: [&str; 2] = ["/process/scheduler/flags", "/scheduler/flags"];

/// Reads `config.json` of a bundle.
///
/// Unknown properties are ignored (runtime-spec, config.md, "Extensibility"), and so are unknown capabilities, with a
/// warning, as in runc: a newer kernel's capability is merely not given.
///
/// # Errors
/// The file cannot be read, is no regular file or larger than 16 MiB, is no JSON, or a value has the wrong type; the
/// latter by its JSON path.
pub fn load(bundle: &Path) -> Result<Spec> {
    let bytes = read_file(&bundle.join("config.json"))?;
    let mut spec = parse_file(&bytes, "config.json", "config.md")?;
    leave_out_empty_pids(&mut spec, &bytes);
    Ok(spec)
}

/// oci-spec reads a `pids` without a limit as one with 0, which is a limit.
fn leave_out_empty_pids(spec: &mut Spec, bytes: &[u8]) {
    let resources = |spec: &Spec| spec.linux().as_ref()?.resources().clone();
    let Some(mut resources) = resources(spec) else {
        return;
    };
    let asks = resources.pids().is_some_and(|pids| pids.limit() == 0);
    if asks
        && let Ok(value) = serde_json::from_slice::<Value>(bytes)
        && value.pointer("/linux/resources/pids/limit").is_none()
        && let Some(mut linux) = spec.linux().clone()
    {
        resources.set_pids(None);
        linux.set_resources(Some(resources));
        spec.set_linux(Some(linux));
    }
}

/// Reads the process of `exec --process`: the `process` object of config.json in a file of its own.
///
/// # Errors
/// As [`load`].
pub fn load_process(path: &Path) -> Result<Process> {
    let name = path.display().to_string();
    read(path, &name, "config.md#process")
}

/// Reads a part of a `config.json`, with the same limits as [`load`].
///
/// # Errors
/// As [`load`].
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    read(path, &path.display().to_string(), "config.md")
}

/// A process from memory, as [`load_process`] reads it from a file; `name` says what it is.
///
/// # Errors
/// As [`load`].
pub fn parse_process(bytes: &[u8], name: &str) -> Result<Process> {
    parse_file(bytes, name, "config.md#process")
}

fn read<T: DeserializeOwned>(path: &Path, name: &str, chapter: &str) -> Result<T> {
    parse_file(&read_file(path)?, name, chapter)
}

fn parse_file<T: DeserializeOwned>(bytes: &[u8], name: &str, chapter: &str) -> Result<T> {
    parse(bytes).map_err(|reason| {
        Error::new(format!("{name}: {reason}")).hint(format!("see the runtime-spec, {chapter}"))
    })
}

/// A bundle may come from anybody: a FIFO must not block, an endless file must not fill the memory.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    let read = || format!("read {}", path.display());
    let open = |path: &Path| -> std::io::Result<File> {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
            .open(path)
    };
    let file = open(path).map_err(|e| {
        let error = Error::sys(format!("open {}", path.display()), e);
        match error.errno() {
            Some(libc::ENOENT) => error.hint("`runp spec` writes a config.json to start from"),
            _ => error,
        }
    })?;
    let metadata = file.metadata().context(read)?;
    if !metadata.is_file() {
        return Err(Error::new(format!("{}: not a regular file", read())));
    }
    if metadata.len() > MAX_SIZE {
        return Err(Error::new(format!("{}: larger than 16 MiB", read())));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    file.take(metadata.len())
        .read_to_end(&mut bytes)
        .context(read)?;
    Ok(bytes)
}

/// Reads a configuration from its text.
///
/// # Errors
/// The reason: `path: what at line L column C`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> std::result::Result<T, String> {
    // serde also reads a struct from a list of its values.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err("invalid type: list, expected an object".into());
    }
    let refused = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(e) => e.to_string(),
    };
    // Only now it is worth reading it a second time, slower: to find the path, and because oci-spec knows names as enums, so that
    // a single unknown one makes the whole file unreadable.
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let mut value: Value = serde_path_to_error::deserialize(&mut json)
        .map_err(|e| explain(&e, &e.inner().to_string()))?;
    json.end().map_err(|e| e.to_string())?;
    let renamed = rename_scheduler_flags(&mut value);
    let dropped = drop_unknown_capabilities(&mut value);
    match serde_path_to_error::deserialize(value) {
        Ok(value) if renamed || dropped => Ok(value),
        // What a value cannot show: a key that is there twice.
        Ok(_) => Err(refused),
        Err(e) => Err(explain(&e, &refused)),
    }
}

/// `refused` is what was said of the same file with the place in it.
fn explain<E: std::fmt::Display>(error: &serde_path_to_error::Error<E>, refused: &str) -> String {
    let inner = error.inner().to_string();
    let reason = match refused.starts_with(&inner) {
        true => refused,
        false => &inner,
    };
    // `?` is what was not read any more.
    let path = error.path().to_string();
    match path.trim_end_matches(".?") {
        "." | "?" => reason.into(),
        path => format!("{path}: {reason}"),
    }
}

/// Two flags have other names in oci-spec 0.10 than in the runtime-spec.
fn rename_scheduler_flags(value: &mut Value) -> bool {
    let mut renamed = false;
    for pointer in SCHEDULER_FLAGS {
        let flags = value.pointer_mut(pointer).and_then(Value::as_array_mut);
        for flag in flags.into_iter().flatten() {
            let name = match flag.as_str() {
                Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
                Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
                _ => continue,
            };
            *flag = name.into();
            renamed = true;
        }
    }
    renamed
}

fn drop_unknown_capabilities(value: &mut Value) -> bool {
    let mut dropped = false;
    for pointer in CAPABILITIES {
        let Some(Value::Object(sets)) = value.pointer_mut(pointer) else {
            continue;
        };
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.retain(|name| {
                let unknown = name.as_str().filter(|n| tables::capability(n).is_none());
                if let Some(name) = unknown {
                    log::warn!("ignoring unknown capability {name:?}");
                    dropped = true;
                }
                unknown.is_none()
            });
        }
    }
    dropped
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn bundle(config: impl AsRef<[u8]>) -> tempfile::TempDir {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("config.json"), config).unwrap();
        bundle
    }

    fn error(config: impl AsRef<[u8]>) -> String {
        load(bundle(config).path()).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_type_is_told_by_its_path_and_place() {
        assert_eq!(
            error("{\"mounts\": [{\"destination\": \"/\",\n \"options\": [\"ro\", 7]}]}"),
            "config.json: mounts[0].options[1]: invalid type: integer `7`, expected a string at line 2 column 20 \
             (see the runtime-spec, config.md)"
        );
        assert_eq!(
            error("{\"process\": {\"cwd\": \"/\", \"user\": {\"uid\": -1}}}"),
            "config.json: process.user.uid: invalid value: integer `-1`, expected u32 at line 1 column 43 \
             (see the runtime-spec, config.md)"
        );
    }

    #[test]
    fn what_is_no_json_is_told() {
        for (config, reason) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("[]", "invalid type: list, expected an object"),
            ("{} x", "trailing characters at line 1 column 4"),
            ("{\"root\": {", "root: EOF while parsing an object"),
        ] {
            let error = error(config);
            assert!(error.starts_with("config.json: "), "{error}");
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn unknown_capabilities_and_properties_are_ignored() {
        let config = r#"{"ociVersion": "1.0.2", "new": 1, "process": {"user": {}, "cwd": "/", "capabilities":
            {"bounding": ["CAP_KILL", "CAP_NEWER"], "permitted": ["CAP_NEWER"]}}}"#;
        let spec = load(bundle(config).path()).unwrap();
        let sets = spec.process().as_ref().unwrap().capabilities();
        let sets = sets.as_ref().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
        assert_eq!(sets.permitted().as_ref().unwrap().len(), 0);
        // what is wrong besides is still an error
        let error = error(config.replace("\"/\"", "7"));
        assert!(error.contains("process.cwd: invalid type"), "{error}");
    }

    #[test]
    fn all_flags_of_a_scheduler_are_known() {
        let flags = r#"["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN",
            "SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS", "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"]"#;
        let config = format!(
            r#"{{"ociVersion": "1.0.2", "process": {{"user": {{}}, "cwd": "/",
                "scheduler": {{"policy": "SCHED_OTHER", "flags": {flags}}}}}}}"#
        );
        let spec = load(bundle(config).path()).unwrap();
        let scheduler = spec.process().as_ref().unwrap().scheduler();
        assert_eq!(
            scheduler.as_ref().unwrap().flags().as_ref().unwrap().len(),
            7
        );
    }

    #[test]
    fn only_a_regular_file_of_a_sane_size_is_read() {
        let bundle = tempfile::tempdir().unwrap();
        let path = bundle.path().join("config.json");
        let error = || load(bundle.path()).unwrap_err().to_string();
        assert!(error().contains("ENOENT"), "{}", error());
        assert!(error().contains("`runp spec`"), "{}", error());

        // A reader without O_NONBLOCK would wait here for ever.
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        assert!(error().ends_with("not a regular file"), "{}", error());

        std::fs::remove_file(&path).unwrap();
        let file = File::create(&path).unwrap();
        file.set_len(8 << 30).unwrap();
        assert!(error().ends_with("larger than 16 MiB"), "{}", error());
    }

    #[test]
    fn a_process_has_a_file_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.json");
        let sets = r#"{"bounding": ["CAP_NEWER"]}"#;
        std::fs::write(
            &path,
            format!(r#"{{"user": {{}}, "cwd": "/", "capabilities": {sets}}}"#),
        )
        .unwrap();
        assert_eq!(load_process(&path).unwrap().cwd(), Path::new("/"));
        std::fs::write(&path, r#"{"user": {}}"#).unwrap();
        let error = load_process(&path).unwrap_err().to_string();
        assert!(error.contains("missing field `cwd`"), "{error}");
    }
}
