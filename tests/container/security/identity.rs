//! Who a process is: users, groups, capabilities.

use serde_json::json;

use crate::support::{Case, is_runp};

/// CVE-2022-29162: capabilities that a program of another user inherits.
#[test]
fn nothing_is_inheritable_unless_asked_for() {
    let Some(case) = Case::new(&[]) else { return };
    let script = "grep -E 'Cap(Inh|Bnd)' /proc/self/status";
    let sets = |stdout: &str| -> Vec<u64> {
        let values = stdout.lines().map(|line| line.split_once('\t').unwrap().1);
        values
            .map(|set| u64::from_str_radix(set, 16).unwrap())
            .collect()
    };
    let c = case.bundle("c").sh(script);
    assert_eq!(sets(&c.prints())[0], 0);
    let running = case.bundle("running").sh("sleep 1000");
    running.run_detached().ok();
    let script = ["/bin/sh", "-c", script];
    assert_eq!(sets(&running.exec(&[], &script).ok().stdout)[0], 0);
    let net_admin = 1 << 12;
    let more = running
        .exec(&["--cap", "CAP_NET_ADMIN"], &script)
        .ok()
        .stdout;
    let more = sets(&more);
    assert_eq!(more[0], 0);
    assert_ne!(more[1] & net_admin, 0, "the control: it is given otherwise");
    running.delete_force().ok();
}

/// CVE-2016-3697, CVE-2024-40635: a number that wraps, or a name, makes a process root.
#[test]
fn a_user_is_exactly_who_was_asked_for() {
    let Some(case) = Case::new(&[]) else { return };
    let running = case.bundle("running").sh("sleep 1000");
    running.run_detached().ok();
    let id = |user: &str| running.exec(&["--user", user], &["/bin/id", "-u"]);
    assert_eq!(id("1").ok().stdout, "1\n");
    if is_runp() {
        // runc 1.1 takes no more than 2147483647.
        assert_eq!(id("4294967294").ok().stdout, "4294967294\n");
    }
    for user in [
        "4294967295",
        "4294967296",
        "4294967297",
        "18446744073709551616",
        "-1",
        "+1",
        " 1",
        "0x1",
        "1e1",
        "",
        "1:4294967295",
        "1:-1",
        "1:",
    ] {
        let done = id(user);
        let exact = user.trim_start_matches('+').split(':').next().unwrap();
        let is_exact = done.stdout == format!("{exact}\n");
        assert!(
            !done.status.success() || is_exact || !is_runp(),
            "{user:?}: {done:?}"
        );
        assert!(
            !done.status.success() || user.is_empty() || done.stdout != "0\n",
            "{user:?}: {done:?}"
        );
    }
    running.delete_force().ok();
    let wrong = [
        json!(4_294_967_295_u64),
        json!(4_294_967_296_u64),
        json!(-1),
        json!(1.5),
        json!("0"),
    ];
    for (n, id) in wrong.into_iter().enumerate() {
        for field in ["uid", "gid"] {
            let c = case.bundle(&format!("{field}-{n}")).args(&["/bin/id"]);
            let c = c.with(&format!("/process/user/{field}"), id.clone());
            c.run().fails();
        }
    }
}
