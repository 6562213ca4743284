//! Symbols of real files: a C++ program built here, the C library, this test
//! itself, and damaged files.
use super::shop::{Shop, line, run};
use super::*;
use std::fs::{self, File};
use std::os::fd::AsRawFd;

fn module(path: PathBuf) -> ModuleFile {
    ModuleFile {
        path: path.clone(),
        open_path: path,
        build_id: None,
    }
}

/// `name file:line`, of an inlined function with `inlined` before it.
fn lines(symbols: &[Symbol]) -> Vec<String> {
    symbols
        .iter()
        .map(|symbol| {
            let file = symbol.file.as_deref().unwrap_or("?");
            let file = file.rsplit('/').next().unwrap();
            format!(
                "{}{} {file}:{}",
                if symbol.inlined { "inlined " } else { "" },
                symbol.name.as_deref().unwrap_or("?"),
                symbol.line.unwrap_or(0)
            )
        })
        .collect()
}

fn expect_full(shop: &Shop, symbolizer: &mut Symbolizer, module: &ModuleFile) {
    expect(
        shop,
        symbolizer,
        module,
        "shop::compare(void const*, void const*)",
    );
}

/// `last`: the name of a static function.
fn expect(shop: &Shop, symbolizer: &mut Symbolizer, module: &ModuleFile, last: &str) {
    for (site, names) in [
        (
            "inlined",
            &["inlined shop::Cart<long>::add(long)", "shop::fill(long)"][..],
        ),
        (
            "constructor",
            &["inlined shop::Cart<long>::Cart(long)", "shop::fill(long)"],
        ),
        // GCC moves this call into a second part of the function.
        ("cold", &["shop::choose(int)"]),
        // A call that never returns: its return address is in no function, or in
        // the next one.
        ("last", &[last]),
    ] {
        let marks = [site.to_owned(), format!("call of {site}")];
        let expected: Vec<_> = names
            .iter()
            .zip(marks)
            .map(|(name, mark)| format!("{name} shop.cpp:{}", line(&mark)))
            .collect();
        let symbols = symbolizer.resolve(module, shop.sites[site]);
        assert_eq!(lines(&symbols), expected, "{site}");
    }
    assert_eq!(symbolizer.warnings(), &[] as &[String]);
}

#[test]
fn names_inlined_functions_and_lines() {
    let Some(shop) = Shop::build() else { return };
    let mut symbolizer = Symbolizer::new(Options::default());
    expect_full(&shop, &mut symbolizer, &module(shop.path("full")));
}

#[test]
fn finds_debug_file_by_build_id_from_a_descriptor() {
    let Some(shop) = Shop::build() else { return };
    let mut symbolizer = Symbolizer::new(shop.install_debug_file());
    let file = File::open(shop.path("stripped")).unwrap();
    let module = ModuleFile {
        path: "/gone/stripped".into(),
        open_path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
        build_id: shop.build_id(),
    };
    fs::remove_file(shop.path("stripped")).unwrap();
    symbolizer.resolve(&module, shop.sites["cold"]);
    // The file is kept open by the symbolizer alone, and the number reused.
    drop(file);
    expect_full(&shop, &mut symbolizer, &module);
}

#[test]
fn build_id_alone_is_enough() {
    let Some(shop) = Shop::build() else { return };
    let mut symbolizer = Symbolizer::new(shop.install_debug_file());
    let module = ModuleFile {
        build_id: shop.build_id(),
        ..module("/nonexistent".into())
    };
    let symbols = symbolizer.resolve(&module, shop.sites["cold"]);
    assert_eq!(
        lines(&symbols),
        [format!("shop::choose(int) shop.cpp:{}", line("cold"))]
    );
}

#[test]
fn follows_a_debug_link() {
    let Some(shop) = Shop::build() else { return };
    run(&shop.dir, "objcopy --add-gnu-debuglink=full.debug stripped").unwrap();
    let mut symbolizer = Symbolizer::new(Options::default());
    let file = File::open(shop.path("stripped")).unwrap();
    let module = ModuleFile {
        open_path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
        ..module("/gone/stripped".into())
    };
    // blazesym does not let one see the symbol table behind a link.
    expect(&shop, &mut symbolizer, &module, "compare");
}

#[test]
fn a_wrong_debug_file_is_refused_and_dynamic_symbols_remain() {
    let Some(shop) = Shop::build() else { return };
    run(
        &shop.dir,
        "objcopy --add-gnu-debuglink=full.debug stripped && echo other >> full.debug",
    )
    .unwrap();
    let mut symbolizer = Symbolizer::new(Options::default());
    let module = module(shop.path("stripped"));
    for _ in 0..2 {
        let symbols = symbolizer.resolve(&module, shop.sites["inlined"]);
        assert_eq!(lines(&symbols), ["shop::fill(long) ?:0"]);
    }
    assert_eq!(
        symbolizer.warnings().len(),
        1,
        "{:?}",
        symbolizer.warnings()
    );
    assert!(symbolizer.warnings()[0].contains("checksum does not match"));
}

#[test]
fn stripped_files_have_dynamic_symbols() {
    let Some(shop) = Shop::build() else { return };
    let mut symbolizer = Symbolizer::new(Options::default());
    let module = module(shop.path("stripped"));
    let symbols = symbolizer.resolve(&module, shop.sites["inlined"]);
    assert_eq!(lines(&symbols), ["shop::fill(long) ?:0"]);
    // A static function is not among them, and no neighbour is taken for it.
    assert!(symbolizer.resolve(&module, shop.sites["last"]).is_empty());
    assert_eq!(symbolizer.warnings(), &[] as &[String]);
}

#[test]
fn names_end_with_their_function() {
    let Some(shop) = Shop::build() else { return };
    let named = |file: &str, address| {
        let mut symbolizer = Symbolizer::new(Options::default());
        let symbols = symbolizer.resolve_exact(&module(shop.path(file)), address);
        symbols.last().and_then(|symbol| symbol.name.clone())
    };
    let sized = shop.sites["sized"];
    let sizeless = shop.sites["sizeless"];
    for file in ["full", "stripped"] {
        assert_eq!(named(file, sized).as_deref(), Some("sized"));
        assert_eq!(named(file, sized + 1).as_deref(), Some("sized"));
        assert_eq!(named(file, sized + 2), None);
        assert_eq!(named(file, sized + 40), None);
        assert_eq!(named(file, sizeless).as_deref(), Some("sizeless"));
        assert_eq!(named(file, sizeless + 1), None);
        assert_eq!(named(file, sizeless + 63), None);
        assert_eq!(named(file, sizeless + 64).as_deref(), Some("outer"));
        // Behind a label without a size, within the function around it.
        assert_eq!(named(file, sizeless + 64 + 20).as_deref(), Some("outer"));
        assert_eq!(named(file, sizeless + 64 + 32), None);
        assert_eq!(named(file, u64::MAX), None);
    }
}

#[test]
fn a_replaced_file_gives_no_symbols() {
    let Some(shop) = Shop::build() else { return };
    let mut symbolizer = Symbolizer::new(Options::default());
    let module = ModuleFile {
        build_id: Some("0123456789abcdef".into()),
        ..module(shop.path("full"))
    };
    assert!(symbolizer.resolve(&module, shop.sites["cold"]).is_empty());
    assert!(symbolizer.warnings()[0].contains("has been replaced"));
}

#[test]
fn damaged_files_warn_once_and_never_panic() {
    let Some(shop) = Shop::build() else { return };
    let whole = fs::read(shop.path("full")).unwrap();
    let mut noise = 1_u64;
    for round in 0..60_usize {
        let mut bytes = whole.clone();
        match round {
            0 => bytes.clear(),
            1 => bytes = b"no ELF file".to_vec(),
            2..20 => bytes.truncate(whole.len() * (round - 1) / 20),
            _ => {
                for _ in 0..2_000 {
                    noise = noise
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(round as u64);
                    let at = usize::try_from(noise >> 20).unwrap() % bytes.len();
                    bytes[at] = noise.to_be_bytes()[0];
                }
            }
        }
        let path = shop.path(&format!("damaged{round}"));
        fs::write(&path, &bytes).unwrap();
        let mut symbolizer = Symbolizer::new(Options::default());
        for address in shop.sites.values() {
            symbolizer.resolve(&module(path.clone()), *address);
            symbolizer.resolve_exact(&module(path.clone()), *address);
        }
        let warnings = symbolizer.warnings();
        let mut distinct = warnings.to_vec();
        distinct.dedup();
        assert_eq!(warnings, distinct);
        if round < 2 {
            assert_eq!(warnings.len(), 1, "{warnings:?}");
        }
    }
}

#[test]
fn missing_files_warn_once_and_pseudo_files_never() {
    let mut symbolizer = Symbolizer::new(Options::default());
    for address in [1, 2, 3] {
        assert!(
            symbolizer
                .resolve(&module("/nonexistent".into()), address)
                .is_empty()
        );
        assert!(
            symbolizer
                .resolve(&module("[vdso]".into()), address)
                .is_empty()
        );
        assert!(
            symbolizer
                .resolve(&module(PathBuf::new()), address)
                .is_empty()
        );
    }
    let warnings = symbolizer.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("/nonexistent: "), "{warnings:?}");
}

#[inline(never)]
fn landmark() -> u32 {
    line!() - 1
}

/// What is mapped from `path` first, from this process's maps.
fn base_of(path: &str) -> Option<u64> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.ends_with(path))?;
    u64::from_str_radix(line.split_once('-')?.0, 16).ok()
}

#[test]
fn names_rust_without_hashes() {
    let path = std::env::current_exe().unwrap();
    let base = base_of(path.to_str().unwrap()).unwrap();
    let address = landmark as fn() -> u32 as usize as u64 - base;
    let mut symbolizer = Symbolizer::new(Options::default());
    let symbols = symbolizer.resolve_exact(&module(path), address);
    let symbol = symbols.last().unwrap();
    assert_eq!(
        symbol.name.as_deref(),
        Some("memtrace::symbol::tests::landmark")
    );
    assert!(symbol.file.as_deref().unwrap().ends_with("symbol/tests.rs"));
    let body = landmark()..landmark() + 3;
    assert!(body.contains(&symbol.line.unwrap()), "{symbol:?}");
}

#[test]
fn names_libc_from_its_debug_package() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps
        .lines()
        .filter_map(|line| line.split_once('/'))
        .map(|(_, path)| format!("/{path}"))
        .find(|path| path.contains("libc.so.6"));
    let Some(path) = path else {
        eprintln!("SKIPPED: this test is not linked to a shared C library");
        return;
    };
    let build_id = debug_file::build_id_of(Path::new(&path));
    let dirs = Options::default().debug_dirs;
    let debug_file = build_id
        .as_deref()
        .and_then(|id| debug_file::by_build_id(id, &dirs));
    let data = fs::read(&path).unwrap();
    let address = dynamic_symbol(&data, b"malloc");
    let file = File::open(&path).unwrap();
    let module = ModuleFile {
        open_path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
        path: path.into(),
        build_id,
    };
    let mut symbolizer = Symbolizer::new(Options::default());
    let symbols = symbolizer.resolve_exact(&module, address + 4);
    let symbol = symbols.last().unwrap();
    let name = symbol.name.as_deref().unwrap();
    assert!(name.contains("malloc"), "{name}");
    if debug_file.is_none() {
        eprintln!("SKIPPED in part: no libc6-dbg here, so no source lines to find");
        return;
    }
    assert!(
        symbol.file.as_deref().unwrap().contains("malloc"),
        "{symbol:?}"
    );
    assert!(symbol.line.is_some());
}

fn dynamic_symbol(data: &[u8], name: &[u8]) -> u64 {
    use object::{Object, ObjectSymbol};
    let file = object::File::parse(data).unwrap();
    let symbol = file
        .dynamic_symbols()
        .find(|symbol| symbol.name_bytes() == Ok(name))
        .unwrap();
    symbol.address()
}
