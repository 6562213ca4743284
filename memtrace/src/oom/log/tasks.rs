//! The table of tasks that the kernel chose from. Its columns changed often, so
//! they are taken from its heading.
use super::{super::Candidate, request::from_oom_adj};

/// Most tasks kept of one kill.
const MOST: usize = 1 << 16;

/// The table, its figures in pages or bytes as printed.
#[derive(Default)]
pub(super) struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<i64>>,
    names: Vec<String>,
}

impl Table {
    /// Takes a line in. Returns whether it belongs to a table.
    pub(super) fn line(&mut self, text: &str) -> bool {
        let Some((pid, rest)) = text
            .trim()
            .strip_prefix('[')
            .and_then(|text| text.split_once(']'))
        else {
            return false;
        };
        if pid.trim() == "pid" {
            *self = Self {
                columns: rest.split_whitespace().map(str::to_owned).collect(),
                ..Self::default()
            };
            return true;
        }
        if self.columns.is_empty() || self.rows.len() >= MOST {
            return false;
        }
        self.row(pid, rest).is_some()
    }

    fn row(&mut self, pid: &str, rest: &str) -> Option<()> {
        let mut values = vec![pid.trim().parse().ok()?];
        let mut rest = rest.trim_start();
        // The name is last and may hold spaces.
        for _ in 1..self.columns.len() {
            let end = rest.find(' ').unwrap_or(rest.len());
            let (word, more) = rest.split_at_checked(end)?;
            values.push(word.parse().ok()?);
            rest = more.trim_start();
        }
        self.rows.push(values);
        self.names.push(rest.to_owned());
        Some(())
    }

    /// The tasks, in the table's order; their scores are still to be worked out.
    pub(super) fn tasks(&self, page_kb: u64) -> Vec<Candidate> {
        let column = |name: &str| self.columns.iter().position(|column| column == name);
        let places = |names: &[&str]| {
            names
                .iter()
                .filter_map(|name| column(name))
                .collect::<Vec<_>>()
        };
        let rss = places(&["rss"]);
        let swap = places(&["swapents"]);
        let table_pages = places(&["nr_ptes", "nr_pmds"]);
        let table_bytes = places(&["pgtables_bytes"]);
        let adj = column("oom_score_adj");
        let old_adj = column("oom_adj");
        let of = |row: &[i64], places: &[usize]| {
            let values = places.iter().filter_map(|place| row.get(place + 1));
            values.fold(0_u64, |sum, value| {
                sum.saturating_add(u64::try_from(*value).unwrap_or(0))
            })
        };
        let value = |row: &[i64], place: Option<usize>| row.get(place? + 1).copied();
        let rows = self.rows.iter().zip(&self.names);
        let tasks = rows.map(|(row, name)| Candidate {
            pid: row
                .first()
                .and_then(|pid| u32::try_from(*pid).ok())
                .unwrap_or(0),
            comm: name.clone(),
            rss_kb: of(row, &rss).saturating_mul(page_kb),
            swap_kb: of(row, &swap).saturating_mul(page_kb),
            pgtables_kb: of(row, &table_pages)
                .saturating_mul(page_kb)
                .saturating_add(of(row, &table_bytes) / 1024),
            oom_score_adj: value(row, adj)
                .or_else(|| value(row, old_adj).map(from_oom_adj))
                .unwrap_or(0),
            ..Candidate::default()
        });
        tasks.collect()
    }

    /// A task's user.
    pub(super) fn uid(&self, pid: u32) -> Option<u32> {
        let place = self.columns.iter().position(|column| column == "uid")?;
        let row = self
            .rows
            .iter()
            .find(|row| row.first() == Some(&i64::from(pid)))?;
        u32::try_from(*row.get(place + 1)?).ok()
    }

    /// The address space of a task, kB.
    pub(super) fn total_vm_kb(&self, pid: u32, page_kb: u64) -> Option<u64> {
        let place = self
            .columns
            .iter()
            .position(|column| column == "total_vm")?;
        let row = self
            .rows
            .iter()
            .find(|row| row.first() == Some(&i64::from(pid)))?;
        let pages = u64::try_from(*row.get(place + 1)?).ok()?;
        Some(pages.saturating_mul(page_kb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(heading: &str, row: &str) -> Candidate {
        let mut table = Table::default();
        assert!(table.line(heading), "{heading}");
        assert!(table.line(row), "{row}");
        table.tasks(4).remove(0)
    }

    #[test]
    fn columns_are_found_by_name() {
        let oldest = only(
            "[ pid ]   uid  tgid total_vm      rss cpu oom_adj name",
            "[  100]     0   100     1000      250   1     -17 sshd",
        );
        assert_eq!((oldest.rss_kb, oldest.oom_score_adj), (1000, -1000));
        let old = only(
            "[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name",
            "[  100]     0   100     1000      250       3        5           300 a b",
        );
        assert_eq!((old.swap_kb, old.pgtables_kb), (20, 12));
        assert_eq!((old.comm.as_str(), old.oom_score_adj), ("a b", 300));
        let new = only(
            "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name",
            "[  17450]     0 17450     2675     2255     2016      239         0    65536        0             0 hog",
        );
        assert_eq!((new.rss_kb, new.pgtables_kb, new.swap_kb), (9020, 64, 0));
    }

    #[test]
    fn other_lines_are_left() {
        let mut table = Table::default();
        assert!(!table.line("[ 1234]  1000  1234 1 2 bash"));
        assert!(table.line("[ pid ]   uid  tgid total_vm      rss cpu oom_adj name"));
        assert!(!table.line("[ 1234]  1000  12"));
        assert!(!table.line("eth0: link is up"));
    }
}
