//! Names, shapes, types and norms of the tensors in a file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use glm_schemas::manifest::Tokenizer;
use serde::Serialize;

use super::{number_text, shape_text, write_row};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::numbers::for_each_chunk;
use crate::checkpoint::stored::StoredTensor;
use crate::checkpoint::weights::{Sizes, Weights};

/// Content of a file of weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The file.
    pub path: PathBuf,
    /// Sizes of the model, if the file contains a GLM.
    pub model: Option<Model>,
    /// Vocabulary, if the file specifies it.
    pub vocabulary: Option<Tokenizer>,
    /// Program that wrote the file, if it says.
    pub program: Option<String>,
    /// Number of elements of all tensors.
    pub parameters: u64,
    /// Size of the elements in bytes.
    pub bytes: u64,
    /// Tensors, in the order of the file.
    pub tensors: Vec<TensorSummary>,
    /// Other entries, each as `name (type)`.
    pub skipped: Vec<String>,
}

/// Sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "as in the settings")]
pub struct Model {
    pub layers: usize,
    pub hidden: usize,
    /// Stored number of heads, or that of the preset with these sizes.
    pub heads: Option<usize>,
    pub vocab: usize,
    pub positions: usize,
}

/// A tensor with statistics of its finite numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorSummary {
    /// Name.
    pub name: String,
    /// Element type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Shape.
    pub shape: Vec<usize>,
    /// Euclidean norm.
    pub norm: f64,
    /// Mean.
    pub mean: f64,
    /// Largest absolute value.
    pub largest: f64,
    /// Number of NaN and infinite elements.
    pub not_finite: u64,
}

impl Summary {
    /// Reads all tensors, one after another.
    ///
    /// # Errors
    /// [`CheckpointError`] if a tensor is damaged.
    pub fn of(weights: &Weights) -> Result<Self, CheckpointError> {
        let (mut parameters, mut bytes, mut tensors) = (0, 0, Vec::with_capacity(weights.names().len()));
        for name in weights.names() {
            let stored = weights.stored(name)?;
            parameters += (stored.data.len() / stored.kind.size()) as u64;
            bytes += stored.data.len() as u64;
            tensors.push(TensorSummary::of(name, &stored));
        }
        let model = weights.sizes().ok().map(|Sizes { layers, hidden, vocab_rows, positions }| {
            let heads = weights.model_config(None).ok().map(|config| config.heads);
            Model { layers, hidden, heads, vocab: vocab_rows, positions }
        });
        let skipped = weights.skipped().map(str::to_owned).collect();
        let (vocabulary, program) = (weights.tokenizer(), weights.program().map(str::to_owned));
        Ok(Self { path: weights.path().to_owned(), model, vocabulary, program, parameters, bytes, tensors, skipped })
    }
}

impl TensorSummary {
    fn of(name: &str, stored: &StoredTensor<'_>) -> Self {
        let (mut squares, mut sum, mut largest, mut finite, mut not_finite) = (0.0, 0.0, 0_f64, 0_u64, 0);
        for_each_chunk(stored, |numbers| {
            for number in numbers {
                if !number.is_finite() {
                    not_finite += 1;
                    continue;
                }
                squares += number * number;
                sum += number;
                largest = largest.max(number.abs());
                finite += 1;
            }
        });
        Self {
            name: name.to_owned(),
            kind: stored.kind.name(),
            shape: stored.shape.clone(),
            norm: squares.sqrt(),
            mean: if finite == 0 { 0.0 } else { sum / finite as f64 },
            largest,
            not_finite,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path.display())?;
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        self.tensors.iter().for_each(|tensor| *kinds.entry(tensor.kind).or_default() += 1);
        let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        writeln!(
            f,
            "{} numbers in {} tensors ({}), {:.1} MB",
            self.parameters,
            self.tensors.len(),
            kinds.join(", "),
            self.bytes as f64 / 1e6
        )?;
        if let Some(Model { layers, hidden, heads, vocab, positions }) = self.model {
            let heads = heads.map_or_else(|| "heads unknown".to_owned(), |heads| format!("{heads} heads"));
            writeln!(f, "GLM with {layers} layers, width {hidden}, {heads}, vocabulary {vocab}, {positions} positions")?;
        }
        if let Some(Tokenizer { name, sha256, .. }) = &self.vocabulary {
            writeln!(f, "tokenizer {name}, sha256 {sha256}")?;
        }
        if let Some(program) = &self.program {
            writeln!(f, "written by {program}")?;
        }
        writeln!(f)?;
        write_row(f, "tensor", format_args!("{:4} {:>10} {:>9}", "type", "shape", "norm"))?;
        for TensorSummary { name, kind, shape, norm, .. } in &self.tensors {
            write_row(f, name, format_args!("{kind:4} {:>10} {:>9}", shape_text(shape), number_text(*norm)))?;
        }
        for tensor in self.tensors.iter().filter(|tensor| tensor.not_finite > 0) {
            writeln!(f, "{} has {} NaN or infinite numbers", tensor.name, tensor.not_finite)?;
        }
        if !self.skipped.is_empty() {
            writeln!(f, "\nskipped:")?;
        }
        self.skipped.iter().try_for_each(|skipped| writeln!(f, "  {skipped}"))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::checkpoint::stored::StoredKind;

    #[test]
    fn statistics_are_of_the_finite_numbers() {
        let numbers = [3.0_f32, -4.0, f32::NAN, f32::NEG_INFINITY];
        let data = Cow::Owned(numbers.iter().flat_map(|x| x.to_le_bytes()).collect());
        let summary = TensorSummary::of("w", &StoredTensor { kind: StoredKind::F32, shape: vec![2, 2], data });
        assert_eq!((summary.norm, summary.mean, summary.largest, summary.not_finite), (5.0, -0.5, 4.0, 2));
    }
}
