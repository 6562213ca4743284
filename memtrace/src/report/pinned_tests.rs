//! What pins a heap, in words.
use super::heapwalk::Kind;
use super::pinned::{PinnedArena, PinnedHeap, PinnedHole, PinningBlock};
use super::tests::{leak, written};
use super::{Style, heap::HeapReport, heap::Stack};

fn block(address: &str, size: u64, allocated_by: Option<Stack>) -> PinningBlock {
    PinningBlock {
        address: address.into(),
        size,
        cached: false,
        allocated_by,
    }
}

fn pinned() -> HeapReport {
    let mut report = leak();
    let one = Stack {
        bytes: 2000,
        count: 1,
        oldest_ns: 3_000_000_000,
        newest_ns: 3_000_000_000,
        ages: Vec::new(),
        ..report.stacks[1].clone()
    };
    let pin = block("0x5500_1000", 2016, Some(one));
    report.heap_walk = vec![PinnedHeap {
        pid: 4711,
        consistent: true,
        problem: None,
        arenas: vec![PinnedArena {
            kind: Kind::Main,
            address: Some("0x7f00".into()),
            system_bytes: 20 << 20,
            in_use_bytes: 4 << 20,
            free_bytes: 15 << 20,
            least_bytes: 19 << 20,
            releasable_below: 9 << 20,
            pinned_by: pin.clone(),
            holes: vec![
                PinnedHole {
                    size: 9 << 20,
                    below: pin,
                },
                PinnedHole {
                    size: 6 << 20,
                    below: block("0x5500_0100", 64, None),
                },
            ],
        }],
    }];
    report
}

#[test]
fn what_pins_a_heap_and_who_allocated_it() {
    let text = written("text", &pinned(), &Style::default());
    let at = text.find("The heap of").unwrap();
    assert_eq!(
        &text[at..],
        "\
The heap of leak (pid 4711) cannot shrink below 19 MiB: pinned by a block of 1.97 KiB at 0x5500_1000
  4 MiB in use, 15 MiB free; without that block 9 MiB could return to the system
  allocated 3.0 s ago by mmap:
      main  /src/leak.cpp:31
      … the stack was cut here: who called further out is not known
  a hole of 6 MiB below the block of 64 B at 0x5500_0100
  allocated before the trace began, or not taken in: who did is not known
"
    );
}

#[test]
fn why_nobody_knows() {
    let mut report = pinned();
    report.heap_walk[0].consistent = false;
    report.heap_walk[0].arenas[0].pinned_by = PinningBlock {
        cached: true,
        ..block("0x5500_1000", 2016, None)
    };
    report.sample_bytes = 4096;
    let text = written("text", &report, &Style::default());
    assert!(
        text.contains("a thread's cache or a fast bin keeps it"),
        "{text}"
    );
    assert!(
        text.contains("without --sample-bytes it would be known"),
        "{text}"
    );
    assert!(text.contains("it changed while it was read"), "{text}");
    report.heap_walk[0].problem = Some("it has ended".into());
    let text = written("text", &report, &Style::default());
    assert!(
        text.contains("The heap of leak (pid 4711) was not looked into: it has ended"),
        "{text}"
    );
}

#[test]
fn json_has_it_only_where_it_was_asked_for() {
    let plain = written("json", &leak(), &Style::default());
    assert!(!plain.contains("heap_walk"), "{plain}");
    let json = written("json", &pinned(), &Style::default());
    let back: HeapReport = serde_json::from_str(&json).unwrap();
    assert_eq!(back, pinned());
}
