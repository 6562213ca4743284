//! Tests of [`super`]: code of one segment at address 0x1000.
use super::*;
use crate::elf::image::tests::{image_of_code, libc};

const BASE: u64 = 0x1000;
const NONE: [u64; 0] = [];

fn flow(code: &[u8]) -> Flow {
    flow_with(code, &Layout::default(), &[])
}

fn flow_with(code: &[u8], layout: &Layout, barriers: &[u64]) -> Flow {
    let image = image_of_code(BASE, code);
    follow(
        &image,
        BASE,
        layout,
        barriers,
        Emulated::for_kernel((6, 18)),
    )
}

#[test]
fn returns_are_found_behind_jumps_of_all_kinds() {
    // test rdi,rdi; je +3; nop; nop; ret; jmp +1; int3; ret
    let code = [
        0x48, 0x85, 0xff, 0x74, 3, 0x90, 0x90, 0xc3, 0xeb, 1, 0xcc, 0xc3,
    ];
    let found = flow(&code);
    assert_eq!(found.returns, [BASE + 7, BASE + 11]);
    assert!(found.complete);
}

#[test]
fn a_jump_through_a_register_loses_the_way() {
    // jmp rax
    assert!(!flow(&[0xff, 0xe0]).complete);
}

#[test]
fn a_jump_through_a_slot_of_dynamic_linking_leads_on() {
    // jmp [rip+0x100]; ret
    let code = [0xff, 0x25, 0, 1, 0, 0, 0xc3];
    assert!(!flow(&code).complete);
    let mut layout = Layout::default();
    layout.slots.insert(BASE + 6 + 0x100, BASE + 6);
    let found = flow_with(&code, &layout, &[]);
    assert_eq!((found.returns, found.complete), (vec![BASE + 6], true));
}

#[test]
fn a_call_at_the_end_of_a_function_does_not_return() {
    // call +1; ret (the next function); ret
    let code = [0xe8, 1, 0, 0, 0, 0xc3, 0xc3];
    assert_eq!(flow(&code).returns, [BASE + 5]);
    let layout = Layout {
        functions: vec![(BASE, BASE + 5), (BASE + 5, BASE + 7)],
        ..Layout::default()
    };
    assert_eq!(flow_with(&code, &layout, &[]).returns, NONE);
}

#[test]
fn one_that_only_calls_another_has_no_return_of_its_own() {
    // push rbx; call +2; pop rbx; ret; ret
    let forwards = [0x53, 0xe8, 2, 0, 0, 0, 0x5b, 0xc3, 0xc3];
    let target = BASE + 8;
    assert_eq!(
        flow_with(&forwards, &Layout::default(), &[target]).returns,
        NONE
    );
    assert_eq!(flow(&forwards).returns, [BASE + 7]);
    // jmp +1
    let jumps = [0xeb, 1, 0xcc, 0xc3];
    assert_eq!(
        flow_with(&jumps, &Layout::default(), &[BASE + 3]).returns,
        NONE
    );
}

#[test]
fn the_stack_is_followed_to_a_system_call() {
    // push rbp; mov rbp,rsp; push rbx; sub rsp,0x18; syscall; cmp rax,-4096; ja +0; leave; ret
    let code = [
        0x55, 0x48, 0x89, 0xe5, 0x53, 0x48, 0x83, 0xec, 0x18, 0x0f, 0x05, 0x48, 0x3d, 0x00, 0xf0,
        0xff, 0xff, 0x77, 0x00, 0xc9, 0xc3,
    ];
    let found = flow(&code);
    assert_eq!(
        found.system_calls,
        [BehindSystemCall {
            vaddr: BASE + 17,
            emulated: true,
            depth: 0x28,
            frame_pointer: Some(0x20),
        }]
    );
    assert_eq!(found.returns, [BASE + 20]);
}

#[test]
fn a_result_that_moves_on_is_read_at_once() {
    // syscall; mov rdi,rax; nop; ret
    let code = [0x0f, 0x05, 0x48, 0x89, 0xc7, 0x90, 0xc3];
    let [behind] = flow(&code).system_calls[..] else {
        panic!("one system call");
    };
    assert_eq!((behind.vaddr, behind.emulated), (BASE + 2, false));
    assert_eq!((behind.depth, behind.frame_pointer), (0, None));
}

#[test]
fn garbage_ends_the_way() {
    for code in [&[0x06_u8][..], &[0x0f], &[], &[0x90; 40]] {
        let found = flow(code);
        assert_eq!(found.returns, NONE, "{code:?}");
    }
}

#[test]
fn the_c_library_of_this_machine() {
    let image = Image::open(&std::fs::File::open(libc()).unwrap()).unwrap();
    let layout = Layout::read(&image);
    assert!(layout.functions.len() > 1000);
    for name in ["mmap", "munmap", "mremap"] {
        let entry = image.symbol(name).unwrap();
        let found = follow(&image, entry, &layout, &[], Emulated::for_kernel((6, 18)));
        assert!(!found.system_calls.is_empty(), "{name}: {found:?}");
        assert!(!found.returns.is_empty(), "{name}: {found:?}");
    }
}
