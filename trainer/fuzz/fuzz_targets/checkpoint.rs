//! Arbitrary bytes as a checkpoint file are read or rejected without a panic, and without more memory than their size justifies.
#![no_main]
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the reader is compiled without libtorch and the rest of the trainer; not all of it is used"
)]

#[path = "../../src/checkpoint/pickle/mod.rs"]
mod pickle;
#[path = "../../src/checkpoint/stored/mod.rs"]
mod stored;

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| read(bytes));

fn read(bytes: &[u8]) {
    let Ok(state) = pickle::parse_module(Path::new("fuzz.pt"), bytes.to_vec(), pickle::Checksums::Ignore) else { return };
    for name in state.names() {
        let tensor = state.tensor(name).expect("checked on opening");
        let numel: usize = tensor.shape.iter().product();
        assert_eq!(tensor.data.len(), numel * tensor.kind.size());
        assert!(tensor.data.len() <= bytes.len());
    }
}
