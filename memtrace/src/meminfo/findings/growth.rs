//! Rows that grew since an earlier sheet, for the findings about them.
use super::{Case, kb, share};

/// What grew.
pub(super) struct Growth {
    from_kb: u64,
    to_kb: u64,
}

/// The growth of a row, where it is worth a word: by a tenth of itself, and by
/// 1 % of the machine. Smaller ones come and go.
pub(super) fn of(case: &Case<'_>, row: &str) -> Option<Growth> {
    let (from_kb, to_kb) = (case.before?.sheet.kb(row), case.sheet.kb(row));
    let grown = to_kb.checked_sub(from_kb)?;
    let enough = grown > 0 && grown >= from_kb / 10 && grown >= case.sheet.total_kb / 100;
    enough.then_some(Growth { from_kb, to_kb })
}

/// The title of a finding about a row that holds, or grew, or both.
pub(super) fn title(what: &str, growth: Option<&Growth>, held: &str) -> String {
    match growth {
        None => format!("{what} holds {held} of the machine"),
        Some(growth) => format!(
            "{what} grew by {}",
            kb(growth.to_kb.saturating_sub(growth.from_kb))
        ),
    }
}

/// The evidence of it.
pub(super) fn evidence(growth: Option<&Growth>) -> Option<String> {
    let Growth { from_kb, to_kb } = growth?;
    let by = share(to_kb.saturating_sub(*from_kb), *from_kb);
    Some(format!("it was {} before (+{by})", kb(*from_kb)))
}
