//! Which adapter is taken, as a table.

use super::{AdapterInfo, AdapterKind, Wanted};
use crate::kernels::gpu::Limits;

fn adapter(name: &str, kind: AdapterKind) -> AdapterInfo {
    let (driver, api) = ("a driver".to_owned(), "vulkan".to_owned());
    AdapterInfo { name: name.to_owned(), driver, api, kind, limits: Limits::PROMISED, features: Vec::new() }
}

#[test]
fn the_adapter_that_is_wanted_is_taken() {
    let card = adapter("NVIDIA H200", AdapterKind::Discrete);
    let software = adapter("llvmpipe (LLVM 19.1.7, 256 bits)", AdapterKind::Software);
    let named = |name: &str| Wanted::Named(name.to_owned());
    let both = [card.clone(), software.clone()];
    let cases: [(Wanted, &[AdapterInfo], Option<&AdapterInfo>); 9] = [
        (Wanted::Hardware, &both, Some(&card)),
        (Wanted::Hardware, &both[1..], None),
        (Wanted::Hardware, &[], None),
        (Wanted::Any, &both, Some(&card)),
        (Wanted::Any, &both[1..], Some(&software)),
        (Wanted::Any, &[], None),
        (named("LLVMpipe"), &both, Some(&software)),
        (named("h200"), &both, Some(&card)),
        (named("h100"), &both, None),
    ];
    for (wanted, found, taken) in cases {
        assert_eq!(wanted.of(found), taken, "{wanted:?}");
    }
}

#[test]
fn another_driver_is_another_adapter_for_a_verdict() {
    let one = adapter("NVIDIA H200", AdapterKind::Discrete);
    let other = AdapterInfo { driver: "a newer driver".to_owned(), ..one.clone() };
    assert_ne!(one.described(), other.described());
    assert!(!one.described().software && adapter("llvmpipe", AdapterKind::Software).described().software);
}
