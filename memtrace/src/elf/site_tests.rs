//! Tests of [`super`]: one sequence of instructions for each rule.
use super::*;
use crate::elf::image::Image;
use memtrace_common::Function;

const ENTRY: Site = Site {
    offset: 0,
    emulated: false,
    sp_delta: 0,
};

fn need(arguments: usize, entry_stack: bool, skip_null: bool) -> Need {
    Need {
        arguments,
        entry_stack,
        skip_null,
    }
}

fn on_6_18(code: &[u8], need: Need) -> Site {
    choose(code, 0x1000, need, Emulated::for_kernel((6, 18)))
}

fn site(offset: u64, sp_delta: u32) -> Site {
    Site {
        offset,
        emulated: true,
        sp_delta,
    }
}

const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// test rdi,rdi; je +0x40; push rbp; mov rbp,rsp; push rbx; ret
const FREE: [u8; 12] = [
    0x48, 0x85, 0xff, 0x74, 0x40, 0x55, 0x48, 0x89, 0xe5, 0x53, 0xc3, 0x90,
];

#[test]
fn an_emulated_entry_stays_the_site() {
    assert_eq!(
        on_6_18(&[0x41, 0x54, 0x55, 0xc3], need(1, true, false)),
        site(0, 0)
    );
}

#[test]
fn endbr64_is_passed_and_leaves_the_stack_alone() {
    let code = [&ENDBR64[..], &[0x55, 0x53, 0xc3]].concat();
    assert_eq!(on_6_18(&code, need(2, true, false)), site(4, 0));
}

#[test]
fn a_conditional_jump_is_a_site_but_not_passed() {
    // cmp rdi,0x20; je +0x40; push rbp
    let code = [0x48, 0x83, 0xff, 0x20, 0x74, 0x40, 0x55, 0xc3];
    assert_eq!(on_6_18(&code, need(1, true, false)), site(4, 0));
    // jrcxz +0x40 is none; push rbp behind it is not reached by all.
    assert_eq!(
        on_6_18(&[0xe3, 0x40, 0x55, 0xc3], need(1, true, false)),
        ENTRY
    );
}

#[test]
fn a_test_for_null_is_passed_where_null_is_of_no_interest() {
    assert_eq!(on_6_18(&FREE, need(1, false, false)), site(3, 0));
    assert_eq!(on_6_18(&FREE, need(1, false, true)), site(5, 0));
    assert_eq!(on_6_18(&FREE, need(1, true, true)), site(5, 0));
    // cmp rdi,0; mov rax,[rsi] between test and je changes nothing.
    let code = [
        0x48, 0x83, 0xff, 0x00, 0x48, 0x8b, 0x06, 0x74, 0x40, 0x55, 0xc3,
    ];
    assert_eq!(on_6_18(&code, need(1, false, true)), site(9, 0));
}

#[test]
fn other_tests_are_not_taken_for_one_of_null() {
    // test rsi,rsi; je
    assert_eq!(
        on_6_18(&[0x48, 0x85, 0xf6, 0x74, 0x40, 0x55], need(2, false, true)),
        site(3, 0)
    );
    // test rdi,rdi; jne
    assert_eq!(
        on_6_18(&[0x48, 0x85, 0xff, 0x75, 0x40, 0x55], need(1, false, true)),
        site(3, 0)
    );
    // test edi,edi; je: says nothing of the upper half.
    assert_eq!(
        on_6_18(&[0x85, 0xff, 0x74, 0x40, 0x55], need(1, false, true)),
        site(2, 0)
    );
    // test rdi,rdi; xor eax,eax; je: the flags are of another test.
    let code = [0x48, 0x85, 0xff, 0x31, 0xc0, 0x74, 0x40, 0x55];
    assert_eq!(on_6_18(&code, need(1, false, true)), site(5, 0));
    // mov rdi,rsi; test rdi,rdi; je; push: not the argument, though no one needs it.
    let code = [0x48, 0x89, 0xf7, 0x48, 0x85, 0xff, 0x74, 0x40, 0x55];
    assert_eq!(on_6_18(&code, need(0, false, true)), site(6, 0));
}

#[test]
fn a_site_before_the_test_serves_where_none_is_behind_it() {
    // push rbp; test rdi,rdi; je; mov rax,rdi; ret
    let code = [0x55, 0x48, 0x85, 0xff, 0x74, 0x40, 0x48, 0x89, 0xf8, 0xc3];
    assert_eq!(on_6_18(&code, need(1, false, true)), site(0, 0));
}

#[test]
fn arguments_must_be_intact() {
    // mov edi,esi; push rbp: a write to half of the register counts.
    let code = [0x89, 0xf7, 0x55, 0xc3];
    assert_eq!(on_6_18(&code, need(1, true, false)), ENTRY);
    // mov ecx,eax; push rbp: needed as fourth, not as third.
    let code = [0x89, 0xc1, 0x55, 0xc3];
    assert_eq!(on_6_18(&code, need(4, true, false)), ENTRY);
    assert_eq!(on_6_18(&code, need(3, true, false)), site(2, 0));
    // xchg rsi,rax; push rbp
    assert_eq!(
        on_6_18(&[0x48, 0x96, 0x55, 0xc3], need(2, true, false)),
        ENTRY
    );
    // mov eax,9; syscall; push rbp
    let code = [0xb8, 9, 0, 0, 0, 0x0f, 0x05, 0x55, 0xc3];
    assert_eq!(on_6_18(&code, need(1, true, false)), ENTRY);
}

#[test]
fn what_is_pushed_is_counted_or_forbidden() {
    // lea rax,[rsp]; sub rsp,0x18; push 0; je
    let code = [
        0x48, 0x8d, 0x04, 0x24, 0x48, 0x83, 0xec, 0x18, 0x6a, 0x00, 0x74, 0x40, 0xc3,
    ];
    assert_eq!(on_6_18(&code, need(1, false, false)), site(10, 0x20));
    assert_eq!(on_6_18(&code, need(1, true, false)), ENTRY);
    // sub rsp,0x118; je
    let code = [0x48, 0x81, 0xec, 0x18, 0x01, 0x00, 0x00, 0x74, 0x40, 0xc3];
    assert_eq!(on_6_18(&code, need(1, false, false)), site(7, 0x118));
    // sub rsp,-0x80 (that adds), pop rax, and rsp,-16, mov rsp,rax: not followed.
    for code in [
        &[0x48, 0x83, 0xec, 0x80, 0x55][..],
        &[0x58, 0x55],
        &[0x48, 0x83, 0xe4, 0xf0, 0x55],
        &[0x48, 0x89, 0xc4, 0x55],
    ] {
        assert_eq!(on_6_18(code, need(1, false, false)), ENTRY, "{code:02x?}");
    }
}

#[test]
fn nothing_may_jump_in_before_the_site() {
    // endbr64; mov rax,rdi; push rbp; pop rbp; jmp back
    let with_jump = |to: u8| {
        let mut code = [&ENDBR64[..], &[0x48, 0x89, 0xf8, 0x55, 0x5d, 0xeb, 0]].concat();
        code[10] = to.wrapping_sub(11);
        code
    };
    assert_eq!(on_6_18(&with_jump(4), need(1, true, false)), ENTRY);
    assert_eq!(
        on_6_18(&with_jump(7), need(1, true, false)),
        ENTRY,
        "to the site itself"
    );
    assert_eq!(
        on_6_18(&with_jump(8), need(1, true, false)),
        site(7, 0),
        "behind it"
    );
    assert_eq!(
        on_6_18(&with_jump(0), need(1, true, false)),
        site(7, 0),
        "to the entry"
    );
}

#[test]
fn jumps_and_calls_are_sites_but_not_passed() {
    let jump = [&ENDBR64[..], &[0xe9, 0x00, 0x01, 0x00, 0x00, 0x55]].concat();
    assert_eq!(on_6_18(&jump, need(1, true, false)), site(4, 0));
    let call = [&ENDBR64[..], &[0xe8, 0x00, 0x01, 0x00, 0x00, 0x55]].concat();
    assert_eq!(on_6_18(&call, need(1, true, false)), site(4, 0));
    // endbr64; jmp [rip+0]; push; and: ret; push; int3; push; jmp rax; push
    for code in [
        &[0xff, 0x25, 0, 0, 0, 0, 0x55][..],
        &[0xc3, 0x55],
        &[0xcc, 0x55],
        &[0xff, 0xe0, 0x55],
    ] {
        let code = [&ENDBR64[..], code].concat();
        assert_eq!(on_6_18(&code, need(1, true, false)), ENTRY, "{code:02x?}");
    }
}

#[test]
fn the_search_ends() {
    let far = [[0x48, 0x89, 0xf8].repeat(16), vec![0x55]].concat();
    assert_eq!(on_6_18(&far, need(1, true, false)), ENTRY);
    assert_eq!(on_6_18(&far[3..], need(1, true, false)), site(45, 0));
    // Nothing, a cut instruction, an invalid one.
    for code in [&[][..], &[0x48], &[0xe9, 0x00], &[0x06, 0x55]] {
        assert_eq!(on_6_18(code, need(1, true, false)), ENTRY, "{code:02x?}");
    }
}

#[test]
fn other_processors_and_old_kernels_fall_back_to_the_entry() {
    assert_eq!(
        choose(&FREE, 0, need(1, false, true), Emulated::NONE),
        ENTRY
    );
    assert_eq!(
        choose(&FREE, 0, need(1, false, true), Emulated::for_kernel((4, 4))),
        site(3, 0)
    );
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_c_library_of_this_machine() {
    let path = crate::elf::image::tests::libc();
    let image = Image::open(&std::fs::File::open(&path).unwrap()).unwrap();
    for function in image.functions() {
        let code = image.code(function.vaddr, function.size).unwrap();
        let skips = function.function == Function::Free;
        let (mut sites, arguments) = (Vec::new(), if skips { 1 } else { 2 });
        for (entry_stack, skip_null) in [(true, false), (false, false), (true, skips)] {
            let need = need(arguments, entry_stack, skip_null);
            sites.push(choose(
                &code,
                function.vaddr,
                need,
                Emulated::for_kernel((6, 18)),
            ));
        }
        println!(
            "{:>16} {:#8x} {sites:?}",
            function.function.names()[0],
            function.vaddr
        );
        let hot = [
            Function::Malloc,
            Function::Calloc,
            Function::Realloc,
            Function::Free,
        ];
        if hot.contains(&function.function) {
            assert!(
                sites.iter().all(|site| site.emulated),
                "{function:?} {sites:?}"
            );
        }
        if skips {
            assert!(
                sites[2].offset > sites[1].offset,
                "free passes its test for NULL"
            );
        }
    }
}
