//! Processes: clone3, waiting through a pidfd, execve.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, Result};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open};

/// A child of this process: its pid here, and the process itself as a file.
#[derive(Debug)]
pub struct Child {
    /// In the caller's pid namespace.
    pub pid: i32,
    /// Readable once the child has ended. Never another process, whatever becomes of the pid.
    pub pidfd: OwnedFd,
}

impl Child {
    /// The same child once more.
    ///
    /// # Errors
    /// As fcntl(2) `F_DUPFD_CLOEXEC`.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        let pidfd = self.pidfd.try_clone()?;
        Ok(Self { pidfd, ..*self })
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// `exit(2)` with this status.
    Code(u8),
    /// Killed by this signal.
    Signal(u8),
}

impl Exit {
    /// As a shell tells it: the status, or 128 + signal.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code.into(),
            Self::Signal(signal) => 128 + i32::from(signal),
        }
    }
}

/// linux/sched.h; `libc` has them in a type that is too narrow.
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a child process that runs `child` on a copy of this process's memory. clone3(2), Linux 5.3; `cgroup`
/// (`CLONE_INTO_CGROUP`, Linux 5.7) is the cgroup v2 directory that it is born in. `CLONE_PIDFD`,
/// `CLONE_CLEAR_SIGHAND` and an exit signal of SIGCHLD are always set; `flags` adds the new namespaces.
///
/// `child` never returns: it ends in [`execve`] or [`exit`]. A panic in it ends the child with SIGABRT instead of
/// unwinding into the caller's frames, which would run the caller's code twice.
///
/// # Errors
/// As clone3(2), and `EDEADLK` when the caller has more than one thread: a lock that another thread holds would stay
/// locked in the child for ever.
pub fn clone3(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> Infallible,
) -> Result<Child> {
    if thread_count().is_some_and(|threads| threads != 1) {
        return Err(Errno::DEADLK);
    }
    let mut pidfd: RawFd = -1;
    let into_cgroup = cgroup.map_or(0, |_| CLONE_INTO_CGROUP);
    let args = libc::clone_args {
        flags: flags | into_cgroup | (libc::CLONE_PIDFD as u64) | CLONE_CLEAR_SIGHAND,
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: exit_signal(flags),
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |cgroup| cgroup.as_raw_fd() as u64),
    };
    // SAFETY: without CLONE_VM and with no stack given the child goes on on a copy of this stack, as after fork(2). The
    // caller has one thread (checked above), so that no lock and no allocator state is torn in the copy. `args` and
    // `pidfd` are valid for the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) };
    let pid = match pid {
        -1 if cgroup.is_none() && super::last_errno() == Errno::NOSYS => {
            clone(flags, &raw mut pidfd)
        }
        pid => pid,
    };
    match pid {
        -1 => Err(super::last_errno()),
        0 => {
            let _ = catch_unwind(AssertUnwindSafe(child));
            std::process::abort();
        }
        pid => Ok(Child {
            pid: pid as i32,
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so the kernel has put a new descriptor there that nobody
            // else owns.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// With CLONE_PARENT the exit signal is the caller's own and must not be given.
fn exit_signal(flags: u64) -> u64 {
    match flags & libc::CLONE_PARENT as u64 {
        0 => libc::SIGCHLD as u64,
        _ => 0,
    }
}

/// clone(2) for [`clone3`], which Docker's seccomp profile answers with ENOSYS: a process that is under such a filter
/// already makes another one.
fn clone(flags: u64, pidfd: *mut RawFd) -> libc::c_long {
    let flags = flags | libc::CLONE_PIDFD as u64 | exit_signal(flags);
    let none = ptr::null_mut::<libc::c_void>();
    // SAFETY: as for clone3 in the caller: no CLONE_VM, no stack, one thread. With CLONE_PIDFD the kernel writes the
    // descriptor to `pidfd`, which the caller owns. All architectures have these three arguments first.
    unsafe { libc::syscall(libc::SYS_clone, flags, none, pidfd, none, none) }
}

/// A process in the caller's own namespaces, as [`clone3`] without new namespaces makes it.
///
/// # Errors
/// As [`clone3`].
pub fn fork(child: impl FnOnce() -> Infallible) -> Result<Child> {
    clone3(0, None, child)
}

/// The threads of this process: a directory's link count is 2 plus its subdirectories (proc(5)). `None` without procfs.
fn thread_count() -> Option<u64> {
    let stat = rustix::fs::stat(c"/proc/self/task").ok()?;
    stat.st_nlink.checked_sub(2)
}

/// Ends this process at once: no destructor, no atexit handler runs. For children of [`clone3`].
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit(2) takes any status and never returns.
    unsafe { libc::_exit(status) }
}

/// Waits until the child has ended and reaps it. waitid(2) with `P_PIDFD`, Linux 5.4.
///
/// # Errors
/// `ECHILD` when it is not a child of this process, or already reaped.
pub fn wait(pidfd: impl AsFd) -> Result<Exit> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => return Ok(exit_of(&status)),
            Ok(None) | Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// A process as a file, if it is still there. pidfd_open(2), Linux 5.3.
///
/// One that is being reaped is gone as well: Linux 6.1 answers `EINVAL` then, newer ones `ESRCH`.
///
/// # Errors
/// As pidfd_open(2).
pub fn open(pid: i32) -> Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        Err(Errno::SRCH | Errno::INVAL) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Reaps the child if it has ended.
///
/// # Errors
/// As [`wait`].
pub fn try_wait(pidfd: impl AsFd) -> Result<Option<Exit>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options)?;
    Ok(status.as_ref().map(exit_of))
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The kernel says how.
    Seen(Exit),
    /// Somebody else has waited for it, and this kernel does not say how it ended.
    Unseen,
}

/// How a process ended that may be another one's child; `None` while it runs. A child is reaped.
///
/// # Errors
/// As waitid(2) and poll(2).
pub fn ended(process: &Child) -> Result<Option<End>> {
    match try_wait(&process.pidfd) {
        Err(Errno::CHILD) => {}
        result => return Ok(result?.map(End::Seen)),
    }
    let mut files = [PollFd::new(&process.pidfd, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut files, Some(&Timespec::default())))?;
    let events = files[0].revents();
    if events.is_empty() {
        return Ok(None);
    }
    if let Some(exit) = exit_info(&process.pidfd) {
        return Ok(Some(End::Seen(exit)));
    }
    // Not waited for yet: proc(5) has its status. It is given to the next who asks once it has been.
    match zombie_status(process.pid) {
        Some(status) => Ok(Some(End::Seen(exit_of_status(status)))),
        None if events.contains(PollFlags::HUP) || !exists(process.pid) => {
            // It was waited for in between.
            Ok(Some(
                exit_info(&process.pidfd).map_or(End::Unseen, End::Seen),
            ))
        }
        None => Ok(None),
    }
}

fn exists(pid: i32) -> bool {
    std::fs::exists(format!("/proc/{pid}")).unwrap_or(false)
}

/// The 52nd field of `/proc/<pid>/stat`, of a process that has ended and was not waited for.
fn zombie_status(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if state != "Z" {
        return None;
    }
    fields.nth(48)?.parse().ok()
}

/// How a process ended that was waited for by somebody else: `PIDFD_GET_INFO`, Linux 6.15.
fn exit_info(pidfd: impl AsFd) -> Option<Exit> {
    /// `struct pidfd_info` of linux/pidfd.h, in its first version.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    /// `_IOWR(0xff, 11, struct pidfd_info)`.
    const PIDFD_GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;
    let mut info = Info {
        mask: PIDFD_INFO_EXIT,
        ..Info::default()
    };
    // SAFETY: the kernel reads and writes as many bytes as the request's number says: the 64 of `info`.
    let result = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then(|| exit_of_status(info.exit_code))
}

/// As wait(2) has it.
fn exit_of_status(status: i32) -> Exit {
    match status & 0x7f {
        0 => Exit::Code((status >> 8) as u8),
        signal => Exit::Signal(signal as u8),
    }
}

fn exit_of(status: &rustix::process::WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code as u8),
        (None, signal) => Exit::Signal(signal.unwrap_or(libc::SIGKILL) as u8),
    }
}

/// Strings as execve(2) takes them: an array of pointers that ends with NULL, made before the clone.
#[derive(Debug)]
pub struct StringArray {
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
}

impl StringArray {
    /// Takes the strings over.
    pub fn new(strings: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(ptr::null());
        Self {
            pointers,
            _strings: strings,
        }
    }
}

/// Executes the file that `path` below `dir` names; an empty path means `dir` itself. execveat(2), Linux 3.19.
/// Returns only if that fails.
pub fn execveat(
    dir: impl AsFd,
    path: &std::ffi::CStr,
    args: &StringArray,
    env: &StringArray,
) -> Errno {
    // SAFETY: `path` is NUL-terminated, and both arrays end with NULL and point to strings that they own.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            dir.as_fd().as_raw_fd(),
            path.as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    super::last_errno()
}

/// Executes the file at `path`. execve(2). Returns only if that fails.
pub fn execve(path: &std::ffi::CStr, args: &StringArray, env: &StringArray) -> Errno {
    // SAFETY: as for execveat.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    super::last_errno()
}

/// Marks every descriptor from `first` up close-on-exec. close_range(2) with `CLOSE_RANGE_CLOEXEC`, Linux 5.11.
///
/// # Errors
/// As close_range(2).
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: takes three integers; the flag only sets close-on-exec, so no descriptor that Rust owns is closed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(super::last_errno()),
    }
}

/// Closes every descriptor of this process except `keep`, which is in ascending order. close_range(2), Linux 5.9.
///
/// Only for a child of [`clone3`]: everything that the parent had open was copied into it, and the values that own
/// those descriptors are never dropped here, because the child ends without running destructors.
///
/// # Errors
/// As close_range(2).
pub fn close_all_but(keep: &[RawFd]) -> Result<()> {
    let mut first = 0;
    for &fd in keep.iter().chain(&[RawFd::MAX]) {
        if first < fd {
            // SAFETY: takes three integers. The closed descriptors' owners live in frames that the child never
            // returns to (see above), so none is used or closed again.
            let result =
                unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0 as libc::c_uint) };
            if result != 0 {
                return Err(super::last_errno());
            }
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

/// Closes a child's copy of a descriptor whose owner is the parent. Only for a child of [`clone3`], see [`close_all_but`].
pub fn close_inherited(fd: BorrowedFd<'_>) {
    // SAFETY: the owner lives in a frame of the parent's that this copy of the process never returns to, so nobody
    // closes or uses the number again.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Lets go of the caller's part of a descriptor that stays open until execve closes it.
///
/// The child of a clone has no use for closing dozens of descriptors one by one.
pub fn leak(fd: OwnedFd) -> BorrowedFd<'static> {
    let raw = fd.as_raw_fd();
    std::mem::forget(fd);
    // SAFETY: the descriptor was owned and is never closed by Rust again, so it stays open for the rest of the process.
    unsafe { BorrowedFd::borrow_raw(raw) }
}

/// A signal by its number, real-time signals too; `None` if there is none. signal(7).
pub fn signal(number: i32) -> Option<rustix::process::Signal> {
    if !(1..=64).contains(&number) {
        return None;
    }
    // SAFETY: the number is one of the kernel's signals. Those that the C library keeps for its threads (32 and 33) are
    // only ever sent to other processes, which may well use them.
    Some(unsafe { rustix::process::Signal::from_raw_unchecked(number) })
}

/// A descriptor that the parent kept open for this child of [`clone3`] and that its plan names by number.
pub fn inherited(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the owner lives in a frame of the parent's that this copy of the process never returns to, so the
    // descriptor stays open until execve. A number that is not open makes the next system call fail with EBADF.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Gives a signal no effect on this process.
///
/// # Errors
/// As sigaction(2).
pub fn ignore(number: nix::sys::signal::Signal) -> std::result::Result<(), nix::errno::Errno> {
    use nix::sys::signal::{SigHandler, signal};
    // SAFETY: SIG_IGN is not a handler, so there is no code of ours that could run at a bad moment.
    unsafe { signal(number, SigHandler::SigIgn) }.map(drop)
}

/// Empties the signal mask and gives the signals of `ignored` (bit n - 1 is signal n) their default effect again: what
/// execve(2) hands on to the program.
///
/// # Errors
/// As sigaction(2) and sigprocmask(2).
pub fn reset_signals(ignored: u32) -> std::result::Result<(), nix::errno::Errno> {
    use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
    for number in (1..32).filter(|number| ignored & (1 << (number - 1)) != 0) {
        let number = Signal::try_from(number)?;
        // SAFETY: SIG_DFL is not a handler, so there is no code of ours that could run at a bad moment.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    SigSet::empty().thread_set_mask()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_array_ends_with_null() {
        let array = StringArray::new(vec![c"a".into(), c"b".into()]);
        assert_eq!(array.pointers.len(), 3);
        assert!(array.pointers[2].is_null());
    }

    #[test]
    fn exit_codes_are_a_shells() {
        assert_eq!(Exit::Code(3).code(), 3);
        assert_eq!(Exit::Signal(9).code(), 137);
    }
}
