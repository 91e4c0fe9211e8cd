//! What /proc says of a process.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

/// All pids, other than our own.
pub(crate) fn all() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id().cast_signed())
}

/// Its namespaces: `net` to `net:[4026531840]`, and so on. Empty if it is gone.
pub(crate) fn namespaces(pid: i32) -> BTreeMap<String, String> {
    ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
        .into_iter()
        .filter_map(|kind| Some((kind.to_owned(), namespace(pid, kind)?)))
        .collect()
}

/// One of its namespaces, as `net:[4026531840]`.
pub(crate) fn namespace(pid: i32, kind: &str) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// A field of `/proc/<pid>/status`, as printed there.
pub(crate) fn status(pid: i32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {field} in {status}"))
        .trim()
        .to_owned()
}

/// Whether it runs: neither gone nor a zombie nor on its way out. (The first process of a pid namespace is on its way
/// out until every other is reaped, by whoever is their parent outside.)
pub(crate) fn runs(pid: i32) -> bool {
    const PF_EXITING: u64 = 4;
    stat(pid)
        .is_some_and(|stat| stat[0] != "Z" && stat[6].parse::<u64>().unwrap() & PF_EXITING == 0)
}

/// Whether a signal has stopped it.
pub(crate) fn is_stopped(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| stat[0] == "T")
}

/// Whether it waits for something, and for no tracer.
pub(crate) fn sleeps(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| stat[0] == "S")
}

/// Its parent; `None` if it is gone.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    stat(pid)?[1].parse().ok()
}

/// `/proc/<pid>/stat` from the third field, the state, on.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit(')').next()?.split_whitespace();
    Some(fields.map(str::to_owned).collect())
}

/// Sends it a signal.
#[track_caller]
pub(crate) fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Kills it, and waits until it runs no more.
#[track_caller]
pub(crate) fn kill(pid: i32) {
    signal(pid, Signal::KILL);
    super::eventually("it is gone", || (!runs(pid)).then_some(()));
}

/// What a process takes of the machine's memory, in KiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// What it shares with others counted in part: `Pss`.
    pub(crate) proportional: usize,
    /// Of no file: `Anonymous`.
    pub(crate) own: usize,
}

/// Its memory; nothing if it is gone.
pub(crate) fn memory(pid: i32) -> Memory {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let of = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        let number = line.unwrap_or("0").trim().trim_end_matches(" kB");
        number.parse().unwrap()
    };
    Memory {
        proportional: of("Pss:"),
        own: of("Anonymous:"),
    }
}

/// What its descriptors point to.
pub(crate) fn descriptors(pid: i32) -> BTreeMap<i32, String> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        })
        .collect()
}

/// The directory of its cgroup in which the files of `controller` are, cgroup v1 or v2. (A hierarchy of v1 may be in use and
/// not be mounted here.)
pub(crate) fn cgroup(pid: i32, controller: &str) -> PathBuf {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next().unwrap(), fields.next().unwrap());
        let root = Path::new("/sys/fs/cgroup").join(controller);
        if controllers.split(',').any(|c| c == controller) && root.is_dir() {
            return root.join(path.trim_start_matches('/'));
        }
    }
    cgroup_v2(pid)
}

/// The directory of its cgroup in v2, which is mounted alone or beside v1.
pub(crate) fn cgroup_v2(pid: i32) -> PathBuf {
    cgroup_in_v2(pid).expect("cgroup v2 is not mounted")
}

/// The same, on a machine that may have v1 only.
pub(crate) fn cgroup_in_v2(pid: i32) -> Option<PathBuf> {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/"));
    let beside = Path::new("/sys/fs/cgroup/unified");
    let root = match beside.is_dir() {
        true => beside,
        false => Path::new("/sys/fs/cgroup"),
    };
    path.map(|path| root.join(path))
}

/// A line of mountinfo, split: `(mount point, mount options, file system, superblock options)`.
#[derive(Debug)]
#[allow(dead_code)] // some are only for the report
pub(crate) struct Mount {
    /// Where.
    pub(crate) point: String,
    /// Of the mount: `ro,nosuid,...`.
    pub(crate) options: String,
    /// The file system's type.
    pub(crate) fstype: String,
    /// Of the file system.
    pub(crate) super_options: String,
    /// `shared:1`, `master:2`, ...
    pub(crate) propagation: String,
}

impl Mount {
    /// Whether it has this option.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|o| o == option)
    }
}

/// The text of a mountinfo file, parsed: proc_pid_mountinfo(5).
pub(crate) fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines()
        .map(|line| {
            let (left, right) = line.split_once(" - ").unwrap();
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            Mount {
                point: left[4].into(),
                options: left[5].into(),
                propagation: left[6..].join(" "),
                fstype: right[0].into(),
                super_options: right[2].into(),
            }
        })
        .collect()
}

/// Binds a directory of the host into the mount namespace of a process, as somebody with the rights to do so could.
pub(crate) fn bind_into(pid: i32, source: &Path, target: &str) {
    use rustix::fs::CWD;
    use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
    use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, source, flags).unwrap();
    let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt")).unwrap();
    std::thread::scope(|scope| {
        let join = || {
            // Whoever shares its root and working directory with others cannot go elsewhere.
            #[allow(deprecated)] // sound for this flag
            rustix::thread::unshare(UnshareFlags::FS).unwrap();
            let namespace = std::os::fd::AsFd::as_fd(&namespace);
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount)).unwrap();
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            move_mount(&tree, "", CWD, target, flags).unwrap();
        };
        scope.spawn(join).join().unwrap();
    });
}
