//! What is known of some programs' memory that a report on malloc does not
//! show: a table of symbols and what they mean.
use crate::process::Module;

/// A file that defines `symbol` means `text`.
struct Remark {
    symbol: &'static str,
    text: &'static str,
}

const REMARKS: &[Remark] = &[
    Remark {
        symbol: "PyObject_Malloc",
        text: "Python: objects of up to 512 bytes lie in arenas that Python maps by itself (shown as mappings made by its arena allocator, not object by object); run it with PYTHONMALLOC=malloc to see each",
    },
    Remark {
        symbol: "runtime.mallocgc",
        text: "Go: the runtime's own heap is mapped without the C library and is not in this report; Go's heap profile (runtime/pprof) shows it",
    },
];

/// What to say about a module.
pub(super) fn remark(module: &Module) -> Option<String> {
    let image = module.image.as_ref().ok()?;
    REMARKS
        .iter()
        .find(|remark| image.symbol(remark.symbol).is_some())
        .map(|remark| format!("{}: {}", module.name(), remark.text))
}
