//! The opcode interpreter alone: the bytes become `data.pkl` of an otherwise sound zip container with one storage, so that
//! the fuzzer need not find out how to write a zip file first.
#![no_main]
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the reader is compiled on its own, without libtorch; not all of it is used"
)]

#[path = "../../src/checkpoint/pickle/mod.rs"]
mod pickle;

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pickle::Checksums;

fuzz_target!(init: check_container(), |stream: &[u8]| read(stream));

/// A mistake in [`zip`] would keep every input from the interpreter.
fn check_container() {
    let refused = pickle::parse_module(Path::new("fuzz.pt"), zip(&[("a/data.pkl", b"N.")]), Checksums::Ignore);
    assert!(matches!(refused, Err(pickle::PickleError::NoStateDict { .. })), "{refused:?}");
}

fn read(stream: &[u8]) {
    let file = zip(&[("a/data.pkl", stream), ("a/data/0", &[7; 256])]);
    let size = file.len();
    let Ok(state) = pickle::parse_module(Path::new("fuzz.pt"), file, Checksums::Ignore) else { return };
    for name in state.names() {
        let tensor = state.tensor(name).expect("was checked when the file was opened");
        assert!(tensor.data.len() <= size);
    }
}

/// A zip file of stored members (checksums left out: the reader is told to ignore them).
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
