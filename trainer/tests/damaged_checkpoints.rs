//! Damaged checkpoints are read or rejected without a panic, and with memory bounded by a small multiple of the file size.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};

use glm_trainer::checkpoint::pickle::{Checksums, parse_module};
use proptest::prelude::*;

/// System allocator that counts the current and the peak number of bytes allocated by each thread.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn add(bytes: usize) {
    // The counters of an exiting thread may be gone; they are not read any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get().wrapping_add(bytes));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

fn remove(bytes: usize) {
    // Memory of another thread can be freed here, so the counter can decrease below its start.
    let _ = HELD.try_with(|held| held.set(held.get().saturating_sub(bytes)));
}

// SAFETY: every call is forwarded to the system allocator with the same arguments; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: the caller guarantees a valid `layout`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        remove(layout.size());
        // SAFETY: `pointer` came from `alloc` or `realloc` with this `layout`, that is, from the system allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        remove(layout.size());
        // SAFETY: as in `dealloc`; the caller guarantees a valid `size`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the peak number of bytes that `act` allocated in addition to those allocated before.
fn peak_of(act: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    act();
    PEAK.get().saturating_sub(before)
}

fn golden(folder: &str) -> PathBuf {
    let file = format!("../tests/fixtures/golden/model/{folder}/200000/mp_rank_00_model_states.pt");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Reads all tensors that can be read, one at a time.
fn read_all(file: Vec<u8>, checksums: Checksums) {
    let Ok(state) = parse_module(Path::new("damaged.pt"), file, checksums) else { return };
    for name in state.names() {
        if let Ok(tensor) = state.tensor(name) {
            assert_eq!(tensor.data.len(), tensor.shape.iter().product::<usize>() * tensor.kind.size());
        }
    }
}

/// Limit of the reader's memory per byte of the file: values of a pickle are larger than their opcodes.
const MULTIPLE: usize = 8;
/// Limit of the reader's memory that does not depend on the file.
const FIXED: usize = 1 << 20;

/// Offsets of the structure of a file: pickle and first headers, and the zip directory at the end.
fn structure(size: usize) -> Vec<usize> {
    (0..13_000).chain(size - 8_000..size).collect()
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(u8),
    Set(u8),
    /// Overwrites eight bytes with a huge number.
    Huge,
    Duplicate(u8),
    Delete(u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (0u8..8).prop_map(Damage::Flip),
        any::<u8>().prop_map(Damage::Set),
        Just(Damage::Huge),
        (1u8..64).prop_map(Damage::Duplicate),
        (1u8..64).prop_map(Damage::Delete),
    ]
}

fn apply(file: &mut Vec<u8>, at: usize, damage: &Damage) {
    let at = at.min(file.len() - 1);
    match damage {
        Damage::Flip(bit) => file[at] ^= 1 << bit,
        Damage::Set(byte) => file[at] = *byte,
        Damage::Huge => {
            let end = file.len().min(at + 8);
            file[at..end].fill(0x7f);
        }
        Damage::Duplicate(count) => {
            let copy = file[at..file.len().min(at + usize::from(*count))].to_vec();
            file.splice(at..at, copy);
        }
        Damage::Delete(count) => {
            let end = file.len().min(at + usize::from(*count));
            file.drain(at..end);
        }
    }
}

#[test]
fn the_allocator_counts() {
    assert!((1 << 20..1 << 21).contains(&peak_of(|| drop(std::hint::black_box(vec![1u8; 1 << 20])))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn memory_is_bounded_by_the_file(
        damages in prop::collection::vec((any::<prop::sample::Index>(), damage()), 1..8),
        folder in prop::sample::select(vec!["tiny_fp16", "tiny_legacy"]),
        verify in any::<bool>(),
    ) {
        let mut file = std::fs::read(golden(folder)).expect("fixture");
        let places = structure(file.len());
        for (at, damage) in &damages {
            apply(&mut file, places[at.index(places.len())], damage);
        }
        let size = file.len();
        let checksums = if verify { Checksums::Verify } else { Checksums::Ignore };
        let peak = peak_of(|| read_all(file, checksums));
        prop_assert!(peak <= MULTIPLE * size + FIXED, "{peak} bytes held for a file of {size}");
    }
}
