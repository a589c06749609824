//! What can be wrong with a checkpoint file, in words that say where and what to do.

use std::io;
use std::path::PathBuf;

/// A checkpoint file that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PickleError {
    /// The file cannot be opened, is no regular file, or cannot be mapped.
    #[error("{}: cannot be read: {source}; give the path of a checkpoint file, for example 200000/mp_rank_00_model_states.pt", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is neither of the two containers that `torch.save` writes.
    #[error("{}: not a PyTorch checkpoint: {why}", .path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// What it looks like instead, and what to do.
        why: String,
    },
    /// The zip container is damaged or uses something that `torch.save` never writes.
    #[error("{}: zip member {member}: {why}; download the checkpoint again or save it again with torch.save", .path.display())]
    Zip {
        /// The file.
        path: PathBuf,
        /// Name of the zip member, or `(directory)`.
        member: String,
        /// What is wrong with it.
        why: String,
    },
    /// The old container (before PyTorch 1.6) does not hold what it announces.
    #[error("{}: byte {offset}: {why}; download the checkpoint again or save it again with torch.save", .path.display())]
    Legacy {
        /// The file.
        path: PathBuf,
        /// Byte offset in the file.
        offset: usize,
        /// What is wrong there.
        why: String,
    },
    /// A pickle stream is damaged.
    #[error("{}: {part}, byte {offset} (opcode 0x{opcode:02x}): {fault}; the file is damaged or was not written by torch.save: download or save it again", .path.display())]
    Opcode {
        /// The file.
        path: PathBuf,
        /// Which pickle of the file.
        part: String,
        /// Byte offset of the opcode: in the zip member, or in the file for the old container.
        offset: usize,
        /// The opcode, 0 at the end of the data.
        opcode: u8,
        /// What is wrong with it.
        fault: Fault,
    },
    /// No dict from names to tensors was found.
    #[error("{}: holds no state dict: {found}; save {{'module': model.state_dict()}} with torch.save", .path.display())]
    NoStateDict {
        /// The file.
        path: PathBuf,
        /// What the file holds instead.
        found: String,
    },
    /// A tensor of the state dict is described in a way that cannot be right, or that is not supported.
    #[error("{}: tensor '{name}': {fault}", .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// Name of the tensor, dots between the levels.
        name: String,
        /// What is wrong with it.
        fault: TensorFault,
    },
    /// The state dict has no tensor of that name.
    #[error("{}: no tensor '{name}' in the state dict; StateDict::names lists the {count} there are", .path.display())]
    UnknownTensor {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// Number of tensors in the state dict.
        count: usize,
    },
}

/// Why one opcode of a pickle stream cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The operand or the stream ends too early.
    #[error("the data ends early: {needed} bytes announced, {left} left")]
    Truncated {
        /// Bytes that the opcode needs.
        needed: u64,
        /// Bytes that are left.
        left: usize,
    },
    /// A text operand without the line feed at its end.
    #[error("a line without an end")]
    NoLineEnd,
    /// No opcode of protocols 0 to 5.
    #[error("unknown opcode")]
    UnknownOpcode,
    /// A later pickle protocol than 5.
    #[error("pickle protocol {0} is not known, the newest is 5")]
    Protocol(u8),
    /// The opcode takes more values than there are since the last mark.
    #[error("the stack holds too few values")]
    StackUnderflow,
    /// The opcode takes the values since a mark, and there is none.
    #[error("no mark on the stack")]
    NoMark,
    /// A reference to a value that was never stored.
    #[error("memo entry {0} was never stored")]
    NoMemo(u64),
    /// The opcode cannot be applied to that value.
    #[error("expected {wanted}, found {found}")]
    WrongValue {
        /// What the opcode works on.
        wanted: &'static str,
        /// What it found.
        found: String,
    },
    /// A number in text form that is none.
    #[error("not a number")]
    BadNumber,
    /// A name or a quoted string that cannot be decoded.
    #[error("not a valid string")]
    BadText,
    /// Buffers outside the stream, which `torch.save` never uses.
    #[error("out-of-band buffers are not supported")]
    OutOfBand,
    /// More than a checkpoint ever needs.
    #[error("more than {limit} {what}, which no model checkpoint needs")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: usize,
    },
}

/// Why a tensor of the state dict cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorFault {
    /// A tensor made by a function this reader does not know (sparse, quantized, complex, subclass).
    #[error("built by {0}, which is not supported; save plain dense tensors")]
    UnknownBuilder(String),
    /// An element type this reader does not know.
    #[error("storage class {0} is not supported; save the tensor as float16, bfloat16, float32, float64 or an integer type")]
    UnknownKind(String),
    /// The description of the tensor does not have the form that `torch.save` writes.
    #[error("{0}; the file is damaged or was not written by torch.save: download or save it again")]
    Malformed(String),
    /// More dimensions than PyTorch allows.
    #[error("{0} dimensions, PyTorch has at most 64; the file is damaged: download or save it again")]
    TooManyDimensions(usize),
    /// Sizes whose product, or strides whose reach, exceeds the address space.
    #[error("sizes {0:?} overflow; the file is damaged: download or save it again")]
    Overflow(Vec<usize>),
    /// The view reaches beyond its storage.
    #[error("needs element {last} of a storage of {numel}; the file is damaged: download or save it again")]
    OutOfStorage {
        /// Index of the last element that the view reads.
        last: usize,
        /// Elements in the storage.
        numel: usize,
    },
    /// The file holds fewer bytes for the storage than it announces.
    #[error(
        "storage '{key}' should have {wanted} bytes, the file holds {found}; the file is damaged: download or save it again"
    )]
    ShortStorage {
        /// Key of the storage.
        key: String,
        /// Bytes announced.
        wanted: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The file has no such storage.
    #[error("storage '{0}' is not in the file; the file is damaged: download or save it again")]
    NoStorage(String),
    /// An expanded view (stride 0) with more bytes than the whole file.
    #[error("an expanded view of {bytes} bytes, more than the whole file; call .contiguous() before saving")]
    Expanded {
        /// Bytes of the tensor once laid out.
        bytes: usize,
    },
    /// Two tensors of the state dict have the same name once the levels are joined with dots.
    #[error("there are two of that name; rename one before saving")]
    Duplicate,
}
