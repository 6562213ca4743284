//! Sizes, durations and counts: read from the command line, written for people.
//!
//! Parsers have the signature that clap wants of a value parser. The types
//! honour width and alignment of the format string, so tables line up.
use std::fmt;
use std::time::Duration;

/// What is wrong with a size or a duration, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Nothing there.
    #[error("it is empty: write {hint}")]
    Empty {
        /// An example.
        hint: &'static str,
    },
    /// Does not begin with a number, or the number is not one.
    #[error("`{input}` is not a number with a unit: write {hint}")]
    NotANumber {
        /// As typed.
        input: String,
        /// An example.
        hint: &'static str,
    },
    /// A duration without a unit.
    #[error("`{input}` has no unit: write {input}s for seconds, or {input}ms, {input}m, {input}h")]
    NoUnit {
        /// As typed.
        input: String,
    },
    /// The unit is unknown.
    #[error("`{unit}` in `{input}` is not a unit: use one of {known}")]
    UnknownUnit {
        /// As typed.
        input: String,
        /// The part after the number.
        unit: String,
        /// All that are known.
        known: &'static str,
    },
    /// Does not fit into 64 bits.
    #[error("`{input}` is too large: the most is {most}")]
    TooLarge {
        /// As typed.
        input: String,
        /// The limit.
        most: &'static str,
    },
}

const SIZE_HINT: &str = "4096, 64KiB or 1.5MiB";
const SIZE_UNITS: &str = "B, KiB, MiB, GiB, TiB (1024), KB, MB, GB, TB (1000), K, M, G, T (1024)";
const TIME_HINT: &str = "500ms, 10s or 5m";
const TIME_UNITS: &str = "ns, us, ms, s, m, h, d";

/// Bytes in a unit; lower case. As in coreutils, a bare letter means 1024.
const SIZES: &[(&str, u64)] = &[
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kib", 1 << 10),
    ("kb", 1_000),
    ("m", 1 << 20),
    ("mib", 1 << 20),
    ("mb", 1_000_000),
    ("g", 1 << 30),
    ("gib", 1 << 30),
    ("gb", 1_000_000_000),
    ("t", 1 << 40),
    ("tib", 1 << 40),
    ("tb", 1_000_000_000_000),
];

/// Nanoseconds in a unit; lower case.
const TIMES: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("sec", SECOND),
    ("m", MINUTE),
    ("min", MINUTE),
    ("h", HOUR),
    ("d", DAY),
];
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Reads a size in bytes: `4096`, `512KiB`, `64kB`, `1.5MiB`, `1G`; letters in
/// either case. A fraction of a byte is cut off.
pub fn parse_size(input: &str) -> Result<u64, UnitError> {
    let text = input.trim();
    if text.is_empty() {
        return Err(UnitError::Empty { hint: SIZE_HINT });
    }
    let not_a_number = || UnitError::NotANumber {
        input: text.into(),
        hint: SIZE_HINT,
    };
    let too_large = || UnitError::TooLarge {
        input: text.into(),
        most: "16EiB less one byte",
    };
    let (number, unit) = split_number(text).ok_or_else(not_a_number)?;
    let factor = factor(SIZES, unit).ok_or_else(|| UnitError::UnknownUnit {
        input: text.into(),
        unit: unit.into(),
        known: SIZE_UNITS,
    })?;
    scale(number, factor)
        .ok_or_else(not_a_number)?
        .ok_or_else(too_large)
}

/// Reads a duration: `500ms`, `10s`, `5m`, `1h`, `1.5s`, `1m30s`. A number
/// without a unit is refused: tools differ in what it would mean.
pub fn parse_duration(input: &str) -> Result<Duration, UnitError> {
    let text = input.trim();
    if text.is_empty() {
        return Err(UnitError::Empty { hint: TIME_HINT });
    }
    let not_a_number = || UnitError::NotANumber {
        input: text.into(),
        hint: TIME_HINT,
    };
    let too_large = || UnitError::TooLarge {
        input: text.into(),
        most: "213000d",
    };
    let mut total = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, tail) = split_number(rest).ok_or_else(not_a_number)?;
        let end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        let unit = unit.trim();
        if unit.is_empty() {
            return Err(UnitError::NoUnit { input: text.into() });
        }
        let factor = factor(TIMES, unit).ok_or_else(|| UnitError::UnknownUnit {
            input: text.into(),
            unit: unit.into(),
            known: TIME_UNITS,
        })?;
        let part = scale(number, factor)
            .ok_or_else(not_a_number)?
            .ok_or_else(too_large)?;
        total = total.checked_add(part).ok_or_else(too_large)?;
        rest = next;
    }
    Ok(Duration::from_nanos(total))
}

/// The leading digits and point, and what follows; `None` where there is no digit.
fn split_number(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    number
        .contains(|c: char| c.is_ascii_digit())
        .then(|| (number, unit.trim()))
}

fn factor(table: &[(&str, u64)], unit: &str) -> Option<u64> {
    let unit = unit.to_lowercase();
    table
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor)
}

/// `number` times `factor` without floating point. Outer `None`: not a number;
/// inner `None`: does not fit.
#[expect(
    clippy::option_option,
    reason = "two different mistakes of the user, told apart by the caller"
)]
fn scale(number: &str, factor: u64) -> Option<Option<u64>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') {
        return None;
    }
    // All are digits: what does not parse is too long to fit.
    let whole = match whole {
        "" => 0,
        digits => match digits.parse::<u64>() {
            Ok(whole) => whole,
            Err(_) => return Some(None),
        },
    };
    // Digits beyond the 15th are below one byte or nanosecond of every unit.
    let mut part = 0_u128;
    let mut divisor = 1_u128;
    for digit in fraction.bytes().take(15) {
        part = part * 10 + u128::from(digit - b'0');
        divisor *= 10;
    }
    let total = u128::from(whole) * u128::from(factor) + part * u128::from(factor) / divisor;
    Some(u64::try_from(total).ok())
}

/// Bytes for people: `512 B`, `400 KiB`, `3.52 MiB`. Decimals are shown where
/// the number is not exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const BINARY: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&binary(self.0))
    }
}

fn binary(bytes: u64) -> String {
    let mut power = (bytes.max(1).ilog2() / 10) as usize;
    let unit = 1_u64 << (10 * power);
    if bytes.is_multiple_of(unit) {
        return format!("{} {}", bytes / unit, BINARY[power]);
    }
    let mut text = significant(bytes as f64 / unit as f64);
    if text == "1024" {
        power += 1;
        text = "1.00".into();
    }
    format!("{text} {}", BINARY[power])
}

/// Three significant digits; all digits before the point are kept.
fn significant(value: f64) -> String {
    // The limits are where rounding would add a digit.
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// A rate for people: so many bytes in so many nanoseconds, as `39.1 KiB/s`;
/// `–` where no time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRate {
    /// How much.
    pub bytes: u64,
    /// In which time.
    pub over_ns: u64,
}

impl ByteRate {
    /// Rounded to the nearest; `None` where no time has passed.
    pub fn per_second(self) -> Option<u64> {
        per_second(self.bytes, self.over_ns)
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per_second() {
            None => f.pad("–"),
            Some(rate) => f.pad(&format!("{}/s", Bytes(rate))),
        }
    }
}

/// A rate for people: so many things in so many nanoseconds, as `0.92/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountRate {
    /// How many.
    pub count: u64,
    /// In which time.
    pub over_ns: u64,
}

impl fmt::Display for CountRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.over_ns == 0 {
            return f.pad("–");
        }
        let rate = self.count as f64 * SECOND as f64 / self.over_ns as f64;
        match per_second(self.count, self.over_ns) {
            Some(whole) if rate >= 100.0 => f.pad(&format!("{}/s", Count(whole))),
            _ if self.count > 0 && rate < 0.005 => f.pad("<0.01/s"),
            _ => f.pad(&format!("{}/s", significant(rate))),
        }
    }
}

/// Rounded to the nearest; `None` where no time has passed.
fn per_second(amount: u64, over_ns: u64) -> Option<u64> {
    let time = u128::from(over_ns);
    let rate = (u128::from(amount) * u128::from(SECOND) + time / 2).checked_div(time)?;
    Some(u64::try_from(rate).unwrap_or(u64::MAX))
}

/// A time in nanoseconds for people: `9.8 s`, `3 m 20 s`, `2 h 05 m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elapsed(pub u64);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&elapsed(self.0))
    }
}

fn elapsed(ns: u64) -> String {
    let seconds = ns.saturating_add(SECOND / 2) / SECOND;
    match ns {
        0 => "0 s".into(),
        1..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", significant(ns as f64 / 1e3)),
        1_000_000..999_500_000 => format!("{} ms", significant(ns as f64 / 1e6)),
        999_500_000..59_950_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        // Rounded to the second first, so that 60 of anything never shows.
        _ => match seconds {
            0..3_600 => format!("{} m {:02} s", seconds / 60, seconds % 60),
            3_600..86_400 => format!("{} h {:02} m", seconds / 3_600, seconds / 60 % 60),
            _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3_600 % 24),
        },
    }
}

/// A count for people: `12,345,678`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() * 4 / 3);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests;
