//! Errors of the checkpoint reader.

use std::io;
use std::path::PathBuf;

use super::super::stored::ChecksumMismatch;

/// A checkpoint file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PickleError {
    /// The file cannot be opened or mapped, or is not a regular file.
    #[error("{}: cannot be read: {source}; use the path of a checkpoint file, for example 200000/mp_rank_00_model_states.pt", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// The file has neither of the containers that `torch.save` writes.
    #[error("{}: not a PyTorch checkpoint: {why}", .path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// Likely type of the file and what to do.
        why: String,
    },
    /// The zip container is damaged or uses a feature that `torch.save` never uses.
    #[error("{}: zip member {member}: {why}; download the checkpoint again or save it again with torch.save", .path.display())]
    Zip {
        /// The file.
        path: PathBuf,
        /// Name of the zip member, or `(directory)`.
        member: String,
        /// Reason.
        why: String,
    },
    /// The bytes of the pickle are damaged.
    #[error("{}: {source}", .path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The mismatch.
        source: ChecksumMismatch,
    },
    /// The legacy container (before PyTorch 1.6) is damaged.
    #[error("{}: byte {offset}: {why}; download the checkpoint again or save it again with torch.save", .path.display())]
    Legacy {
        /// The file.
        path: PathBuf,
        /// Byte offset in the file.
        offset: usize,
        /// Reason.
        why: String,
    },
    /// A pickle stream is damaged.
    #[error("{}: {part}, byte {offset} (opcode 0x{opcode:02x}): {fault}; the file is damaged or was not written by torch.save: download or save it again", .path.display())]
    Opcode {
        /// The file.
        path: PathBuf,
        /// Pickle within the file.
        part: String,
        /// Byte offset of the opcode, in the zip member or in a file with the legacy container.
        offset: usize,
        /// Opcode; 0 at the end of the data.
        opcode: u8,
        /// Reason.
        fault: Fault,
    },
    /// The file has no dict from names to tensors.
    #[error("{}: no state dict: {found}; save {{'module': model.state_dict()}} with torch.save", .path.display())]
    NoStateDict {
        /// The file.
        path: PathBuf,
        /// Content of the file.
        found: String,
    },
    /// A tensor of the state dict is invalid or not supported.
    #[error("{}: tensor '{name}': {fault}", .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor, with dots between the levels.
        name: String,
        /// Reason.
        fault: TensorFault,
    },
}

/// Errors of a pickle opcode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The operand or the stream ends too early.
    #[error("the data ends early: {needed} bytes needed, {left} left")]
    Truncated {
        /// Bytes that the opcode needs.
        needed: u64,
        /// Remaining bytes.
        left: usize,
    },
    /// A text operand has no line feed at its end.
    #[error("a line without an end")]
    NoLineEnd,
    /// Not an opcode of protocols 0 to 5.
    #[error("unknown opcode")]
    UnknownOpcode,
    /// A protocol later than 5.
    #[error("unknown pickle protocol {0}, the latest is 5")]
    Protocol(u8),
    /// There are fewer values since the last mark than the opcode takes.
    #[error("the stack has too few values")]
    StackUnderflow,
    /// The opcode takes the values since a mark, and there is no mark.
    #[error("no mark on the stack")]
    NoMark,
    /// A reference to a memo entry that does not exist.
    #[error("memo entry {0} does not exist")]
    NoMemo(u64),
    /// The opcode cannot be applied to this value.
    #[error("expected {wanted}, found {found}")]
    WrongValue {
        /// Type that the opcode needs.
        wanted: &'static str,
        /// Type of the value.
        found: String,
    },
    /// A decimal number is invalid.
    #[error("not a number")]
    BadNumber,
    /// A name or a quoted string cannot be decoded.
    #[error("not a valid string")]
    BadText,
    /// Buffers outside the stream, which `torch.save` never uses.
    #[error("out-of-band buffers are not supported")]
    OutOfBand,
    /// A limit far above the needs of a model checkpoint was exceeded.
    #[error("more than {limit} {what}, which no model checkpoint needs")]
    Limit {
        /// The limited quantity.
        what: &'static str,
        /// Maximum.
        limit: usize,
    },
}

/// Reasons for which a tensor of the state dict is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorFault {
    /// The rebuild function is not supported (sparse, quantized, complex, subclass).
    #[error("built by {0}, which is not supported; save plain dense tensors")]
    UnknownBuilder(String),
    /// The element type is not supported.
    #[error("storage class {0} is not supported; save the tensor as float16, bfloat16, float32, float64 or an integer type")]
    UnknownKind(String),
    /// The tensor is not described in the form that `torch.save` writes.
    #[error("{0}; the file is damaged or was not written by torch.save: download or save it again")]
    Malformed(String),
    /// More dimensions than PyTorch allows.
    #[error("{0} dimensions, PyTorch has at most 64; the file is damaged: download or save it again")]
    TooManyDimensions(usize),
    /// The number of elements or the largest index overflows.
    #[error("sizes {0:?} overflow; the file is damaged: download or save it again")]
    Overflow(Vec<usize>),
    /// The view extends beyond its storage.
    #[error("needs element {last} of a storage of {numel}; the file is damaged: download or save it again")]
    OutOfStorage {
        /// Index of the last element of the view.
        last: usize,
        /// Number of elements in the storage.
        numel: usize,
    },
    /// The storage has fewer bytes in the file than the pickle specifies.
    #[error("storage '{key}' should have {wanted} bytes, the file has {found}; the file is damaged: download or save it again")]
    ShortStorage {
        /// Key of the storage.
        key: String,
        /// Specified number of bytes.
        wanted: usize,
        /// Number of bytes in the file.
        found: usize,
    },
    /// The storage does not exist in the file.
    #[error("storage '{0}' is not in the file; the file is damaged: download or save it again")]
    NoStorage(String),
    /// An expanded view (stride 0) would be larger than the whole file.
    #[error("an expanded view of {bytes} bytes, more than the whole file; call .contiguous() before saving")]
    Expanded {
        /// Bytes of the contiguous tensor.
        bytes: usize,
    },
    /// Two tensors have the same name after the levels are joined with dots.
    #[error("two tensors have this name; rename one before saving")]
    Duplicate,
}
