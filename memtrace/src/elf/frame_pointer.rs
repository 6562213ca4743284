//! Whether code without unwind tables keeps frame pointers: where it does not, a
//! walk by them skips callers and says nothing of it.
use super::image::{Image, Machine};

/// Functions looked at: enough to tell.
const SAMPLE: usize = 256;
/// Fewer say nothing.
const FEWEST: usize = 8;
/// Smaller ones call nobody.
const SMALLEST: u64 = 32;
/// One in so many that begins with a frame means that all that need one have
/// one. Code without has next to none.
const SHARE: usize = 4;

const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
/// `push %rbp; mov %rsp,%rbp`, in both encodings.
const FRAMES: [&[u8]; 2] = [&[0x55, 0x48, 0x89, 0xe5], &[0x55, 0x48, 0x8b, 0xec]];

/// Whether its functions begin as those do that keep frame pointers. `None`
/// where too few functions have a symbol.
pub fn keeps_frame_pointers(image: &Image) -> Option<bool> {
    let mut functions = Vec::new();
    image.each_symbol(|_, vaddr, size| {
        if functions.len() < SAMPLE && size >= SMALLEST {
            functions.push(vaddr);
        }
    });
    functions.sort_unstable();
    functions.dedup();
    if functions.len() < FEWEST {
        return None;
    }
    let framed = functions.iter().filter(|vaddr| {
        image
            .code(**vaddr, 8)
            .is_some_and(|code| makes_frame(image.machine(), &code))
    });
    Some(framed.count() >= functions.len() / SHARE)
}

fn makes_frame(machine: Machine, code: &[u8]) -> bool {
    match machine {
        Machine::X86_64 => {
            let code = code.strip_prefix(ENDBR64).unwrap_or(code);
            FRAMES.iter().any(|frame| code.starts_with(frame))
        }
        // `stp x29, x30, [sp, #-n]!`, perhaps behind `paciasp` or `bti`.
        Machine::Aarch64 => code.chunks_exact(4).any(|word| {
            let word = word.try_into().map_or(0, u32::from_le_bytes);
            word & 0xffc0_7fff == 0xa980_7bfd
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_recognized() {
        let x86 = |code: &[u8]| makes_frame(Machine::X86_64, code);
        assert!(x86(&[0x55, 0x48, 0x89, 0xe5, 0x90]));
        assert!(x86(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5]));
        // A register saved is no frame.
        assert!(!x86(&[0x55, 0x48, 0x83, 0xec, 0x08]));
        assert!(!x86(&[]));
        let arm = |word: u32| makes_frame(Machine::Aarch64, &word.to_le_bytes());
        assert!(arm(0xa9be_7bfd)); // stp x29, x30, [sp, #-32]!
        assert!(!arm(0xd100_83ff)); // sub sp, sp, #32
    }
}
