//! The pause process: holds the pod's namespaces, has no right to anything, and reaps.
//!
//! It makes the namespaces, prepares them (loopback, host name), gets a root of its own that is empty, gives
//! away every privilege, and executes a program of a few hundred bytes in memory: an ELF file made here of
//! [`pause_code`](crate::sys::pause_code) and a seccomp filter. So it maps nothing of runp, and a container that shares
//! its pid namespace finds nothing of the host through `/proc/1` (`root`, `cwd`, `exe`, `fd`, `ns/mnt`), not even with
//! `CAP_SYS_PTRACE`.
//!
//! It moves itself into its cgroup before anything else, so that from then on a deletion of the pod finds it, whoever
//! died meanwhile. It tells its parent that it holds the namespaces, then that it is ready, or an error as JSON, over one
//! socket.

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::signal::SigSet;
use rustix::fs::{CWD, MemfdFlags, SealFlags, memfd_create};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::process::{fchdir, pivot_root, setsid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, LinkNameSpaceType, ThreadNameSpaceType, Uid, UnshareFlags,
    move_into_link_name_space, move_into_thread_name_spaces, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::plan::IDS;
use crate::cgroup::Cgroup;
use crate::container::{self, sysctl};
use crate::error::{Context, Error, Result};
use crate::sys::pause_code::{AUDIT_ARCH, MACHINE, READY, SYSTEM_CALLS, machine_code};
use crate::sys::process::{Child, Exit, StringArray, clone3, close_all_but, execveat, exit, wait};
use crate::sys::{net, ns, process, socket};

/// User and group of the pause process: the same as in Kubernetes' pause image.
pub const PAUSE_ID: u32 = 65535;

/// What a pause process holds.
#[derive(Debug, Clone, Copy)]
pub struct Holds<'a> {
    /// A network and a UTS namespace, with this host name.
    pub network: Option<&'a str>,
    /// Not a network namespace of its own, then, but this one.
    pub joins: Option<BorrowedFd<'a>>,
    /// An IPC namespace.
    pub ipc: bool,
    /// A pid namespace, whose first process it is.
    pub pid: bool,
    /// The user namespace that the others belong to.
    pub users: Users,
    /// What is set in these namespaces: paths below `/proc/sys`, and values.
    pub sysctls: &'a [(String, String)],
}

/// Whose user namespace a pause process is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    /// The host's.
    Host,
    /// A new one, whose ids are these of the host, from this one on.
    New(u32),
    /// One that the caller has joined to make it: pause is then a child of the caller's parent, and what is set in the
    /// namespaces somebody else sets ([`set_from_outside`]).
    Joined,
}

impl Holds<'_> {
    /// The namespaces that it makes, `CLONE_NEW*`, beside those of pids and users.
    fn made(&self) -> libc::c_int {
        let network = match self.joins {
            Some(_) => libc::CLONE_NEWUTS,
            None => libc::CLONE_NEWNET | libc::CLONE_NEWUTS,
        };
        libc::CLONE_NEWNS
            | libc::CLONE_NEWCGROUP
            | flag(self.network.is_some(), network)
            | flag(self.ipc, libc::CLONE_NEWIPC)
    }

    /// With users of its own they are made along with those, to whom they belong. Else pause makes them itself: the kernel takes
    /// long for a network namespace, and the caller has other things to do.
    fn clone_flags(&self) -> u64 {
        let flags = flag(self.users != Users::Host, self.made())
            | flag(matches!(self.users, Users::New(_)), libc::CLONE_NEWUSER)
            | flag(self.users == Users::Joined, libc::CLONE_PARENT)
            | flag(self.pid, libc::CLONE_NEWPID);
        flags as u64
    }
}

fn flag(wanted: bool, flags: libc::c_int) -> libc::c_int {
    if wanted { flags } else { 0 }
}

/// What is left to wait for of a pause process whose namespaces can be joined already: it still gives away what it has of the
/// host, so that no container may see it in its pid namespace yet.
#[derive(Debug)]
pub struct Unready(OwnedFd);

impl Unready {
    /// Waits until it has no rights, and runs its own program.
    ///
    /// # Errors
    /// What it could not do, with its step; then the process is gone and reaped.
    pub fn wait(self, child: &Child) -> Result<()> {
        wait_for(&[READY], &self.0, child).map_err(|e| container::end(&child.pidfd, e))
    }
}

/// Makes a pause process in this cgroup; `name` is shown behind `pause` in its command line. It holds the sockets `keeps`
/// open, and no other file. `meanwhile` runs while it makes its namespaces.
///
/// # Errors
/// What the child could not do, with its step; then the process is gone and reaped.
pub fn start(
    name: &str,
    holds: Holds<'_>,
    cgroup: &Cgroup,
    keeps: &[BorrowedFd<'_>],
    meanwhile: impl FnOnce(),
) -> Result<(Child, Unready)> {
    let program = program_in_memory().context(|| "put the pause program into memory")?;
    let name = CString::new(name).map_err(|e| Error::new(format!("pod name {name:?}: {e}")))?;
    let args = StringArray::new(vec![c"pause".into(), name]);
    let env = StringArray::new(Vec::new());
    let (ours, theirs) = socket::pair().context(|| "socketpair")?;
    let child = clone3(holds.clone_flags(), cgroup.clone_fd(), || {
        let error = match prepare(holds, cgroup, keeps, &theirs, &program) {
            Ok(()) => Error::sys(
                "execute the pause program",
                execveat(&program, c"", &args, &env),
            ),
            Err(error) => error,
        };
        report(&theirs, &error)
    })
    .context(|| "clone3")?;
    drop(theirs);
    let mapped = map_users(&holds, &child, &ours).and_then(|()| match holds.users {
        Users::New(owner) => set_from_outside(holds.sysctls, owner, child.pidfd.as_fd()),
        Users::Host | Users::Joined => Ok(()),
    });
    meanwhile();
    match mapped.and_then(|()| wait_for(HELD, &ours, &child)) {
        Ok(()) => Ok((child, Unready(ours))),
        Err(error) => Err(container::end(&child.pidfd, error)),
    }
}

/// user_namespaces(7): only the parent has the right to. The child waits for it.
fn map_users(holds: &Holds<'_>, child: &Child, socket: &OwnedFd) -> Result<()> {
    let Users::New(first) = holds.users else {
        return Ok(());
    };
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{}/{file}", child.pid);
        std::fs::write(&path, format!("0 {first} {IDS}")).context(|| format!("write {path}"))?;
    }
    socket::send(socket, MAPPED, None).context(|| "tell pause of its ids")
}

/// In a user namespace pause itself may not set everything: before Linux 6.9 nothing of the IPC namespace. The host's root
/// may, from inside the namespaces, or else as pause's own.
///
/// `owner` is the root of the user namespace, on the host.
///
/// # Errors
/// What the kernel refuses.
pub fn set_from_outside(
    sysctls: &[(String, String)],
    owner: u32,
    pause: BorrowedFd<'_>,
) -> Result<()> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let (ours, theirs) = socket::pair().context(|| "socketpair")?;
    let setter = process::fork(|| {
        let kinds = ThreadNameSpaceType::NETWORK | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION;
        let set = move_into_thread_name_spaces(pause, kinds)
            .context(|| "enter the pod's namespaces")
            .and_then(|()| sysctl::write(SYSCTLS, sysctls, Some(owner)));
        if let Err(error) = set {
            report(&theirs, &error);
        }
        exit(0)
    })
    .context(|| "clone3")?;
    drop(theirs);
    let said = socket::receive(&ours).context(|| "receive from who sets them")?;
    wait(&setter.pidfd).context(|| "wait for who sets them")?;
    match said {
        Some((message, _)) => Err(serde_json::from_slice(&message)
            .unwrap_or_else(|e| Error::new(format!("{SYSCTLS}: {e}")))),
        None => Ok(()),
    }
}

const SYSCTLS: &str = "securityContext.sysctls";

fn wait_for_ids(socket: &OwnedFd) -> Result<()> {
    match socket::receive(socket).context(|| "wait for the ids")? {
        Some((message, _)) if message == MAPPED => Ok(()),
        _ => Err(Error::new("wait for the ids: the parent has gone")),
    }
}

/// The child becomes the first user of its namespace: nobody else could make a file system for it.
fn become_root() -> Result<()> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_res_gid(gid, gid, gid).context(|| "setresgid 0")?;
    set_thread_res_uid(uid, uid, uid).context(|| "setresuid 0")
}

/// What the parent says once the id maps are written.
const MAPPED: &[u8] = b"mapped";

/// What pause says once its namespaces are as they should be.
const HELD: &[u8] = b"held";

fn wait_for(word: &[u8], socket: &OwnedFd, child: &Child) -> Result<()> {
    match socket::receive(socket).context(|| "receive from pause")? {
        Some((message, _)) if message == word => Ok(()),
        Some((message, _)) => Err(serde_json::from_slice(&message)
            .unwrap_or_else(|e| Error::new(format!("receive from pause: {e}")))),
        None => Err(match wait(&child.pidfd).context(|| "wait for pause")? {
            Exit::Code(errno) => Error::sys(
                "install pause's seccomp filter",
                Errno::from_raw_os_error(errno.into()),
            ),
            Exit::Signal(signal) => Error::new(format!("pause was killed by signal {signal}")),
        }),
    }
}

fn report(socket: &OwnedFd, error: &Error) -> Infallible {
    if let Ok(message) = serde_json::to_vec(error) {
        let _ = socket::send(socket, &message, None);
    }
    exit(1)
}

/// Everything between the clone and the execve.
fn prepare(
    holds: Holds<'_>,
    cgroup: &Cgroup,
    keeps: &[BorrowedFd<'_>],
    socket: &OwnedFd,
    program: &OwnedFd,
) -> Result<()> {
    cgroup.join()?;
    let mut keep = vec![socket.as_raw_fd(), program.as_raw_fd()];
    keep.extend(keeps.iter().map(AsRawFd::as_raw_fd));
    keep.extend(holds.joins.map(|network| network.as_raw_fd()));
    keep.sort_unstable();
    close_all_but(&keep).context(|| "close_range")?;
    // Ctrl-C at the terminal of `pod run` is for the supervisor.
    setsid().context(|| "setsid")?;
    SigSet::all()
        .thread_set_mask()
        .context(|| "block all signals")?;
    match holds.users {
        Users::Host => ns::unshare(UnshareFlags::from_bits_retain(holds.made() as u32))
            .context(|| "make the namespaces")?,
        Users::New(_) => wait_for_ids(socket).and_then(|()| become_root())?,
        Users::Joined => become_root()?,
    }
    if let Some(hostname) = holds.network {
        match holds.joins {
            Some(network) => {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(network, kind)
                    .context(|| "join the network namespace")?;
            }
            None => net::loopback_up().context(|| "bring lo up")?,
        }
        rustix::system::sethostname(hostname.as_bytes())
            .context(|| format!("sethostname {hostname:?}"))?;
    }
    if holds.users == Users::Host {
        sysctl::write(SYSCTLS, holds.sysctls, None)?;
    }
    socket::send(socket, HELD, None).context(|| "tell that the namespaces are held")?;
    enter_empty_root().context(|| "enter an empty root")?;
    drop_privileges()?;
    for fd in keeps {
        fcntl_setfd(fd, FdFlags::empty()).context(|| "keep a socket")?;
    }
    rustix::stdio::dup2_stdin(socket).context(|| "dup2")
}

/// `/` becomes an empty, read-only tmpfs, and nothing else is mounted in this mount namespace.
fn enter_empty_root() -> rustix::io::Result<()> {
    // First, so that nothing of what follows reaches the host's mount namespace.
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&tmpfs, "nr_inodes", "1")?;
    fsconfig_create(&tmpfs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    // Any directory that is there will do: the old root goes with everything in it.
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&root, "", CWD, "/proc", flags)?;
    fchdir(&root)?;
    // pivot_root(2): with "." twice the old root ends up on top of the new one, from where it is detached.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

fn drop_privileges() -> Result<()> {
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // The first number that this kernel has no capability for.
            Err(Errno::INVAL) => break,
            Err(e) => return Err(Error::sys("prctl PR_CAPBSET_DROP", e)),
        }
    }
    set_thread_groups(&[]).context(|| "setgroups")?;
    let gid = Gid::from_raw(PAUSE_ID);
    set_thread_res_gid(gid, gid, gid).context(|| format!("setresgid {PAUSE_ID}"))?;
    let uid = Uid::from_raw(PAUSE_ID);
    set_thread_res_uid(uid, uid, uid).context(|| format!("setresuid {PAUSE_ID}"))?;
    // The change of the user has emptied the effective, permitted and ambient sets; the inheritable one is left.
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).context(|| "capset")?;
    set_no_new_privs(true).context(|| "prctl PR_SET_NO_NEW_PRIVS")
}

fn program_in_memory() -> rustix::io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Before Linux 6.3 every memfd may be executed and the flag is unknown; since then it is asked for.
    let memory = memfd_create("pause", flags | MemfdFlags::EXEC).or_else(|e| match e {
        Errno::INVAL => memfd_create("pause", flags),
        e => Err(e),
    })?;
    let program = elf(machine_code(), &seccomp_filter());
    let written = rustix::io::write(&memory, &program)?;
    if written != program.len() {
        return Err(Errno::NOSPC);
    }
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(memory.as_fd(), seals)?;
    Ok(memory)
}

/// An instruction of classic BPF, `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    k: u32,
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// Allows what pause's code needs, by this machine's own system call numbers; anything else kills the process.
fn seccomp_filter() -> Vec<Instruction> {
    let statement = |code, k| Instruction {
        code,
        jump_true: 0,
        jump_false: 0,
        k,
    };
    let calls = SYSTEM_CALLS.len() as u8;
    let mut filter = vec![
        statement(LOAD, ARCHITECTURE),
        Instruction {
            code: JUMP_IF_EQUAL,
            jump_true: 0,
            jump_false: calls + 1,
            k: AUDIT_ARCH,
        },
        statement(LOAD, NUMBER),
    ];
    filter.extend((0..calls).zip(SYSTEM_CALLS).map(|(i, number)| Instruction {
        code: JUMP_IF_EQUAL,
        jump_true: calls - i,
        jump_false: 0,
        k: number as u32,
    }));
    filter.push(statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
    filter.push(statement(RETURN, libc::SECCOMP_RET_ALLOW));
    filter
}

const LOAD_ADDRESS: u64 = 0x40_0000;
const FILE_HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;

/// A static executable, elf(5): one read-only, executable segment with the headers, the code, and the filter as a
/// `struct sock_fprog` right behind the code; a stack that is not executable.
fn elf(code: &[u8], filter: &[Instruction]) -> Vec<u8> {
    const SOCK_FPROG: u64 = 16;
    let headers = FILE_HEADER + 2 * PROGRAM_HEADER;
    let filter_address = LOAD_ADDRESS + headers + code.len() as u64 + SOCK_FPROG;
    let size = filter_address - LOAD_ADDRESS + 8 * filter.len() as u64;
    let mut file = Vec::with_capacity(size as usize);
    let half = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    let word = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    let long = |file: &mut Vec<u8>, value: u64| file.extend(value.to_le_bytes());

    // e_ident: magic, 64 bit, little endian, version 1, System V
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    half(&mut file, libc::ET_EXEC);
    half(&mut file, MACHINE);
    word(&mut file, libc::EV_CURRENT);
    long(&mut file, LOAD_ADDRESS + headers); // e_entry
    long(&mut file, FILE_HEADER); // e_phoff
    long(&mut file, 0); // e_shoff
    word(&mut file, 0); // e_flags
    for value in [FILE_HEADER as u16, PROGRAM_HEADER as u16, 2, 0, 0, 0] {
        half(&mut file, value); // e_ehsize e_phentsize e_phnum e_shentsize e_shnum e_shstrndx
    }

    word(&mut file, libc::PT_LOAD);
    word(&mut file, libc::PF_R | libc::PF_X);
    // p_offset p_vaddr p_paddr p_filesz p_memsz p_align
    for value in [0, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 0x1_0000] {
        long(&mut file, value);
    }
    word(&mut file, libc::PT_GNU_STACK);
    word(&mut file, libc::PF_R | libc::PF_W);
    for value in [0, 0, 0, 0, 0, 16] {
        long(&mut file, value);
    }

    file.extend(code);
    long(&mut file, filter.len() as u64); // len, a short, and its padding
    long(&mut file, filter_address);
    for instruction in filter {
        half(&mut file, instruction.code);
        file.extend([instruction.jump_true, instruction.jump_false]);
        word(&mut file, instruction.k);
    }
    file
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What the filter answers: a reference evaluator of the three instructions that it is made of.
    fn evaluate(filter: &[Instruction], architecture: u32, number: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let instruction = filter[at];
            at += 1;
            match (instruction.code, instruction.k) {
                (LOAD, NUMBER) => accumulator = number,
                (LOAD, ARCHITECTURE) => accumulator = architecture,
                (JUMP_IF_EQUAL, k) if accumulator == k => at += usize::from(instruction.jump_true),
                (JUMP_IF_EQUAL, _) => at += usize::from(instruction.jump_false),
                (RETURN, k) => return k,
                other => panic!("unknown instruction {other:?}"),
            }
        }
    }

    #[test]
    fn the_filter_allows_just_what_the_code_needs() {
        let filter = seccomp_filter();
        for number in (0..600).chain([0x4000_0001, u32::MAX]) {
            let needed = SYSTEM_CALLS.contains(&libc::c_long::from(number));
            let answer = evaluate(&filter, AUDIT_ARCH, number);
            let expected = if needed {
                libc::SECCOMP_RET_ALLOW
            } else {
                libc::SECCOMP_RET_KILL_PROCESS
            };
            assert_eq!(answer, expected, "system call {number}");
        }
    }

    #[test]
    fn another_architecture_is_killed() {
        let i386 = 0x4000_0003;
        for number in SYSTEM_CALLS {
            let answer = evaluate(&seccomp_filter(), i386, number as u32);
            assert_eq!(answer, libc::SECCOMP_RET_KILL_PROCESS);
        }
    }

    #[test]
    fn the_program_fits_one_page_and_finds_its_filter() {
        let code = machine_code();
        assert_eq!(code.len() % 8, 0);
        let filter = seccomp_filter();
        let file = elf(code, &filter);
        assert!(file.len() <= 4096, "{} bytes", file.len());
        let headers = (FILE_HEADER + 2 * PROGRAM_HEADER) as usize;
        assert_eq!(&file[headers..][..code.len()], code);
        let program = &file[headers + code.len()..];
        assert_eq!(program[..8], (filter.len() as u64).to_le_bytes());
        let address = u64::from_le_bytes(program[8..16].try_into().unwrap());
        assert_eq!(
            address as usize,
            LOAD_ADDRESS as usize + headers + code.len() + 16
        );
        assert_eq!(program.len(), 16 + 8 * filter.len());
    }
}
