//! The machine code of the pause process: position-independent, without a stack frame, a heap or a library.
//!
//! It is part of the binary only as data; [`crate::pod::pause`] copies it behind an ELF header into a memfd, followed
//! by its seccomp filter as a `struct sock_fprog`, and pause executes that. So pause maps one page of code and its
//! stack, and nothing of runp: not its memory, and not its file through `/proc/<pid>/exe` (CVE-2019-5736).
//!
//! It starts with every signal blocked and with one open file, number 0, which takes a byte once it is ready:
//!
//! 1. `prctl(PR_SET_NAME, "pause")`, `prctl(PR_SET_DUMPABLE, 0)`: not to be traced by containers that share its pid
//!    namespace and its user id
//! 2. `seccomp(SECCOMP_SET_MODE_FILTER, 0, &filter)`
//! 3. `write(0, "+", 1)`, `close(0)`
//! 4. forever `rt_sigtimedwait({TERM, INT, CHLD})`: SIGCHLD reaps all that can be reaped, the others end it
//!
//! A step that fails ends it with the error number as its exit status, before the byte is written.

use std::arch::global_asm;

/// What it writes to its only open file once it is ready.
pub const READY: u8 = b'+';

/// What the machine code asks the kernel for after its filter is on. `rt_sigreturn` is not among it: it has no handler.
pub const SYSTEM_CALLS: [libc::c_long; 5] = [
    libc::SYS_rt_sigtimedwait,
    libc::SYS_wait4,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_exit_group,
];

/// `AUDIT_ARCH_*` of seccomp(2), which libc lacks: the ELF machine, 64 bit, little endian.
pub const AUDIT_ARCH: u32 = 0xC000_0000 | MACHINE as u32;

/// `e_machine` of elf(5).
#[cfg(target_arch = "x86_64")]
pub const MACHINE: u16 = libc::EM_X86_64;
/// `e_machine` of elf(5).
#[cfg(target_arch = "aarch64")]
pub const MACHINE: u16 = libc::EM_AARCH64;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".pushsection .rodata.runp_pause, \"a\"",
    ".balign 8",
    ".globl runp_pause_start",
    ".globl runp_pause_end",
    ".hidden runp_pause_start",
    ".hidden runp_pause_end",
    "runp_pause_start:",
    "    mov edi, {set_name}",
    "    lea rsi, [rip + 7f]",
    "    mov eax, {prctl}",
    "    syscall",
    "    mov edi, {set_dumpable}",
    "    xor esi, esi",
    "    mov eax, {prctl}",
    "    syscall",
    "    mov edi, {filter}",
    "    xor esi, esi",
    "    lea rdx, [rip + runp_pause_end]",
    "    mov eax, {seccomp}",
    "    syscall",
    "    neg eax",
    "    jnz 6f",
    "    xor edi, edi",
    "    lea rsi, [rip + 8f]",
    "    mov edx, 1",
    "    mov eax, {write}",
    "    syscall",
    "    xor edi, edi",
    "    mov eax, {close}",
    "    syscall",
    "3:", // wait for a signal
    "    lea rdi, [rip + 9f]",
    "    xor esi, esi",
    "    xor edx, edx",
    "    mov r10d, 8",
    "    mov eax, {sigtimedwait}",
    "    syscall",
    "    cmp eax, {sigchld}",
    "    je 4f",
    "    test eax, eax",
    "    js 3b", // EINTR: stopped and continued
    "    xor eax, eax",
    "    jmp 6f",
    "4:", // reap all that has ended: one SIGCHLD may stand for many
    "    mov edi, -1",
    "    xor esi, esi",
    "    mov edx, {nohang}",
    "    xor r10d, r10d",
    "    mov eax, {wait4}",
    "    syscall",
    "    test eax, eax",
    "    jg 4b",
    "    jmp 3b",
    "6:", // exit with the status in eax
    "    mov edi, eax",
    "    mov eax, {exit_group}",
    "    syscall",
    "    ud2",
    "7:  .asciz \"pause\"",
    "8:  .byte {ready}",
    ".balign 8",
    "9:  .quad {signals}",
    "runp_pause_end:",
    ".popsection",
    set_name = const libc::PR_SET_NAME,
    set_dumpable = const libc::PR_SET_DUMPABLE,
    filter = const libc::SECCOMP_SET_MODE_FILTER,
    prctl = const libc::SYS_prctl,
    seccomp = const libc::SYS_seccomp,
    write = const libc::SYS_write,
    close = const libc::SYS_close,
    sigtimedwait = const libc::SYS_rt_sigtimedwait,
    wait4 = const libc::SYS_wait4,
    exit_group = const libc::SYS_exit_group,
    sigchld = const libc::SIGCHLD,
    nohang = const libc::WNOHANG,
    signals = const SIGNALS,
    ready = const READY,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .rodata.runp_pause, \"a\"",
    ".balign 8",
    ".globl runp_pause_start",
    ".globl runp_pause_end",
    ".hidden runp_pause_start",
    ".hidden runp_pause_end",
    "runp_pause_start:",
    "    mov x0, #{set_name}",
    "    adr x1, 7f",
    "    mov x8, #{prctl}",
    "    svc #0",
    "    mov x0, #{set_dumpable}",
    "    mov x1, #0",
    "    mov x8, #{prctl}",
    "    svc #0",
    "    mov x0, #{filter}",
    "    mov x1, #0",
    "    adr x2, runp_pause_end",
    "    mov x8, #{seccomp}",
    "    svc #0",
    "    neg x0, x0",
    "    cbnz x0, 6f",
    "    mov x0, #0",
    "    adr x1, 8f",
    "    mov x2, #1",
    "    mov x8, #{write}",
    "    svc #0",
    "    mov x0, #0",
    "    mov x8, #{close}",
    "    svc #0",
    "3:", // wait for a signal
    "    adr x0, 9f",
    "    mov x1, #0",
    "    mov x2, #0",
    "    mov x3, #8",
    "    mov x8, #{sigtimedwait}",
    "    svc #0",
    "    cmp x0, #{sigchld}",
    "    b.eq 4f",
    "    tbnz x0, #63, 3b", // EINTR: stopped and continued
    "    mov x0, #0",
    "    b 6f",
    "4:", // reap all that has ended: one SIGCHLD may stand for many
    "    mov x0, #-1",
    "    mov x1, #0",
    "    mov x2, #{nohang}",
    "    mov x3, #0",
    "    mov x8, #{wait4}",
    "    svc #0",
    "    cmp x0, #0",
    "    b.gt 4b",
    "    b 3b",
    "6:", // exit with the status in x0
    "    mov x8, #{exit_group}",
    "    svc #0",
    "    brk #0",
    "7:  .asciz \"pause\"",
    "8:  .byte {ready}",
    ".balign 8",
    "9:  .quad {signals}",
    "runp_pause_end:",
    ".popsection",
    set_name = const libc::PR_SET_NAME,
    set_dumpable = const libc::PR_SET_DUMPABLE,
    filter = const libc::SECCOMP_SET_MODE_FILTER,
    prctl = const libc::SYS_prctl,
    seccomp = const libc::SYS_seccomp,
    write = const libc::SYS_write,
    close = const libc::SYS_close,
    sigtimedwait = const libc::SYS_rt_sigtimedwait,
    wait4 = const libc::SYS_wait4,
    exit_group = const libc::SYS_exit_group,
    sigchld = const libc::SIGCHLD,
    nohang = const libc::WNOHANG,
    signals = const SIGNALS,
    ready = const READY,
);

/// The kernel's `sigset_t` of what pause waits for: bit n-1 is signal n.
const SIGNALS: u64 = bit(libc::SIGTERM) | bit(libc::SIGINT) | bit(libc::SIGCHLD);

const fn bit(signal: libc::c_int) -> u64 {
    1 << (signal - 1)
}

/// The machine code, its length a multiple of 8. A `struct sock_fprog` must follow it where it is executed.
pub fn machine_code() -> &'static [u8] {
    unsafe extern "C" {
        static runp_pause_start: u8;
        static runp_pause_end: u8;
    }
    let start = &raw const runp_pause_start;
    let length = (&raw const runp_pause_end).addr() - start.addr();
    // SAFETY: both labels stand in one section, the end behind the start, and what is between them is initialised,
    // read-only data of this binary.
    unsafe { std::slice::from_raw_parts(start, length) }
}
