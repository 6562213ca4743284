//! Maps of the loaded object, by name.
use aya::{
    Ebpf, EbpfLoader,
    maps::{Map, MapError},
};

use super::LoadError;

/// Maps that probes in processes need room in.
const OF_PROCESSES: &[&str] = &[
    "CALLS",
    "THREADS",
    "STACKS_SEEN",
    "WALKS",
    "PROCESSES",
    "MAPPINGS",
    "ROWS",
    "COOKIES",
    "SAMPLED",
];

/// A loader for programs at the kernel's own hooks: no process is probed, and what
/// that needs room in is as small as it can be.
pub(super) fn loader_without_processes<'a>() -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    for map in OF_PROCESSES {
        loader.map_max_entries(map, 1);
    }
    loader
}

/// Takes a map out of the object.
pub(super) fn take<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, LoadError> {
    let map = ebpf.take_map(name).ok_or_else(|| missing(name));
    let map = map.and_then(M::try_from);
    map.map_err(|source| LoadError::Map { name, source })
}

/// The object has no such map, or another kind of it.
pub(super) fn missing(name: &str) -> MapError {
    MapError::InvalidName {
        name: name.to_owned(),
    }
}
