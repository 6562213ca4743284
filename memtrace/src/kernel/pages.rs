//! Where this kernel can be watched as it hands out pages and takes them back,
//! and how it tells which.
use memtrace_common::pages::PagesLayout;

use super::btf::Btf;

/// A program of the object and the tracepoint that it is attached to.
pub type Attachment = (&'static str, &'static str);

/// How programs see page frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeing {
    /// Raw tracepoints hand over `struct page`, so it must be known where the
    /// memory map is.
    Pages,
    /// The records of classic tracepoints hold the frame's number.
    Records,
}

/// One way to watch the page allocator.
#[derive(Debug, PartialEq, Eq)]
pub struct Way {
    /// As options call it.
    pub name: &'static str,
    /// What it is, for people.
    pub label: &'static str,
    /// What it does not see; empty: nothing.
    pub loses: &'static str,
    /// What the programs are given.
    pub seeing: Seeing,
    /// In the order in which they are attached, which is that in which the kernel
    /// calls those of one tracepoint. What is given back comes first, so that no page
    /// seems to be held that was given back in between.
    pub programs: &'static [Attachment],
}

/// Programs whose names end so do what the first one at their tracepoint missed.
pub const AGAIN: &str = "_again";
/// The category of the classic tracepoints.
pub const CATEGORY: &str = "kmem";
/// The program that finds the memory map.
pub const SAMPLER: Attachment = ("pages_sample", "mm_page_alloc");
/// The program that keeps names of processes.
pub const EXITS: Attachment = ("pages_exit", "sched_process_exit");

/// All ways, the best first. A BTF tracepoint would be the raw one under another
/// name: the same call of the program, and the same losses.
pub const WAYS: &[Way] = &[
    Way {
        name: "raw",
        label: "raw tracepoints",
        loses: "",
        seeing: Seeing::Pages,
        programs: &[
            ("pages_free", "mm_page_free"),
            ("pages_free_again", "mm_page_free"),
            ("pages_alloc", "mm_page_alloc"),
            ("pages_alloc_again", "mm_page_alloc"),
        ],
    },
    Way {
        name: "classic",
        label: "classic tracepoints",
        loses: "pages that are handed out or given back while another tracing program runs on the same CPU",
        seeing: Seeing::Records,
        programs: &[
            ("pages_free_record", "mm_page_free"),
            ("pages_alloc_record", "mm_page_alloc"),
        ],
    },
];

/// The program at the end of the bulk allocator.
pub const BULK: &str = "pages_bulk";
/// The bulk allocator: since 6.10, and since 5.13.
const BULK_FUNCTIONS: &[&str] = &["alloc_pages_bulk_noprof", "__alloc_pages_bulk"];

const ALLOC_RECORD: &str = "trace_event_raw_mm_page_alloc";
const FREE_RECORD: &str = "trace_event_raw_mm_page_free";

/// What this kernel calls its bulk allocator; `None`: it has none, or no type
/// information.
pub fn bulk_allocator(btf: &Btf<'_>) -> Option<&'static str> {
    let functions = BULK_FUNCTIONS.iter();
    let mut known = functions.filter(|name| btf.parameters(name).is_some());
    known.next().copied()
}

/// What is found in the kernel's type information; without it the offsets are
/// those of 5.10.
pub fn layout(btf: Option<&Btf<'_>>) -> PagesLayout {
    let mut layout = PagesLayout::NONE;
    let Some(btf) = btf else { return layout };
    if let Some(size) = btf.size("page") {
        layout.page_size = u64::from(size).max(1);
    }
    let alloc = ["pfn", "order", "gfp_flags", "migratetype"];
    for (offset, member) in layout.alloc.iter_mut().zip(alloc) {
        *offset = btf.member_offset(ALLOC_RECORD, member).unwrap_or(*offset);
    }
    for (offset, member) in layout.free.iter_mut().zip(["pfn", "order"]) {
        *offset = btf.member_offset(FREE_RECORD, member).unwrap_or(*offset);
    }
    // It is the last: there was a list before it until 6.14.
    let parameters = bulk_allocator(btf).and_then(|name| btf.parameters(name));
    if let Some(last) = parameters.and_then(|parameters| parameters.checked_sub(1)) {
        layout.bulk_array = last;
    }
    layout
}

/// Names of `enum migratetype` (include/linux/mmzone.h) as `/proc/pagetypeinfo`
/// has them. A request is of the first three, the reserve apart.
pub fn migratetype(number: u32) -> &'static str {
    match number {
        0 => "Unmovable",
        1 => "Movable",
        2 => "Reclaimable",
        3 => "HighAtomic",
        4 => "CMA",
        _ => "Isolate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::oom::type_information;

    #[test]
    fn without_type_information() {
        assert_eq!(layout(None), PagesLayout::NONE);
    }

    /// What type information says of the kernel that runs the test, where it has any.
    #[test]
    fn this_kernel() {
        let Ok(bytes) = type_information() else {
            return;
        };
        let btf = Btf::parse(&bytes).expect("the kernel's own is whole");
        let layout = layout(Some(&btf));
        assert!((56..=128).contains(&layout.page_size), "{layout:?}");
        assert_eq!(layout.alloc[0], 8, "behind the record's head");
        assert!(layout.alloc.is_sorted(), "{layout:?}");
        assert!(matches!(layout.bulk_array, 4 | 5), "{layout:?}");
    }
}
