//! What stands before a kernel's own words in a line: times of dmesg, of the
//! console, of syslog and of journalctl, levels, and `/dev/kmsg`'s fields.

/// A line of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The time nearest to the kernel: seconds since boot where both are given.
    pub(super) stamp: Option<&'a str>,
    /// The kernel's words, with the spaces before them.
    pub(super) text: &'a str,
}

/// Words with which syslog and journalctl say that a line is the kernel's, and
/// how far from a line's start they may stand.
const TAGS: &[&str] = &[" kernel: ", " kernel:", " kern.warn kernel", "kernel: "];
const FARTHEST_TAG: usize = 120;

impl<'a> Line<'a> {
    pub(super) fn parse(line: &'a str) -> Self {
        let line = line.trim_end();
        let (outer, mut text) = split_tag(line);
        let mut stamp = None;
        loop {
            let bare = text.trim_start();
            if let Some((level, rest)) = angle(bare) {
                let _ = level;
                text = rest;
            } else if let Some((time, rest)) = kmsg(bare) {
                stamp = Some(time);
                text = rest;
            } else if let Some((inside, rest)) = bracket(bare) {
                if is_time(inside) {
                    stamp = Some(inside.trim());
                }
                // One space is the separator, more belong to the text.
                text = rest.strip_prefix(' ').unwrap_or(rest);
            } else {
                break;
            }
        }
        Self {
            stamp: stamp.or(outer),
            text,
        }
    }
}

/// The part before `host kernel:` and the part after it.
fn split_tag(line: &str) -> (Option<&str>, &str) {
    let found = TAGS.iter().find_map(|tag| {
        let at = line.find(tag).filter(|at| *at < FARTHEST_TAG)?;
        Some((at, at + tag.len()))
    });
    let Some((start, end)) = found else {
        return (None, line);
    };
    let (before, after) = (line.get(..start), line.get(end..));
    // The host is the last word before the tag, the time what stands before it.
    let time = before.and_then(|before| before.trim().rsplit_once(' '));
    let time = time.map_or(before, |(time, _)| Some(time));
    let time = time.map(|time| time.trim().trim_matches(['[', ']']).trim());
    (time.filter(|time| !time.is_empty()), after.unwrap_or(line))
}

/// `<4>`.
fn angle(text: &str) -> Option<(&str, &str)> {
    let (level, rest) = text.strip_prefix('<')?.split_once('>')?;
    let digits = !level.is_empty() && level.len() <= 3 && all_digits(level);
    digits.then_some((level, rest))
}

/// `4,1234,36822664529,-;`: level, number, µs, flags.
fn kmsg(text: &str) -> Option<(&str, &str)> {
    let (fields, rest) = text.split_once(';')?;
    let mut fields = fields.split(',');
    let (level, number, time) = (fields.next()?, fields.next()?, fields.next()?);
    fields.next()?;
    let numbers = all_digits(level) && all_digits(number) && all_digits(time);
    numbers.then_some((time, rest))
}

/// `[36822.664529@2]`, `[   12.5]`, `[ T1234]`, `[Mon Jan  2 15:04:05 2023]`; not
/// `[ 1234]`, which begins a row of the task table.
fn bracket(text: &str) -> Option<(&str, &str)> {
    let (inside, rest) = text.strip_prefix('[')?.split_once(']')?;
    (is_time(inside) || is_caller(inside)).then_some((inside, rest))
}

fn is_time(inside: &str) -> bool {
    let seconds = inside.trim().split('@').next().unwrap_or_default();
    let decimal = seconds.contains('.')
        && seconds.chars().all(|c| c.is_ascii_digit() || c == '.')
        && !seconds.starts_with('.');
    let date = inside.contains(':')
        && inside
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || " :.,+-T".contains(c));
    decimal || date
}

/// The thread or processor that printed (`CONFIG_PRINTK_CALLER`).
fn is_caller(inside: &str) -> bool {
    let id = inside.trim();
    id.strip_prefix(['T', 'C']).is_some_and(all_digits)
}

pub(super) fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        for (line, stamp, text) in [
            ("Mem-Info:", None, "Mem-Info:"),
            (
                "[36822.664529@2]  S44 invoked",
                Some("36822.664529@2"),
                " S44 invoked",
            ),
            ("[   12.345678] Mem-Info:", Some("12.345678"), "Mem-Info:"),
            (
                "[   12.345678][ T1234] Mem-Info:",
                Some("12.345678"),
                "Mem-Info:",
            ),
            (
                "<4>[   12.345678] Mem-Info:",
                Some("12.345678"),
                "Mem-Info:",
            ),
            ("<4>Mem-Info:", None, "Mem-Info:"),
            (
                "[Mon Jan  2 15:04:05 2023] Mem-Info:",
                Some("Mon Jan  2 15:04:05 2023"),
                "Mem-Info:",
            ),
            (
                "Jan  2 15:04:05 host kernel: [   12.345678] Mem-Info:",
                Some("12.345678"),
                "Mem-Info:",
            ),
            (
                "Jan  2 15:04:05 host kernel: Mem-Info:",
                Some("Jan  2 15:04:05"),
                "Mem-Info:",
            ),
            (
                "2023-01-02T15:04:05.123456+01:00 host kernel: Mem-Info:",
                Some("2023-01-02T15:04:05.123456+01:00"),
                "Mem-Info:",
            ),
            (
                "[  123.456789] host kernel: Mem-Info:",
                Some("123.456789"),
                "Mem-Info:",
            ),
            (
                "4,1234,36822664529,-;Mem-Info:",
                Some("36822664529"),
                "Mem-Info:",
            ),
            (
                "[ 1234]  1000  1234 1 2 bash",
                None,
                "[ 1234]  1000  1234 1 2 bash",
            ),
            (
                "[   12.345678] [ 1234]  1000  1234 1 2 bash",
                Some("12.345678"),
                "[ 1234]  1000  1234 1 2 bash",
            ),
            (
                " [<ffffffff8116d4f3>] ? dump_header+0x83/0xbb",
                None,
                " [<ffffffff8116d4f3>] ? dump_header+0x83/0xbb",
            ),
            ("", None, ""),
            ("[", None, "["),
        ] {
            assert_eq!(Line::parse(line), Line { stamp, text }, "{line}");
        }
    }
}
