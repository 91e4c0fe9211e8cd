//! SELinux contexts of programs and mounts, with Debian's policy: `scripts/vm --selinux`.

use std::fs;

use serde_json::json;

use crate::support::{Case, Need};

/// Contexts that Debian's policy knows, with categories that nothing else has.
const PROCESS: &str = "unconfined_u:unconfined_r:unconfined_t:s0:c1,c2";
const OTHER: &str = "unconfined_u:unconfined_r:unconfined_t:s0:c3,c4";
const MOUNT: &str = "system_u:object_r:tmp_t:s0:c1,c2";

#[test]
fn a_program_and_its_keyring_have_the_context() {
    let Some(case) = Case::new(&[Need::SeLinux]) else {
        return;
    };
    let own = fs::read_to_string("/proc/self/attr/current").unwrap();
    let own = own.trim_end_matches('\0');
    let c = case.bundle("c").sh("sleep 1000");
    c.run_detached().ok();
    let current = ["cat", "/proc/self/attr/current"];
    let context = |stdout: String| stdout.trim_end_matches(['\0', '\n']).to_owned();
    // The control: without a label it is the caller's, as far as the policy changes nothing.
    assert_eq!(context(c.exec(&[], &current).ok().stdout), own);
    c.delete_force().ok();

    let c = c.with("/process/selinuxLabel", json!(PROCESS));
    c.run_detached().ok();
    let of_init = fs::read_to_string(format!("/proc/{}/attr/current", c.pid())).unwrap();
    assert_eq!(context(of_init), PROCESS);
    assert_eq!(context(c.exec(&[], &current).ok().stdout), PROCESS);
    let labelled = c.exec(&["--process-label", OTHER], &current);
    assert_eq!(context(labelled.ok().stdout), OTHER);
    // What the program makes itself is not labelled any more by what was set for its session keyring.
    let keycreate = c.exec(&[], &["cat", "/proc/self/attr/keycreate"]);
    assert_eq!(context(keycreate.ok().stdout), "");
    c.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn mounts_have_the_context_except_those_that_the_kernel_labels() {
    let Some(case) = Case::new(&[Need::SeLinux]) else {
        return;
    };
    let c = case
        .bundle("c")
        .with("/linux/mountLabel", json!(MOUNT))
        .sh("sleep 1000");
    c.run_detached().ok();
    let labelled = |point: &str| {
        let mounts = c.mounts();
        let mount = mounts.iter().rev().find(|mount| mount.point == point);
        let mount = mount.unwrap_or_else(|| panic!("no mount at {point}"));
        mount
            .super_options
            .contains(&format!("context=\"{MOUNT}\""))
    };
    for point in ["/dev", "/dev/shm", "/dev/pts"] {
        assert!(labelled(point), "{point}: {:#?}", c.mounts());
    }
    for point in ["/proc", "/sys", "/dev/mqueue"] {
        assert!(!labelled(point), "{point}: {:#?}", c.mounts());
    }
    c.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_context_that_the_policy_does_not_know_is_refused() {
    let Some(case) = Case::new(&[Need::SeLinux]) else {
        return;
    };
    let c = case.bundle("c").sh("true");
    let wrong = "unconfined_u:unconfined_r:no_such_t:s0";
    let c = c.with("/process/selinuxLabel", json!(wrong));
    c.create()
        .fails_saying(&["selinuxLabel", wrong, "EINVAL", "policy"]);
    let c = c
        .without("/process/selinuxLabel")
        .with("/linux/mountLabel", json!(wrong));
    c.create().fails_saying(&["mount", "/dev", "EINVAL"]);
    case.assert_nothing_left();
}
