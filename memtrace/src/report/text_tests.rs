//! Golden tests of the text report.
use super::Style;
use super::heap::{HeapReport, Totals};
use super::name::{shorten, shorten_path};
use super::tests::{leak, several, source, written};

fn text(report: &HeapReport) -> String {
    written("text", report, &Style::default())
}

#[test]
fn text_of_a_leak() {
    assert_eq!(
        text(&leak()),
        "\
leak (pid 4711, /usr/bin/leak), traced for 9.8 s
Exact: every allocation was seen.

Outstanding  3.52 MiB in 10 blocks, growing by 368 KiB/s
             of which 4 KiB mapped by mmap and mremap
Allocated    3.59 MiB in 1,234 blocks, 375 KiB/s
Freed        72 KiB in 1,224 blocks
Unmatched    12 frees of blocks from before the trace, in no other figure

#1   3.52 MiB (99.8 %) in 9 blocks of 400 KiB, +367 KiB/s, none of 9 freed
     by malloc, 800 ms to 8.8 s old
      operator new(unsigned long)  [libc.so.6]
      shop::grow(int) (inlined)    /src/leak.cpp:12
      main                         /src/leak.cpp:20
      libc.so.6+0x27249
      0x7f0012345678

#2   4 KiB (0.1 %) in 1 mapping of 4 KiB, +418 B/s, 50.0 % of 2 freed
     by mmap, 5.0 s old
      main  /src/leak.cpp:31
      … the stack was cut here: who called further out is not known
"
    );
}

#[test]
fn text_of_several_processes_with_loss() {
    let style = Style {
        top: 1,
        frames: 2,
        ..Style::default()
    };
    assert_eq!(
        written("text", &several(), &style),
        "\
2 processes, traced for 9.8 s:
  leak (pid 4711, /usr/bin/leak)
  worker (pid 4712, has exited)
NOT EXACT: 312 events were lost, so freed blocks may count as outstanding and allocated ones be missing.

Outstanding  3.52 MiB in 10 blocks, growing by 368 KiB/s
             of which 4 KiB mapped by mmap and mremap
Allocated    3.59 MiB in 1,234 blocks, 375 KiB/s
Freed        72 KiB in 1,224 blocks
Unmatched    12 frees of blocks from before the trace, in no other figure

#1   3.52 MiB (99.8 %) in 9 blocks of 400 KiB, +367 KiB/s, none of 9 freed
     by malloc, 800 ms to 8.8 s old, in leak (pid 4711)
      operator new(unsigned long)  [libc.so.6]
      shop::grow(int) (inlined)    /src/leak.cpp:12
      … 3 more frames (--format json has all)

Not shown: 1 stack with 4 KiB (0.1 %) in 1 block; --top 2 shows all.

Note: events: 312 lost because the ring buffer was full
"
    );
    assert!(text(&several()).contains("in worker (pid 4712)\n      (no stack)\n"));
}

#[test]
fn text_says_why_it_is_not_exact() {
    let mut report = leak();
    report.exact = false;
    let second_line = |report: &HeapReport| text(report).lines().nth(1).unwrap().to_owned();
    assert_eq!(second_line(&report), "NOT EXACT: no reason is recorded.");
    report.notes.push("reasons".into());
    assert_eq!(second_line(&report), "NOT EXACT: see the notes at the end.");
    report.sample_bytes = 524_288;
    assert_eq!(
        second_line(&report),
        "NOT EXACT: sampled, one allocation for every 512 KiB on average, so all figures are \
         estimates."
    );
    // A report that contradicts itself is not believed.
    report.exact = true;
    report.sample_bytes = 0;
    report.lost_events = 1;
    assert!(second_line(&report).starts_with("NOT EXACT: 1 event was lost, "));
}

#[test]
fn text_tells_all_freed_from_nothing_seen() {
    let mut report = leak();
    report.stacks.clear();
    report.stacks_total = 0;
    report.totals = Totals {
        allocated_bytes: 4096,
        allocated_count: 1_024,
        freed_bytes: 4096,
        freed_count: 1_024,
        ..Totals::default()
    };
    assert_eq!(
        text(&report),
        "\
leak (pid 4711, /usr/bin/leak), traced for 9.8 s
Exact: every allocation was seen.

Outstanding  nothing
Allocated    4 KiB in 1,024 blocks, 418 B/s
Freed        4 KiB in 1,024 blocks

No outstanding allocations: all 1,024 blocks allocated since the start have been freed.
"
    );
    report.totals = Totals {
        unmatched_frees: 1,
        ..Totals::default()
    };
    report.duration_ns = 0;
    assert_eq!(
        text(&report),
        "\
leak (pid 4711, /usr/bin/leak), traced for 0 s
Exact: every allocation was seen.

No allocation was seen: none of the probed functions was called.
  probed in 4711: libc.so.6: malloc, free
Unmatched    1 free of blocks from before the trace, in no other figure
"
    );
}

#[test]
fn text_fits_a_terminal() {
    let mut report = several();
    report.stacks[0].frames = vec![
        source(
            "std::_Rb_tree<std::__cxx11::basic_string<char, std::char_traits<char>, \
             std::allocator<char> >, std::pair<int const, long> >::_M_insert(int)",
            "/usr/include/c++/12/bits/stl_tree.h",
            1870,
            true,
        ),
        source(
            "shop::fill(int)",
            "/home/someone/projects/warehouse/with/a/deep/tree/of/directories/fill.cpp",
            9,
            false,
        ),
    ];
    let style = Style {
        width: Some(80),
        ..Style::default()
    };
    let narrow = written("text", &report, &style);
    for line in narrow.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let frames: Vec<&str> = narrow
        .lines()
        .filter(|line| line.starts_with("      ") && line.contains(':') && line.contains('/'))
        .collect();
    assert_eq!(
        frames,
        [
            "      std::_Rb_tree<…>::_M_insert(int) (inlined)  …/c++/12/bits/stl_tree.h:1870",
            "      shop::fill(int)                             …/of/directories/fill.cpp:9",
        ]
    );
    // The first screen holds the head and the first stack.
    assert!(narrow.lines().take(24).any(|line| line.starts_with("#2")));
    // Nothing is shortened in a pipe.
    assert!(!text(&report).contains('…'));
}

#[test]
fn text_is_coloured_only_when_asked_and_hides_control_characters() {
    let mut report = leak();
    report.processes[0].comm = "\x1b[31mevil\n".into();
    report.stacks[0].frames[1].symbol = Some("a\rb".into());
    assert!(!text(&report).contains(['\x1b', '\r']));
    let style = Style {
        color: true,
        ..Style::default()
    };
    let coloured = written("text", &report, &style);
    assert!(coloured.contains("\x1b[1m#1 "));
    assert!(!coloured.contains("\x1b[31m"));
}

#[test]
fn names_are_shortened_from_the_inside() {
    let name = "a::map<b::pair<c<int>, d>, e>::insert(f<int> const&, g)";
    for (width, short) in [
        (80, name),
        (54, "a::map<b::pair<c<…>, d>, e>::insert(f<int> const&, g)"),
        (52, "a::map<b::pair<…>, e>::insert(f<int> const&, g)"),
        (40, "a::map<…>::insert(f<…> const&, g)"),
        (20, "a::map<…>::insert(…)"),
        (12, "a::map<…>::…"),
    ] {
        assert_eq!(shorten(name, width), short, "{width}");
    }
    for (name, width, short) in [
        (
            "std::operator<< <char>(a<b>&)",
            26,
            "std::operator<< <…>(a<…>&)",
        ),
        (
            "x::operator()(int, long) const",
            28,
            "x::operator()(…) const",
        ),
        ("x::operator->(list<int>)", 22, "x::operator->(list<…>)"),
        ("call<fn(u32) -> u32>::go", 12, "call<…>::go"),
        ("odd>name(int)", 12, "odd>name(…)"),
        ("f()", 2, "f…"),
    ] {
        assert_eq!(shorten(name, width), short);
    }
    assert_eq!(shorten_path("/usr/src/lib/a.c:12", 14), "…/lib/a.c:12");
    assert_eq!(shorten_path("/usr/averylongname.c:12", 10), "…name.c:12");
}

#[test]
fn plumbing_is_told_from_what_uses_it() {
    use crate::report::name::is_plumbing;
    for name in [
        "operator new(unsigned long)",
        "std::vector<char, std::allocator<char> >::resize(unsigned long)",
        "void std::deque<int>::_M_push_back_aux<int>(int&&)",
        "char* std::__new_allocator<char>::allocate(unsigned long)",
        "<alloc::vec::Vec<T> as core::clone::Clone>::clone",
        "g_malloc0",
    ] {
        assert!(is_plumbing(name), "{name}");
    }
    for name in [
        "main",
        "Shop::render(std::string)",
        "stdout_grow",
        "my::std::Vec::push",
        "corelib_new",
        "",
    ] {
        assert!(!is_plumbing(name), "{name}");
    }
}
