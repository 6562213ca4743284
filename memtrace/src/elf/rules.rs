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
pub(super) struct Rules(UnwindRow);

impl Rules {
    pub(super) const UNKNOWN: Self = Self::bare(CfaRule::Unknown);
    pub(super) const INEXPRESSIBLE: Self = Self::bare(CfaRule::Inexpressible);

    pub(super) const fn bare(rule: CfaRule) -> Self {
        Self(UnwindRow::bare(rule))
    }

    pub(super) fn new(rule: CfaRule, cfa_words: i64, fp_words_below_cfa: i8) -> Option<Self> {
        UnwindRow::new(0, rule, cfa_words, fp_words_below_cfa).map(Self)
    }

    pub(super) fn at(self, pc: u32) -> UnwindRow {
        UnwindRow { pc, ..self.0 }
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
            rule => Place::of(rule.as_ref())?,
        };
        let saved = row.register(numbering.frame_pointer);
        let (register, cfa_words) = match row.cfa() {
            gimli::CfaRule::RegisterAndOffset { register, offset } => (*register, words(*offset)?),
            gimli::CfaRule::Expression(expression) => {
                if machine != Machine::X86_64 || return_address != Place::Saved(-1) {
                    return None;
                }
                let saved = match &saved {
                    Some(RegisterRule::Expression(place)) => Some(operations(section, place)?),
                    _ => None,
                };
                return of_expression(operations(section, expression)?, saved);
            }
        };
        let rule = match register {
            r if r == numbering.stack_pointer => CfaRule::StackPointer,
            r if r == numbering.frame_pointer => CfaRule::FramePointer,
            _ => return None,
        };
        let saved = match saved {
            Some(RegisterRule::Undefined) => Place::Register,
            rule => Place::of(rule.as_ref())?,
        };
        match machine {
            Machine::X86_64 => {
                let below = match saved {
                    Place::Register => 0,
                    Place::Saved(word) => below(word)?,
                };
                let expected = return_address == Place::Saved(-1);
                expected.then(|| Self::new(rule, cfa_words, below))?
            }
            Machine::Aarch64 => of_aarch64(rule, cfa_words, saved, return_address),
        }
    }
}

/// Where the caller's value of a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Still there.
    Register,
    /// In the word at the canonical frame address + this × 8.
    Saved(i64),
}

impl Place {
    /// `None`: elsewhere.
    fn of(rule: Option<&RegisterRule<usize>>) -> Option<Self> {
        match rule {
            None | Some(RegisterRule::SameValue) => Some(Self::Register),
            Some(RegisterRule::Offset(offset)) => words(*offset).map(Self::Saved),
            _ => None,
        }
    }
}

/// What a row says of a word that lies `word` × 8 above the canonical frame
/// address, that is, below it.
fn below(word: i64) -> Option<i8> {
    let below = i8::try_from(word.checked_neg()?).ok()?;
    (below > 0).then_some(below)
}

/// The return address is where the function put it, or still in `x30`.
fn of_aarch64(
    rule: CfaRule,
    cfa_words: i64,
    frame_pointer: Place,
    return_address: Place,
) -> Option<Rules> {
    match (frame_pointer, return_address) {
        (Place::Register, Place::Register) => Rules::new(rule, cfa_words, 0),
        (Place::Register, Place::Saved(word)) => {
            Rules::new(rule, cfa_words, below(word)?.checked_neg()?)
        }
        // The ABI's frame record. At the lower end of a large frame a row
        // cannot say how far away it is, but need not.
        (Place::Saved(word), Place::Saved(next)) if next.checked_sub(word) == Some(1) => {
            match (rule, below(word)) {
                (_, Some(below)) => Rules::new(rule, cfa_words, below),
                _ if word.checked_neg() != Some(cfa_words) => None,
                (CfaRule::FramePointer, None) => Rules::new(CfaRule::FrameRecord, cfa_words, 0),
                _ => Rules::new(CfaRule::StackRecord, cfa_words, 0),
            }
        }
        _ => None,
    }
}

/// What compilers and linkers write where the canonical frame address is no
/// register and offset. `saved`: the expression for the frame pointer's place.
fn of_expression(expression: &[u8], saved: Option<&[u8]>) -> Option<Rules> {
    if let Some(threshold) = plt_threshold(expression) {
        return Rules::new(CfaRule::Plt, i64::from(threshold), 0);
    }
    let cfa_words = dereferenced_frame_pointer(expression)?;
    // The distance to the frame address is not known, since the stack was
    // realigned between: it is where `rbp` points.
    (saved? == [BREG_RBP, 0]).then(|| Rules::new(CfaRule::DerefFramePointer, cfa_words, 0))?
}

/// An offset in words.
fn words(bytes: i64) -> Option<i64> {
    (bytes % 8 == 0).then_some(bytes / 8)
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
fn dereferenced_frame_pointer(expression: &[u8]) -> Option<i64> {
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
        assert_eq!(below(-127), Some(127));
        for word in [0, 1, -128, i64::MIN] {
            assert_eq!(below(word), None);
        }
        let of = |words| Rules::new(CfaRule::StackPointer, words, 0);
        assert!(of(131_091).is_some_and(|rules| rules.at(9).cfa_words() == 131_091));
        assert_eq!(of(i64::MAX / 8), None);
    }
}
