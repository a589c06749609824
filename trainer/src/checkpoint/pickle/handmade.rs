//! Checkpoints assembled opcode by opcode, for tests.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Builder for a pickle program (protocol 2, without the first and last opcode).
#[derive(Debug, Clone, Default)]
pub(super) struct Program(Vec<u8>);

impl Program {
    /// Appends bytes.
    pub(super) fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }

    /// Pushes a string.
    pub(super) fn text(self, text: &str) -> Self {
        let length = u32::try_from(text.len()).expect("short text");
        self.raw(b"X").raw(length.to_le_bytes()).raw(text)
    }

    /// Pushes an integer.
    pub(super) fn int(self, int: u64) -> Self {
        self.raw([0x8a, 9]).raw(int.to_le_bytes()).raw([0])
    }

    /// Pushes a class or function.
    pub(super) fn global(self, module: &str, name: &str) -> Self {
        self.raw(b"c").raw(module).raw(b"\n").raw(name).raw(b"\n")
    }

    /// Pushes a tuple of integers.
    pub(super) fn ints(self, ints: &[u64]) -> Self {
        ints.iter().fold(self.raw(b"("), |program, int| program.int(*int)).raw(b"t")
    }

    /// Pushes a reference to a storage.
    pub(super) fn storage(self, class: &str, key: &str, numel: u64) -> Self {
        self.raw(b"(").text("storage").global("torch", class).text(key).text("cpu").int(numel).raw(b"tQ")
    }

    /// Pushes a tensor of floats in storage `0`, which has `numel` elements.
    pub(super) fn tensor(self, numel: u64, offset: u64, shape: &[u64], stride: &[u64]) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"(")
            .storage("FloatStorage", "0", numel)
            .int(offset)
            .ints(shape)
            .ints(stride)
            .raw([0x89])
            .global("collections", "OrderedDict")
            .raw(b")RtR")
    }

    /// Returns the stream with its first and last opcode.
    pub(super) fn stream(self) -> Vec<u8> {
        Program::default().raw([0x80, 2]).raw(self.0).raw(b".").0
    }

    /// Returns a stream of `{'module': {…}}` with the entries that this program pushes.
    pub(super) fn module(self) -> Vec<u8> {
        Program::default().raw(b"}(").text("module").raw(b"}(").raw(self.0).raw(b"uu").stream()
    }
}

/// Returns the little-endian bytes of floats.
pub(super) fn float_bytes(floats: impl IntoIterator<Item = f32>) -> Vec<u8> {
    floats.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Builds a zip file with these members.
pub(super) fn zip_file(members: &[(&str, &[u8])], options: SimpleFileOptions) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        writer.start_file(*name, options).expect("new member");
        writer.write_all(bytes).expect("write to memory");
    }
    writer.finish().expect("finish").into_inner()
}

/// Options of members as `torch.save` writes them: not compressed.
pub(super) fn stored() -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Stored)
}

/// Builds a checkpoint in the zip container with one storage, `0`.
pub(super) fn checkpoint(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    zip_file(&[("archive/data.pkl", pickle), ("archive/data/0", storage), ("archive/version", b"3\n")], stored())
}

/// Builds a checkpoint in the legacy container; each storage has a key, a number of elements and bytes.
pub(super) fn legacy_checkpoint(pickle: &[u8], storages: &[(&str, u64, &[u8])]) -> Vec<u8> {
    let magic = Program::default().raw([0x8a, 10]).raw(&0x1950_a86a_20f9_469c_fc6c_u128.to_le_bytes()[..10]);
    let system = Program::default().raw(b"}(").text("little_endian").raw([0x88]).raw(b"u");
    let keys = storages.iter().fold(Program::default().raw(b"]("), |keys, (key, ..)| keys.text(key)).raw(b"e");
    let mut file =
        [magic.stream(), Program::default().int(1001).stream(), system.stream(), pickle.to_vec(), keys.stream()].concat();
    for (_, count, bytes) in storages {
        file.extend_from_slice(&count.to_le_bytes());
        file.extend_from_slice(bytes);
    }
    file
}
