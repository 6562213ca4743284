//! Tests of [`super`]: each rule over invented memory, and a real process.
use super::*;
use std::collections::BTreeMap;

fn row(rule: CfaRule, cfa_words: i64, fp_words_below_cfa: i8) -> UnwindRow {
    UnwindRow::new(0, rule, cfa_words, fp_words_below_cfa).unwrap()
}

/// Walks from `ip` 0x1000, `sp` 0x8000, `fp` 0x9000, `lr` 0x2001. Rules hold
/// from their address on.
fn walked(rows: &[(u64, UnwindRow)], words: &[(u64, u64)], exact: bool) -> Walk {
    walked_on(Machine::X86_64, rows, words, exact)
}

fn walked_on(
    machine: Machine,
    rows: &[(u64, UnwindRow)],
    words: &[(u64, u64)],
    exact: bool,
) -> Walk {
    let rows: BTreeMap<_, _> = rows.iter().copied().collect();
    let memory: BTreeMap<_, _> = words.iter().copied().collect();
    walk(
        machine,
        Registers {
            ip: 0x1000,
            sp: 0x8000,
            fp: 0x9000,
            lr: 0x2001,
            exact,
        },
        64,
        |address| memory.get(&address).copied(),
        |ip| rows.range(..=ip).next_back().map(|(_, row)| *row),
    )
}

const END: (u64, UnwindRow) = (0x5000, UnwindRow::bare(CfaRule::End));

fn complete(frames: &[u64]) -> Walk {
    Walk {
        frames: frames.to_vec(),
        complete: true,
    }
}

#[test]
fn by_stack_pointer_then_by_frame_pointer() {
    let rows = [
        (0x0f00, row(CfaRule::StackPointer, 4, 3)),
        (0x2000, row(CfaRule::FramePointer, 2, 2)),
        END,
    ];
    let words = [
        (0x8018, 0x2001),
        (0x8008, 0x9100),
        (0x9108, 0x5001),
        (0x9100, 0),
    ];
    assert_eq!(
        walked(&rows, &words, false),
        complete(&[0x1000, 0x2001, 0x5001])
    );
}

#[test]
fn return_addresses_are_looked_up_one_byte_before() {
    // 0x1000 is where the next function begins: the call was the last
    // instruction of the one before.
    let rows = [
        (0x0f00, row(CfaRule::StackPointer, 2, 0)),
        (0x1000, row(CfaRule::StackPointer, 1, 0)),
        END,
    ];
    let words = [(0x8000, 0x5001), (0x8008, 0x5002)];
    assert_eq!(walked(&rows, &words, false).frames[1], 0x5002);
    assert_eq!(walked(&rows, &words, true).frames[1], 0x5001);
}

#[test]
fn realigned_stacks() {
    let rows = [(0x0f00, row(CfaRule::DerefFramePointer, -1, 0)), END];
    let words = [(0x8ff8, 0x9200), (0x91f8, 0x5001), (0x9000, 7)];
    assert_eq!(walked(&rows, &words, false), complete(&[0x1000, 0x5001]));
}

#[test]
fn stubs_of_the_procedure_linkage_table() {
    let rows = [(0x0f00, row(CfaRule::Plt, 11, 0)), END];
    let words = [(0x8000, 0x5001), (0x8008, 0x5002)];
    assert_eq!(walked(&rows, &words, true), complete(&[0x1000, 0x5001]));
    let late = Registers {
        ip: 0x100b,
        sp: 0x8000,
        fp: 0,
        lr: 0,
        exact: true,
    };
    let rows: BTreeMap<_, _> = rows.into_iter().collect();
    let memory: BTreeMap<_, _> = words.into_iter().collect();
    let lookup = |ip| rows.range(..=ip).next_back().map(|(_, row)| *row);
    let found = walk(
        Machine::X86_64,
        late,
        9,
        |at| memory.get(&at).copied(),
        lookup,
    );
    assert_eq!(found, complete(&[0x100b, 0x5002]));
}

#[test]
fn signal_frames_restore_all_and_their_address_is_exact() {
    let rows = [
        (0x0f00, row(CfaRule::Signal, 0, 0)),
        (0x2000, row(CfaRule::End, 0, 0)),
        (0x3000, row(CfaRule::StackPointer, 1, 0)),
        END,
    ];
    // Interrupted at the first instruction of a function, on a lower stack.
    let words = [
        (0x8000 + 168, 0x3000),
        (0x8000 + 160, 0x4000),
        (0x8000 + 120, 9),
        (0x4000, 0x5001),
    ];
    assert_eq!(
        walked(&rows, &words, false),
        complete(&[0x1000, 0x3000, 0x5001])
    );
}

#[test]
fn unknown_code_is_walked_by_frame_pointers() {
    let rows = [(0x0f00, row(CfaRule::Unknown, 0, 0)), END];
    let words = [(0x9000, 0x9100), (0x9008, 0x5001)];
    assert_eq!(walked(&rows, &words, false), complete(&[0x1000, 0x5001]));
}

#[test]
fn a_rule_that_no_row_can_say_is_not_guessed() {
    let rows = [(0x0f00, row(CfaRule::Inexpressible, 0, 0)), END];
    let words = [(0x9000, 0x9100), (0x9008, 0x5001)];
    let found = walked(&rows, &words, false);
    assert_eq!((found.frames, found.complete), (vec![0x1000], false));
}

#[test]
fn frames_of_more_than_a_quarter_mebibyte() {
    let rows = [(0x0f00, row(CfaRule::StackPointer, 131_091, 0)), END];
    let words = [(0x8000 + 131_090 * 8, 0x5001)];
    assert_eq!(walked(&rows, &words, false), complete(&[0x1000, 0x5001]));
}

#[test]
fn return_addresses_on_aarch64() {
    // Interrupted in a leaf function without a frame.
    let rows = [
        (0x0f00, row(CfaRule::StackPointer, 0, 0)),
        // Frame pointer left alone, return address two words below.
        (0x2000, row(CfaRule::StackPointer, 4, -2)),
        // A frame record 512 words below the frame address, signed.
        (0x3000, row(CfaRule::FrameRecord, 512, 0)),
        // The same right below it.
        (0x4000, row(CfaRule::StackPointer, 2, 2)),
        END,
    ];
    let words = [
        (0x8010, 0x3001),
        (0x9000, 0x7777),
        (0x9008, 0x00b1_0000_0000_4001),
        (0xa000, 0),
        (0xa008, 0x5001),
    ];
    assert_eq!(
        walked_on(Machine::Aarch64, &rows, &words, true),
        complete(&[0x1000, 0x2001, 0x3001, 0x4001, 0x5001])
    );
    // Only the innermost function's link register is known.
    let lost = walked_on(Machine::Aarch64, &rows, &words, false);
    assert_eq!((lost.frames, lost.complete), (vec![0x1000], false));
}

#[test]
fn walks_end_without_going_in_circles() {
    let stay = [(0x0f00, row(CfaRule::StackPointer, 0, 0))];
    let truncated = |frames: &[u64]| Walk {
        frames: frames.to_vec(),
        complete: false,
    };
    assert_eq!(
        walked(&stay, &[(0x7ff8, 0x1000)], false),
        truncated(&[0x1000])
    );
    // No memory, no code, a frame pointer below the stack.
    let up = [(0x0f00, row(CfaRule::StackPointer, 1, 0))];
    assert_eq!(walked(&up, &[], false), truncated(&[0x1000]));
    assert_eq!(
        walked(&up, &[(0x8000, 0x10)], false),
        truncated(&[0x1000, 0x10])
    );
    let down = [(0x0f00, row(CfaRule::FramePointer, -1000, 2))];
    assert_eq!(walked(&down, &[], false), truncated(&[0x1000]));
    assert_eq!(walked(&up, &[(0x8000, 0)], false), complete(&[0x1000]));
    // Signal frames may lead anywhere, but not for ever.
    let signal = [(0x0f00, row(CfaRule::Signal, 0, 0))];
    let words = [
        (0x8000 + 168, 0x1001),
        (0x8000 + 160, 0x8000),
        (0x8000 + 120, 9),
    ];
    assert_eq!(walked(&signal, &words, false).frames.len(), 64);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_sleeping_process_is_walked_to_its_start() {
    use crate::elf::{Image, UnwindTable};
    use nix::sys::{ptrace, wait};
    use std::os::unix::fs::FileExt;

    let mut sleeper = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(sleeper.id()).unwrap());
    let root = format!("/proc/{pid}");
    while !std::fs::read_to_string(format!("{root}/wchan"))
        .unwrap()
        .contains("nanosleep")
        && !std::fs::read_to_string(format!("{root}/stat"))
            .unwrap()
            .contains(") S ")
    {
        std::thread::yield_now();
    }
    if let Err(error) = ptrace::attach(pid) {
        println!("not tested: cannot attach: {error}");
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        return;
    }
    wait::waitpid(pid, None).unwrap();
    let registers = ptrace::getregs(pid).unwrap();
    let memory = std::fs::File::open(format!("{root}/mem")).unwrap();
    let maps = std::fs::read_to_string(format!("{root}/maps")).unwrap();
    let mut modules = Vec::new();
    for line in maps.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        if fields.len() == 6 && fields[1].contains('x') && fields[5].starts_with('/') {
            let hex = |text| u64::from_str_radix(text, 16).unwrap();
            let (start, end) = fields[0].split_once('-').unwrap();
            let image = Image::open(&std::fs::File::open(fields[5]).unwrap()).unwrap();
            let bias = image.load_bias(hex(start), hex(fields[2])).unwrap();
            modules.push((
                hex(start)..hex(end),
                bias,
                UnwindTable::build(&image).unwrap(),
            ));
        }
    }
    let found = walk(
        Machine::X86_64,
        Registers {
            ip: registers.rip,
            sp: registers.rsp,
            fp: registers.rbp,
            lr: 0,
            exact: true,
        },
        128,
        |address| {
            let mut word = [0; 8];
            memory
                .read_exact_at(&mut word, address)
                .ok()
                .map(|()| u64::from_le_bytes(word))
        },
        |ip| {
            let (_, bias, table) = modules.iter().find(|(range, ..)| range.contains(&ip))?;
            Some(table.rule_at(u32::try_from(ip.wrapping_sub(*bias)).ok()?))
        },
    );
    sleeper.kill().unwrap();
    ptrace::detach(pid, None).ok();
    sleeper.wait().unwrap();
    println!("{found:x?}");
    // The system call, …, main, __libc_start_main and its helper, _start.
    assert!(found.complete && found.frames.len() >= 5, "{found:x?}");
}
