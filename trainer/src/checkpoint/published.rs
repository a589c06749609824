//! Writer for the layout of the published weights: a `torch.save` of `{'module': state dict, …}`, which the published Python code
//! loads.
//!
//! ```text
//! FOLDER/latest_checkpointed_iteration.txt            number of the iteration, read first
//!        <iteration>/mp_rank_00_model_states.pt       zip: data.pkl, and the elements of each tensor as data/<number>
//! ```

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

use glm_support::files::atomic;
use glm_support::files::output::{Output, OutputError};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::CheckpointError;
use super::safetensors_file::WriteFailure;
use super::stored::{TensorHeader, contiguous_strides};

/// File of weights in a published checkpoint.
pub const PUBLISHED_FILE: &str = "mp_rank_00_model_states.pt";
/// File with the name of the latest iteration in the folder of a published checkpoint.
pub const PUBLISHED_LATEST: &str = "latest_checkpointed_iteration.txt";
/// Alignment of the elements in bytes, as `torch.save` aligns them for mapped files.
const ALIGNMENT: u16 = 64;
/// Members of this size or more need the 64-bit fields of the format.
const LARGE: usize = u32::MAX as usize;

/// Writes the file that names the latest iteration, which must be complete.
///
/// # Errors
/// [`OutputError`] if it cannot be written.
pub fn write_latest(folder: &Path, iteration: u64) -> Result<(), OutputError> {
    Output::open(&folder.join(PUBLISHED_LATEST))?.write_all(iteration.to_string().as_bytes())
}

/// Writes the file of an iteration, or one of `parts` model-parallel parts of it. For `data` see [`super::safetensors_file::write`].
///
/// # Errors
/// [`CheckpointError`] if the file cannot be written, or the error of `data`.
pub fn write_file<'d>(
    path: &Path,
    iteration: u64,
    parts: usize,
    headers: &[TensorHeader],
    mut data: impl FnMut(&TensorHeader) -> Result<Cow<'d, [u8]>, CheckpointError>,
) -> Result<(), CheckpointError> {
    let write = |file: &mut dyn atomic::Sink| {
        let mut zip = ZipWriter::new(file);
        // The folder that `torch.save` uses.
        let folder = path.file_stem().map_or_else(|| "archive".into(), |stem| stem.to_string_lossy());
        let mut member = |name: &str, content: &[u8]| member(&mut zip, &format!("{folder}/{name}"), content);
        member("data.pkl", &pickle(iteration, parts, headers))?;
        member("byteorder", b"little")?;
        for (key, header) in headers.iter().enumerate() {
            member(&format!("data/{key}"), &data(header)?)?;
        }
        member("version", b"3\n")?;
        zip.finish().map(drop).map_err(zip_failure)
    };
    atomic::write(path, write).map_err(|failure| failure.at(path))
}

fn zip_failure(error: zip::result::ZipError) -> WriteFailure {
    WriteFailure::File(error.into())
}

fn member(zip: &mut ZipWriter<&mut dyn atomic::Sink>, name: &str, content: &[u8]) -> Result<(), WriteFailure> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(ALIGNMENT)
        .large_file(content.len() >= LARGE);
    zip.start_file(name, options).map_err(zip_failure)?;
    Ok(zip.write_all(content)?)
}

/// Returns the pickle with DeepSpeed's entries, without optimizer and schedule, and with `iteration`, which the published code adds.
fn pickle(iteration: u64, parts: usize, headers: &[TensorHeader]) -> Vec<u8> {
    let mut pickle = Pickle::new();
    pickle.op(b"}(").text("module").op(b"}(");
    for (key, header) in headers.iter().enumerate() {
        pickle.text(&header.name).tensor(key, header);
    }
    pickle.op(b"u");
    pickle.text("optimizer").op(b"N").text("lr_scheduler").op(b"N");
    pickle.text("csr_tensor_module_names").global("__builtin__", "set").op(b"]\x85R");
    for (name, number) in
        [("skipped_steps", 0), ("global_steps", iteration), ("dp_world_size", 1), ("mp_world_size", parts as u64)]
    {
        pickle.text(name).int(number);
    }
    pickle.text("iteration").int(iteration).op(b"u.");
    pickle.0
}

/// A pickle of protocol 2 under construction. The names of opcodes in Python's `pickletools` are in brackets. No object occurs twice,
/// so no memo is needed.
struct Pickle(Vec<u8>);

impl Pickle {
    /// [PROTO]
    fn new() -> Self {
        Self(vec![0x80, 2])
    }

    fn op(&mut self, opcodes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(opcodes);
        self
    }

    /// [BINUNICODE]
    fn text(&mut self, text: &str) -> &mut Self {
        // Names are shorter: the reader rejects more than 512 bytes.
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        self.op(b"X").op(&length.to_le_bytes()).op(text.as_bytes())
    }

    /// [LONG1] with eight bytes and a zero byte, which makes it positive.
    fn int(&mut self, int: u64) -> &mut Self {
        self.op(&[0x8a, 9]).op(&int.to_le_bytes()).op(&[0])
    }

    /// [GLOBAL]
    fn global(&mut self, module: &str, name: &str) -> &mut Self {
        self.op(b"c").op(module.as_bytes()).op(b"\n").op(name.as_bytes()).op(b"\n")
    }

    /// [MARK … TUPLE]
    fn sizes(&mut self, sizes: impl IntoIterator<Item = usize>) -> &mut Self {
        self.op(b"(");
        for size in sizes {
            self.int(size as u64);
        }
        self.op(b"t")
    }

    /// `_rebuild_tensor_v2(storage, 0, shape, stride, False, OrderedDict())`, with member `data/<key>` as storage.
    fn tensor(&mut self, key: usize, header: &TensorHeader) -> &mut Self {
        let elements: usize = header.shape.iter().product();
        self.global("torch._utils", "_rebuild_tensor_v2").op(b"(");
        self.op(b"(").text("storage").global("torch", header.kind.storage_class()).text(&key.to_string()).text("cpu");
        self.int(elements as u64).op(b"tQ").int(0);
        self.sizes(header.shape.iter().copied()).sizes(contiguous_strides(&header.shape));
        self.op(&[0x89]).global("collections", "OrderedDict").op(b")RtR")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::checkpoint::pickle::read_module;
    use crate::checkpoint::stored::StoredKind;

    #[test]
    fn written_weights_are_read_back() {
        let folder = tempfile::tempdir().expect("folder");
        let headers = [("b", vec![2, 3, 4], StoredKind::F16), ("a", vec![5], StoredKind::F32), ("c", vec![], StoredKind::I64)]
            .map(|(name, shape, kind)| TensorHeader { name: name.to_owned(), kind, shape });
        let bytes: Vec<Vec<u8>> =
            headers.iter().zip(1..).map(|(header, fill)| vec![fill; header.bytes().expect("small")]).collect();
        let mut remaining = bytes.iter();
        let file = folder.path().join(PUBLISHED_FILE);
        write_file(&file, 600, 1, &headers, |_| Ok(Cow::Borrowed(remaining.next().expect("three").as_slice())))
            .expect("written");
        write_latest(folder.path(), 600).expect("written");
        assert_eq!(fs::read_to_string(folder.path().join(PUBLISHED_LATEST)).expect("read"), "600");

        let state = read_module(&file).expect("readable");
        assert_eq!(state.names().collect::<Vec<_>>(), ["b", "a", "c"]);
        for (header, bytes) in headers.iter().zip(&bytes) {
            let tensor = state.tensor(&header.name).expect("valid checksum");
            assert_eq!((tensor.kind, &tensor.shape, tensor.data.as_ref()), (header.kind, &header.shape, bytes.as_slice()));
            assert!(matches!(tensor.data, Cow::Borrowed(_)), "in order");
        }
        let others = ["optimizer (None)", "csr_tensor_module_names (__builtin__.set)", "global_steps (int)", "iteration (int)"];
        assert!(others.iter().all(|name| state.skipped.iter().any(|skipped| skipped == name)), "{:?}", state.skipped);
    }

    #[test]
    fn elements_are_aligned_to_64_bytes() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("x.pt");
        let headers = [3, 5, 7].map(|size| TensorHeader { name: size.to_string(), kind: StoredKind::F16, shape: vec![size] });
        write_file(&path, 1, 1, &headers, |header| Ok(Cow::Owned(vec![0xab; header.bytes().expect("small")])))
            .expect("written");
        let content = fs::read(&path).expect("read");
        let starts: Vec<usize> = (1..content.len()).filter(|at| content[*at] == 0xab && content[at - 1] != 0xab).collect();
        assert_eq!(starts.len(), 3);
        assert!(starts.iter().all(|at| at % usize::from(ALIGNMENT) == 0), "{starts:?}");
    }

    #[test]
    fn no_file_remains_after_a_failure() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("x.pt");
        let header = TensorHeader { name: "w".into(), kind: StoredKind::F16, shape: vec![1] };
        let failed = write_file(&path, 1, 1, &[header], |_| {
            Err(CheckpointError::NotAGlm { path: "from.pt".into(), reason: "is damaged".into() })
        });
        assert_eq!(failed.expect_err("fails").to_string(), "from.pt: is damaged");
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 0);
    }
}
