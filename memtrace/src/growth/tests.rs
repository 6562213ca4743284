//! Verdicts on recorded series and on made ones; what the files in `/proc` say.
use super::{
    Confidence, Kind, Pattern, Ranking, Reading, Sample, Series, Size, Source, Trend, Verdict,
    advise,
    sample::{kib, sizes, status},
    source, trend,
};
use crate::process::{Glance, parse_maps};

/// Kibibytes resident, every 50 ms: a program that allocates 300 kB every 25 ms
/// and keeps it.
const LEAK: &[u64] = &[
    1204, 2212, 2800, 3092, 3680, 4264, 4852, 5436, 6024, 6608, 7196, 7780, 8368, 8952, 9540,
    10124, 10712, 11296, 11884, 12468, 13056, 13640, 13936, 14520, 15108, 15692, 16280, 16864,
    17452, 18036, 18624, 19208, 19796, 20380, 20968, 21552, 22140, 22432, 23016, 23604, 24188,
    24720, 24840,
];

/// Five times 16 MiB up and down.
const WAVE: &[u64] = &[
    1220, 5412, 9476, 13572, 17668, 13572, 9476, 5380, 1284, 5380, 9332, 13572, 15620, 15620, 9476,
    5380, 3332, 3332, 7428, 11524, 15620, 17668, 13572, 9476, 5380, 1284, 5380, 9476, 13572, 17668,
    15620, 11524, 7428, 3332, 3332, 7428, 11524, 15620, 15620, 11524, 7428, 3332, 1412,
];

/// Python, which keeps 20 kB in each turn and lets go of lists of up to 1 MB.
const NOISY_LEAK: &[u64] = &[
    13520, 13668, 14160, 14472, 14628, 13844, 14624, 15252, 15484, 15484, 15484, 15484, 16424,
    14676, 14676, 15016, 16424, 16424, 14676, 14860, 15952, 16264, 16264, 16264, 16264, 16264,
    16264, 16264, 16264, 16264, 16264, 16264, 16264, 16264, 16460, 16460, 16460, 16460, 16460,
    16540, 16540, 16540, 17476, 17476, 15732, 15732, 16696, 17476, 15732, 15732, 16384, 17008,
    17320, 17320, 17320, 17320, 17320, 17320, 17320, 17320, 17320, 17320, 17320, 17320, 17320,
    17516, 17516, 17516, 17516, 17516, 17596, 17596, 17596, 18532, 16784,
];

/// Python, which imports and fills a list, and then sleeps.
const WARM_UP: &[u64] = &[
    13496, 15032, 18148, 23144, 26528, 32156, 34424, 34424, 34424, 34424, 34424, 34424, 34424,
    34424, 34424, 34424, 34424, 34424, 34424, 34424, 34424, 34424, 34424, 34424, 34424, 34424,
    34424, 34424, 34424, 34424, 34424, 34424, 34424, 34424, 34424, 34424, 34424, 34424, 34424,
    34424,
];

/// Every 50 ms.
fn of(kib: &[u64]) -> Trend {
    let points: Vec<(u64, u64)> = (0..)
        .zip(kib)
        .map(|(i, kib)| (7 + i * 50_000_000, kib * 1024))
        .collect();
    trend(&points)
}

fn judged(trend: &Trend) -> (Verdict, Pattern, Confidence) {
    (trend.verdict, trend.pattern, trend.confidence)
}

#[test]
fn recorded_series() {
    use Confidence::{High, Medium};
    let leak = of(LEAK);
    assert_eq!(judged(&leak), (Verdict::Growing, Pattern::Trend, High));
    // 300 kB every 25 ms and what is beside it.
    assert!((11.0e6..13.0e6).contains(&leak.slope), "{leak:?}");
    assert!(
        leak.low <= leak.slope && leak.slope <= leak.high,
        "{leak:?}"
    );
    assert_eq!(
        judged(&of(WAVE)),
        (Verdict::Steady, Pattern::Sawtooth, High)
    );
    assert_eq!(
        judged(&of(WARM_UP)),
        (Verdict::Steady, Pattern::Level, High)
    );
    let noisy = of(NOISY_LEAK);
    assert_eq!(
        judged(&noisy),
        (Verdict::Growing, Pattern::Sawtooth, Medium)
    );
    let reversed: Vec<u64> = LEAK.iter().rev().copied().collect();
    assert_eq!(
        judged(&of(&reversed)),
        (Verdict::Shrinking, Pattern::Trend, High)
    );
}

/// What is below the noise of the kernel's own counting is no growth, however
/// regular it is.
#[test]
fn too_little_to_matter() {
    let few_pages: Vec<u64> = (0..40).map(|i| 50_000 + i * 2).collect();
    assert_eq!(of(&few_pages).verdict, Verdict::Steady);
    let large: Vec<u64> = (0..40).map(|i| 64_000_000 + i * 100).collect();
    assert_eq!(of(&large).verdict, Verdict::Steady, "4 MB of 64 GB in 2 s");
    let more: Vec<u64> = (0..40).map(|i| 64_000_000 + i * 2000).collect();
    assert_eq!(of(&more).verdict, Verdict::Growing);
}

#[test]
fn few_points_are_a_guess() {
    assert_eq!(
        judged(&of(&[])),
        (Verdict::Steady, Pattern::Level, Confidence::Low)
    );
    assert_eq!(of(&[5000]).confidence, Confidence::Low);
    let two = of(&[5000, 9000]);
    assert_eq!(
        (two.verdict, two.confidence),
        (Verdict::Growing, Confidence::Low)
    );
    // One of them is on its way back.
    let mixed = of(&[5000, 9000, 7000]);
    assert_eq!(
        (mixed.verdict, mixed.confidence),
        (Verdict::Steady, Confidence::Low)
    );
    // The clock stood still.
    let still = trend(&[(5, 10), (5, 1 << 40)]);
    assert_eq!(
        judged(&still),
        (Verdict::Steady, Pattern::Level, Confidence::Low)
    );
    let extremes = trend(&[(0, 0), (u64::MAX, u64::MAX), (u64::MAX, 0)]);
    assert!(extremes.slope.is_finite() && extremes.high.is_finite());
}

/// A single outlier and a step in the middle move nothing.
#[test]
fn outliers_do_not_count() {
    let mut level = vec![20_000; 40];
    level[17] = 900_000;
    assert_eq!(of(&level).verdict, Verdict::Steady);
    let step: Vec<u64> = (0..40)
        .map(|i| if i < 20 { 20_000 } else { 90_000 })
        .collect();
    assert_eq!(of(&step).verdict, Verdict::Steady);
}

/// Low points that rise are a leak below a sawtooth; those that do not are none,
/// wherever the watch began and ended.
#[test]
fn low_points_decide() {
    let saw = |rise: u64, from: u64| -> Vec<u64> {
        (from..from + 90)
            .map(|i| 20_000 + i * rise + (i % 10) * 3_000)
            .collect()
    };
    let rising = of(&saw(500, 0));
    assert_eq!(
        (rising.verdict, rising.pattern),
        (Verdict::Growing, Pattern::Sawtooth)
    );
    for from in 0..10 {
        let level = of(&saw(0, from));
        assert_eq!(
            (level.verdict, level.pattern),
            (Verdict::Steady, Pattern::Sawtooth),
            "{from}"
        );
    }
}

const MAPS: &[u8] = b"\
00400000-00401000 r-xp 00000000 fe:01 11 /usr/bin/with space (deleted)
01000000-01021000 rw-p 00000000 00:00 0 [heap]
7f0000000000-7f0000021000 rw-p 00000000 00:00 0\x20
7f0000021000-7f0004000000 ---p 00000000 00:00 0\x20
7f1000000000-7f1000001000 rw-s 00000000 00:01 7 /dev/shm/x
7f1000001000-7f1000003000 rw-s 00000000 00:01 8 /memfd:buffer (deleted)
7f1000003000-7f1000004000 rw-s 00000000 00:01 9 /SYSV00000000 (deleted)
7f1000004000-7f1000005000 rw-s 00000000 00:01 9 /dev/zero (deleted)
7f1000005000-7f1000006000 rw-p 00000000 00:05 9 /dev/zero
7f1000006000-7f1000007000 rw-p 00000000 00:00 0 [anon:named]
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
7ffc00030000-7ffc00034000 r--p 00000000 00:00 0 [vvar]
";

#[test]
fn mappings_by_kind() {
    let maps = parse_maps(MAPS).expect("recorded lines");
    let sizes = sizes(&maps);
    let of = |kind: Kind| sizes[kind as usize];
    let size = |bytes, mappings| Size { bytes, mappings };
    assert_eq!(of(Kind::Heap), size(0x21000, 1));
    assert_eq!(of(Kind::Anonymous), size(0x23000, 3));
    assert_eq!(of(Kind::Reserved), size(0x3fd_f000, 1));
    assert_eq!(of(Kind::Shared), size(0x5000, 4));
    assert_eq!(of(Kind::Stack), size(0x21000, 1));
    assert_eq!(of(Kind::File), size(0x1000, 1));
    assert_eq!(of(Kind::Special), size(0x4000, 1));
    assert!(
        Kind::ALL
            .iter()
            .enumerate()
            .all(|(index, kind)| *kind as usize == index)
    );
}

#[test]
fn status_and_its_units() {
    let text = "Name:\tx\nVmRSS:\t   12 kB\nRssAnon:\t 8 kB\nRssFile:\t3 kB\nRssShmem:\t1 kB\nVmSwap:\t4 kB\n";
    let read = status(text).expect("it has memory");
    assert_eq!(
        (read.rss, read.anonymous, read.swap),
        (12 << 10, 8 << 10, 4 << 10)
    );
    assert_eq!(status("Name:\tkthreadd\n"), None);
    assert_eq!(
        kib("Rss: 18446744073709551615 kB\n", "Rss"),
        None,
        "too large"
    );
    assert_eq!(kib("Rss: 5 MB\n", "Rss"), None);
}

fn sample(heap: u64, anonymous: u64, reading: Reading) -> Sample {
    let mut sizes = [Size::default(); Kind::ALL.len()];
    sizes[Kind::Heap as usize].bytes = heap;
    sizes[Kind::Anonymous as usize].bytes = anonymous;
    Sample {
        time_ns: 0,
        reading,
        sizes: Some(sizes),
    }
}

#[test]
fn what_explains_growth() {
    let pages = |anonymous, file, shared| Reading {
        rss: anonymous + file + shared,
        anonymous,
        file,
        shared,
        swap: 0,
    };
    let first = sample(100, 100, pages(50, 50, 50));
    let after = |heap, anonymous, reading| source(&first, &sample(heap, anonymous, reading));
    assert_eq!(after(1100, 100, pages(1000, 50, 50)), Some(Source::Brk));
    assert_eq!(after(100, 1100, pages(1000, 50, 50)), Some(Source::Mmap));
    assert_eq!(after(110, 110, pages(1000, 50, 50)), Some(Source::Touch));
    assert_eq!(after(110, 110, pages(60, 500, 50)), Some(Source::File));
    assert_eq!(after(110, 110, pages(60, 50, 500)), Some(Source::Shm));
    assert_eq!(after(100, 100, pages(50, 50, 50)), None);
    // Swapped out is not gone.
    let swapped = Reading {
        swap: 900,
        ..pages(50, 50, 50)
    };
    assert_eq!(after(1100, 100, swapped), Some(Source::Brk));
}

#[test]
fn long_runs_are_thinned() {
    let mut series = Series::keeping(8);
    for point in 0..1000_u64 {
        series.push(point);
    }
    let points = series.points();
    assert!(points.len() <= 9 && points.is_sorted(), "{points:?}");
    assert_eq!(
        (points[0], points[points.len() - 1], series.seen()),
        (0, 999, 1000)
    );
    let gaps: Vec<u64> = points[..points.len() - 1]
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    assert!(gaps.iter().all(|gap| *gap == gaps[0]), "{points:?}");
}

/// A process is its id and its start time.
#[test]
fn ids_are_reused() {
    let glance = |pid, start_time, resident| Glance {
        pid,
        start_time,
        comm: format!("p{pid}"),
        resident,
    };
    let mut ranking = Ranking::default();
    for turn in 0..10 {
        let start = if turn < 5 { 1 } else { 2 };
        let resident = if turn < 5 { 100_000 } else { 1_000_000 };
        let glances = vec![glance(7, start, resident), glance(8, 1, 1000 + turn * 100)];
        ranking.look(turn * 1_000_000_000, 4096, glances);
    }
    let ranked = ranking.ranked();
    assert_eq!(ranked.iter().map(|one| one.pid).collect::<Vec<_>>(), [8, 7]);
    assert_eq!(ranked[0].trend.verdict, Verdict::Growing);
    assert_eq!(ranked[0].ends(), (1900 * 4096, 1000 * 4096));
    assert_eq!(
        (ranked[1].trend.verdict, ranked[1].held.len()),
        (Verdict::Steady, 5)
    );
    ranking.look(10_000_000_000, 4096, Vec::new());
    assert!(ranking.ranked().is_empty());
}

/// Only what grows gets advice, and the heap's says where to look next.
#[test]
fn advice() {
    let leak = of(LEAK);
    let found = advise(7, "x", &leak, (9, 1), Some(Source::Brk)).expect("it grows");
    assert_eq!(found.id, "growth_brk");
    assert!(found.advice.contains("memtrace heap -p 7"), "{found:?}");
    assert_eq!(advise(7, "x", &of(WAVE), (9, 1), Some(Source::Mmap)), None);
}
