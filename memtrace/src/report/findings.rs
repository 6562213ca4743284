//! Findings as text, for every document that has some.
use std::io::{self, Write};

use super::{
    style::{Paint, Style},
    words::wrapped,
};
use crate::finding::{Finding, Severity};

/// Writes the findings, the worst first, each with evidence and advice.
pub fn render(findings: &[Finding], style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in sorted {
        let (word, paint) = match finding.severity {
            Severity::Info => ("info", Paint::Faint),
            Severity::Warning => ("warning", Paint::Strong),
            Severity::Critical => ("critical", Paint::Alarm),
        };
        // Colour changes what a character takes, so the line is wrapped first.
        let title = format!("{word}: {}", finding.title);
        let mut lines = wrapped(&title, 2, style.width).into_iter();
        if let Some(first) = lines.next() {
            let rest = first.strip_prefix(word).unwrap_or(&first);
            writeln!(out, "{}{rest}", style.paint(paint, word))?;
        }
        for line in lines {
            writeln!(out, "{line}")?;
        }
        for text in [&finding.evidence, &finding.advice] {
            for line in wrapped(&format!("  {text}"), 2, style.width) {
                writeln!(out, "{line}")?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first() {
        let finding = |id, severity| Finding {
            id: std::borrow::Cow::Borrowed(id),
            severity,
            title: format!("about {id}"),
            evidence: "a figure".into(),
            advice: "a deed".into(),
        };
        let findings = [
            finding("small", Severity::Info),
            finding("large", Severity::Critical),
        ];
        let mut out = Vec::new();
        render(&findings, &Style::default(), &mut out).expect("a vector takes everything");
        assert_eq!(
            String::from_utf8_lossy(&out),
            "critical: about large\n  a figure\n  a deed\ninfo: about small\n  a figure\n  a deed\n"
        );
    }
}
