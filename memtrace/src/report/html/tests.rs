//! Pages: that they are whole, and that nothing in a report gets out of its
//! place. What they do is tested in a browser.
use serde_json::Value;

use super::*;
use crate::report::Style;
use crate::report::tests::{leak, several, source, written};

fn page(report: &HeapReport) -> String {
    written("html", report, &Style::default())
}

/// What the script will read.
fn data(page: &str) -> Value {
    let start = "<script id=\"data\" type=\"application/json\">";
    let (_, rest) = page.split_once(start).unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    serde_json::from_str(data).unwrap()
}

#[test]
fn a_page_holds_the_report() {
    let page = page(&leak());
    assert!(page.contains("<title>memtrace: leak (pid 4711)</title>"));
    for mark in [TITLE, STYLE.0, DATA, SCRIPTS] {
        assert!(PAGE.contains(mark) && !page.contains(mark), "{mark}");
    }
    let data = data(&page);
    let leak = leak();
    assert_eq!(data["totals"], serde_json::to_value(leak.totals).unwrap());
    let at = |table: &str, number: &Value| {
        let number = usize::try_from(number.as_u64().unwrap()).unwrap();
        data[table][number].clone()
    };
    let string = |number: &Value| at("strings", number);
    let stack = &data["stacks"][0];
    assert_eq!(stack[3], 3_686_400);
    assert_eq!(string(&stack[2]), "malloc");
    let names = stack[10]
        .as_array()
        .unwrap()
        .iter()
        .map(|number| string(&at("frames", number)[0]));
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            "operator new(unsigned long)",
            "shop::grow(int)",
            "main",
            "libc.so.6+0x27249",
            "0x7f0012345678"
        ]
    );
    assert_eq!(
        page,
        super::tests::page(&self::leak()),
        "the same report, the same bytes"
    );
}

#[test]
fn nothing_is_loaded() {
    let page = page(&leak());
    let policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'";
    assert!(page.contains(policy));
    for word in ["http://", "https://", "url(", "import ", "fetch(", "src="] {
        let without = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!without.contains(word), "{word}");
    }
}

#[test]
fn names_are_data() {
    let hostile = "</script><img src=x onerror=alert(1)><!--{{scripts}}{{data}}&amp;";
    let mut report = several();
    report.processes[0].comm = hostile.into();
    report.processes.truncate(1);
    report.notes = vec![hostile.into()];
    report.stacks[0].function = hostile.into();
    report.stacks[0].frames = vec![source(hostile, hostile, 1, false)];
    let page = page(&report);
    assert!(!page.contains("<img"), "{page}");
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(
        page.contains("<title>memtrace: &lt;/script>&lt;img"),
        "{page}"
    );
    let data = data(&page);
    assert_eq!(data["notes"][0], hostile);
    assert!(
        data["strings"]
            .as_array()
            .unwrap()
            .contains(&hostile.into())
    );
}
