//! Tensors as files store them: element types, layouts, and reading them from a mapped file.
//!
//! [`TensorFile`] is what both readers produce, for PyTorch's container and for safetensors. This module needs nothing else of the
//! crate, so that the fuzz targets compile it without libtorch.

mod file_bytes;
mod gather;
mod tensor_file;

use std::borrow::Cow;

pub(crate) use file_bytes::FileBytes;
pub use tensor_file::{Checksum, ChecksumMismatch, ReadError, TensorFile};
pub(crate) use tensor_file::{Entry, Storage};

/// Element type of a stored tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoredKind {
    /// IEEE 754 half precision.
    F16,
    /// Brain floating point: the upper half of an F32.
    BF16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer.
    I16,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 8-bit integer.
    U8,
    /// Boolean, one byte, 0 or 1.
    Bool,
}

impl StoredKind {
    /// All element types.
    pub const ALL: [Self; 10] =
        [Self::F16, Self::BF16, Self::F32, Self::F64, Self::I64, Self::I32, Self::I16, Self::I8, Self::U8, Self::Bool];

    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Short name, at most four letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "fp16",
            Self::BF16 => "bf16",
            Self::F32 => "fp32",
            Self::F64 => "fp64",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }

    /// Name of PyTorch's storage class for this type.
    pub fn storage_class(self) -> &'static str {
        match self {
            Self::F16 => "HalfStorage",
            Self::BF16 => "BFloat16Storage",
            Self::F32 => "FloatStorage",
            Self::F64 => "DoubleStorage",
            Self::I64 => "LongStorage",
            Self::I32 => "IntStorage",
            Self::I16 => "ShortStorage",
            Self::I8 => "CharStorage",
            Self::U8 => "ByteStorage",
            Self::Bool => "BoolStorage",
        }
    }
}

/// A tensor read from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTensor<'s> {
    /// Element type.
    pub kind: StoredKind,
    /// Sizes, outermost dimension first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements in row-major order, little-endian, not aligned. Borrowed from the file if they are stored in this order.
    pub data: Cow<'s, [u8]>,
}

/// Name, element type and shape of a tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorHeader {
    /// Name.
    pub name: String,
    /// Element type.
    pub kind: StoredKind,
    /// Sizes, outermost dimension first.
    pub shape: Vec<usize>,
}

impl TensorHeader {
    /// Size of the elements in bytes, or `None` on overflow.
    pub fn bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.kind.size(), |product, size| product.checked_mul(*size))
    }
}

/// Returns the strides of a contiguous tensor in elements. They saturate for shapes that overflow, which no reader accepts unless the
/// tensor is empty.
pub(crate) fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for dimension in (1..shape.len()).rev() {
        strides[dimension - 1] = strides[dimension].saturating_mul(shape[dimension]);
    }
    strides
}
