//! What the fuzz targets begin with: a few small inputs for each, made here.
//! From nothing, a fuzzer takes hours to come up with a checksum or an ELF
//! header.
pub mod seeds;

use std::{fs, path::Path};

/// Puts the inputs of a target into its corpus, where not there yet. Called
/// before the fuzzer reads that.
///
/// # Panics
/// The corpus cannot be written.
pub fn provide(target: &str, seeds: &[Vec<u8>]) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    fs::create_dir_all(&corpus).expect("the corpus cannot be made");
    for (number, seed) in seeds.iter().enumerate() {
        let path = corpus.join(format!("seed-{number}"));
        fs::write(path, seed).expect("the corpus cannot be written");
    }
}
