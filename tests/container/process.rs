//! The program's credentials, limits and surroundings.

use std::process::Command;

use serde_json::json;

use crate::support::Case;

#[test]
fn the_capabilities_are_exactly_those_asked_for() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").with(
        "/process/capabilities",
        json!({"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL", "CAP_CHOWN"],
               "effective": ["CAP_KILL"], "inheritable": [], "ambient": []}),
    );
    let c = c.args(&["/bin/sh", "-c", "grep ^Cap /proc/self/status"]);
    // After an execve by root, permitted and effective are the bounding set.
    assert_eq!(
        c.prints().replace('\t', " "),
        "CapInh: 0000000000000000\nCapPrm: 0000000000000021\nCapEff: 0000000000000021\n\
         CapBnd: 0000000000000021\nCapAmb: 0000000000000000\n"
    );
}

#[test]
fn another_user_keeps_only_ambient_capabilities() {
    let Some(case) = Case::new(&[]) else { return };
    let caps = json!(["CAP_NET_BIND_SERVICE"]);
    let c = case
        .bundle("c")
        .with("/process/user", json!({"uid": 1000, "gid": 1000}))
        .with(
            "/process/capabilities",
            json!({"bounding": caps, "permitted": caps, "effective": caps}),
        )
        .sh("grep ^CapEff /proc/self/status");
    assert_eq!(c.prints(), "CapEff:\t0000000000000000\n");
    let c = c.with(
        "/process/capabilities",
        json!({"bounding": caps, "permitted": caps, "effective": caps, "inheritable": caps, "ambient": caps}),
    );
    assert_eq!(c.prints(), "CapEff:\t0000000000000400\n");
}

#[test]
fn without_capabilities_in_the_config_there_are_none() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").with("/process/capabilities", json!({}));
    let c = c.sh("grep -E '^Cap(Prm|Eff|Bnd)' /proc/self/status | cut -f 2 | sort -u");
    assert_eq!(c.prints(), "0000000000000000\n");
}

#[test]
fn user_group_and_groups_are_exactly_those_asked_for() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .with(
            "/process/user",
            json!({"uid": 1234, "gid": 5678, "additionalGids": [10, 20], "umask": 0o27}),
        )
        .sh("grep -E '^(Uid|Gid|Groups)' /proc/self/status; umask");
    let out = c.prints();
    assert!(out.contains("Uid:\t1234\t1234\t1234\t1234\n"), "{out}");
    assert!(out.contains("Gid:\t5678\t5678\t5678\t5678\n"), "{out}");
    assert!(out.contains("Groups:\t10 20"), "{out}");
    assert!(out.ends_with("0027\n"), "{out}");
}

#[test]
fn the_callers_groups_are_not_inherited() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .sh("grep ^Groups /proc/self/status | tr -d '[:space:]'");
    let mut command = std::process::Command::new("setpriv");
    let runtime = case.runtime();
    command
        .args(["--groups", "4242"])
        .arg(runtime.get_program());
    command.args(runtime.get_args());
    command.args(["run", "--bundle", c.path.to_str().unwrap(), &c.id]);
    assert_eq!(case.finish(command).ok().stdout, "Groups:");
}

#[test]
fn an_id_that_means_no_change_is_refused() {
    let Some(case) = Case::new(&[]) else { return };
    for (i, uid) in [4_294_967_295_i64, 4_294_967_296, -1]
        .into_iter()
        .enumerate()
    {
        let c = case.bundle(&format!("c{i}")).sh("id -u");
        let c = c.with("/process/user/uid", json!(uid));
        c.run().fails();
    }
    case.assert_nothing_left();
}

#[test]
fn resource_limits_are_set() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .with(
            "/process/rlimits",
            json!([
                {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            ]),
        )
        .sh("ulimit -n; ulimit -Hn; ulimit -c");
    assert_eq!(c.prints(), "100\n200\n0\n");
    let c = c.with(
        "/process/rlimits",
        json!([{"type": "RLIMIT_BOGUS", "soft": 1, "hard": 1}]),
    );
    c.run().fails_saying(&["process.rlimits", "RLIMIT_BOGUS"]);
}

#[test]
fn no_new_privileges_is_set_as_asked() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .sh("grep NoNewPrivs /proc/self/status | cut -f 2");
    assert_eq!(c.prints(), "1\n");
    let c = c.with("/process/noNewPrivileges", json!(false));
    assert_eq!(c.prints(), "0\n");
}

#[test]
fn environment_and_working_directory_are_those_of_the_config() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .with("/process/env", json!(["PATH=/bin", "A=b c"]))
        .with("/process/cwd", json!("/opt"))
        .args(&["/bin/sh", "-c", "/bin/env | sort; pwd"]);
    let out = c.prints();
    assert!(
        out.contains("A=b c\n") && out.contains("PATH=/bin\n"),
        "{out}"
    );
    assert!(
        !out.contains("RUNP_TEST"),
        "the caller's environment leaks: {out}"
    );
    assert!(out.ends_with("/opt\n"), "{out}");
}

#[test]
fn the_program_is_found_by_the_containers_path() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .with("/process/env", json!(["PATH=/nowhere:/bin"]));
    assert_eq!(c.args(&["echo", "found"]).prints(), "found\n");
}

#[test]
fn oom_score_adj_is_set() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .with("/process/oomScoreAdj", json!(500))
        .args(&["/bin/cat", "/proc/self/oom_score_adj"]);
    assert_eq!(c.prints(), "500\n");
}

#[test]
fn signals_are_neither_blocked_nor_ignored() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").args(&["/bin/cat", "/proc/self/status"]);
    let out = c.prints();
    for field in ["SigBlk:\t", "SigIgn:\t"] {
        let mask = out
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap();
        let mask = u64::from_str_radix(mask, 16).unwrap();
        assert_eq!(
            mask & 0x7fff_ffff,
            0,
            "the 31 standard signals: {field}{mask:x}"
        );
    }
}

/// keyrings(7): what the caller possesses is not the container's. Seen by a user who has no other right to it.
#[test]
fn a_container_has_a_session_keyring_of_its_own() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .args(&["/bin/cat", "/proc/keys"])
        .with("/linux/maskedPaths", json!([]))
        .with("/process/user", json!({"uid": 1000, "gid": 1000}));
    let keyring = format!("caller-{}", case.token);
    let in_a_session_of_its_own = |options: &[&str]| {
        let mut runtime = case.runtime();
        runtime.args([&["run", "--bundle", c.path.to_str().unwrap()], options].concat());
        let mut perl = Command::new("perl");
        // keyctl(KEYCTL_JOIN_SESSION_KEYRING, name)
        let join = "my $name = shift; syscall(250, 1, $name) > 0 or die $!; exec @ARGV";
        perl.args(["-e", join, &keyring]).arg(runtime.get_program());
        perl.args(runtime.get_args()).arg(&c.id);
        case.finish(perl).ok().stdout
    };
    let own = in_a_session_of_its_own(&[]);
    assert!(own.contains(&format!("_ses.{}", c.id)), "{own}");
    assert!(!own.contains(&keyring), "{own}");
    let callers = in_a_session_of_its_own(&["--no-new-keyring"]);
    assert!(
        callers.contains(&keyring),
        "the keys can be seen: {callers}"
    );
}
