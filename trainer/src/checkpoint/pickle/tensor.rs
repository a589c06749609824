//! Tensors as the pickle describes them: a builder function with a storage, an offset, sizes and strides.
//!
//! Source of the argument lists: `torch/_utils.py`, functions `_rebuild_tensor`, `_rebuild_tensor_v2`, `_rebuild_parameter` and
//! `_rebuild_parameter_with_state`; of the storage references: `persistent_id` in `torch/serialization.py`.

use super::error::TensorFault;
use super::value::{Id, Object, Value, Values, quote};

/// Most dimensions of a tensor in PyTorch.
const MAX_DIMENSIONS: usize = 64;
/// Longest key of a storage, in bytes; PyTorch writes numbers.
const MAX_KEY: usize = 64;
/// Deepest wrapping of one builder's result in another's.
const MAX_WRAPPING: usize = 4;

/// Element type of stored data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoredKind {
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an F32.
    BF16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// 64-bit integer with sign.
    I64,
    /// 32-bit integer with sign.
    I32,
    /// 16-bit integer with sign.
    I16,
    /// 8-bit integer with sign.
    I8,
    /// Byte.
    U8,
    /// Byte that is 0 or 1.
    Bool,
}

impl StoredKind {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            StoredKind::F64 | StoredKind::I64 => 8,
            StoredKind::F32 | StoredKind::I32 => 4,
            StoredKind::F16 | StoredKind::BF16 | StoredKind::I16 => 2,
            StoredKind::I8 | StoredKind::U8 | StoredKind::Bool => 1,
        }
    }

    /// Its short name, of at most four letters.
    pub fn name(self) -> &'static str {
        match self {
            StoredKind::F16 => "fp16",
            StoredKind::BF16 => "bf16",
            StoredKind::F32 => "fp32",
            StoredKind::F64 => "fp64",
            StoredKind::I64 => "i64",
            StoredKind::I32 => "i32",
            StoredKind::I16 => "i16",
            StoredKind::I8 => "i8",
            StoredKind::U8 => "u8",
            StoredKind::Bool => "bool",
        }
    }

    fn of_storage_class(name: &str) -> Option<Self> {
        Some(match name {
            "HalfStorage" => StoredKind::F16,
            "BFloat16Storage" => StoredKind::BF16,
            "FloatStorage" => StoredKind::F32,
            "DoubleStorage" => StoredKind::F64,
            "LongStorage" => StoredKind::I64,
            "IntStorage" => StoredKind::I32,
            "ShortStorage" => StoredKind::I16,
            "CharStorage" => StoredKind::I8,
            "ByteStorage" => StoredKind::U8,
            "BoolStorage" => StoredKind::Bool,
            _ => return None,
        })
    }
}

/// A reference to a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StorageRef<'v> {
    pub(super) key: &'v str,
    pub(super) kind: StoredKind,
    /// Elements of the whole storage.
    pub(super) numel: usize,
    /// Elements of it before the part that is meant (old container only).
    pub(super) skip: usize,
}

/// A tensor: the element with index (i, j, …) is element `offset + i * stride[0] + j * stride[1] + …` of the storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View<'v> {
    pub(super) storage: StorageRef<'v>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) stride: Vec<usize>,
}

fn malformed(what: impl Into<String>) -> TensorFault {
    TensorFault::Malformed(what.into())
}

/// Reads the description of a tensor; none if the value is something else.
pub(super) fn read_tensor<'v>(values: &'v Values<'_>, id: Id) -> Option<Result<View<'v>, TensorFault>> {
    let Value::Object(object) = values.get(id) else { return None };
    let Value::Global { module, name } = values.get(object.callable) else { return None };
    let builder = matches!(*module, "torch._utils" | "torch._tensor") && name.starts_with("_rebuild");
    builder.then(|| read_built(values, object, 0))
}

fn read_built<'v>(values: &'v Values<'_>, object: &Object, depth: usize) -> Result<View<'v>, TensorFault> {
    let args = values.sequence(object.args).unwrap_or_default();
    if values.is_global(object.callable, "torch._utils", &["_rebuild_tensor", "_rebuild_tensor_v2"]) {
        let [storage, offset, size, stride, ..] = args else { return Err(malformed("its builder has too few arguments")) };
        return read_view(values, *storage, *offset, *size, *stride);
    }
    if values.is_global(object.callable, "torch._utils", &["_rebuild_parameter", "_rebuild_parameter_with_state"]) {
        let Some(Value::Object(inner)) = args.first().map(|data| values.get(*data)) else {
            return Err(malformed("a parameter without a tensor in it"));
        };
        if depth >= MAX_WRAPPING {
            return Err(malformed("a parameter inside a parameter"));
        }
        return read_built(values, inner, depth + 1);
    }
    Err(TensorFault::UnknownBuilder(values.describe(object.callable)))
}

fn read_view<'v>(values: &'v Values<'_>, storage: Id, offset: Id, size: Id, stride: Id) -> Result<View<'v>, TensorFault> {
    let Value::Persistent(reference) = values.get(storage) else { return Err(malformed("its data is no storage")) };
    let storage = read_storage(values, *reference)?;
    let offset = values.index(offset).and_then(|offset| offset.checked_add(storage.skip));
    let offset = offset.ok_or_else(|| malformed("its storage offset is no index"))?;
    let shape = read_sizes(values, size)?;
    let stride = read_sizes(values, stride)?;
    if shape.len() != stride.len() {
        return Err(malformed(format!("{} sizes and {} strides", shape.len(), stride.len())));
    }
    let view = View { storage, offset, shape, stride };
    view.check()?;
    Ok(view)
}

fn read_sizes(values: &Values<'_>, id: Id) -> Result<Vec<usize>, TensorFault> {
    let sizes = values.sequence(id).ok_or_else(|| malformed("its sizes or strides are no tuple"))?;
    if sizes.len() > MAX_DIMENSIONS {
        return Err(TensorFault::TooManyDimensions(sizes.len()));
    }
    let size = |id: &Id| values.index(*id).ok_or_else(|| malformed("a size or stride that is no index"));
    sizes.iter().map(size).collect()
}

/// Reads `('storage', class, key, location, numel)`, with `None` or `(view key, offset, view size)` behind it in the old container.
pub(super) fn read_storage<'v>(values: &'v Values<'_>, reference: Id) -> Result<StorageRef<'v>, TensorFault> {
    let [tag, class, key, _location, numel, rest @ ..] = values.sequence(reference).unwrap_or_default() else {
        return Err(malformed("its storage reference is no tuple of five"));
    };
    if values.text(*tag) != Some("storage") {
        return Err(malformed("its storage reference does not say 'storage'"));
    }
    let Value::Global { module, name } = values.get(*class) else { return Err(malformed("its storage has no class")) };
    let kind = if matches!(*module, "torch" | "torch.cuda") { StoredKind::of_storage_class(name) } else { None };
    let kind = kind.ok_or_else(|| TensorFault::UnknownKind(values.describe(*class)))?;
    let key = values.text(*key).ok_or_else(|| malformed("the key of its storage is no text"))?;
    if key.len() > MAX_KEY {
        return Err(malformed(format!("the key of its storage is too long: '{}'", quote(key))));
    }
    let numel = values.index(*numel).ok_or_else(|| malformed("the length of its storage is no number"))?;
    let skip =
        rest.first().and_then(|view| values.sequence(*view)).and_then(|view| view.get(1)).map(|skip| values.index(*skip));
    let skip = skip.unwrap_or(Some(0)).ok_or_else(|| malformed("the offset in its storage is no index"))?;
    Ok(StorageRef { key, kind, numel, skip })
}

impl View<'_> {
    /// Elements of the tensor; none if that overflows.
    pub(super) fn numel(&self) -> Option<usize> {
        // A zero anywhere makes the tensor empty, even where the other sizes overflow.
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))
    }

    /// Fails unless every element lies in the storage.
    fn check(&self) -> Result<(), TensorFault> {
        let overflow = || TensorFault::Overflow(self.shape.clone());
        let numel = self.numel().ok_or_else(overflow)?;
        numel.checked_mul(self.storage.kind.size()).ok_or_else(overflow)?;
        self.storage.numel.checked_mul(self.storage.kind.size()).ok_or_else(overflow)?;
        if numel == 0 {
            return Ok(());
        }
        let reach = |sum: usize, (size, stride): (&usize, &usize)| sum.checked_add((size - 1).checked_mul(*stride)?);
        let last = self.shape.iter().zip(&self.stride).try_fold(self.offset, reach).ok_or_else(overflow)?;
        if last >= self.storage.numel {
            return Err(TensorFault::OutOfStorage { last, numel: self.storage.numel });
        }
        Ok(())
    }
}
