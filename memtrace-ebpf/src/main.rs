//! memtrace's kernel side: probe → filter → stack id → ring buffer.
//!
//! The programs report facts and decide nothing that user space can decide as
//! well. Every path that drops something counts it ([`count`]).
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod admit;
mod arch;
mod cache;
mod config;
mod copy;
mod count;
mod frames;
mod growth;
mod heap;
mod hidden;
mod mapping;
mod maps;
mod oom;
mod origin;
mod pages;
mod probe;
mod process;
mod recall;
mod retry;
mod ring;
mod stack;
mod thread;
mod trail;
mod unwind;

// The verifier only loads programs that call GPL-only helpers
// (bpf_probe_read_user among them) under a compatible licence. The sources
// are dual-licensed like the rest of memtrace; "Dual MIT/GPL" is the string
// the kernel knows that comes closest.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: no code here can panic, and the verifier refuses a
    // program in which the endless loop is reachable.
    loop {}
}
