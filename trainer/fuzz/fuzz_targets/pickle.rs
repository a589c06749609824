//! The opcode interpreter: the input is `data.pkl` of a valid zip container with one storage, so that the fuzzer does not have to
//! discover the zip format.
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
use pickle::Checksums;

fuzz_target!(init: check_container(), |stream: &[u8]| read(stream));

/// Checks that inputs reach the interpreter.
fn check_container() {
    let rejected = pickle::parse_module(Path::new("fuzz.pt"), zip(&[("a/data.pkl", b"N.")]), Checksums::Ignore);
    assert!(matches!(rejected, Err(pickle::PickleError::NoStateDict { .. })), "{rejected:?}");
}

fn read(stream: &[u8]) {
    let file = zip(&[("a/data.pkl", stream), ("a/data/0", &[7; 256])]);
    let size = file.len();
    let Ok(state) = pickle::parse_module(Path::new("fuzz.pt"), file, Checksums::Ignore) else { return };
    for name in state.names() {
        let tensor = state.tensor(name).expect("checked on opening");
        assert!(tensor.data.len() <= size);
    }
}

/// Builds a zip file of uncompressed members without checksums, which the reader ignores here.
fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let size = u32::try_from(bytes.len()).expect("small input").to_le_bytes();
        let name_length = u16::try_from(name.len()).expect("short name").to_le_bytes();
        let start = u32::try_from(file.len()).expect("small input").to_le_bytes();
        let shared = [&[0; 12][..], &size, &size, &name_length, &[0; 2]].concat();
        directory.extend([b"PK\x01\x02\x14\0\x14\0", &shared[..], &[0; 10], &start, name.as_bytes()].concat());
        file.extend([b"PK\x03\x04\x14\0", &shared[..], name.as_bytes(), bytes].concat());
    }
    let start = u32::try_from(file.len()).expect("small input").to_le_bytes();
    let size = u32::try_from(directory.len()).expect("small input").to_le_bytes();
    let count = u16::try_from(members.len()).expect("few members").to_le_bytes();
    file.extend(directory);
    file.extend([b"PK\x05\x06\0\0\0\0", &count[..], &count, &size, &start, &[0; 2]].concat());
    file
}
