//! The command line against runc's: every verb and option of theirs, as their own `--help` lists them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Case, Need, binary, is_runp};

/// What runc 1.5 has and the runcs at hand may not have yet: `verb option`; with `=` it takes a value.
const NEWER: &[&str] = &[
    " debug",
    " log=",
    " log-format=",
    " root=",
    " systemd-cgroup",
    " rootless=",
    "checkpoint image-path=",
    "checkpoint link-remap",
    "checkpoint tcp-skip-in-flight",
    "checkpoint manage-cgroups-mode=",
    "create pidfd-socket=",
    "create preserve-fds=",
    "exec cgroup=",
    "exec ignore-paused",
    "exec pidfd-socket=",
    "exec preserve-fds=",
    "features ",
    "kill all",
    "list quiet",
    "restore lsm-mount-context=",
    "restore lsm-profile=",
    "run keep",
    "run pidfd-socket=",
    "run preserve-fds=",
    "update cpu-burst=",
    "update cpu-idle=",
    "update l3-cache-schema=",
    "update mem-bw-schema=",
    "update pids-limit=",
];

/// The options of a verb (of none: the global ones) by their names, and whether they take a value.
type Options = BTreeMap<String, bool>;

/// Runs `--help` of a runc, which may be in a root of its own.
fn help(runc: &[&str], verb: &[&str]) -> String {
    let output = Command::new(runc[0])
        .args(&runc[1..])
        .args(verb)
        .arg("--help")
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lines of a section: ` name value, -n value  what it does`.
fn section<'a>(help: &'a str, title: &str) -> impl Iterator<Item = &'a str> {
    let rest = help.split_once(title).map_or("", |(_, rest)| rest);
    rest.lines()
        .skip(1)
        .take_while(|line| line.starts_with("   ") || line.trim().is_empty())
}

fn options(help: &str) -> Options {
    let option = |line: &str| {
        let (names, _) = line
            .trim()
            .strip_prefix("--")?
            .split_once("  ")
            .or(Some((line.trim().strip_prefix("--")?, "")))?;
        let name = names.split([' ', ',']).next()?;
        let takes_value = names.contains(" value");
        (name != "help" && name != "version").then(|| (name.to_owned(), takes_value))
    };
    section(help, "OPTIONS:").filter_map(option).collect()
}

/// Every verb of a runc with its options.
fn verbs(runc: &[&str]) -> BTreeMap<String, Options> {
    let general = help(runc, &[]);
    let names = section(&general, "COMMANDS:").filter_map(|line| line.split_whitespace().next());
    let names = names
        .map(|name| name.trim_end_matches(',').to_owned())
        .filter(|name| name != "help");
    let mut verbs: BTreeMap<_, _> = names
        .map(|name| {
            let text = help(runc, &[&name]);
            (name, options(&text))
        })
        .collect();
    verbs.insert(String::new(), options(&general));
    verbs
}

/// What runp says to an option. Its help ends the parsing, whatever else is missing.
fn refusal(case: &Case, verb: &str, option: &str, takes_value: bool) -> Option<String> {
    let mut command = case.runtime();
    command.args((!verb.is_empty()).then_some(verb));
    if !option.is_empty() {
        command.arg(format!("--{option}"));
        command.args(takes_value.then_some("1"));
    }
    let done = case.finish({
        command.arg("--help");
        command
    });
    let unknown = [
        "unexpected argument",
        "unrecognized subcommand",
        "unexpected value",
    ];
    unknown
        .iter()
        .any(|text| done.stderr.contains(text))
        .then_some(done.stderr)
}

#[track_caller]
fn compare(case: &Case, verbs: &BTreeMap<String, Options>) {
    let mut missing = Vec::new();
    for (verb, options) in verbs {
        missing.extend(refusal(case, verb, "", false));
        for (option, takes_value) in options {
            if refusal(case, verb, option, *takes_value).is_some() {
                missing.push(format!("{verb} --{option}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_verb_and_option_of_the_installed_runc_is_known() {
    let Some(case) = Case::new(&[Need::Runp, Need::Program("runc")]) else {
        return;
    };
    let verbs = verbs(&["runc"]);
    assert!(verbs.len() > 15 && verbs["run"].len() > 5, "{verbs:#?}");
    assert!(
        verbs["create"]["bundle"] && !verbs["run"]["detach"],
        "{verbs:#?}"
    );
    compare(&case, &verbs);
    // Positive control.
    assert!(refusal(&case, "run", "no-such-option", false).is_some());
    assert!(refusal(&case, "no-such-verb", "", false).is_some());
}

#[test]
fn every_verb_and_option_of_the_newest_runc_is_known() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let mut newer: BTreeMap<String, Options> = BTreeMap::new();
    for line in NEWER {
        let (verb, option) = line.split_once(' ').unwrap();
        let options = newer.entry(verb.into()).or_default();
        if !option.is_empty() {
            options.insert(option.trim_end_matches('=').into(), option.ends_with('='));
        }
    }
    compare(&case, &newer);
    // Debian forky's, where scripts/bench has unpacked it.
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    if peers.join("usr/sbin/runc").exists() {
        compare(&case, &verbs(&["chroot", peers.to_str().unwrap(), "runc"]));
    }
}

#[test]
fn the_version_is_in_the_form_that_callers_parse() {
    let Some(case) = Case::new(&[]) else { return };
    let long = case.run(["--version"]).ok().stdout;
    assert_eq!(case.run(["-v"]).ok().stdout, long);
    let mut lines = long.lines();
    // moby, parseRuntimeVersion; containerd/go-runc, parseVersion
    let (name, version) = lines.next().unwrap().split_once(" version ").unwrap();
    assert_eq!(name, binary().file_name().unwrap(), "{long}");
    assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{long}");
    assert!(lines.any(|line| line.starts_with("spec: 1.")), "{long}");
}

#[test]
fn errors_are_in_the_log_as_callers_parse_them() {
    let Some(case) = Case::new(&[]) else { return };
    let log = case.dir().join("log.json");
    let log = log.to_str().unwrap();
    for arguments in [&["state", "absent"][..], &["start", "absent"]] {
        case.run([&["--log", log, "--log-format", "json"], arguments].concat())
            .fails();
    }
    let text = std::fs::read_to_string(log).unwrap();
    // containerd, getLastRuntimeError: one object after the other. runc writes each on a line of its own.
    let entries: Vec<Value> = serde_json::Deserializer::from_str(&text)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(entries.len(), 2, "{text}");
    assert!(!is_runp() || text.lines().count() == 2, "{text}");
    for entry in entries {
        assert_eq!(entry["level"], "error");
        assert!(
            entry["msg"].as_str().unwrap().contains("does not exist"),
            "{entry}"
        );
        assert!(entry["time"].as_str().unwrap().contains('T'), "{entry}");
    }
}

#[test]
fn the_features_are_a_document_of_the_spec() {
    let Some(case) = Case::new(&[]) else { return };
    let features: Value = serde_json::from_str(&case.run(["features"]).ok().stdout).unwrap();
    for pointer in ["/ociVersionMin", "/ociVersionMax"] {
        assert!(
            features
                .pointer(pointer)
                .unwrap()
                .as_str()
                .unwrap()
                .starts_with("1."),
            "{features}"
        );
    }
    for (pointer, entry) in [
        ("/hooks", "createRuntime"),
        ("/mountOptions", "rro"),
        ("/linux/namespaces", "cgroup"),
        ("/linux/capabilities", "CAP_KILL"),
        ("/linux/seccomp/actions", "SCMP_ACT_NOTIFY"),
    ] {
        let list = features.pointer(pointer).unwrap().as_array().unwrap();
        assert!(list.iter().any(|name| name == entry), "{pointer}: {list:?}");
    }
    assert_eq!(features["linux"]["cgroup"]["v1"], true);
}
