//! Damaged checkpoints are read or rejected without a panic, and with memory bounded by a small multiple of the file size.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};

use glm_trainer::checkpoint::CheckpointError;
use glm_trainer::checkpoint::pickle::{Checksums, parse_module};
use glm_trainer::checkpoint::weights::Weights;
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

/// Writes a safetensors file with these tensors, of as many bytes as their shapes need; 0 if that overflows.
fn write_safetensors(path: &Path, tensors: &[(String, Vec<u64>)]) {
    let (mut header, mut end) = (serde_json::Map::new(), 0u64);
    for (name, shape) in tensors {
        let bytes = match shape.contains(&0) {
            true => 0,
            false => shape.iter().try_fold(4u64, |product, size| product.checked_mul(*size)).unwrap_or(0),
        };
        let info = serde_json::json!({"dtype": "F32", "shape": shape, "data_offsets": [end, end + bytes]});
        end += bytes;
        header.insert(name.clone(), info);
    }
    let header = serde_json::to_vec(&header).expect("json");
    let content = [&(header.len() as u64).to_le_bytes()[..], &header, &vec![0; usize::try_from(end).expect("small")]].concat();
    std::fs::write(path, content).expect("write");
}

/// Everything that the commands do with weights before they allocate memory for a model.
fn use_weights(path: &Path) -> Result<(), CheckpointError> {
    let weights = Weights::open(path)?;
    weights.check(&weights.model_config(Some(1))?).map(drop)
}

const TABLES: [&str; 3] =
    ["word_embeddings.weight", "transformer.position_embeddings.weight", "transformer.block_position_embeddings.weight"];

#[test]
fn claimed_layers_take_no_memory() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("model.safetensors");
    let tables = TABLES.map(|name| (name.to_owned(), vec![8, 8]));
    for layer in ["9999999", "9223372036854775808", "18446744073709551615"] {
        let bias = (format!("transformer.layers.{layer}.input_layernorm.bias"), vec![0]);
        write_safetensors(&path, &[&tables[..], &[bias]].concat());
        let mut error = String::new();
        let peak = peak_of(|| error = use_weights(&path).expect_err("too few tensors").to_string());
        assert!(error.contains("tensors are too few for"), "{error}");
        assert!(peak <= FIXED, "{peak} bytes");
    }
    // As many tensors as layers, but not those of a GLM.
    let many = (0..20_000).map(|layer| (format!("transformer.layers.{layer}.bias"), vec![0]));
    write_safetensors(&path, &tables.into_iter().chain(many).collect::<Vec<_>>());
    let weights = Weights::open(&path).expect("a file of tensors");
    let config = weights.model_config(Some(1)).expect("sizes");
    let peak = peak_of(|| assert!(weights.check(&config).expect_err("no GLM").to_string().ends_with("is missing")));
    assert!(peak <= FIXED, "{peak} bytes");
}

#[test]
fn the_allocator_counts() {
    assert!((1 << 20..1 << 21).contains(&peak_of(|| drop(std::hint::black_box(vec![1u8; 1 << 20])))));
}

/// Sizes of dimensions, mostly extreme ones.
fn size() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1u64..9, Just(1 << 32), Just(1 << 60), Just(1 << 63), Just(u64::MAX)]
}

fn tensor() -> impl Strategy<Value = (String, Vec<u64>)> {
    let name = prop_oneof![
        4 => prop::sample::select(TABLES.to_vec()).prop_map(str::to_owned),
        1 => any::<u64>().prop_map(|layer| format!("transformer.layers.{layer}.mlp.dense_h_to_4h.weight")),
        1 => (0u64..3).prop_map(|layer| format!("transformer.layers.{layer}.mlp.dense_h_to_4h.weight")),
        1 => Just("transformer.final_layernorm.weight".to_owned()),
    ];
    // Tensors of more bytes than a test can write are rejected by their offsets.
    let shape = prop::collection::vec(size(), 0..4).prop_filter("small", |shape| {
        shape.contains(&0)
            || shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size)).is_none_or(|count| count < 4096)
    });
    (name, shape)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn names_and_shapes_are_checked_before_memory_is_allocated(tensors in prop::collection::vec(tensor(), 1..8)) {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("model.safetensors");
        write_safetensors(&path, &tensors);
        let mut accepted = true;
        let peak = peak_of(|| accepted = use_weights(&path).is_ok());
        prop_assert!(!accepted);
        prop_assert!(peak <= FIXED, "{} bytes", peak);
    }

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
