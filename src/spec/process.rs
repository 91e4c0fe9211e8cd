//! `process`: the program and its credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;

use oci_spec::runtime as oci;

use super::field::Field;
use super::plan::{Capabilities, Process};
use super::scheduling::plan_scheduling;
use super::tables;
use crate::error::Error;

/// Supplementary groups that setgroups(2) takes (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65536;

/// Plans the process of a container or of an exec. `path` is where it is in the configuration: `process`, or empty if
/// it has a file of its own.
///
/// What it returns is worth nothing if it adds to `errors`.
pub fn plan_process(process: &oci::Process, path: &str, errors: &mut Vec<Error>) -> Process {
    let field = &mut Field::new(path, errors);
    let terminal = process.terminal().unwrap_or(false);
    let user = process.user();
    if user.username().is_some() {
        field
            .at("user")
            .at("username")
            .refuse_and_hint("is for Windows", "give process.user.uid and gid as numbers");
    }
    Process {
        terminal,
        uid: field.at("user").at("uid").id(user.uid()),
        gid: field.at("user").at("gid").id(user.gid()),
        additional_gids: plan_groups(user, &mut field.at("user").at("additionalGids")),
        umask: plan_umask(user, &mut field.at("user").at("umask")),
        console_size: process
            .console_size()
            .filter(|_| terminal) // config.md: otherwise it must be ignored
            .map(|size| plan_console_size(size, &mut field.at("consoleSize"))),
        args: plan_args(process, &mut field.at("args")),
        env: plan_env(process, &mut field.at("env")),
        cwd: plan_cwd(process, &mut field.at("cwd")),
        capabilities: plan_capabilities(process, &mut field.at("capabilities")),
        rlimits: plan_rlimits(process, &mut field.at("rlimits")),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        oom_score_adj: plan_oom_score_adj(process, &mut field.at("oomScoreAdj")),
        scheduling: plan_scheduling(process, field),
        apparmor_profile: plan_label(process.apparmor_profile(), &mut field.at("apparmorProfile")),
        selinux_label: plan_label(process.selinux_label(), &mut field.at("selinuxLabel")),
    }
}

fn plan_groups(user: &oci::User, field: &mut Field<'_>) -> Vec<u32> {
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    if groups.len() > MAX_GROUPS {
        field.refuse(format_args!(
            "has {} groups, the kernel takes {MAX_GROUPS}",
            groups.len()
        ));
    }
    groups
        .iter()
        .enumerate()
        .map(|(index, gid)| field.item(index).id(*gid))
        .collect()
}

fn plan_umask(user: &oci::User, field: &mut Field<'_>) -> u32 {
    let umask = user.umask().unwrap_or(0o022);
    if umask > 0o777 {
        field.refuse_and_hint(
            format_args!("{umask} is no mask of permission bits"),
            "JSON numbers are decimal: 18 is 0022; at most 511",
        );
    }
    umask
}

fn plan_console_size(size: oci::Box, field: &mut Field<'_>) -> (u16, u16) {
    let mut dimension = |name: &str, value: u64| {
        u16::try_from(value).unwrap_or_else(|_| {
            field
                .at(name)
                .refuse(format_args!("{value} is more than 65535"));
            0
        })
    };
    (
        dimension("height", size.height()),
        dimension("width", size.width()),
    )
}

fn plan_args(process: &oci::Process, field: &mut Field<'_>) -> Vec<CString> {
    let args = process.args().as_deref().unwrap_or_default();
    match args.first().map(String::as_str) {
        None => field.refuse_and_hint("is empty", "its first element is the program"),
        Some("") => field
            .item(0)
            .refuse_and_hint("is empty", "it is the program"),
        Some(_) => {}
    }
    args.iter()
        .enumerate()
        .map(|(index, arg)| field.item(index).c_string(arg))
        .collect()
}

/// Of two entries with the same name the last counts and has the place of the first, as with runc's setenv(3):
/// getenv(3) alone would find the first.
fn plan_env(process: &oci::Process, field: &mut Field<'_>) -> Vec<CString> {
    let mut plan: Vec<CString> = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, entry) in process.env().iter().flatten().enumerate() {
        let field = &mut field.item(index);
        let Some((name, _)) = entry.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            field.refuse(format_args!("{entry:?} is not NAME=value"));
            continue;
        };
        let entry = field.c_string(entry);
        match places.get(name) {
            Some(&place) => plan[place] = entry,
            None => {
                places.insert(name, plan.len());
                plan.push(entry);
            }
        }
    }
    plan
}

fn plan_cwd(process: &oci::Process, field: &mut Field<'_>) -> CString {
    field.absolute(process.cwd());
    CString::new(process.cwd().as_os_str().as_encoded_bytes()).unwrap_or_default()
}

/// Without `capabilities` there are none, as in runc.
fn plan_capabilities(process: &oci::Process, field: &mut Field<'_>) -> Capabilities {
    let Some(sets) = process.capabilities() else {
        return Capabilities::default();
    };
    let bits = |set: &Option<oci::Capabilities>| {
        set.iter()
            .flatten()
            .filter_map(|capability| tables::capability(&capability.to_string()))
            .fold(0, |bits, bit| bits | bit)
    };
    let plan = Capabilities {
        bounding: bits(sets.bounding()),
        effective: bits(sets.effective()),
        inheritable: bits(sets.inheritable()),
        permitted: bits(sets.permitted()),
        // prctl(2) raises only what is permitted and inheritable. runc warns of the rest and goes on, and `runc spec`
        // itself writes an ambient set without an inheritable one.
        ambient: bits(sets.ambient()) & bits(sets.permitted()) & bits(sets.inheritable()),
    };
    // What capset(2) refuses (EPERM), the bounding set being dropped before.
    for (name, set, limit, limited_by) in [
        ("effective", plan.effective, plan.permitted, "permitted"),
        ("inheritable", plan.inheritable, plan.bounding, "bounding"),
    ] {
        let excess = tables::capability_names(set & !limit);
        if !excess.is_empty() {
            field
                .at(name)
                .refuse(format_args!("{} not in {limited_by}", excess.join(", ")));
        }
    }
    plan
}

fn plan_rlimits(process: &oci::Process, field: &mut Field<'_>) -> Vec<(u32, u64, u64)> {
    let mut seen = BTreeSet::new();
    let rlimits = process.rlimits().as_deref().unwrap_or_default();
    let plan_one = |(index, rlimit): (usize, &oci::PosixRlimit)| {
        let field = &mut field.item(index);
        let (number, soft, hard) = (tables::rlimit(rlimit.typ()), rlimit.soft(), rlimit.hard());
        if !seen.insert(number) {
            field
                .at("type")
                .refuse(format_args!("{} is there twice", rlimit.typ()));
        }
        if soft > hard {
            field
                .at("soft")
                .refuse(format_args!("{soft} is above the hard limit {hard}"));
        }
        (number, soft, hard)
    };
    rlimits.iter().enumerate().map(plan_one).collect()
}

fn plan_label(label: &Option<String>, field: &mut Field<'_>) -> Option<CString> {
    let label = label.as_deref().filter(|label| !label.is_empty())?;
    Some(field.c_string(label))
}

fn plan_oom_score_adj(process: &oci::Process, field: &mut Field<'_>) -> Option<i32> {
    let adjustment = process.oom_score_adj()?;
    if !(-1000..=1000).contains(&adjustment) {
        field.refuse(format_args!("{adjustment} is not between -1000 and 1000"));
    }
    Some(adjustment)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::testing::{assert_refused, planned};

    const AUDIT_WRITE_KILL_NET_BIND: u64 = 1 << 29 | 1 << 5 | 1 << 10;

    fn process(changes: &[(&str, Value)]) -> Process {
        planned(changes).process
    }

    #[test]
    fn of_the_default_configuration() {
        let process = process(&[]);
        assert!(process.terminal && process.no_new_privileges);
        assert_eq!((process.uid, process.gid, process.umask), (0, 0, 0o022));
        assert_eq!(process.args, [c"sh".to_owned()]);
        assert_eq!(process.cwd.as_c_str(), c"/");
        assert_eq!(process.env.len(), 2);
        assert_eq!(process.rlimits, [(libc::RLIMIT_NOFILE, 1024, 1024)]);
        assert_eq!(process.oom_score_adj, None);
        assert_eq!(process.console_size, None);
        assert!(process.additional_gids.is_empty());
    }

    #[test]
    fn nothing_is_inheritable_unless_asked_for() {
        let all = AUDIT_WRITE_KILL_NET_BIND;
        let default = process(&[]).capabilities;
        assert_eq!(
            default,
            Capabilities {
                bounding: all,
                effective: all,
                permitted: all,
                inheritable: 0,
                ambient: 0
            }
        );
        let kill = json!(["CAP_KILL"]);
        let asked = process(&[("/process/capabilities/inheritable", kill)]).capabilities;
        assert_eq!((asked.inheritable, asked.ambient), (1 << 5, 1 << 5));
    }

    #[test]
    fn without_capabilities_there_are_none() {
        let null = [("/process/capabilities", Value::Null)];
        assert_eq!(process(&null).capabilities, Capabilities::default());
    }

    #[test]
    fn of_a_variable_the_last_value_counts() {
        let env = json!(["A=1", "B=2", "A=3=4", "C="]);
        let env = process(&[("/process/env", env)]).env;
        assert_eq!(env, [c"A=3=4", c"B=2", c"C="].map(ToOwned::to_owned));
    }

    #[test]
    fn the_size_of_a_terminal_is_for_a_terminal() {
        let size = json!({"height": 24, "width": 80});
        let change = ("/process/consoleSize", size);
        let terminal = |value: bool| ("/process/terminal", json!(value));
        assert_eq!(
            process(std::slice::from_ref(&change)).console_size,
            Some((24, 80))
        );
        assert_eq!(process(&[change, terminal(false)]).console_size, None);
        let absurd = ("/process/consoleSize", json!({"height": u64::MAX}));
        assert_eq!(process(&[absurd, terminal(false)]).console_size, None);
    }

    #[test]
    fn refused_programs_and_users() {
        let groups: Vec<u32> = (0..65537).collect();
        let no_id = "4294967295 is no id (it is -1 for the kernel, which means no change)";
        assert_refused(&[
            (
                "/process/args",
                json!([]),
                "process.args: is empty (its first element is the program)",
            ),
            (
                "/process/args",
                json!([""]),
                "process.args[0]: is empty (it is the program)",
            ),
            (
                "/process/args/-",
                json!("a\0b"),
                "process.args[1]: \"a\\0b\" contains a NUL byte",
            ),
            (
                "/process/cwd",
                json!(""),
                "process.cwd: \"\" is not an absolute path",
            ),
            (
                "/process/cwd",
                json!("a"),
                "process.cwd: \"a\" is not an absolute path",
            ),
            (
                "/process/cwd",
                json!("/\0"),
                "process.cwd: \"/\\0\" contains a NUL byte",
            ),
            (
                "/process/env/1",
                json!("TERM"),
                "process.env[1]: \"TERM\" is not NAME=value",
            ),
            (
                "/process/env/1",
                json!("=x"),
                "process.env[1]: \"=x\" is not NAME=value",
            ),
            (
                "/process/env/1",
                json!("A=\0"),
                "process.env[1]: \"A=\\0\" contains a NUL byte",
            ),
            (
                "/process/user/uid",
                json!(u32::MAX),
                &format!("process.user.uid: {no_id}"),
            ),
            (
                "/process/user/gid",
                json!(u32::MAX),
                &format!("process.user.gid: {no_id}"),
            ),
            (
                "/process/user/additionalGids",
                json!([1, u32::MAX]),
                &format!("process.user.additionalGids[1]: {no_id}"),
            ),
            (
                "/process/user/additionalGids",
                json!(groups),
                "process.user.additionalGids: has 65537 groups, the kernel takes 65536",
            ),
            (
                "/process/user/umask",
                json!(512),
                "process.user.umask: 512 is no mask of permission bits (JSON numbers are decimal: 18 is 0022; at most \
                 511)",
            ),
            (
                "/process/user/username",
                json!("root"),
                "process.user.username: is for Windows (give process.user.uid and gid as numbers)",
            ),
        ]);
    }

    #[test]
    fn refused_limits_and_capabilities() {
        assert_refused(&[
            (
                "/process/consoleSize",
                json!({"height": 65536, "width": 1}),
                "process.consoleSize.height: 65536 is more than 65535",
            ),
            (
                "/process/rlimits/-",
                json!({"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}),
                "process.rlimits[1].type: RLIMIT_NOFILE is there twice",
            ),
            (
                "/process/rlimits/0/soft",
                json!(1025),
                "process.rlimits[0].soft: 1025 is above the hard limit 1024",
            ),
            (
                "/process/oomScoreAdj",
                json!(1001),
                "process.oomScoreAdj: 1001 is not between -1000 and 1000",
            ),
            (
                "/process/oomScoreAdj",
                json!(-1001),
                "process.oomScoreAdj: -1001 is not between -1000 and 1000",
            ),
            (
                "/process/capabilities/permitted",
                json!(["CAP_KILL"]),
                "process.capabilities.effective: CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE not in permitted",
            ),
            (
                "/process/capabilities/inheritable",
                json!(["CAP_SYS_ADMIN"]),
                "process.capabilities.inheritable: CAP_SYS_ADMIN not in bounding",
            ),
        ]);
    }

    #[test]
    fn labels_are_strings_and_empty_ones_none() {
        let process = process(&[
            ("/process/apparmorProfile", json!("a b")),
            ("/process/selinuxLabel", json!("")),
        ]);
        assert_eq!(process.apparmor_profile.as_deref(), Some(c"a b"));
        assert_eq!(process.selinux_label, None);
        assert_refused(&[(
            "/process/selinuxLabel",
            json!("a\0"),
            "process.selinuxLabel: \"a\\0\" contains a NUL byte",
        )]);
    }

    #[test]
    fn an_exec_has_its_own_paths() {
        let process = json!({"user": {"uid": u32::MAX}, "args": [], "cwd": "x"});
        let process = serde_json::from_value(process).unwrap();
        let mut errors = Vec::new();
        plan_process(&process, "", &mut errors);
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "user.uid: 4294967295 is no id (it is -1 for the kernel, which means no change)",
                "args: is empty (its first element is the program)",
                "cwd: \"x\" is not an absolute path"
            ]
        );
    }
}
