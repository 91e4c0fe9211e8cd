//! What happens before the C library starts: the program executes itself again from a read-only mount of its binary.
//!
//! Which is the protection that [`crate::container::self_exe`] explains, and could be done at leisure in `main`. But a C
//! library needs a quarter of a millisecond to start where CPUID leaves the virtual machine (glibc asks 30 times; `runp run`
//! takes 4 in all), and the program that is going to be replaced has no need of one.
//!
//! The code here runs on the kernel's bare stack: no heap, no thread-local `errno`, no `memcpy` (the C library chooses that
//! function when it starts). So it loops over bytes, and makes its three system calls itself.

use std::arch::asm;

/// Where the kernel starts the program (the build script tells the linker so): calls `before` with the stack as execve(2) has
/// filled it, then starts the C library on the same stack.
#[macro_export]
macro_rules! start {
    ($name:ident, $before:path) => {
        /// The program's first instruction.
        // SAFETY: the kernel jumps here with a stack aligned to 16 bytes and nothing to return to. What `_start` wants is kept in
        // registers that a called function has to restore: the stack, and the register that the ABI uses for `rtld_fini`.
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn $name() -> ! {
            #[cfg(target_arch = "x86_64")]
            std::arch::naked_asm!(
                "xor ebp, ebp", "mov rbx, rdx", "mov r12, rsp", "mov rdi, rsp", "call {before}",
                "mov rsp, r12", "mov rdx, rbx", "jmp _start",
                before = sym $before
            );
            #[cfg(target_arch = "aarch64")]
            std::arch::naked_asm!(
                "mov x29, #0", "mov x30, #0", "mov x19, x0", "mov x0, sp", "bl {before}",
                "mov x0, x19", "mov x30, #0", "b _start",
                before = sym $before
            );
        }
    };
}

/// What execve(2) left on the stack: the number of arguments, their addresses, zero, the environment's, zero, and pairs
/// of numbers, the auxiliary vector (getauxval(3)).
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub struct Stack(*const usize);

/// Executes the program again from a read-only mount of its binary that is in no namespace, if one of its arguments is one of
/// `verbs` and it has not been executed so already. Comes back when there is no need, or no permission: `main` sees to that.
pub fn seal(stack: Stack, verbs: &[&[u8]]) {
    let arguments = stack.0.wrapping_add(1);
    // SAFETY: the kernel wrote the number of arguments there.
    let environment = arguments.wrapping_add(unsafe { stack.0.read() } + 1);
    // SAFETY: the kernel made both lists.
    if !unsafe { any_is(arguments, verbs) } || unsafe { executed_by_descriptor(environment) } {
        return;
    }
    let path = c"/proc/self/exe";
    let clone = (libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC) as usize;
    let cwd = libc::AT_FDCWD as usize;
    // SAFETY: the path is NUL-terminated.
    let tree = unsafe {
        call(
            libc::SYS_open_tree,
            [cwd, path.as_ptr() as usize, clone, 0, 0],
        )
    };
    if tree < 0 {
        return;
    }
    let (tree, empty) = (tree as usize, c"".as_ptr() as usize);
    // `struct mount_attr`: to set, to clear, propagation, user namespace.
    let change = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];
    let (attributes, size) = (change.as_ptr() as usize, size_of_val(&change));
    let itself = libc::AT_EMPTY_PATH as usize;
    // SAFETY: the kernel reads `size` bytes of `change` and a NUL-terminated path.
    let read_only = unsafe {
        call(
            libc::SYS_mount_setattr,
            [tree, empty, itself, attributes, size],
        )
    };
    if read_only == 0 {
        let (arguments, environment) = (arguments as usize, environment as usize);
        // SAFETY: the path is NUL-terminated, the lists are those that execve(2) itself made.
        unsafe {
            call(
                libc::SYS_execveat,
                [tree, empty, arguments, environment, itself],
            )
        };
    }
    // SAFETY: the descriptor was opened here, and nobody else has it.
    unsafe { call(libc::SYS_close, [tree, 0, 0, 0, 0]) };
}

/// # Safety
/// `list` holds addresses of NUL-terminated strings, with a zero at the end.
unsafe fn any_is(mut list: *const usize, words: &[&[u8]]) -> bool {
    loop {
        // SAFETY: the loop ends at the zero.
        let string = unsafe { list.read() } as *const u8;
        if string.is_null() {
            return false;
        }
        for word in words {
            // SAFETY: the string is NUL-terminated.
            if unsafe { starts_with(string, word) }
                // SAFETY: it is at least as long as the word.
                && unsafe { string.wrapping_add(word.len()).read() } == 0
            {
                return true;
            }
        }
        list = list.wrapping_add(1);
    }
}

/// Whether the program was started with execveat(2) and an empty path: the kernel then calls it `/dev/fd/N`. Who wants to
/// pretend that gets no protection here, and `main` looks closer.
///
/// # Safety
/// `environment` is where the environment begins on the stack that execve(2) made: the auxiliary vector follows.
unsafe fn executed_by_descriptor(mut environment: *const usize) -> bool {
    // SAFETY: the list ends with a zero.
    while unsafe { environment.read() } != 0 {
        environment = environment.wrapping_add(1);
    }
    let mut pair = environment.wrapping_add(1);
    loop {
        // SAFETY: the auxiliary vector consists of pairs, and ends with AT_NULL.
        let key = unsafe { pair.read() };
        if key as u64 == libc::AT_NULL {
            return false;
        }
        // SAFETY: as above.
        let value = unsafe { pair.wrapping_add(1).read() };
        if key as u64 == libc::AT_EXECFN {
            // SAFETY: the value is the address of a NUL-terminated string.
            return unsafe { starts_with(value as *const u8, b"/dev/fd/") };
        }
        pair = pair.wrapping_add(2);
    }
}

/// # Safety
/// `string` is NUL-terminated.
unsafe fn starts_with(string: *const u8, word: &[u8]) -> bool {
    let mut at = string;
    for byte in word {
        // SAFETY: no byte before this one was NUL, because all were equal to the word's. Volatile, so that no optimisation makes
        // this a call of `memcmp`.
        if unsafe { at.read_volatile() } != *byte {
            return false;
        }
        at = at.wrapping_add(1);
    }
    true
}

/// A system call, without `errno`: gives back its result, or the negative error.
///
/// # Safety
/// As for the system call.
unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let result: isize;
    // SAFETY: the kernel changes the registers named here and what the arguments point to, which is the caller's affair.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            in("r10") arguments[3], in("r8") arguments[4],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] as isize => result,
            in("x1") arguments[1], in("x2") arguments[2], in("x3") arguments[3], in("x4") arguments[4],
            options(nostack)
        );
    }
    result
}
