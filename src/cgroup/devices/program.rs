//! Device rules as a `BPF_PROG_TYPE_CGROUP_DEVICE` program, for cgroup v2. Pure; [`crate::sys::bpf`] loads it.
//!
//! The kernel asks with a `struct bpf_cgroup_dev_ctx`: access bits in the high and kind in the low half of the first
//! word, then major and minor. The answer is 1 or 0.

use super::{Access, Kind, Rule, Rules};

/// One instruction: opcode, registers (source in the high half), offset, immediate; as `struct bpf_insn`.
pub type Instruction = [u8; 8];

/// Register 0 holds the answer, 1 the context; the others are ours.
const KIND: u8 = 2;
/// The accesses that were asked for and that no rule has decided yet.
const UNDECIDED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// linux/bpf_common.h and linux/bpf.h: class, size or operation, and source of the operand.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_IF_EQUAL: u8 = 0x16;
const JUMP_UNLESS_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: u32) -> Instruction {
    let offset = offset.to_ne_bytes();
    let immediate = immediate.to_ne_bytes();
    // The two registers are C bit fields: their order in the byte follows the machine's.
    let registers = if cfg!(target_endian = "little") {
        from << 4 | to
    } else {
        to << 4 | from
    };
    [
        code,
        registers,
        offset[0],
        offset[1],
        immediate[0],
        immediate[1],
        immediate[2],
        immediate[3],
    ]
}

fn answer(allow: bool) -> [Instruction; 2] {
    [
        instruction(MOVE, 0, 0, 0, u32::from(allow)),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`.
fn kind(kind: Kind) -> u32 {
    match kind {
        Kind::Block => 1,
        Kind::Char => 2,
    }
}

/// The program that decides as the rules do. `None` if they allow everything.
///
/// The last rule comes first: what it says of an access is final.
pub fn program(rules: &Rules) -> Option<Vec<Instruction>> {
    if rules.allow_everything() {
        return None;
    }
    let mut program = vec![
        instruction(LOAD_WORD, KIND, 1, 0, 0),
        instruction(MOVE_REGISTER, UNDECIDED, KIND, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, UNDECIDED, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, 1, 4, 0),
        instruction(LOAD_WORD, MINOR, 1, 8, 0),
    ];
    let mut last_first: Vec<&Rule> = rules.iter().rev().collect();
    // Rules that all allow, or all deny, mean the same in any order.
    for alike in last_first.chunk_by_mut(|a, b| a.allow == b.allow) {
        alike.sort_by_key(|rule| conditions(rule).collect::<Vec<_>>());
    }
    program.extend(decide(&last_first, 0));
    program.extend(answer(false));
    Some(program)
}

/// So many rules are behind one jump: it leads over 32,767 instructions at most, and a rule has eight.
const BEHIND_ONE_JUMP: usize = 1000;

/// The instructions that decide by `rules`, of which the first `decided` conditions are known to hold.
///
/// Rules that follow each other and have a condition in common ask it once: the kernel looks at both ways of every
/// conditional jump before it takes the program, and that is the most expensive part of a container's cgroup.
fn decide(rules: &[&Rule], decided: usize) -> Vec<Instruction> {
    let next = |rule: &Rule| conditions(rule).nth(decided);
    let mut program = Vec::new();
    for group in rules
        .chunk_by(|a, b| next(a) == next(b))
        .flat_map(|group| group.chunks(BEHIND_ONE_JUMP))
    {
        match group.first().and_then(|rule| next(rule)) {
            Some((register, value)) => {
                let body = decide(group, decided + 1);
                let skip = body.len() as i16;
                program.push(instruction(JUMP_UNLESS_EQUAL, register, 0, skip, value));
                program.extend(body);
            }
            None => program.extend(group.iter().flat_map(|rule| verdict(rule))),
        }
    }
    program
}

/// What has to hold for a rule to be about the device.
fn conditions(rule: &Rule) -> impl Iterator<Item = (u8, u32)> {
    let pattern = &rule.pattern;
    let number = |register, number: Option<u32>| number.map(|number| (register, number));
    [
        Some((KIND, kind(pattern.kind))),
        number(MAJOR, pattern.major),
        number(MINOR, pattern.minor),
    ]
    .into_iter()
    .flatten()
}

/// What a rule that is about the device says.
fn verdict(rule: &Rule) -> Vec<Instruction> {
    match (rule.allow, rule.access) {
        (allow, Access::ALL) => answer(allow).to_vec(),
        (true, access) => {
            let rest = u32::from((!access).bits());
            let mut body = vec![
                instruction(AND, UNDECIDED, 0, 0, rest),
                instruction(JUMP_UNLESS_EQUAL, UNDECIDED, 0, 2, 0),
            ];
            body.extend(answer(true));
            body
        }
        (false, access) => {
            let bits = u32::from(access.bits());
            let mut body = vec![
                instruction(MOVE_REGISTER, SCRATCH, UNDECIDED, 0, 0),
                instruction(AND, SCRATCH, 0, 0, bits),
                instruction(JUMP_IF_EQUAL, SCRATCH, 0, 2, 0),
            ];
            body.extend(answer(false));
            body
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::{a_device, allowed, of, rules, some_rules};
    use super::super::{Pattern, Rule};
    use super::*;
    use proptest::prelude::*;

    /// Runs a program as the kernel would: the opcodes of 32-bit arithmetic and jumps that are used here.
    fn run(program: &[Instruction], context: [u32; 3]) -> u32 {
        let mut registers = [0u32; 11];
        let mut at = 0usize;
        // Jumps only lead forward: no instruction runs twice.
        while let Some(instruction) = program.get(at) {
            let [code, pair, o0, o1, i0, i1, i2, i3] = *instruction;
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let offset = i16::from_ne_bytes([o0, o1]);
            let immediate = u32::from_ne_bytes([i0, i1, i2, i3]);
            at += 1;
            let mut jump = |taken: bool| {
                if taken {
                    at = at.checked_add_signed(offset.into()).unwrap();
                }
            };
            match code {
                LOAD_WORD => registers[to] = context[usize::try_from(offset).unwrap() / 4],
                MOVE => registers[to] = immediate,
                MOVE_REGISTER => registers[to] = registers[from],
                AND => registers[to] &= immediate,
                SHIFT_RIGHT => registers[to] >>= immediate,
                JUMP_IF_EQUAL => jump(registers[to] == immediate),
                JUMP_UNLESS_EQUAL => jump(registers[to] != immediate),
                EXIT => return registers[0],
                _ => panic!("opcode {code:#x}"),
            }
        }
        panic!("the program does not end");
    }

    fn asked(program: &[Instruction], device: Pattern, access: Access) -> bool {
        let first = u32::from(access.bits()) << 16 | kind(device.kind);
        let context = [first, device.major.unwrap(), device.minor.unwrap()];
        run(program, context) == 1
    }

    #[test]
    fn everything_needs_no_program() {
        assert_eq!(
            program(&rules(r#"[{"allow": true, "access": "rwm"}]"#)),
            None
        );
    }

    #[test]
    fn reading_and_writing_can_come_from_two_rules() {
        let rules = rules(
            r#"[{"allow": true, "type": "c", "major": 9, "access": "r"},
                {"allow": true, "type": "c", "major": 9, "minor": 1, "access": "w"}]"#,
        );
        let program = program(&rules).unwrap();
        let device = |minor| Pattern {
            kind: Kind::Char,
            major: Some(9),
            minor: Some(minor),
        };
        assert!(asked(&program, device(1), Access::READ | Access::WRITE));
        assert!(!asked(&program, device(2), Access::READ | Access::WRITE));
    }

    proptest! {
        #[test]
        fn the_program_decides_as_the_rules(list in some_rules(), (device, access) in a_device()) {
            let rules = of(list);
            let all: Vec<Rule> = rules.iter().copied().collect();
            let decided = program(&rules).is_none_or(|program| asked(&program, device, access));
            prop_assert_eq!(decided, allowed(&all, device, access));
        }
    }
}
