//! Calls that are newer than the profile: ENOSYS, whatever the profile does about those that it does not name.
//!
//! A program that tries a new call and gets EPERM, as most profiles say by default, gives up; with ENOSYS it takes the older
//! call. So, as in runc, calls with a number above all that the profile names get ENOSYS, per architecture, before the
//! profile is asked. (It is a guess: a profile names what its author knew of.)

use std::ffi::CString;

use crate::spec::seccomp::Seccomp;
use crate::sys::seccomp::{self as library, INSTRUCTION};

/// `struct seccomp_data` of linux/seccomp.h: the call's number, the architecture.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
/// linux/filter.h.
const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_SET: u16 = 0x45;
/// `SECCOMP_RET_ERRNO`, `SECCOMP_RET_TRACE`, `SECCOMP_RET_LOG`, `SECCOMP_RET_ALLOW`.
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;
/// x32 is x86-64 with this bit in the call's number.
const X32: u32 = 0x4000_003e;
const X86_64: u32 = 0xc000_003e;
const X32_CALL: u32 = 1 << 30;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = X86_64;
#[cfg(not(target_arch = "x86_64"))]
const NATIVE: u32 = 0xc000_00b7;

/// The instructions to put before the program; they fall through to it.
pub(super) fn stub(profile: &Seccomp) -> Vec<u8> {
    let allows = |action: u32| matches!(action & 0xffff_0000, TRACE | LOG | ALLOW);
    let enosys = ERRNO | libc::ENOSYS as u32;
    if allows(profile.default_action) || profile.default_action == enosys {
        return Vec::new();
    }
    let mut program = Vec::new();
    for &architecture in [NATIVE].iter().chain(&profile.architectures) {
        if let Some(newest) = newest(profile, architecture) {
            program.extend(section(architecture, newest, enosys));
        }
    }
    program.concat()
}

/// The highest number of a call that the profile names; `None` if the architecture has none of them.
fn newest(profile: &Seccomp, architecture: u32) -> Option<u32> {
    let numbers = profile.rules.iter().filter_map(|rule| {
        let name = CString::new(rule.name.as_str()).ok()?;
        let number = library::resolve(architecture, &name)?;
        // Below 0 it stands for a call of another architecture.
        u32::try_from(number).ok()
    });
    numbers.max()
}

fn section(architecture: u32, newest: u32, enosys: u32) -> Vec<[u8; INSTRUCTION]> {
    let mode = match architecture {
        X32 => Some(instruction(JUMP_SET, 0, 2, X32_CALL)),
        X86_64 => Some(instruction(JUMP_SET, 2, 0, X32_CALL)),
        _ => None,
    };
    let token = if architecture == X32 {
        X86_64
    } else {
        architecture
    };
    let rest = 3 + u8::from(mode.is_some());
    let mut section = vec![
        instruction(LOAD, 0, 0, ARCHITECTURE),
        instruction(JUMP_EQUAL, 0, rest, token),
        instruction(LOAD, 0, 0, NUMBER),
    ];
    section.extend(mode);
    section.push(instruction(JUMP_GREATER, 0, 1, newest));
    section.push(instruction(RETURN, 0, 0, enosys));
    section
}

/// `struct sock_filter`: what to do, how many instructions to skip if it is so and if not, with which value.
fn instruction(code: u16, if_so: u8, if_not: u8, value: u32) -> [u8; INSTRUCTION] {
    let ([a, b], [c, d, e, f]) = (code.to_ne_bytes(), value.to_ne_bytes());
    [a, b, if_so, if_not, c, d, e, f]
}
