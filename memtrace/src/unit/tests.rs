//! Tests of reading and writing units.
use super::*;

#[test]
fn sizes_are_read() {
    for (text, bytes) in [
        ("4096", 4096),
        ("0", 0),
        ("512KiB", 524_288),
        ("512 kib", 524_288),
        ("64kB", 64_000),
        ("64KB", 64_000),
        ("1.5MiB", 1_572_864),
        (".5k", 512),
        ("1G", 1 << 30),
        ("2T", 2 << 40),
        ("1.0000000000000000001MB", 1_000_000),
        ("12b", 12),
        ("18446744073709551615", u64::MAX),
    ] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
}

#[test]
fn bad_sizes_say_what_to_write() {
    for (text, message) in [
        ("", "it is empty: write 4096, 64KiB or 1.5MiB"),
        (
            "much",
            "`much` is not a number with a unit: write 4096, 64KiB or 1.5MiB",
        ),
        (
            "-5",
            "`-5` is not a number with a unit: write 4096, 64KiB or 1.5MiB",
        ),
        (
            "1.2.3K",
            "`1.2.3K` is not a number with a unit: write 4096, 64KiB or 1.5MiB",
        ),
        (
            ".",
            "`.` is not a number with a unit: write 4096, 64KiB or 1.5MiB",
        ),
        (
            "5 apples",
            "`apples` in `5 apples` is not a unit: use one of B, KiB, MiB, GiB, TiB (1024), \
             KB, MB, GB, TB (1000), K, M, G, T (1024)",
        ),
        (
            "18446744073709551616",
            "`18446744073709551616` is too large: the most is 16EiB less one byte",
        ),
        (
            "99999999TiB",
            "`99999999TiB` is too large: the most is 16EiB less one byte",
        ),
    ] {
        assert_eq!(
            parse_size(text).expect_err(text).to_string(),
            message,
            "{text}"
        );
    }
}

#[test]
fn durations_are_read() {
    for (text, ns) in [
        ("500ms", 500_000_000),
        ("10s", 10 * SECOND),
        ("10 s", 10 * SECOND),
        ("5m", 300 * SECOND),
        ("1h", 3600 * SECOND),
        ("1.5s", 1_500_000_000),
        ("1m30s", 90 * SECOND),
        ("1h 30m", 5400 * SECOND),
        ("7µs", 7_000),
        ("0s", 0),
    ] {
        assert_eq!(parse_duration(text), Ok(Duration::from_nanos(ns)), "{text}");
    }
}

#[test]
fn bad_durations_say_what_to_write() {
    for (text, message) in [
        ("", "it is empty: write 500ms, 10s or 5m"),
        (
            "10",
            "`10` has no unit: write 10s for seconds, or 10ms, 10m, 10h",
        ),
        (
            "soon",
            "`soon` is not a number with a unit: write 500ms, 10s or 5m",
        ),
        (
            "5y",
            "`y` in `5y` is not a unit: use one of ns, us, ms, s, m, h, d",
        ),
        (
            "999999999999d",
            "`999999999999d` is too large: the most is 213000d",
        ),
    ] {
        assert_eq!(
            parse_duration(text).expect_err(text).to_string(),
            message,
            "{text}"
        );
    }
}

#[test]
fn bytes_are_written() {
    for (bytes, text) in [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1025, "1.00 KiB"),
        (409_600, "400 KiB"),
        (419_430, "410 KiB"),
        (3_686_400, "3.52 MiB"),
        (1_048_575, "1.00 MiB"),
        (1_048_064, "1.00 MiB"),
        (1_047_000, "1022 KiB"),
        (10_480_000, "9.99 MiB"),
        (10_485_000, "10.0 MiB"),
        (u64::MAX, "16.0 EiB"),
    ] {
        assert_eq!(Bytes(bytes).to_string(), text, "{bytes}");
    }
    assert_eq!(
        format!("{:>9}|{:<7}|", Bytes(1024), Bytes(1)),
        "    1 KiB|1 B    |"
    );
}

#[test]
fn rates_are_written() {
    let rate = |bytes, over_ns| ByteRate { bytes, over_ns }.to_string();
    assert_eq!(rate(409_600, SECOND), "400 KiB/s");
    assert_eq!(rate(1, 0), "–");
    assert_eq!(rate(u64::MAX, 1), "16.0 EiB/s");
    let rate = |count, over_ns| CountRate { count, over_ns }.to_string();
    assert_eq!(rate(9, 9_800_000_000), "0.92/s");
    assert_eq!(rate(0, SECOND), "0.00/s");
    assert_eq!(rate(1, HOUR), "<0.01/s");
    assert_eq!(rate(12_345, SECOND), "12,345/s");
    assert_eq!(rate(1, 0), "–");
}

#[test]
fn times_are_written() {
    for (ns, text) in [
        (0, "0 s"),
        (999, "999 ns"),
        (1_500, "1.50 µs"),
        (12_300_000, "12.3 ms"),
        (999_600_000, "1.0 s"),
        (9_800_000_000, "9.8 s"),
        (59_970_000_000, "1 m 00 s"),
        (200 * SECOND, "3 m 20 s"),
        (3_599_700_000_000, "1 h 00 m"),
        (7_500 * SECOND, "2 h 05 m"),
        (100_000 * SECOND, "1 d 03 h"),
        (u64::MAX, "213503 d 23 h"),
    ] {
        assert_eq!(Elapsed(ns).to_string(), text, "{ns}");
    }
}

#[test]
fn counts_are_written() {
    for (count, text) in [
        (0, "0"),
        (999, "999"),
        (1000, "1,000"),
        (12_345_678, "12,345,678"),
        (u64::MAX, "18,446,744,073,709,551,615"),
    ] {
        assert_eq!(Count(count).to_string(), text);
    }
}
