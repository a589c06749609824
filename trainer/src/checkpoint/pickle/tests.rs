//! Tests with whole checkpoints: real, assembled and hostile.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::super::stored::{StoredKind, TensorFile};
use super::handmade::{Program, checkpoint, float_bytes, legacy_checkpoint, stored, zip_file};
use super::*;

fn golden(folder: &str) -> PathBuf {
    let file = format!("../tests/fixtures/golden/model/{folder}/200000/mp_rank_00_model_states.pt");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn parse(bytes: Vec<u8>) -> Result<TensorFile, PickleError> {
    parse_module(Path::new("some.pt"), bytes, Checksums::Verify)
}

fn message(bytes: Vec<u8>) -> String {
    parse(bytes).expect_err("must be rejected").to_string()
}

fn shape<'f>(file: &'f TensorFile, name: &str) -> &'f [usize] {
    file.describe(name).expect("tensor").1
}

fn floats(state: &TensorFile, name: &str) -> Vec<f32> {
    let tensor = state.tensor(name).expect("tensor");
    let (chunks, rest) = tensor.data.as_chunks::<4>();
    assert!(tensor.kind == StoredKind::F32 && rest.is_empty());
    chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

/// Builds a checkpoint with one tensor `w`, whose storage contains the floats 0, 1, 2, …
fn one_tensor(numel: u16, program: Program) -> Vec<u8> {
    checkpoint(&Program::default().text("w").raw_program(program).module(), &float_bytes((0..numel).map(f32::from)))
}

impl Program {
    fn raw_program(self, other: Program) -> Self {
        let stream = other.stream();
        self.raw(&stream[2..stream.len() - 1])
    }
}

#[test]
fn all_containers_have_the_same_weights() {
    let full = read_module(&golden("tiny")).expect("fp32");
    let half_precision = read_module(&golden("tiny_fp16")).expect("fp16");
    let legacy = read_module(&golden("tiny_legacy")).expect("legacy");
    assert_eq!(full.names().len(), 29);
    assert!(full.names().eq(legacy.names()) && full.names().eq(half_precision.names()));
    assert_eq!(shape(&full, "word_embeddings.weight"), [512, 64]);
    for name in full.names() {
        assert_eq!(full.tensor(name).expect("fp32"), legacy.tensor(name).expect("legacy"), "{name}");
        let rounded = half_precision.tensor(name).expect("fp16");
        assert_eq!((rounded.kind, &rounded.shape), (StoredKind::F16, &full.tensor(name).expect("fp32").shape));
        let expected: Vec<u8> = floats(&full, name).into_iter().flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect();
        assert!(rounded.data == expected, "{name}");
    }
}

#[test]
fn published_layout_with_other_objects() {
    let state = read_module(&golden("full-vocab/blocklm-tiny")).expect("readable");
    assert_eq!(state.names().len(), 29);
    assert_eq!(state.describe("word_embeddings.weight").expect("tensor"), (StoredKind::F16, &[30592, 16][..]));
    for expected in ["args (argparse.Namespace)", "np_rng_state (tuple)", "csr_tensor_module_names (__builtin__.set)"] {
        assert!(state.skipped.iter().any(|skipped| skipped == expected), "{expected} in {:?}", state.skipped);
    }
    let error = state.tensor("no.such").expect_err("unknown").to_string();
    assert!(error.contains("mp_rank_00_model_states.pt") && error.contains("'no.such'") && error.contains("29"), "{error}");
}

#[test]
fn real_tensors_are_borrowed_from_the_file() {
    for folder in ["tiny", "tiny_fp16", "tiny_legacy", "full-vocab/blocklm-tiny"] {
        let state = read_module(&golden(folder)).expect("readable");
        let first = state.tensor("word_embeddings.weight").expect("tensor");
        let copy = first.data.to_vec();
        for name in state.names() {
            assert!(matches!(state.tensor(name).expect("tensor").data, Cow::Borrowed(_)), "{folder} {name}");
        }
        assert!(*first.data == *copy, "borrowed bytes are unchanged after later reads");
    }
}

#[test]
fn transposed_and_strided_views() {
    let state = parse(one_tensor(12, Program::default().tensor(12, 0, &[4, 3], &[1, 4]))).expect("transposed");
    assert_eq!(floats(&state, "w"), [0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]);
    let state = parse(one_tensor(12, Program::default().tensor(12, 1, &[2, 2], &[6, 3]))).expect("strided");
    assert_eq!(floats(&state, "w"), [1., 4., 7., 10.]);
    let state = parse(one_tensor(12, Program::default().tensor(12, 5, &[], &[]))).expect("scalar");
    assert_eq!((floats(&state, "w"), shape(&state, "w")), (vec![5.], &[][..]));
    let state = parse(one_tensor(12, Program::default().tensor(12, 3, &[2, 3], &[0, 1]))).expect("expanded");
    assert_eq!(floats(&state, "w"), [3., 4., 5., 3., 4., 5.]);
    let state = parse(one_tensor(12, Program::default().tensor(12, 12, &[2, 0], &[1, 1]))).expect("empty");
    assert_eq!((floats(&state, "w"), shape(&state, "w")), (vec![], &[2, 0][..]));
}

#[test]
fn shared_storages_parameters_and_nested_dicts() {
    let ordered = Program::default().global("collections", "OrderedDict").raw(b")R(");
    let program = Program::default()
        .text("tied")
        .tensor(4, 0, &[4], &[1])
        .text("inner")
        .raw_program(ordered)
        .text("deep")
        .global("torch._utils", "_rebuild_parameter")
        .raw(b"(")
        .tensor(4, 1, &[2], &[1])
        .raw([0x88])
        .raw(b"NtR")
        .text("note")
        .raw(b"N")
        .raw(b"u}") // The attributes of the OrderedDict, set with BUILD.
        .text("_metadata")
        .raw(b"Nsb")
        .text("tied")
        .tensor(4, 2, &[2], &[1]);
    let state = parse(checkpoint(&program.module(), &float_bytes([0., 1., 2., 3.]))).expect("readable");
    assert_eq!(state.names().collect::<Vec<_>>(), ["tied", "inner.deep"]);
    assert_eq!(floats(&state, "tied"), [2., 3.], "a key that is set twice has its last value");
    assert_eq!(floats(&state, "inner.deep"), [1., 2.]);
    assert_eq!(state.skipped, ["inner.note (None)"]);
}

#[test]
fn state_dicts_under_other_keys() {
    let tensor = Program::default().text("w").tensor(1, 0, &[1], &[1]);
    for key in ["model", "state_dict"] {
        let dict =
            Program::default().raw(b"}(").text("epoch").int(3).text(key).raw(b"}(").raw_program(tensor.clone()).raw(b"uu");
        let state = parse(checkpoint(&dict.stream(), &[0; 4])).expect(key);
        assert_eq!((state.names().next(), state.skipped.as_slice()), (Some("w"), &["epoch (int)".to_owned()][..]));
    }
    let bare = Program::default().raw(b"}(").raw_program(tensor).raw(b"u");
    assert_eq!(parse(checkpoint(&bare.stream(), &[0; 4])).expect("bare").names().next(), Some("w"));

    let whole = Program::default().raw(b"}").text("module").global("my.nets", "Net").raw(b")Rs").stream();
    let error = message(checkpoint(&whole, &[]));
    assert!(error.contains("module (my.nets.Net)") && error.contains("model.state_dict()"), "{error}");
    assert!(message(checkpoint(&Program::default().int(1).stream(), &[])).contains("type int"));
}

#[test]
fn protocols_0_and_4_are_supported() {
    let text_form = b"(dp0\nVmodule\np1\n(dp2\nS'w'\nctorch._utils\n_rebuild_tensor\np3\n((S'storage'\nctorch\nFloatStorage\n\
        V0\nS'cpu'\nI2\ntQL0L\n(I2\nt(I1\nttRp4\nss.";
    assert_eq!(floats(&parse(checkpoint(text_form, &float_bytes([7., 8.]))).expect("protocol 0"), "w"), [7., 8.]);

    let mut framed = vec![0x80, 4, 0x95];
    let body = b"}\x94\x8c\x06module\x94}\x94\x8c\x01w\x94\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93\x94((\x8c\x07storage\x94\
        \x8c\x05torch\x94\x8c\x0cFloatStorage\x94\x93\x94\x8c\x010\x94\x8c\x03cpu\x94K\x02t\x94QK\x00K\x02\x85\x94K\x01\x85\x94\x89\
        \x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94t\x94R\x94ss.";
    framed.extend_from_slice(&(body.len() as u64).to_le_bytes());
    framed.extend_from_slice(body);
    assert_eq!(floats(&parse(checkpoint(&framed, &float_bytes([7., 8.]))).expect("protocol 4"), "w"), [7., 8.]);
}

#[test]
fn legacy_container_with_views_and_other_storages() {
    let storage = |class, key, numel, view: Program| {
        let tuple = Program::default().raw(b"(").text("storage").global("torch", class).text(key).text("cpu").int(numel);
        tuple.raw_program(view).raw(b"tQ")
    };
    let view = Program::default().raw(b"(").text("99").int(1).int(2).raw(b"t");
    let program = Program::default()
        .text("w")
        .global("torch._utils", "_rebuild_tensor_v2")
        .raw(b"(")
        .raw_program(storage("FloatStorage", "7", 4, view))
        .int(0)
        .ints(&[2])
        .ints(&[1])
        .raw(b"\x89NtR")
        .text("other")
        .raw_program(storage("LongStorage", "8", 1, Program::default().raw(b"N")));
    let weights = float_bytes([0., 1., 2., 3.]);
    let file = |count| legacy_checkpoint(&program.clone().module(), &[("8", 1, &[0; 8]), ("7", count, &weights)]);
    let state = parse(file(4)).expect("readable");
    assert_eq!((floats(&state, "w"), state.skipped.len()), (vec![1., 2.], 1));

    assert!(message(file(5)).contains("storage '7' extends beyond the end"));
    assert!(message(file(u64::MAX)).contains("storage '7' extends beyond the end"));
    assert!(message(file(3)).contains("storage '7' should have 16 bytes, the file has 12"));
    let unknown = legacy_checkpoint(&program.module(), &[("9", 1, &[0; 8])]);
    assert!(message(unknown).contains("unknown size"));
}

#[test]
fn code_in_a_file_is_not_executed() {
    let folder = tempfile::tempdir().expect("folder");
    let mark = folder.path().join("ran");
    let attack = |module, name| {
        let command = format!("touch {}", mark.display());
        Program::default().global(module, name).raw(b"(").text(&command).raw(b"tR")
    };
    for (module, name) in [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("torch._utils", "system")] {
        let program = Program::default().text("w").tensor(1, 0, &[1], &[1]).text("evil").raw_program(attack(module, name));
        let state = parse(checkpoint(&program.module(), &[0; 4])).expect("kept as a name");
        assert_eq!(state.skipped, [format!("evil ({module}.{name})")]);
    }
    let error = message(one_tensor(1, attack("torch._utils", "_rebuild_evil")));
    assert!(error.contains("tensor 'w': built by torch._utils._rebuild_evil"), "{error}");
    let as_storage = Program::default().global("torch._utils", "_rebuild_tensor").raw(b"(").raw_program(attack("os", "system"));
    let error = message(one_tensor(1, as_storage.int(0).ints(&[1]).ints(&[1]).raw(b"tR")));
    assert!(error.contains("its data is not a storage"), "{error}");
    assert!(message(checkpoint(&attack("os", "system").stream(), &[])).contains("os.system"));
    assert!(!mark.exists());
}

#[test]
fn invalid_tensors_are_rejected() {
    let rejected = |numel, offset, shape: &[u64], stride: &[u64], why: &str| {
        let error = message(one_tensor(4, Program::default().tensor(numel, offset, shape, stride)));
        assert!(error.starts_with("some.pt: tensor 'w': ") && error.contains(why), "{error}");
    };
    rejected(4, 0, &[5], &[1], "needs element 4 of a storage of 4");
    rejected(4, 1, &[4], &[1], "needs element 4 of a storage of 4");
    rejected(4, 0, &[2, 2], &[3, 1], "needs element 4");
    rejected(5, 0, &[5], &[1], "should have 20 bytes, the file has 16");
    rejected(1 << 62, 0, &[1 << 62], &[1], "overflow");
    rejected(4, 0, &[1 << 40, 1 << 40], &[0, 0], "overflow");
    rejected(4, 0, &[3], &[u64::MAX], "overflow");
    rejected(4, 0, &[1 << 40], &[0], "more than the whole file");
    rejected(4, 0, &[2, 2], &[1], "2 sizes and 1 strides");
    rejected(4, 0, &[1; 65], &[1; 65], "65 dimensions");

    let unknown_kind = Program::default().global("torch._utils", "_rebuild_tensor").raw(b"(").storage("QInt8Storage", "0", 4);
    let error = message(one_tensor(4, unknown_kind.int(0).ints(&[1]).ints(&[1]).raw(b"tR")));
    assert!(error.contains("torch.QInt8Storage is not supported"), "{error}");
    let elsewhere =
        Program::default().global("torch._utils", "_rebuild_tensor").raw(b"(").storage("FloatStorage", "../../x", 4);
    let error = message(one_tensor(4, elsewhere.int(0).ints(&[1]).ints(&[1]).raw(b"tR")));
    assert!(error.contains("storage '../../x' is not in the file"), "{error}");
}

#[test]
fn exponential_and_colliding_names_are_rejected() {
    // 64 levels, each of which contains the level below twice: 2^64 names.
    let mut laughs = Program::default().text("w").tensor(1, 0, &[1], &[1]);
    for _ in 0..64 {
        laughs = Program::default().text("a").raw(b"}(").raw_program(laughs).raw(b"uq\x00").text("b").raw(b"h\x00");
    }
    assert!(message(checkpoint(&laughs.module(), &[0; 4])).contains("nested too deep or used under two names"));
    let cycle = Program::default().raw(b"}q\x00").text("module").raw(b"}q\x01").text("again").raw(b"h\x01ss").stream();
    assert!(message(checkpoint(&cycle, &[])).contains("nested too deep or used under two names"));
    let collision = Program::default().text("a").raw(b"}").text("b").tensor(1, 0, &[1], &[1]).raw(b"s");
    let collision = collision.text("a.b").tensor(1, 0, &[1], &[1]);
    assert!(message(checkpoint(&collision.module(), &[0; 4])).contains("tensor 'a.b': two tensors have this name"));
}

#[test]
fn container_faults_are_reported() {
    let pickle = Program::default().text("w").tensor(1, 0, &[1], &[1]).module();
    let with = |extra: (&str, &[u8])| zip_file(&[("a/data.pkl", &pickle), ("a/data/0", &[0; 4]), extra], stored());
    assert!(message(with(("a/byteorder", b"big"))).contains("member byteorder"));
    assert!(message(with(("a/constants.pkl", b""))).contains("TorchScript"));
    assert!(message(with(("b/data.pkl", b""))).contains("several folders"));
    assert!(parse(with(("a/byteorder", b"little"))).is_ok());
    let packed = stored().compression_method(zip::CompressionMethod::Deflated);
    assert!(message(zip_file(&[("a/data.pkl", &[b'N'; 99])], packed)).contains("is compressed"));
    assert!(message(zip_file(&[("word/document.xml", b"")], stored())).contains("not written by torch.save"));
    // The 64-bit form, which PyTorch uses for members of 4 GiB and more.
    let wide = zip_file(&[("a/data.pkl", &pickle), ("a/data/0", &[0; 4])], stored().large_file(true));
    assert!(parse(wide).is_ok());

    assert!(message(Vec::new()).contains("is empty"));
    assert!(message(b"BZh91AY&SY".to_vec()).contains("tar -xjf"));
    assert!(message(vec![0; 100]).contains("magic number"));
    let missing = read_module(Path::new("no/such.pt")).expect_err("missing").to_string();
    assert!(missing.starts_with("no/such.pt: cannot be read"), "{missing}");
    assert!(read_module(Path::new(env!("CARGO_MANIFEST_DIR"))).is_err(), "a folder is not a checkpoint");
}

#[test]
fn checksums_are_verified_on_read() {
    let pickle = Program::default().text("w").tensor(4, 0, &[4], &[1]).module();
    let sound = checkpoint(&pickle, &float_bytes([0.5, 1.5, 2.5, 3.5]));
    let weights = sound.windows(4).position(|bytes| bytes == 1.5_f32.to_le_bytes()).expect("not compressed");
    let name = sound.windows(6).position(|bytes| bytes == b"module").expect("not compressed");
    let damaged = |at: usize| {
        let mut file = sound.clone();
        file[at] ^= 1;
        file
    };
    let error = message(damaged(name));
    assert!(error.contains("some.pt: zip member archive/data.pkl is damaged: its CRC-32 is "), "{error}");
    let state = parse(damaged(weights)).expect("the pickle is sound");
    for _ in 0..2 {
        let error = state.tensor("w").expect_err("damaged").to_string();
        assert!(error.contains("zip member archive/data/0 is damaged: its CRC-32 is "), "{error}");
    }
    let ignored = parse_module(Path::new("some.pt"), damaged(weights), Checksums::Ignore).expect("readable");
    assert!(ignored.tensor("w").is_ok());
}

#[test]
fn overlapping_members_are_rejected() {
    let file = zip_file(&[("a/data.pkl", &[0; 64]), ("a/data/0", &[0; 64]), ("a/data/1", &[0; 64])], stored());
    let header = |name: &str| file.windows(name.len()).rposition(|bytes| bytes == name.as_bytes()).expect("in the directory");
    // The offset of the local header precedes the name.
    let (first, second) = (header("a/data/0") - 4, header("a/data/1") - 4);
    let mut shared = file.clone();
    shared.copy_within(first..first + 4, second);
    let error = message(shared);
    assert!(error.contains("shares bytes with member a/data/"), "{error}");
}

#[test]
fn every_truncation_is_an_error() {
    let pickle = Program::default().text("w").tensor(4, 0, &[4, 1], &[1, 4]).module();
    let weights = float_bytes([1., 2., 3., 4.]);
    for length in 0..pickle.len() {
        let error = message(checkpoint(&pickle[..length], &weights));
        assert!(error.contains("data.pkl, byte "), "{error}");
    }
    for file in [checkpoint(&pickle, &weights), legacy_checkpoint(&pickle, &[("0", 4, &weights)])] {
        assert!(parse(file.clone()).is_ok());
        for length in 0..file.len() {
            assert!(parse(file[..length].to_vec()).is_err(), "{length} of {} bytes", file.len());
        }
    }
}

/// Reads all tensors that can be read; a panic or a huge allocation fails the test. Checksums find most damage early; without them
/// it reaches the interpreter.
fn read_all(bytes: Vec<u8>) {
    let size = bytes.len();
    for checksums in [Checksums::Verify, Checksums::Ignore] {
        let Ok(state) = parse_module(Path::new("some.pt"), bytes.clone(), checksums) else { continue };
        for name in state.names() {
            match state.tensor(name) {
                Ok(tensor) => {
                    let numel: usize = tensor.shape.iter().product();
                    assert!(tensor.data.len() <= size && tensor.data.len() == numel * tensor.kind.size());
                }
                Err(error) => assert!(checksums == Checksums::Verify && error.to_string().contains("CRC-32"), "{error}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_assembled_files_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        old in any::<bool>(),
    ) {
        let program = Program::default().text("w").tensor(12, 0, &[4, 3], &[1, 4]).text("v").tensor(12, 4, &[2, 4], &[4, 1]);
        let weights = [7; 48];
        let pickle = program.module();
        let mut file = if old { legacy_checkpoint(&pickle, &[("0", 12, &weights)]) } else { checkpoint(&pickle, &weights) };
        for (at, byte) in damage {
            let at = at.index(file.len());
            file[at] = byte;
        }
        read_all(file);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn damaged_real_files_never_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..8),
        folder in prop::sample::select(vec!["tiny_fp16", "tiny_legacy", "full-vocab/blocklm-tiny"]),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = std::fs::read(golden(folder)).expect("fixture");
        // The structure is in the first 13 KB (pickle, first headers) and, in zip files, the last 8 KB (directory).
        let structure: Vec<usize> = (0..13_000).chain(file.len() - 8_000..file.len()).collect();
        for (at, bit) in damage {
            file[structure[at.index(structure.len())]] ^= 1 << bit;
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        read_all(file);
    }
}
