//! Leaks through Rust's collections, on its default allocator. Speaks the protocol of `ledger.h` without a ledger.
use std::hint::black_box;
use std::io::{BufRead, stdin};

#[inline(never)]
fn leak_vector() {
    let mut numbers: Vec<u64> = Vec::new();
    (0..1000).for_each(|number| numbers.push(number));
    std::mem::forget(black_box(numbers));
}

#[inline(never)]
fn leak_box() {
    std::mem::forget(black_box(Box::new([1_u8; 333])));
}

fn line() {
    stdin().lock().read_line(&mut String::new()).unwrap();
}

fn main() {
    println!("READY");
    line();
    for _ in 0..20 {
        leak_vector();
        leak_box();
        drop(black_box(vec![1_u8; 5000]));
    }
    println!("DONE");
    line();
}
