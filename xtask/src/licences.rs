//! The licences and duplicates of everything that goes into memtrace, held
//! against `deny.toml`. cargo-deny reads the same file; it is not needed here.
use crate::shell::{cargo, output};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Fails on a licence that is not allowed, or on a crate in two versions that
/// is not listed, or listed for nothing.
pub(crate) fn check(root: &Path) -> Result<()> {
    let path = root.join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    let allowed = list(&text, "allow");
    let excused = list(&text, "skip");
    let exceptions = exceptions(&text);
    let mut unused: BTreeSet<_> = exceptions.keys().collect();
    let mut findings = Vec::new();
    let mut twice = BTreeSet::new();
    for folder in ["", "memtrace-ebpf"] {
        let packages = packages(&root.join(folder))?;
        let mut versions = BTreeMap::<_, u32>::new();
        for package in &packages {
            *versions.entry(&package.name).or_default() += 1;
            let exception = exceptions.get(&package.name);
            if exception == Some(&package.licence) {
                unused.remove(&package.name);
            } else if !is_allowed(&package.licence, &allowed) {
                findings.push(format!("{}: licence {:?}", package.name, package.licence));
            }
        }
        let names = versions.into_iter().filter(|(_, count)| *count > 1);
        twice.extend(names.map(|(name, _)| name.clone()));
    }
    for name in &twice {
        if !excused.contains(name) {
            findings.push(format!("{name}: two versions, not listed in deny.toml"));
        }
    }
    for name in unused {
        findings.push(format!(
            "{name}: an exception in deny.toml, but it needs none"
        ));
    }
    for name in excused.iter().filter(|name| !twice.contains(*name)) {
        findings.push(format!(
            "{name}: listed in deny.toml, but there is one version only"
        ));
    }
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

struct Package {
    name: String,
    licence: String,
}

/// What is built on this kind of machine.
fn packages(folder: &Path) -> Result<Vec<Package>> {
    let host = output(std::process::Command::new("rustc").args(["--print", "host-tuple"]))?;
    let mut command = cargo(folder);
    command.args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform",
        host.trim(),
    ]);
    let metadata: Value = serde_json::from_str(&output(&mut command)?)?;
    let nodes = metadata["resolve"]["nodes"]
        .as_array()
        .context("no resolved packages")?;
    let built: BTreeSet<_> = nodes
        .iter()
        .map(|node| &node["id"])
        .filter_map(Value::as_str)
        .collect();
    let packages = metadata["packages"].as_array().context("no packages")?;
    let field = |package: &Value, name: &str| package[name].as_str().unwrap_or("none").to_owned();
    Ok(packages
        .iter()
        .filter(|package| package["id"].as_str().is_some_and(|id| built.contains(id)))
        .map(|package| Package {
            name: field(package, "name"),
            licence: field(package, "license"),
        })
        .collect())
}

/// The strings of `name = [ … ]`, one or more lines; of tables in it the first.
fn list(text: &str, name: &str) -> BTreeSet<String> {
    let start = format!("{name} = [");
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with(&start))
        .skip(1);
    let entries = lines.take_while(|line| !line.starts_with(']'));
    entries
        .filter_map(|line| line.split('"').nth(1))
        .map(str::to_owned)
        .collect()
}

/// The licence that one crate may have besides, by its name.
fn exceptions(text: &str) -> BTreeMap<String, String> {
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("exceptions = ["))
        .skip(1);
    let entries = lines.take_while(|line| !line.starts_with(']'));
    entries
        .filter_map(|line| {
            let mut words = line.split('"').skip(1).step_by(2);
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect()
}

/// Whether an SPDX expression can be met with the allowed licences. `/` is the
/// old way to write OR. A `WITH` belongs to its licence.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = any(&mut words, allowed);
    met && words.next().is_none()
}

type Words<'a, 'b> = &'a mut std::iter::Peekable<std::str::SplitWhitespace<'b>>;

fn any(words: Words<'_, '_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= all(words, allowed);
    }
    met
}

fn all(words: Words<'_, '_>, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: Words<'_, '_>, allowed: &BTreeSet<String>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let met = any(words, allowed);
        return words.next_if_eq(&")").is_some() && met;
    }
    let mut licence = words.next().unwrap_or_default().to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&licence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meets_expressions() {
        let allowed = list(
            "allow = [\n    \"MIT\",\n    \"Unicode-3.0\",\n]\n",
            "allow",
        );
        let met = |expression| is_allowed(expression, &allowed);
        assert!(met("MIT"));
        assert!(met("GPL-3.0 OR MIT"));
        assert!(met("Apache-2.0/MIT"));
        assert!(met("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(met("Apache-2.0 WITH LLVM-exception OR MIT"));
        assert!(!met("MIT AND GPL-3.0"));
        assert!(!met("(GPL-3.0 OR Apache-2.0) AND MIT"));
        assert!(!met("none"));
        assert!(!met("MIT MIT"));
    }

    #[test]
    fn reads_exceptions() {
        let text = "exceptions = [\n    { crate = \"it\", allow = [\"CDDL-1.0\"] },\n]\n";
        let expected = BTreeMap::from([("it".to_owned(), "CDDL-1.0".to_owned())]);
        assert_eq!(exceptions(text), expected);
    }

    #[test]
    fn reads_tables_of_a_list() {
        let text = "[bans]\nskip = [\n    { crate = \"syn\", reason = \"two\" },\n]\n";
        assert_eq!(list(text, "skip"), BTreeSet::from(["syn".to_owned()]));
    }
}
