//! Published weights in model-parallel parts, which are joined on reading.
//!
//! Each of N parts, `mp_rank_00_model_states.pt`, `mp_rank_01_model_states.pt`, …, has all tensors, of which it has
//!
//! | tensors | share |
//! | --- | --- |
//! | `query_key_value` | the rows of its heads: 1/N of the queries, then of the keys, then of the values |
//! | `dense_h_to_4h`, `word_embeddings` | 1/N of the rows |
//! | weights of `attention.dense` and `dense_4h_to_h` | 1/N of the columns |
//! | all others | all, equal in all parts |

use std::path::{Path, PathBuf};

use super::CheckpointError;
use super::stored::{StoredKind, TensorFile};

/// Start of the name of a part.
const PREFIX: &str = "mp_rank_";
/// End of the name of a part.
const SUFFIX: &str = "_model_states.pt";

/// Share of a tensor that a part has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All of it.
    All,
    /// Rows of each of this number of blocks of rows.
    Rows(usize),
    /// Columns.
    Columns,
}

/// Returns the file name of a part.
pub fn file_name(part: usize) -> String {
    format!("{PREFIX}{part:02}{SUFFIX}")
}

/// Returns the number of the part with a file name.
fn part_of(path: &Path) -> Option<usize> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok()
}

/// Returns true if a file is a part, by its name.
pub fn is_part(path: &Path) -> bool {
    part_of(path).is_some()
}

/// Returns the parts in a folder by their numbers.
pub fn parts_in(folder: &Path) -> Vec<(usize, PathBuf)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut parts: Vec<_> = entries.filter_map(|entry| Some((part_of(&entry.path())?, entry.path()))).collect();
    parts.sort();
    parts
}

/// Returns all parts of the weights of which `path` is one, in order; `path` itself if it is not a part.
///
/// # Errors
/// [`CheckpointError::Parts`] if one is missing.
pub(super) fn parts_of(path: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    if !is_part(path) {
        return Ok(vec![path.to_owned()]);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parts = parts_in(folder);
    match parts.iter().enumerate().find(|(expected, (part, _))| part != expected) {
        Some((missing, _)) => Err(CheckpointError::Parts {
            path: path.to_owned(),
            reason: format!(
                "{} is missing, one of {} or more model-parallel parts; copy it too",
                file_name(missing),
                parts.len() + 1
            ),
        }),
        None => Ok(parts.into_iter().map(|(part, _)| path.with_file_name(file_name(part))).collect()),
    }
}

impl Share {
    /// Returns the share of a tensor by its name.
    pub fn of(name: &str) -> Self {
        let ends = |end: &str| name.ends_with(end);
        if ends("attention.query_key_value.weight") || ends("attention.query_key_value.bias") {
            return Self::Rows(3);
        }
        if ends("word_embeddings.weight") || ends("mlp.dense_h_to_4h.weight") || ends("mlp.dense_h_to_4h.bias") {
            return Self::Rows(1);
        }
        if ends("attention.dense.weight") || ends("mlp.dense_4h_to_h.weight") { Self::Columns } else { Self::All }
    }

    /// Dimension that is divided.
    fn dimension(self) -> Option<usize> {
        match self {
            Self::All => None,
            Self::Rows(_) => Some(0),
            Self::Columns => Some(1),
        }
    }

    /// Shape of the tensor of which `parts` parts have this shape; `None` if the shape does not fit the share.
    pub fn whole(self, shape: &[usize], parts: usize) -> Option<Vec<usize>> {
        let mut whole = shape.to_vec();
        if let Some(dimension) = self.dimension() {
            let size = whole.get_mut(dimension)?;
            *size = size.checked_mul(parts)?;
            self.blocks(shape)?;
        }
        Some(whole)
    }

    /// Shape of each of `parts` parts of a tensor; `None` if it cannot be divided evenly.
    pub fn part(self, shape: &[usize], parts: usize) -> Option<Vec<usize>> {
        let mut part = shape.to_vec();
        if let Some(dimension) = self.dimension() {
            let size = part.get_mut(dimension)?;
            if !size.is_multiple_of(parts * if let Self::Rows(blocks) = self { blocks } else { 1 }) {
                return None;
            }
            *size /= parts;
        }
        Some(part)
    }

    /// Number of blocks of a tensor of which each part has a piece.
    fn blocks(self, shape: &[usize]) -> Option<usize> {
        match self {
            Self::All => Some(1),
            Self::Rows(blocks) => shape.first()?.is_multiple_of(blocks).then_some(blocks),
            Self::Columns => shape.first().copied(),
        }
    }

    /// Joins the elements of the parts, each of `shape`.
    pub(super) fn join(self, parts: &[&[u8]], shape: &[usize]) -> Vec<u8> {
        let (Some(blocks), Some(first)) = (self.blocks(shape), parts.first()) else { return Vec::new() };
        if self == Self::All {
            return first.to_vec();
        }
        let size = first.len() / blocks.max(1);
        let mut whole = Vec::with_capacity(first.len() * parts.len());
        for block in 0..blocks {
            parts.iter().for_each(|part| whole.extend_from_slice(&part[block * size..(block + 1) * size]));
        }
        whole
    }

    /// Returns the elements of one part of a tensor of `shape`.
    pub fn cut(self, whole: &[u8], shape: &[usize], part: usize, parts: usize) -> Vec<u8> {
        let Some(blocks) = self.blocks(shape) else { return Vec::new() };
        if self == Self::All {
            return whole.to_vec();
        }
        let size = whole.len() / blocks.max(1);
        let piece = size / parts;
        let starts = (0..blocks).map(|block| block * size + part * piece);
        starts.flat_map(|start| &whole[start..start + piece]).copied().collect()
    }
}

/// Returns the type and shape of a tensor of which each file has a part.
///
/// # Errors
/// [`CheckpointError`] if the parts differ.
pub(super) fn joined(files: &[TensorFile], name: &str) -> Result<(StoredKind, Vec<usize>), CheckpointError> {
    let [first, others @ ..] = files else { return Ok((StoredKind::F32, Vec::new())) };
    let (kind, shape) = first.describe(name)?;
    let fault = |file: &TensorFile, reason: String| {
        Err(CheckpointError::Parts {
            path: file.path().to_owned(),
            reason: format!("{reason}; use the parts of one checkpoint"),
        })
    };
    for file in others {
        match file.describe(name) {
            Ok(found) if found == (kind, shape) && file.names().len() == first.names().len() => {}
            Ok((other, found)) if (other, found) != (kind, shape) => {
                let (expected, other) = (kind.name(), other.name());
                return fault(
                    file,
                    format!("`{name}` is {other} of shape {found:?}, but {expected} of shape {shape:?} in the first part"),
                );
            }
            Ok(_) => {
                let extra = file.names().find(|name| first.describe(name).is_err()).unwrap_or(name);
                return fault(file, format!("the first part has no `{extra}`: the parts have different layers or names"));
            }
            Err(_) => {
                return fault(
                    file,
                    format!("it has no `{name}`, but the first part has: the parts have different layers or names"),
                );
            }
        }
    }
    match Share::of(name).whole(shape, files.len()) {
        Some(whole) => Ok((kind, whole)),
        None => fault(first, format!("`{name}` of shape {shape:?} is not a part of a GLM")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tensors_are_shared_by_name() {
        let layer = "transformer.layers.7.";
        for (name, shape, part, share) in [
            ("word_embeddings.weight", &[8, 3][..], &[4, 3][..], Share::Rows(1)),
            ("transformer.position_embeddings.weight", &[8, 3], &[8, 3], Share::All),
            ("attention.query_key_value.weight", &[12, 4], &[6, 4], Share::Rows(3)),
            ("attention.query_key_value.bias", &[12], &[6], Share::Rows(3)),
            ("attention.dense.weight", &[4, 4], &[4, 2], Share::Columns),
            ("attention.dense.bias", &[4], &[4], Share::All),
            ("mlp.dense_h_to_4h.weight", &[16, 4], &[8, 4], Share::Rows(1)),
            ("mlp.dense_h_to_4h.bias", &[16], &[8], Share::Rows(1)),
            ("mlp.dense_4h_to_h.weight", &[4, 16], &[4, 8], Share::Columns),
            ("mlp.dense_4h_to_h.bias", &[4], &[4], Share::All),
            ("input_layernorm.weight", &[4], &[4], Share::All),
        ] {
            let name = if name.contains("embeddings") { name.to_owned() } else { format!("{layer}{name}") };
            assert_eq!(Share::of(&name), share, "{name}");
            assert_eq!(share.part(shape, 2).as_deref(), Some(part), "{name}");
            assert_eq!(share.whole(part, 2).as_deref(), Some(shape), "{name}");
        }
        assert_eq!(Share::Rows(3).part(&[9, 4], 2), None);
        assert_eq!(Share::Rows(3).whole(&[4, 4], 2), None);
        assert_eq!(Share::Columns.part(&[4], 2), None);
        assert_eq!(Share::Columns.whole(&[4], 2), None);
    }

    #[test]
    fn heads_stay_together() {
        // One byte per row: queries 1, 2, keys 3, 4, values 5, 6 of two heads.
        let whole = [1, 2, 3, 4, 5, 6];
        assert_eq!(Share::Rows(3).cut(&whole, &[6, 1], 1, 2), [2, 4, 6]);
        assert_eq!(Share::Columns.cut(&whole, &[3, 2], 0, 2), [1, 3, 5]);
        assert_eq!(Share::Rows(1).cut(&whole, &[6], 1, 2), [4, 5, 6]);
    }

    proptest! {
        #[test]
        fn parts_make_up_the_whole(parts in 1_usize..5, rows in 1_usize..4, columns in 1_usize..4, which in 0_usize..4) {
            let share = [Share::All, Share::Rows(1), Share::Rows(3), Share::Columns][which];
            let shape = [3 * rows * parts, columns * parts];
            let whole: Vec<u8> = (0..shape[0] * shape[1]).map(|at| at as u8).collect();
            let cut: Vec<Vec<u8>> = (0..parts).map(|part| share.cut(&whole, &shape, part, parts)).collect();
            let cut: Vec<&[u8]> = cut.iter().map(Vec::as_slice).collect();
            let part_shape = share.part(&shape, parts).expect("divisible");
            prop_assert_eq!(cut[0].len(), part_shape.iter().product::<usize>());
            prop_assert_eq!(share.join(&cut, &part_shape), whole);
        }
    }
}
