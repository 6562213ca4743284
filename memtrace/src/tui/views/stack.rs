//! One stack: how much, since when, from where.
use ratatui::text::{Line, Span};

use super::theme::{FAINT, PLAIN, STRONG, Theme};
use crate::{
    report::{
        frames,
        heap::AgeClass,
        spark::spark,
        text::{about, headline},
        words::{number, wrapped},
    },
    tui::model::Model,
    unit::Elapsed,
};

/// Columns of a bar of the histogram.
const BAR: usize = 20;

/// All there is to say about the stack with this key.
pub(super) fn lines(model: &Model, key: u64) -> Vec<Line<'static>> {
    let theme = Theme::of(model);
    let width = usize::from(model.size.0);
    let Some((row, stack)) = model.stacks.stack(key) else {
        return vec![Line::raw(
            "Nothing of this stack is outstanding any more. Esc: back",
        )];
    };
    let Some(report) = &model.stacks.report else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    let mut sentence = |text: &str, style| {
        let wrapped = wrapped(text, 2, Some(width));
        lines.extend(wrapped.into_iter().map(|line| Line::styled(line, style)));
    };
    sentence(&headline(report, stack, &model.style), STRONG);
    sentence(&about(report, stack), PLAIN);
    if let (Some(lowest), Some(highest)) = (row.history().iter().min(), row.history().iter().max())
    {
        let span = format!(
            "  {} to {}",
            model.style.bytes(*lowest),
            model.style.bytes(*highest)
        );
        let room = width.saturating_sub(span.chars().count() + 7);
        lines.push(Line::from(vec![
            Span::styled("Trend  ", theme.head()),
            Span::styled(spark(row.history(), room), theme.bar()),
            Span::raw(span),
        ]));
    }
    if !stack.ages.is_empty() {
        lines.push(Line::styled("By age", theme.head()));
        let most = stack.ages.iter().map(|class| class.bytes).max();
        let classes = stack.ages.iter();
        lines.extend(classes.map(|class| age(class, most.unwrap_or(0), model, theme)));
    }
    lines.push(Line::styled("Frames, innermost first", theme.head()));
    for (name, place) in frames::rows(&stack.frames, Some(width)) {
        lines.push(Line::from(vec![
            Span::raw(format!("  {name}")),
            Span::styled(place, FAINT),
        ]));
    }
    if stack.truncated {
        let cut = "  … the stack was cut here: who called further out is not known";
        lines.push(Line::raw(cut));
    }
    lines
}

fn age(class: &AgeClass, most: u64, model: &Model, theme: Theme) -> Line<'static> {
    let range = match (class.min_ns, class.max_ns) {
        (0, max) => format!("under {}", Elapsed(max.saturating_add(1))),
        (min, u64::MAX) => format!("over {}", Elapsed(min)),
        (min, max) => format!("{} to {}", Elapsed(min), Elapsed(max.saturating_add(1))),
    };
    let full = u128::from(class.bytes) * BAR as u128;
    let bar = full.div_ceil(u128::from(most.max(1)));
    let bar = "█".repeat(usize::try_from(bar).map_or(BAR, |bar| bar.min(BAR)));
    Line::from(vec![
        Span::raw(format!(
            "  {range:<22} {:>10} ",
            model.style.bytes(class.bytes)
        )),
        Span::styled(format!("{bar:<BAR$}"), theme.bar()),
        Span::raw(format!(" {}", number(class.count, "block", "blocks"))),
    ])
}
