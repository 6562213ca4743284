//! A saved `/proc/meminfo`: any names, in kB.
use std::collections::BTreeMap;

/// The lines of the form `Name: N kB`; others are left out.
pub fn parse(text: &str) -> BTreeMap<String, u64> {
    text.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<(String, u64)> {
    let (name, rest) = line.split_once(':')?;
    let mut words = rest.split_whitespace();
    let kb = words.next()?.parse().ok()?;
    let is_size = words.next() == Some("kB") && words.next().is_none();
    is_size.then(|| (name.trim().to_owned(), kb))
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_alone() {
        let rows = super::parse(
            "MemTotal:  100 kB\nActive(anon): 5 kB\nHugePages_Total: 3\nnoise\nX: y kB\n",
        );
        let expected = [("Active(anon)".to_owned(), 5), ("MemTotal".to_owned(), 100)];
        assert_eq!(rows, expected.into());
    }
}
