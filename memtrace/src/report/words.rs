//! Figures and sentences of the text report.
use crate::unit::Count;

/// A count with its noun.
pub fn number(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", Count(count), if count == 1 { one } else { many })
}

/// Rounded down, so that only all is 100 %.
pub fn percent(part: u64, whole: u64) -> String {
    let per_mille = u128::from(part) * 1000;
    match per_mille.checked_div(u128::from(whole)) {
        None => "–".into(),
        Some(0) if part > 0 => "<0.1 %".into(),
        Some(0) => "0 %".into(),
        Some(1000..) => "100 %".into(),
        Some(share) => format!("{}.{} %", share / 10, share % 10),
    }
}

/// Lines of at most `width` characters, if words allow; all but the first
/// indented.
pub fn wrapped(text: &str, indent: usize, width: Option<usize>) -> Vec<String> {
    let Some(width) = width.filter(|width| text.chars().count() > *width) else {
        return vec![text.into()];
    };
    let words = text.trim_start();
    let mut lines = Vec::new();
    let mut line = " ".repeat(text.len() - words.len());
    let mut begun = false;
    for word in words.split(' ') {
        if begun && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
        } else if begun {
            line.push(' ');
        }
        line.push_str(word);
        begun = true;
    }
    lines.push(line);
    lines
}
