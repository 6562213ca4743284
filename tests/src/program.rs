//! The programs with known truth (`tests/programs/`): one row for each way of building one.
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

pub(crate) struct Build {
    pub(crate) program: &'static str,
    pub(crate) source: &'static str,
    pub(crate) compiler: &'static str,
    pub(crate) flags: &'static [&'static str],
}

/// For people to read in a debugger, and for tracers that need frame pointers.
const PLAIN: &[&str] = &["-O0", "-fno-omit-frame-pointer"];
/// As distributions build; sibling calls stay calls, so that the call chain is the one in the source.
pub(crate) const OPTIMIZED: &[&str] =
    &["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls"];
const STATIC: &[&str] = &["-O0", "-fno-omit-frame-pointer", "-static"];
const STATIC_PIE: &[&str] = &["-O0", "-fno-omit-frame-pointer", "-static-pie"];
const STATIC_STRIPPED: &[&str] = &["-O0", "-static", "-s"];
const LIBRARY: &[&str] = &["-O0", "-fno-omit-frame-pointer", "-shared", "-fPIC"];

const CXX: &[&str] = &["-O0", "-std=c++17"];
/// Debian's libraries, without the packages for development.
const JEMALLOC: &[&str] = &[
    "-O0",
    "-DJEMALLOC",
    "-Wl,--no-as-needed",
    "-l:libjemalloc.so.2",
];
const MIMALLOC: &[&str] = &[
    "-O0",
    "-DMIMALLOC",
    "-Wl,--no-as-needed",
    "-l:libmimalloc.so.2",
];
const TCMALLOC: &[&str] = &[
    "-O0",
    "-DTCMALLOC",
    "-Wl,--no-as-needed",
    "-l:libtcmalloc_minimal.so.4",
];
const PREFIXED: &[&str] = &["-O0", "-DPREFIXED"];

/// The calls must be made as written, also the ones that a compiler knows to fail.
const ALWAYS: &[&str] = &[
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fno-builtin",
    "-Wno-use-after-free",
    "-Wno-alloc-size-larger-than",
];

const BUILDS: &[Build] = &[
    Build {
        program: "seed_leak",
        source: "seed_leak.cpp",
        compiler: "g++",
        flags: PLAIN,
    },
    Build {
        program: "every_function",
        source: "every_function.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "every_function_O2",
        source: "every_function.c",
        compiler: "gcc",
        flags: OPTIMIZED,
    },
    Build {
        program: "stacks",
        source: "stacks.cpp",
        compiler: "g++",
        flags: PLAIN,
    },
    Build {
        program: "stacks_O2",
        source: "stacks.cpp",
        compiler: "g++",
        flags: OPTIMIZED,
    },
    Build {
        program: "layered",
        source: "layered.c",
        compiler: "gcc",
        flags: OPTIMIZED,
    },
    Build {
        program: "hog",
        source: "hog.c",
        compiler: "gcc",
        flags: STATIC,
    },
    Build {
        program: "churn",
        source: "churn.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "forker",
        source: "forker.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "family",
        source: "family.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "cxx_allocators",
        source: "cxx_allocators.cpp",
        compiler: "g++",
        flags: CXX,
    },
    Build {
        program: "own_jemalloc",
        source: "own_allocators.c",
        compiler: "gcc",
        flags: JEMALLOC,
    },
    Build {
        program: "own_mimalloc",
        source: "own_allocators.c",
        compiler: "gcc",
        flags: MIMALLOC,
    },
    Build {
        program: "own_tcmalloc",
        source: "own_allocators.c",
        compiler: "gcc",
        flags: TCMALLOC,
    },
    Build {
        program: "own_prefix",
        source: "own_allocators.c",
        compiler: "gcc",
        flags: PREFIXED,
    },
    Build {
        program: "above",
        source: "above.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "sampled",
        source: "sampled.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "resized",
        source: "resized.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "quits",
        source: "quits.cpp",
        compiler: "g++",
        flags: CXX,
    },
    Build {
        program: "twice",
        source: "twice.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "musl_sizes",
        source: "resized.c",
        compiler: "musl-gcc",
        flags: STATIC,
    },
    Build {
        program: "musl_stripped",
        source: "resized.c",
        compiler: "musl-gcc",
        flags: STATIC_STRIPPED,
    },
    Build {
        program: "deep",
        source: "deep.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "dlopener",
        source: "dlopener.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "libplugin.so",
        source: "plugin.c",
        compiler: "gcc",
        flags: LIBRARY,
    },
    Build {
        program: "liblate.so",
        source: "late.c",
        compiler: "gcc",
        flags: LIBRARY,
    },
    Build {
        program: "exiter",
        source: "exiter.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "threads500",
        source: "threads500.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "many",
        source: "many.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "phases",
        source: "phases.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "first",
        source: "first.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "shm_holder",
        source: "shm_holder.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "fragment",
        source: "fragment.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "fragment_static",
        source: "fragment.c",
        compiler: "gcc",
        flags: STATIC_STRIPPED,
    },
    Build {
        program: "pin",
        source: "pin.c",
        compiler: "gcc",
        flags: PLAIN,
    },
    Build {
        program: "mallinfo",
        source: "mallinfo.c",
        compiler: "gcc",
        flags: LIBRARY,
    },
    Build {
        program: "growing",
        source: "growing.c",
        compiler: "gcc",
        flags: OPTIMIZED,
    },
    Build {
        program: "growing_static",
        source: "growing.c",
        compiler: "gcc",
        flags: STATIC,
    },
    Build {
        program: "growing_musl",
        source: "growing.c",
        compiler: "musl-gcc",
        flags: STATIC,
    },
    Build {
        program: "page_user",
        source: "page_user.c",
        compiler: "gcc",
        flags: OPTIMIZED,
    },
    Build {
        program: "static_leak",
        source: "static_leak.c",
        compiler: "gcc",
        flags: STATIC,
    },
    Build {
        program: "static_pie_leak",
        source: "static_leak.c",
        compiler: "gcc",
        flags: STATIC_PIE,
    },
    Build {
        program: "static_stripped",
        source: "static_leak.c",
        compiler: "gcc",
        flags: STATIC_STRIPPED,
    },
];

fn builds() -> impl Iterator<Item = &'static Build> {
    BUILDS.iter().chain(crate::truth::BUILDS)
}

/// The path of a built program. Built once for each state of its source and flags, in cargo's directory for such things.
/// Where there is no compiler, `$MEMTRACE_PROGRAMS` is a directory with all of them, as [`all`] names them.
pub fn path(program: &str) -> Result<PathBuf> {
    let build = builds()
        .find(|build| build.program == program)
        .with_context(|| format!("no program '{program}' in the table in tests/src/program.rs"))?;
    if let Some(directory) = std::env::var_os("MEMTRACE_PROGRAMS") {
        let path = Path::new(&directory).join(program);
        ensure!(
            path.is_file(),
            "MEMTRACE_PROGRAMS is set, but there is no {}",
            path.display()
        );
        return Ok(path);
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let mut state = DefaultHasher::new();
    for file in [build.source, "ledger.h"] {
        let file = sources.join(file);
        fs::read(&file)
            .with_context(|| format!("reading {}", file.display()))?
            .hash(&mut state);
    }
    (ALWAYS, build.flags, build.compiler).hash(&mut state);
    let directory = crate::target_directory()?
        .join("tmp/programs")
        .join(format!("{:016x}", state.finish()));
    let finished = directory.join(program);
    if finished.exists() {
        return Ok(finished);
    }
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    // Another test executable may be building the same: each writes its own file, and the rename is atomic.
    let unfinished = directory.join(format!(".{program}.{}", std::process::id()));
    let output = Command::new(build.compiler)
        .args(ALWAYS)
        .args(build.flags)
        .arg("-o")
        .arg(&unfinished)
        .arg(sources.join(build.source))
        .args(["-lpthread", "-ldl"])
        .output()
        .with_context(|| {
            format!(
                "running {}: is it installed? (apt-get install gcc g++)",
                build.compiler
            )
        })?;
    if !output.status.success() {
        bail!(
            "{} {}: {}",
            build.compiler,
            build.source,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::rename(&unfinished, &finished)
        .with_context(|| format!("renaming to {}", finished.display()))?;
    ensure!(finished.exists(), "{} was not built", finished.display());
    Ok(finished)
}

/// Every program in the table.
pub fn all() -> impl Iterator<Item = &'static str> {
    builds().map(|build| build.program)
}
