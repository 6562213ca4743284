//! `/proc/meminfo` from any kernel and any vendor, also out of a mail or a log:
//! fields in the order in which they are printed.
use std::collections::HashMap;

use crate::kernel::memory::field_named;

/// Why a text is not taken for `/proc/meminfo`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeminfoError {
    /// No field in it that has to be there.
    #[error(
        "there is no line `MemTotal: … kB` in it: memtrace takes a copy of /proc/meminfo, whole or pasted among other text"
    )]
    NoTotal,
    /// Of one NUMA node.
    #[error(
        "it is about NUMA nodes (`Node 0 MemTotal: …`), which leaves out what is counted for the machine alone: give it a copy of /proc/meminfo"
    )]
    OfNodes,
    /// The total is nothing.
    #[error("its MemTotal is 0: the file was not written by a kernel that runs")]
    ZeroTotal,
}

/// Beyond this, a figure is not a size: an exbibyte and more, in kB.
const IMPOSSIBLE: u64 = 1 << 50;

/// The fields, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meminfo {
    fields: Vec<(String, u64)>,
    places: HashMap<String, usize>,
    /// What a reader must know about the text.
    pub notes: Vec<String>,
}

/// What one line holds.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Field {
        name: &'a str,
        value: u64,
        unit: bool,
    },
    /// A line of a NUMA node's meminfo.
    OfNode,
    /// A field's name, and no number that could be its.
    Damaged(&'a str),
    Other,
}

impl Meminfo {
    /// Reads a text. Whatever is around and between the lines is skipped.
    ///
    /// # Errors
    /// There is no MemTotal, or it is 0.
    pub fn parse(text: &str) -> Result<Self, MeminfoError> {
        let mut meminfo = Self::default();
        let mut of_nodes = false;
        let mut damaged = Vec::new();
        let mut units = 0_u32;
        let mut last_has_unit = true;
        let mut copies = 0_u32;
        for line in text.lines() {
            match parse_line(line) {
                Line::Field { name, value, unit } => {
                    if name == "MemTotal" {
                        copies += 1;
                    }
                    if copies > 1 {
                        continue;
                    }
                    units += u32::from(unit);
                    last_has_unit = unit || is_count(name);
                    meminfo.add(name, value);
                }
                Line::OfNode => of_nodes = true,
                Line::Damaged(name) => damaged.push(name),
                Line::Other => {}
            }
        }
        // Half a number looks like a number.
        if !last_has_unit && units > 0 && copies == 1 && !text.ends_with('\n') {
            meminfo.drop_last();
        }
        meminfo.note_damage(&damaged, copies);
        match meminfo.get("MemTotal") {
            None if of_nodes => Err(MeminfoError::OfNodes),
            None => Err(MeminfoError::NoTotal),
            Some(0) => Err(MeminfoError::ZeroTotal),
            Some(_) => Ok(meminfo),
        }
    }

    fn add(&mut self, name: &str, value: u64) {
        if value > IMPOSSIBLE {
            self.notes.push(format!(
                "{name} is {value} kB, which no machine has: left out"
            ));
        } else if !self.places.contains_key(name) {
            self.places.insert(name.to_owned(), self.fields.len());
            self.fields.push((name.to_owned(), value));
        }
    }

    fn drop_last(&mut self) {
        if let Some((name, _)) = self.fields.pop() {
            self.places.remove(&name);
            self.notes.push(format!(
                "the text ends in the middle of the line of {name}: left out"
            ));
        }
    }

    fn note_damage(&mut self, damaged: &[&str], copies: u32) {
        for name in damaged {
            if self.get(name).is_none() {
                self.notes.push(format!(
                    "the line of {name} has no number that can be read: left out"
                ));
            }
        }
        if copies > 1 {
            self.notes.push(format!(
                "the text holds {copies} copies of /proc/meminfo: only the first was read"
            ));
        }
    }

    /// A field's value, in kB (`HugePages_…`: pages).
    pub fn get(&self, name: &str) -> Option<u64> {
        let place = self.places.get(name)?;
        self.fields.get(*place).map(|(_, value)| *value)
    }

    /// The same, 0 where the kernel does not print it.
    pub fn kb(&self, name: &str) -> u64 {
        self.get(name).unwrap_or(0)
    }

    /// All fields as printed.
    pub fn fields(&self) -> impl Iterator<Item = (&str, u64)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
    }
}

/// Fields that are pages in number, not kB.
pub fn is_count(name: &str) -> bool {
    name.starts_with("HugePages_")
}

fn parse_line(line: &str) -> Line<'_> {
    let mut found = Line::Other;
    // What stands before the name (a time, a host, a quotation mark) may hold
    // colons of its own.
    for (colon, _) in line.match_indices(':') {
        let before = &line[..colon];
        let name = last_name(before);
        if name.is_empty() {
            continue;
        }
        let Some((value, unit)) = value_of(&line[colon + 1..]) else {
            if field_named(name).is_some() {
                found = Line::Damaged(name);
            }
            continue;
        };
        if is_of_node(&before[..before.len() - name.len()]) {
            return Line::OfNode;
        }
        return Line::Field { name, value, unit };
    }
    found
}

/// The name that a text ends in: `Active(anon)`. It begins with a letter.
fn last_name(text: &str) -> &str {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '(' | ')' | '-' | '.');
    let start = text
        .char_indices()
        .rev()
        .take_while(|(_, c)| part(*c))
        .last()
        .map_or(text.len(), |(at, _)| at);
    let name = &text[start..];
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name
    } else {
        ""
    }
}

/// A number, and whether `kB` is behind it; nothing else may be.
fn value_of(text: &str) -> Option<(u64, bool)> {
    let mut words = text.split_whitespace();
    let number = words.next()?;
    let (number, mut unit) = match number.find(|c: char| !c.is_ascii_digit()) {
        None => (number, None),
        Some(0) => return None,
        Some(end) => (&number[..end], Some(&number[end..])),
    };
    if unit.is_none() {
        unit = words.next();
    }
    let closes = |word: &str| word.chars().all(|c| c.is_ascii_punctuation());
    let has_unit = match unit {
        Some(unit)
            if unit
                .trim_end_matches([',', ';', '|', '"'])
                .eq_ignore_ascii_case("kb") =>
        {
            true
        }
        Some(unit) if closes(unit) => false,
        None => false,
        Some(_) => return None,
    };
    if !words.all(closes) {
        return None;
    }
    // More digits than 64 bits hold: impossible, and said so by the caller.
    Some((number.parse().unwrap_or(u64::MAX), has_unit))
}

/// Whether this stands before the name in `/sys/devices/system/node/node0/meminfo`.
fn is_of_node(before: &str) -> bool {
    let mut words = before.split_whitespace().rev();
    let number = words.next().unwrap_or_default();
    !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()) && words.next() == Some("Node")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, u64)> {
        Meminfo::parse(text).unwrap().fields
    }

    #[test]
    fn junk_around_is_skipped() {
        let text = "root@tv:~# cat /proc/meminfo\r\n\
            > MemTotal:        1007984 kB\r\n\
            [   12.345678@2]  MemFree:          142612 kB\r\n\
            Nov 25 01:02:03 tv kernel: Active(anon):     777692 kB\r\n\
            | HugePages_Total:       3 |\r\n\
            IonTotal: 77kB\r\n\
            free memory: about 3 GB\r\n\
            root@tv:~# \r\n";
        assert_eq!(
            pairs(text),
            [
                ("MemTotal".into(), 1_007_984),
                ("MemFree".into(), 142_612),
                ("Active(anon)".into(), 777_692),
                ("HugePages_Total".into(), 3),
                ("IonTotal".into(), 77),
            ]
        );
        assert!(Meminfo::parse(text).unwrap().notes.is_empty());
    }

    #[test]
    fn units_may_be_missing() {
        let meminfo = Meminfo::parse("MemTotal: 100\nMemFree: 40").unwrap();
        assert_eq!((meminfo.kb("MemTotal"), meminfo.kb("MemFree")), (100, 40));
        assert!(meminfo.notes.is_empty());
    }

    #[test]
    fn what_is_cut_off_is_not_a_figure() {
        let meminfo = Meminfo::parse("MemTotal: 100 kB\nMemFree: 4").unwrap();
        assert_eq!(meminfo.get("MemFree"), None);
        assert!(meminfo.notes[0].contains("MemFree"), "{:?}", meminfo.notes);
        let meminfo = Meminfo::parse("MemTotal: 100 kB\nMemFree:\nSlab: x kB\n").unwrap();
        assert_eq!(meminfo.notes.len(), 2);
        let whole = Meminfo::parse("MemTotal: 100 kB\nHugePages_Rsvd: 4").unwrap();
        assert_eq!(whole.get("HugePages_Rsvd"), Some(4));
    }

    #[test]
    fn figures_that_cannot_be_are_left_out() {
        let text = "MemTotal: 100 kB\nMemFree: 99999999999999999999999 kB\nSlab: 18446744073709551612 kB\n";
        let meminfo = Meminfo::parse(text).unwrap();
        assert_eq!(meminfo.fields().count(), 1);
        assert_eq!(meminfo.notes.len(), 2);
    }

    #[test]
    fn only_the_first_copy_is_read() {
        let meminfo =
            Meminfo::parse("MemTotal: 100 kB\nMemFree: 1 kB\nMemTotal: 100 kB\nMemFree: 2 kB\n")
                .unwrap();
        assert_eq!(meminfo.kb("MemFree"), 1);
        assert!(meminfo.notes[0].contains("2 copies"));
    }

    #[test]
    fn what_is_not_meminfo_is_refused() {
        assert_eq!(Meminfo::parse(""), Err(MeminfoError::NoTotal));
        assert_eq!(
            Meminfo::parse("\u{0}\u{fffd}:::"),
            Err(MeminfoError::NoTotal)
        );
        assert_eq!(
            Meminfo::parse("Node 0 MemTotal: 5 kB\n"),
            Err(MeminfoError::OfNodes)
        );
        assert_eq!(
            Meminfo::parse("MemTotal: 0 kB\n"),
            Err(MeminfoError::ZeroTotal)
        );
    }
}
