//! Tensors in a pickle: calls of a rebuild function with storage, offset, sizes and strides.
//!
//! Sources: `_rebuild_tensor`, `_rebuild_tensor_v2`, `_rebuild_parameter` and `_rebuild_parameter_with_state` in `torch/_utils.py`
//! for the arguments, `persistent_id` in `torch/serialization.py` for references to storages.

use super::super::stored::StoredKind;
use super::error::TensorFault;
use super::value::{Id, Object, Value, Values, quote};

/// Maximum number of dimensions of a tensor in PyTorch.
const MAX_DIMENSIONS: usize = 64;
/// Maximum length of the key of a storage in bytes; PyTorch writes numbers.
const MAX_KEY: usize = 64;
/// Maximum nesting of calls of rebuild functions.
const MAX_WRAPPING: usize = 4;

/// Reference to a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StorageRef<'v> {
    pub(super) key: &'v str,
    pub(super) kind: StoredKind,
    /// Number of elements of the whole storage.
    pub(super) numel: usize,
    /// Number of elements before the referenced part (legacy container only).
    pub(super) skip: usize,
}

/// A strided view of a storage; offset and strides count elements.
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

/// Reads a tensor; returns `None` if the value is not one.
pub(super) fn read_tensor<'v>(values: &'v Values<'_>, id: Id) -> Option<Result<View<'v>, TensorFault>> {
    let Value::Object(object) = values.get(id) else { return None };
    let Value::Global { module, name } = values.get(object.callable) else { return None };
    let builder = matches!(*module, "torch._utils" | "torch._tensor") && name.starts_with("_rebuild");
    builder.then(|| read_built(values, object, 0))
}

fn read_built<'v>(values: &'v Values<'_>, object: &Object, depth: usize) -> Result<View<'v>, TensorFault> {
    let args = values.sequence(object.args).unwrap_or_default();
    if values.is_global(object.callable, "torch._utils", &["_rebuild_tensor", "_rebuild_tensor_v2"]) {
        let [storage, offset, size, stride, ..] = args else {
            return Err(malformed("its rebuild function has too few arguments"));
        };
        return read_view(values, *storage, *offset, *size, *stride);
    }
    if values.is_global(object.callable, "torch._utils", &["_rebuild_parameter", "_rebuild_parameter_with_state"]) {
        let Some(Value::Object(inner)) = args.first().map(|data| values.get(*data)) else {
            return Err(malformed("a parameter without a tensor"));
        };
        if depth >= MAX_WRAPPING {
            return Err(malformed("a parameter inside a parameter"));
        }
        return read_built(values, inner, depth + 1);
    }
    Err(TensorFault::UnknownBuilder(values.describe(object.callable)))
}

fn read_view<'v>(values: &'v Values<'_>, storage: Id, offset: Id, size: Id, stride: Id) -> Result<View<'v>, TensorFault> {
    let Value::Persistent(reference) = values.get(storage) else { return Err(malformed("its data is not a storage")) };
    let storage = read_storage(values, *reference)?;
    let offset = values.index(offset).and_then(|offset| offset.checked_add(storage.skip));
    let offset = offset.ok_or_else(|| malformed("its storage offset is not an index"))?;
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
    let sizes = values.sequence(id).ok_or_else(|| malformed("its sizes or strides are not a tuple"))?;
    if sizes.len() > MAX_DIMENSIONS {
        return Err(TensorFault::TooManyDimensions(sizes.len()));
    }
    let size = |id: &Id| values.index(*id).ok_or_else(|| malformed("one of its sizes or strides is not an index"));
    sizes.iter().map(size).collect()
}

/// Reads `('storage', class, key, location, numel)`, followed by `None` or `(view key, offset, view size)` in the legacy container.
pub(super) fn read_storage<'v>(values: &'v Values<'_>, reference: Id) -> Result<StorageRef<'v>, TensorFault> {
    let [tag, class, key, _location, numel, rest @ ..] = values.sequence(reference).unwrap_or_default() else {
        return Err(malformed("its storage reference is not a tuple of five"));
    };
    if values.text(*tag) != Some("storage") {
        return Err(malformed("its storage reference does not begin with 'storage'"));
    }
    let Value::Global { module, name } = values.get(*class) else { return Err(malformed("its storage has no class")) };
    let mut kinds = StoredKind::ALL.into_iter().filter(|_| matches!(*module, "torch" | "torch.cuda"));
    let kind = kinds.find(|kind| kind.storage_class() == *name);
    let kind = kind.ok_or_else(|| TensorFault::UnknownKind(values.describe(*class)))?;
    let key = values.text(*key).ok_or_else(|| malformed("the key of its storage is not a string"))?;
    if key.len() > MAX_KEY {
        return Err(malformed(format!("the key of its storage is too long: '{}'", quote(key))));
    }
    let numel = values.index(*numel).ok_or_else(|| malformed("the length of its storage is not an index"))?;
    let skip =
        rest.first().and_then(|view| values.sequence(*view)).and_then(|view| view.get(1)).map(|skip| values.index(*skip));
    let skip = skip.unwrap_or(Some(0)).ok_or_else(|| malformed("the offset in its storage is not an index"))?;
    Ok(StorageRef { key, kind, numel, skip })
}

impl View<'_> {
    /// Returns the number of elements, or `None` on overflow.
    pub(super) fn numel(&self) -> Option<usize> {
        // One zero makes the tensor empty, even if the other sizes overflow.
        if self.shape.contains(&0) {
            return Some(0);
        }
        self.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))
    }

    /// Checks that every element is within the storage.
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
