//! A small interpreter of classic BPF: what a program decides, for any architecture. For the tests here and in tests/fuzz.

/// What the kernel would do about a call: `SECCOMP_RET_*`.
pub(crate) fn decide(program: &[u8], architecture: u32, number: u32, args: &[u64]) -> u32 {
    let mut data = [number, architecture, 0, 0].to_vec();
    for index in 0..6 {
        let value = args.get(index).copied().unwrap_or(0);
        data.extend([value as u32, (value >> 32) as u32]);
    }
    let (mut at, mut accumulator, mut memory) = (0, 0_u32, [0_u32; 16]);
    loop {
        let i = &program[at * 8..][..8];
        let (code, if_so, if_not) = (u16::from_ne_bytes([i[0], i[1]]), i[2], i[3]);
        let k = u32::from_ne_bytes([i[4], i[5], i[6], i[7]]);
        at += 1;
        let jump = match code {
            0x20 => {
                accumulator = data[k as usize / 4];
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x02 => {
                memory[k as usize] = accumulator;
                continue;
            }
            0x60 => {
                accumulator = memory[k as usize];
                continue;
            }
            0x06 => return k,
            0x05 => {
                at += k as usize;
                continue;
            }
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            0x45 => accumulator & k != 0,
            other => panic!("unexpected instruction {other:#x}"),
        };
        at += usize::from(if jump { if_so } else { if_not });
    }
}
