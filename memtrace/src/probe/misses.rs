//! How often the kernel left a program out because one was already at work on the
//! CPU.
use std::{fs, io, os::fd::AsFd, os::fd::AsRawFd as _};

/// What the kernel has counted for a program; 0 before Linux 5.12.
///
/// # Errors
/// `/proc` cannot be read.
pub(super) fn of(program: impl AsFd) -> io::Result<u64> {
    let descriptor = program.as_fd().as_raw_fd();
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}"))?;
    Ok(parse(&text))
}

fn parse(text: &str) -> u64 {
    let mut lines = text.lines();
    let misses = lines.find_map(|line| line.strip_prefix("recursion_misses:"));
    misses
        .and_then(|misses| misses.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_the_kernel_says_of_a_program() {
        let text = "pos:\t0\nprog_type:\t17\nrun_cnt:\t0\nrecursion_misses:\t12\n";
        assert_eq!(parse(text), 12);
        assert_eq!(parse("pos:\t0\nprog_type:\t17\n"), 0);
    }
}
