//! Translates one row of call frame information to what an
//! [`UnwindRow`] can say.
use super::image::Machine;
use gimli::{
    EndianSlice, LittleEndian, Reader, Register, RegisterRule, UnwindExpression, UnwindSection,
    UnwindTableRow,
};
use memtrace_common::unwind::{CfaRule, UnwindRow};

pub(super) type Bytes<'data> = EndianSlice<'data, LittleEndian>;

/// Registers of one processor in DWARF's numbering.
struct Numbering {
    stack_pointer: Register,
    frame_pointer: Register,
}

impl Numbering {
    fn of(machine: Machine) -> Self {
        let (stack_pointer, frame_pointer) = match machine {
            Machine::X86_64 => (gimli::X86_64::RSP, gimli::X86_64::RBP),
            Machine::Aarch64 => (gimli::AArch64::SP, gimli::AArch64::X29),
        };
        Self {
            stack_pointer,
            frame_pointer,
        }
    }
}

/// The rules of a row, without its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) rule: CfaRule,
    pub(super) cfa_words: i16,
    pub(super) fp_words_below_cfa: i8,
}

impl Rules {
    pub(super) const UNKNOWN: Self = Self::bare(CfaRule::Unknown);

    pub(super) const fn bare(rule: CfaRule) -> Self {
        Self {
            rule,
            cfa_words: 0,
            fp_words_below_cfa: 0,
        }
    }

    pub(super) fn at(self, pc: u32) -> UnwindRow {
        UnwindRow {
            pc,
            cfa_words: self.cfa_words,
            fp_words_below_cfa: self.fp_words_below_cfa,
            rule: self.rule as u8,
        }
    }

    /// The rules of one row; `None`: they cannot be expressed.
    pub(super) fn of<'data, S: UnwindSection<Bytes<'data>>>(
        machine: Machine,
        section: &S,
        row: &UnwindTableRow<usize>,
        return_address: Register,
    ) -> Option<Self> {
        let numbering = Numbering::of(machine);
        let return_address = match row.register(return_address) {
            Some(RegisterRule::Undefined) => return Some(Rules::bare(CfaRule::End)),
            Some(RegisterRule::Offset(offset)) => offset,
            _ => return None,
        };
        let saved = row.register(numbering.frame_pointer);
        let (rule, cfa_words) = match row.cfa() {
            gimli::CfaRule::RegisterAndOffset { register, offset } => {
                let rule = match *register {
                    r if r == numbering.stack_pointer => CfaRule::StackPointer,
                    r if r == numbering.frame_pointer => CfaRule::FramePointer,
                    _ => return None,
                };
                (rule, words(*offset)?)
            }
            gimli::CfaRule::Expression(expression) => {
                let expression = operations(section, expression)?;
                if machine != Machine::X86_64 || return_address != -8 {
                    return None;
                }
                if let Some(threshold) = plt_threshold(expression) {
                    let cfa_words = i16::from(threshold);
                    return Some(Rules {
                        cfa_words,
                        ..Rules::bare(CfaRule::Plt)
                    });
                }
                let cfa_words = dereferenced_frame_pointer(expression)?;
                // The distance to the frame address is not known, since the
                // stack was realigned between: it is where `rbp` points.
                let at_frame_pointer = matches!(&saved, Some(RegisterRule::Expression(place))
                    if operations(section, place)? == [BREG_RBP, 0]);
                let rules = Rules {
                    cfa_words,
                    ..Rules::bare(CfaRule::DerefFramePointer)
                };
                return at_frame_pointer.then_some(rules);
            }
        };
        let fp_words_below_cfa = match saved {
            None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => 0,
            Some(RegisterRule::Offset(offset)) => i8::try_from(words(offset.checked_neg()?)?)
                .ok()
                .filter(|&words| words > 0)?,
            _ => return None,
        };
        let expected = match machine {
            Machine::X86_64 => -8,
            // The ABI's frame record; a frame pointer in its register leaves
            // no place to look for the return address.
            Machine::Aarch64 if fp_words_below_cfa > 0 => 8 - 8 * i64::from(fp_words_below_cfa),
            Machine::Aarch64 => return None,
        };
        (return_address == expected).then_some(Rules {
            rule,
            cfa_words,
            fp_words_below_cfa,
        })
    }
}

/// An offset in words.
fn words(bytes: i64) -> Option<i16> {
    if bytes % 8 == 0 {
        i16::try_from(bytes / 8).ok()
    } else {
        None
    }
}

fn operations<'data, S: UnwindSection<Bytes<'data>>>(
    section: &S,
    expression: &UnwindExpression<usize>,
) -> Option<&'data [u8]> {
    Some(expression.get(section).ok()?.0.slice())
}

/// `DW_OP_breg6`.
const BREG_RBP: u8 = 0x76;

/// The expression that linkers write for x86-64 PLT stubs: `rsp` + 8, and 8
/// more from some byte of each 16 on. Returns that byte.
fn plt_threshold(expression: &[u8]) -> Option<u8> {
    // breg7 8, breg16 0, lit15, and, lit<n>, ge, lit3, shl, plus
    match expression {
        [
            0x77,
            8,
            0x80,
            0,
            0x3f,
            0x1a,
            threshold @ 0x30..=0x3f,
            0x2a,
            0x33,
            0x24,
            0x22,
        ] => Some(threshold - 0x30),
        _ => None,
    }
}

/// `DW_OP_breg6 offset, DW_OP_deref`: the offset in words.
fn dereferenced_frame_pointer(expression: &[u8]) -> Option<i16> {
    let [BREG_RBP, offset @ .., 0x06] = expression else {
        return None;
    };
    let mut operand = Bytes::new(offset, LittleEndian);
    let offset = operand.read_sleb128().ok()?;
    if operand.is_empty() {
        words(offset)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_recognized_whole() {
        let plt = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        assert_eq!(plt_threshold(&plt), Some(11));
        assert_eq!(plt_threshold(&plt[1..]), None);
        assert_eq!(dereferenced_frame_pointer(&[0x76, 0x78, 0x06]), Some(-1));
        assert_eq!(
            dereferenced_frame_pointer(&[0x76, 0xf0, 0x7e, 0x06]),
            Some(-18)
        );
        assert_eq!(
            dereferenced_frame_pointer(&[0x76, 0x79, 0x06]),
            None,
            "not of whole words"
        );
        assert_eq!(dereferenced_frame_pointer(&[0x76, 0x78, 0x78, 0x06]), None);
        assert_eq!(dereferenced_frame_pointer(&[0x76, 0x80, 0x06]), None);
        assert_eq!(dereferenced_frame_pointer(&[0x77, 0x78, 0x06]), None);
        assert_eq!(dereferenced_frame_pointer(&[0x76, 0x78, 0x06, 0x06]), None);
    }

    #[test]
    fn offsets_that_do_not_fit_are_refused() {
        assert_eq!(words(16), Some(2));
        assert_eq!(words(-8), Some(-1));
        assert_eq!(words(12), None);
        assert_eq!(words(8 * 40_000), None);
        assert_eq!(words(i64::MIN), None);
    }
}
