//! System calls that the kernel, or a container around runp, does not have: runp does without them, or refuses in one clear
//! error and leaves nothing.

use super::strace::strace;
use super::world::{Running, World};
use crate::support::Need;

/// Calls that every supported kernel has, so that nobody has to test how runp does without them.
const REFUSED: [&str; 12] = [
    "clone3",
    "close_range",
    "execveat",
    "fsconfig",
    "fsmount",
    "fsopen",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "openat2",
    "pivot_root",
    "waitid",
];

/// Calls that profiles of container engines refuse, or that there is another way for.
const DONE_WITHOUT: [&str; 4] = ["keyctl", "memfd_create", "pidfd_getfd", "statx"];

#[test]
fn a_missing_system_call_is_done_without_or_named() {
    let name = "faults::enosys::a_missing_system_call_is_done_without_or_named";
    let Some(world) = World::of(name, &[Need::Runp]) else {
        return;
    };
    let c = world.case.bundle("c").args(&["/bin/echo", "fine"]);
    let other = world.case.bundle("other").args(&["/bin/sleep", "1000"]);
    let running = Running::new(&other);
    let commands = [
        world.command_on("run", &c),
        world.command(&["exec", &other.id, "/bin/echo", "fine"]),
    ];
    for call in REFUSED.into_iter().chain(DONE_WITHOUT) {
        let inject = format!("inject={call}:error=ENOSYS");
        let mut refused = 0;
        for command in &commands {
            let options = ["-f", "-qq", "-o", "/dev/null", "-e", &inject];
            let done = world.case.finish(strace(&options, command));
            if done.status.success() {
                assert_eq!(done.stdout, "fine\n", "{call}: {done:#?}");
            } else {
                let named =
                    ["runp: ", "ENOSYS", "Linux 6.1"].map(|part| done.stderr.contains(part));
                assert!(!named.contains(&false), "{call}: {done:#?}");
                refused += 1;
            }
            running.is_as_before(call);
        }
        assert_eq!(
            refused > 0,
            REFUSED.contains(&call),
            "{call} refused by {refused}"
        );
        c.delete_force().ok();
    }
    world.delete(&other, "all");
}

/// Without the calls that make a mount of it, runp's own binary is a sealed copy in memory.
#[test]
fn without_a_mount_the_binary_is_copied() {
    let Some(world) = World::of(
        "faults::enosys::without_a_mount_the_binary_is_copied",
        &[Need::Runp],
    ) else {
        return;
    };
    let other = world.case.bundle("other").args(&["/bin/sleep", "1000"]);
    other.run_detached().ok();
    let trace = world.case.dir().join("trace");
    for call in ["open_tree", "mount_setattr"] {
        let inject = format!("inject={call}:error=ENOSYS");
        let options = ["-f", "-e", &inject, "-o", trace.to_str().unwrap()];
        let exec = world.command(&["exec", &other.id, "/bin/echo", "fine"]);
        let done = world.case.finish(strace(&options, &exec)).ok();
        assert_eq!(done.stdout, "fine\n");
        let trace = super::strace::read(&trace);
        assert!(
            trace.contains("memfd_create(") && trace.contains("F_ADD_SEALS"),
            "{trace}"
        );
    }
    world.delete(&other, "all");
}
