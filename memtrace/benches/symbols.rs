//! Names for 10,000 distinct addresses of a large program with debug
//! information: this one.
use std::{fs::File, path::PathBuf};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use memtrace::{
    elf::image::Image,
    symbol::{ModuleFile, Options, Symbolizer},
};

const ADDRESSES: u64 = 10_000;

fn symbols(criterion: &mut Criterion) {
    let path = PathBuf::from("/proc/self/exe");
    let Some(image) = File::open(&path)
        .ok()
        .and_then(|file| Image::open(&file).ok())
    else {
        return;
    };
    let module = ModuleFile {
        path: path.clone(),
        open_path: path,
        build_id: image.build_id_hex(),
    };
    let Some(code) = image
        .executable_segments()
        .max_by_key(|segment| segment.file_size)
    else {
        return;
    };
    let step = code.file_size / ADDRESSES;
    let mut group = criterion.benchmark_group("symbols");
    group.sample_size(10);
    // `cargo xtask bench goals` knows it by this name.
    group.bench_function("10000 addresses", |bencher| {
        bencher.iter_batched_ref(
            || Symbolizer::new(Options::default()),
            |symbolizer| {
                let addresses = (0..ADDRESSES).map(|number| code.vaddr + number * step);
                let named =
                    addresses.filter(|vaddr| !symbolizer.resolve(&module, *vaddr).is_empty());
                assert!(named.count() > 9_000, "most have names");
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(names, symbols);
criterion_main!(names);
