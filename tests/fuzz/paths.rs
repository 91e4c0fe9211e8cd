//! Paths in a container's root, with symbolic links everywhere: what we open is what a process that lives there (chroot(2))
//! would open, and what we make appears inside and nowhere else.
#![no_main]

use std::cell::LazyCell;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use runp::sys::path::{self, Make};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use tempfile::TempDir;

/// Device and inode, or why there is none.
type Found = std::result::Result<(u64, u64), Errno>;

/// The world of a run: `root` for the container, `canary` beside it, and a thread that has `root` as its root.
struct World {
    dir: TempDir,
    ask: Sender<PathBuf>,
    answer: Receiver<Found>,
}

thread_local! {
    static WORLD: LazyCell<World> = LazyCell::new(World::new);
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in /dev/shm");
        let root = dir.path().join("root");
        fs::create_dir(&root).expect("the root");
        fs::create_dir(dir.path().join("canary")).expect("the canary");
        let (ask, asked) = channel::<PathBuf>();
        let (tell, answer) = channel();
        std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).expect("a root of its own");
            nix::unistd::chroot(&root).expect("chroot, as root");
            nix::unistd::chdir("/").expect("the root");
            for path in asked {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let found = openat(CWD, Path::new("/").join(path), flags, Mode::empty());
                tell.send(found.and_then(identity)).expect("somebody listens");
            }
        });
        Self { dir, ask, answer }
    }

    fn seen_from_inside(&self, path: &Path) -> Found {
        self.ask.send(path.into()).expect("the thread lives");
        self.answer.recv().expect("the thread lives")
    }
}

fn identity(file: impl std::os::fd::AsFd) -> Found {
    let stat = fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

fuzz_target!(|bytes: &[u8]| {
    WORLD.with(|world| {
        let root = world.dir.path().join("root");
        let _ = check(&mut Unstructured::new(bytes), world, &root);
        let canary = fs::read_dir(world.dir.path().join("canary")).expect("the canary");
        assert_eq!(canary.count(), 0);
        let beside = fs::read_dir(world.dir.path()).expect("the directory of both");
        assert_eq!(beside.count(), 2);
        empty(&root);
    });
});

fn empty(root: &Path) {
    for entry in fs::read_dir(root).expect("the root").flatten() {
        match entry.file_type().expect("its type").is_dir() {
            true => fs::remove_dir_all(entry.path()).expect("remove a directory"),
            false => fs::remove_file(entry.path()).expect("remove a file"),
        }
    }
}

fn check(from: &mut Unstructured<'_>, world: &World, root: &Path) -> Result<()> {
    for _ in 0..from.int_in_range(0..=8)? {
        entry(from, root)?;
    }
    let handle = File::open(root).expect("the root");
    for _ in 0..4 {
        let path = some_path(from, 5)?;
        let ours = path::handle(&handle, &path).and_then(identity);
        // EAGAIN: something on the machine was renamed or mounted all the time.
        if ours != Err(Errno::AGAIN) {
            assert_eq!(ours, world.seen_from_inside(&path), "{path:?}");
        }
        let kind = if from.arbitrary()? { Make::Directory } else { Make::File };
        if let Ok(made) = path::make(&handle, &path, kind) {
            // Where it says it is: not always at `path`, in which `..` leads back out of what was not there.
            let real = path::real_path(&handle, &made).expect("in the root");
            assert_eq!(identity(made), world.seen_from_inside(&real), "{path:?} made as {kind:?}");
        }
    }
    Ok(())
}

/// Makes a directory, a file or a link, in the root or in a directory of it: never through a link, which could lead out.
fn entry(from: &mut Unstructured<'_>, root: &Path) -> Result<()> {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    let mut name = root.join(from.choose(&NAMES)?);
    while name.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        name.push(from.choose(&NAMES)?);
    }
    let _ = match from.int_in_range(0..=3)? {
        0 => fs::create_dir(&name),
        1 => File::create_new(&name).map(drop),
        _ => symlink(some_path(from, 4)?, &name),
    };
    Ok(())
}

fn some_path(from: &mut Unstructured<'_>, longest: usize) -> Result<PathBuf> {
    const NAMES: [&str; 9] = ["a", "b", "c", "..", ".", "canary", "root", "", "/"];
    let mut path = String::from(if from.arbitrary()? { "/" } else { "" });
    for _ in 0..from.int_in_range(1..=longest)? {
        path.push_str(from.choose(&NAMES)?);
        path.push('/');
    }
    if from.arbitrary()? {
        path.pop();
    }
    Ok(if path.is_empty() { ".".into() } else { path.into() })
}
