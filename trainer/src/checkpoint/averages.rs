//! Averages of the optimizer in a checkpoint: one file, or one file per rank where ranks divide the state.
//!
//! `optimizer.safetensors` has `first.NAME` and `second.NAME` with the shape of each parameter. `optimizer-00002-of-00004.safetensors`
//! has them as vectors, for the elements of each parameter that one rank updates; `glm.starts` in its metadata is the index of the
//! first of them. Any number of ranks can read either.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Kind, Tensor, no_grad};

use super::stored::TensorFile;
use super::{CheckpointError, safetensors_file, tensors};

/// File with the averages of all parameters.
pub const WHOLE_FILE: &str = "optimizer.safetensors";
/// Key of the indices of first elements, as JSON, in the metadata of the file of one rank.
pub(super) const STARTS_KEY: &str = "glm.starts";
const PREFIX: &str = "optimizer-";
const SUFFIX: &str = ".safetensors";

/// Name of the file of one rank.
pub fn part_file(rank: usize, ranks: usize) -> String {
    format!("{PREFIX}{:05}-of-{ranks:05}{SUFFIX}", rank + 1)
}

/// Names of the files in a checkpoint whose files are `listed`.
pub(super) fn files<'a>(listed: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let ranks = |name: &str| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.split_once("-of-")?.1.parse::<usize>().ok();
    match listed.into_iter().find_map(ranks) {
        Some(ranks) => (0..ranks).map(|rank| part_file(rank, ranks)).collect(),
        None => vec![WHOLE_FILE.to_owned()],
    }
}

/// Open averages.
#[derive(Debug)]
pub struct Averages {
    path: PathBuf,
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    content: TensorFile,
    /// Indices of first elements by parameter; `None` in the file of all parameters.
    starts: Option<BTreeMap<String, usize>>,
}

impl Averages {
    /// Opens the averages of a checkpoint, whose checksums the caller has verified.
    ///
    /// # Errors
    /// [`CheckpointError`] if a file is missing or damaged.
    pub fn open(checkpoint: &Path) -> Result<Self, CheckpointError> {
        let entries = std::fs::read_dir(checkpoint).into_iter().flatten().flatten();
        let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        let open = |name: String| {
            let path = checkpoint.join(name);
            let content = safetensors_file::open(&path)?;
            let parse = |json: &String| serde_json::from_str(json).map_err(|source| CheckpointError::State { path, source });
            let starts = content.metadata.get(STARTS_KEY).map(parse).transpose()?;
            Ok(File { content, starts })
        };
        let files = files(names.iter().map(String::as_str)).into_iter().map(open).collect::<Result<_, CheckpointError>>()?;
        Ok(Self { path: checkpoint.to_owned(), files })
    }

    /// Reads `first.NAME` or `second.NAME` of a parameter: a vector of all its elements, in fp32.
    ///
    /// # Errors
    /// [`CheckpointError`] if the files do not have all elements of a parameter of this shape.
    pub fn read(&self, moment: &str, parameter: &str, shape: &[i64]) -> Result<Tensor, CheckpointError> {
        let name = format!("{moment}.{parameter}");
        let count: i64 = shape.iter().product();
        let wrong = |found: Vec<i64>| {
            let (path, name, expected) = (self.path.clone(), name.clone(), shape.to_vec());
            CheckpointError::Shape { path, name, found, expected }
        };
        let missing = |path: &Path| CheckpointError::NotAGlm { path: path.to_owned(), reason: format!("`{name}` is missing") };
        let whole = Tensor::f_zeros([count], (Kind::Float, tch::Device::Cpu))?;
        let mut filled = 0;
        for File { content, starts } in &self.files {
            let start = match starts {
                Some(starts) => match starts.get(parameter) {
                    Some(&start) => start as i64,
                    None => continue,
                },
                None => 0,
            };
            let path = self.path.as_path();
            let stored = tensors::tensor(&content.tensor(&name)?)?.ok_or_else(|| missing(path))?;
            let size = stored.size();
            let numbers = stored.numel() as i64;
            let fits = match starts {
                Some(_) => start >= 0 && start.checked_add(numbers).is_some_and(|end| end <= count),
                None => size == shape,
            };
            if !fits {
                return Err(wrong(size));
            }
            no_grad(|| whole.f_narrow(0, start, numbers)?.f_copy_(&stored.f_view([-1])?).map(drop))?;
            filled += numbers;
        }
        if filled == count { Ok(whole) } else { Err(wrong(vec![filled])) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_checkpoint_follow_from_any_of_them() {
        let whole = ["model.safetensors", WHOLE_FILE, "state.json"];
        assert_eq!(files(whole), [WHOLE_FILE]);
        let parts = ["state.json", "optimizer-00002-of-00003.safetensors"];
        let expected = [1, 2, 3].map(|number| format!("optimizer-0000{number}-of-00003.safetensors"));
        assert_eq!(files(parts), expected);
        assert_eq!(files(["optimizer-x-of-y.safetensors"]), [WHOLE_FILE]);
    }
}
