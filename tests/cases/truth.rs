//! Whether stacks are true: the unwinder of libgcc, which C++ exceptions rely on, is asked in the same process at the
//! same calls (tests/programs/shim.c), and must say what memtrace says, frame by frame.
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use memtrace_tests::report::Report;
use memtrace_tests::target::Target;
use memtrace_tests::truth::{Run, c_library};
use memtrace_tests::{need_root, patience, program, tracer, turn};

fn words<S: AsRef<OsStr>>(words: &[S]) -> Vec<OsString> {
    words.iter().map(|word| word.as_ref().to_owned()).collect()
}

/// Where Debian has it: what else is on the PATH may be a script.
fn stock(name: &str) -> Result<PathBuf> {
    let path = Path::new("/usr/bin").join(name);
    ensure!(
        path.exists(),
        "no {}: run `cargo xtask setup`",
        path.display()
    );
    Ok(path)
}

fn built(name: &str, at_least: u64) -> Result<()> {
    let run = Run::new()?;
    let blocks = run.must_be_true(name, &[program::path(name)?.into()], &[])?;
    ensure!(blocks >= at_least, "{name}: only {blocks} blocks");
    Ok(())
}

/// Frame pointers and none, four levels of optimization, sibling calls, realigned stacks, checks of the stack.
#[test]
fn frames_of_every_kind() -> Result<()> {
    let _turn = turn();
    need_root!("frames_of_every_kind");
    for name in [
        "truth_O0_fp",
        "truth_O0",
        "truth_O2_fp",
        "truth_O2",
        "truth_O3",
        "truth_Os",
    ] {
        built(name, 15_000)?;
    }
    Ok(())
}

/// Signals at each instruction of functions, of stubs, of the vDSO; signal stacks, coroutines.
#[test]
fn stops_at_every_instruction() -> Result<()> {
    let _turn = turn();
    need_root!("stops_at_every_instruction");
    for name in ["truth_stops_fp", "truth_stops_O2", "truth_stops_checked"] {
        built(name, 4_000)?;
    }
    Ok(())
}

/// Signal stacks above and within the stack that is struck: only the inner part of the last walk is still there.
#[test]
fn signal_stacks_above() -> Result<()> {
    let _turn = turn();
    need_root!("signal_stacks_above");
    for name in ["truth_above_fp", "truth_above_O2"] {
        built(name, 9_000)?;
    }
    Ok(())
}

/// What libgcc's unwinder cannot tell, the source does.
fn told_by_source(name: &str) -> Result<()> {
    let mut target = Target::start(name, &[""; 0])?;
    let tracer = tracer::attach(&[target.pid()], &[])?;
    target.work()?;
    let report = tracer.report()?;
    report.must_be_exact()?;
    target.end()?;
    for chain in [
        &["allocates", "third", "second", "first", "main"][..],
        &["allocates", "?", "calls_generated", "main"],
    ] {
        let stacks = report.live_stacks()?;
        let mut found = stacks.iter().filter(|stack| stack.starts_with(chain));
        let stack = found.next();
        let stack = stack.with_context(|| format!("no {chain:?}: {}", report.describe()))?;
        ensure!(!stack.truncated()?, "cut: {:?}", stack.symbols());
        ensure!(stack.bytes() == 3001, "{}", report.describe());
    }
    Ok(())
}

/// Generated code has no information, and is walked by frame pointers between functions that have none.
#[test]
fn generated_code() -> Result<()> {
    let _turn = turn();
    need_root!("generated_code");
    told_by_source("truth_generated")
}

/// A program whose call frame information is in `.debug_frame` alone.
#[test]
fn debug_frame_alone() -> Result<()> {
    let _turn = turn();
    need_root!("debug_frame_alone");
    told_by_source("truth_debug_frame")
}

#[test]
fn sqlite_is_true() -> Result<()> {
    let _turn = turn();
    need_root!("sqlite_is_true");
    let run = Run::new()?;
    let script = "create table t(a primary key, b text);
        with recursive c(x) as (select 1 union all select x + 1 from c where x < 3000)
        insert into t select x, printf('%d %f %s', x, x / 7.0, hex(x)) from c;
        create index i on t(b); select count(*), sum(a), max(b) from t group by a % 10 order by 2;
        update t set b = upper(b) where a % 3 = 0; delete from t where a % 5 = 0; vacuum;
        select json_group_array(json_object('a', a, 'b', b)) from t where a < 200;";
    let command = words(&[
        stock("sqlite3")?.as_os_str(),
        "test.db".as_ref(),
        script.as_ref(),
    ]);
    let blocks = run.must_be_true("sqlite3", &command, &[])?;
    ensure!(blocks > 10_000, "only {blocks} blocks");
    Ok(())
}

/// Short-lived processes that start others.
#[test]
fn git_is_true() -> Result<()> {
    let _turn = turn();
    need_root!("git_is_true");
    let run = Run::new()?;
    let script = "export HOME=$PWD GIT_CONFIG_NOSYSTEM=1 GIT_PAGER=cat
        git init -q repository && cd repository && git config user.email a@example.com && git config user.name a
        for i in 1 2 3 4 5; do seq $i 400 > file$i; git add . && git commit -q -m $i; done
        git log --stat -p > log; git diff HEAD~3 > diff; git blame file1 > blame; git gc -q; git fsck > fsck 2>&1";
    // The shell starts programs by vfork: what the child allocates until then is in the parent's memory.
    let command = words(&["/bin/sh", "-e", "-c", script]);
    let blocks = run.must_be_true("git", &command, &["sh"])?;
    ensure!(blocks > 10_000, "only {blocks} blocks");
    Ok(())
}

/// A compiler: C++ without exceptions, deep recursion, 30 MB of code.
#[test]
fn a_compiler_is_true() -> Result<()> {
    let _turn = turn();
    need_root!("a_compiler_is_true");
    let run = Run::new()?;
    let source = run.directory.path().join("source.cpp");
    fs::write(
        &source,
        "template <int N> struct F { enum { V = F<N - 1>::V + 1 }; }; template <> struct F<0> { enum { V = 0 }; };
         struct A { virtual int f(int x) { int s = 0; for (int i = 0; i < x; i++) s += i * F<100>::V; return s; } };
         int g(A *a, int *p) { try { return a->f(*p) + [p](int y) { return y + p[1]; }(3); } catch (int e) { return e; } }",
    )?;
    let command = words(&[
        stock("g++")?.as_os_str(),
        "-O2".as_ref(),
        "-g".as_ref(),
        "-c".as_ref(),
        source.as_os_str(),
    ]);
    let blocks = run.must_be_true("g++", &command, &[])?;
    ensure!(blocks > 15_000, "only {blocks} blocks");
    Ok(())
}

/// An interpreter that has loaded its modules.
fn loaded(what: &str, interpreter: &Path, script: &str, at_least: u64) -> Result<()> {
    let run = Run::new()?;
    let file = run.directory.path().join("script");
    fs::write(&file, script)?;
    let mut target = Target::start_command(run.paused(interpreter)?.arg(&file))?;
    let blocks = run.attached(what, target.pid(), &c_library()?, || target.go())?;
    ensure!(blocks >= at_least, "{what}: only {blocks} blocks");
    Ok(())
}

const PYTHON: &str = "
import json, sqlite3, ssl, ctypes, re, decimal, hashlib, zlib, threading, sys
print('READY', flush=True); sys.stdin.readline()
d = {str(i): list(range(i % 7)) for i in range(300)}
json.loads(json.dumps(d))
c = sqlite3.connect(':memory:'); c.execute('create table t(a, b)')
c.executemany('insert into t values(?, ?)', [(i, str(i)) for i in range(300)])
c.create_function('f', 1, lambda x: (x or 0) + 1); c.execute('select sum(f(a)) from t').fetchall()
ssl.create_default_context()
callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
a = (ctypes.c_int * 20)(*range(20, 0, -1))
ctypes.CDLL(None).qsort(a, 20, 4, callback(lambda x, y: x[0] - y[0]))
re.findall(r'(a|b)*c+', 'aabbc' * 50)
decimal.Decimal(2).sqrt(); hashlib.sha256(b'x' * 1000).hexdigest(); zlib.compress(b'y' * 10000)
threads = [threading.Thread(target=lambda: [object() for _ in range(50)]) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
def deep(n): return [n] + deep(n - 1) if n else []
deep(60)
for _ in range(20): exec(compile('def f(x):\\n return [y * 2 for y in x]\\nf(range(30))', 's', 'exec'))
";

#[test]
fn python_is_true() -> Result<()> {
    let _turn = turn();
    need_root!("python_is_true");
    loaded("python3", &stock("python3")?, PYTHON, 10_000)
}

const PERL: &str = r#"
use strict; use POSIX; use List::Util qw(sum); use Data::Dumper; use Storable qw(dclone); use Encode; use Digest::MD5;
$| = 1; Digest::MD5::md5_hex("x"); encode('UTF-8', "\x{263a}"); print "READY\n"; <STDIN>;
my %h; for my $i (1..1000) { my $s = "x$i-".("a" x ($i % 50)); if ($s =~ /x(\d+)-(a+)/) { $h{$1} = [length $2, $2]; } }
my @s = sort { $h{$a}[0] <=> $h{$b}[0] } keys %h; my $d = dclone(\%h); my $x = Dumper([@s[0..20]]);
sub f { my $n = shift; return $n ? [$n, f($n - 1)] : [] } f(40);
my $t = "foo bar baz " x 300; $t =~ s/(\w+)/ucfirst $1/ge; encode('UTF-8', "\x{263a}"); eval { die { a => 1 } };
Digest::MD5::md5_hex($t); strftime("%Y", localtime); sum(1..10);
eval "sub g$_ { return [map { \$_ * $_ } 1..20] } g$_();" for 1..50;
"#;

#[test]
fn perl_is_true() -> Result<()> {
    let _turn = turn();
    need_root!("perl_is_true");
    loaded("perl", &stock("perl")?, PERL, 10_000)
}

/// Libraries' code runs before the kernel side has their tables: user space walks on in a copy of the stack.
#[test]
fn python_is_true_while_it_loads_libraries() -> Result<()> {
    let _turn = turn();
    need_root!("python_is_true_while_it_loads_libraries");
    let run = Run::new()?;
    let script = "import json, sqlite3, ssl, ctypes, decimal, lzma, bz2";
    let command = words(&[
        stock("python3")?.as_os_str(),
        "-c".as_ref(),
        script.as_ref(),
    ]);
    let blocks = run.must_be_true("python3 from its start", &command, &[])?;
    ensure!(blocks > 50_000, "only {blocks} blocks");
    Ok(())
}

/// The command's own process is held when it runs another program, also where its children are not followed.
#[test]
fn wrappers_are_held() -> Result<()> {
    let _turn = turn();
    need_root!("wrappers_are_held");
    let run = Run::new()?;
    let directory = run.directory.path();
    let (wrapper, report) = (directory.join("wrapper"), directory.join("report.json"));
    let program = stock("sqlite3")?;
    let script = format!("#!/bin/sh\nexec {} \"$@\"\n", program.display());
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
    let query = "create table t(a); insert into t values(1), (2); select sum(a) from t";
    let direct = [program.as_os_str()];
    let env = ["env".as_ref(), "X=1".as_ref(), program.as_os_str()];
    for start in [&direct[..], &env, &[wrapper.as_os_str()]] {
        let mut memtrace = tracer::command()?;
        memtrace.args(["--no-mmap", "-f", "json", "--top", "0", "-o"]);
        memtrace.arg(&report).arg("--").args(start);
        memtrace.args([":memory:", query]);
        let outcome = tracer::spawn(&mut memtrace)?.finish(Duration::from_mins(1))?;
        ensure!(outcome.status.success(), "{}", outcome.context());
        let report = Report::read(&report)?;
        report.must_be_exact()?;
        let mut blocks = 0;
        for stack in report.stacks()? {
            ensure!(!stack.truncated()?, "{start:?}, cut: {:?}", stack.symbols());
            blocks += stack.count();
        }
        ensure!(blocks >= 10, "{start:?}: only {blocks} blocks");
    }
    Ok(())
}

/// A server whose allocator is jemalloc, under load.
#[test]
fn redis_is_true() -> Result<()> {
    let _turn = turn();
    need_root!("redis_is_true");
    let run = Run::new()?;
    let server = stock("redis-server")?;
    let output = Command::new("ldd").arg(&server).output()?;
    let needed = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = needed.lines().filter(|line| line.contains("libjemalloc"));
    let library = lines.next().and_then(|line| line.split_whitespace().nth(2));
    let library = library.context("redis-server is not linked with libjemalloc")?;
    let socket = run.directory.path().join("socket");
    let socket = socket.to_str().context("a path that is no text")?;
    let mut command = run.paused(&server)?;
    command.args([
        "--port",
        "0",
        "--save",
        "",
        "--appendonly",
        "no",
        "--unixsocket",
        socket,
    ]);
    let target = Target::spawn(&mut command)?;
    let client = |program: &str, arguments: &[&str]| {
        let mut client = Command::new(program);
        client.args(["-s", socket]).args(arguments).output()
    };
    let deadline = Instant::now() + patience(Duration::from_secs(20));
    while !client("redis-cli", &["ping"])?.stdout.starts_with(b"PONG") {
        ensure!(Instant::now() < deadline, "redis-server does not answer");
        sleep(Duration::from_millis(20));
    }
    let script = "for i = 1, 200 do redis.call('set', 'k' .. i, string.rep('x', i)) end
        return #redis.call('keys', '*')";
    let blocks = run.attached("redis-server", target.pid(), Path::new(library), || {
        let kinds = "set,get,lpush,lrange_100,hset,zadd,mset";
        let arguments = [
            "-t", kinds, "-n", "1000", "-r", "500", "-d", "100", "-q", "-c", "5",
        ];
        let load = client("redis-benchmark", &arguments)?;
        ensure!(load.status.success(), "redis-benchmark: {load:?}");
        client("redis-cli", &["eval", script, "0"])?;
        client("redis-cli", &["sort", "mylist", "alpha"])?;
        client("redis-cli", &["info"])?;
        client("redis-cli", &["shutdown", "nosave"])?;
        Ok(())
    })?;
    ensure!(blocks > 10_000, "only {blocks} blocks");
    Ok(())
}
