//! The balance sheet of the machine.
use ratatui::text::Line;

use super::{ansi, paragraph};
use crate::{finding::Severity, report::words::number, tui::model::Model, unit::Bytes};

pub(super) fn summary(model: &Model) -> String {
    let Some(report) = &model.memory.report else {
        return "reading /proc/meminfo …".to_owned();
    };
    let of = |name: &str| {
        let kb = report.meminfo.get(name).copied().unwrap_or(0);
        Bytes(kb.saturating_mul(1024))
    };
    let bad = |severity| {
        let findings = report.findings.iter();
        let count = findings.filter(|finding| finding.severity == severity);
        count.count() as u64
    };
    let findings = match (bad(Severity::Critical), bad(Severity::Warning)) {
        (0, 0) => "nothing stands out".to_owned(),
        (0, warnings) => number(warnings, "warning", "warnings"),
        (critical, warnings) => format!(
            "{critical} critical, {}",
            number(warnings, "warning", "warnings")
        ),
    };
    format!(
        "{} available of {}: {findings}",
        of("MemAvailable"),
        of("MemTotal")
    )
}

/// The sheet's own text, or the lines of it that contain what is asked for.
pub(super) fn lines(model: &Model) -> Vec<Line<'static>> {
    let memory = &model.memory;
    if let Some(why) = &memory.failed {
        return paragraph(why, model.size.0);
    }
    let Some(report) = &memory.report else {
        return Vec::new();
    };
    let mut lines = ansi::document(report, model);
    let wanted = memory.filter.to_lowercase();
    if !wanted.is_empty() {
        lines.retain(|line| line.to_string().to_lowercase().contains(&wanted));
    }
    lines
}
