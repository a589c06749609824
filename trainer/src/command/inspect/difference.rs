//! Differences between two files of weights, tensor by tensor.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::{NAME_WIDTH, number_text, shape_text, write_row};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::numbers::for_each_chunk_of_both;
use crate::checkpoint::stored::StoredTensor;
use crate::checkpoint::weights::Weights;

/// Differences between two files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// First file.
    pub a: PathBuf,
    /// Second file.
    pub b: PathBuf,
    /// Tensors missing in b.
    pub only_in_a: Vec<String>,
    /// Tensors missing in a.
    pub only_in_b: Vec<String>,
    /// Tensors with different shapes.
    pub shapes: Vec<ShapeDifference>,
    /// All other tensors, in the order of a.
    pub tensors: Vec<TensorDifference>,
}

/// A tensor with different shapes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShapeDifference {
    /// Name.
    pub name: String,
    /// Shape in a.
    pub a: Vec<usize>,
    /// Shape in b.
    pub b: Vec<usize>,
}

/// A tensor with the same shape in both files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorDifference {
    /// Name.
    pub name: String,
    /// Element types.
    pub types: [&'static str; 2],
    /// True if all numbers are equal.
    pub identical: bool,
    /// Largest absolute difference of two numbers; null in JSON if one of them is not finite.
    pub largest: f64,
    /// Norm of the difference divided by the norm in a; null in JSON if that norm is 0 or not finite.
    pub relative: f64,
}

impl Difference {
    /// Compares all tensors, one after another.
    ///
    /// # Errors
    /// [`CheckpointError`] if a tensor is damaged.
    pub fn between(a: &Weights, b: &Weights) -> Result<Self, CheckpointError> {
        let (in_a, in_b): (HashSet<&str>, HashSet<&str>) = (a.names().collect(), b.names().collect());
        let missing = |names: &Weights, other: &HashSet<&str>| -> Vec<String> {
            names.names().filter(|name| !other.contains(name)).map(str::to_owned).collect()
        };
        let (only_in_a, only_in_b) = (missing(a, &in_b), missing(b, &in_a));
        let (mut shapes, mut tensors) = (Vec::new(), Vec::new());
        for name in a.names().filter(|name| in_b.contains(name)) {
            let ((_, in_a), (_, in_b)) = (a.describe(name)?, b.describe(name)?);
            if in_a != in_b {
                shapes.push(ShapeDifference { name: name.to_owned(), a: in_a.to_vec(), b: in_b.to_vec() });
                continue;
            }
            tensors.push(TensorDifference::between(name, &a.stored(name)?, &b.stored(name)?));
        }
        Ok(Self { a: a.path().to_owned(), b: b.path().to_owned(), only_in_a, only_in_b, shapes, tensors })
    }
}

impl TensorDifference {
    /// Compares two tensors of the same shape.
    fn between(name: &str, a: &StoredTensor<'_>, b: &StoredTensor<'_>) -> Self {
        let types = [a.kind.name(), b.kind.name()];
        if a.kind == b.kind && a.data == b.data {
            return Self { name: name.to_owned(), types, identical: true, largest: 0.0, relative: 0.0 };
        }
        let (mut identical, mut largest, mut squares, mut of_difference) = (true, 0_f64, 0.0, 0.0);
        for_each_chunk_of_both(a, b, |a, b| {
            for (a, b) in a.iter().zip(b) {
                squares += a * a;
                if a == b || (a.is_nan() && b.is_nan()) {
                    continue;
                }
                identical = false;
                // A NaN counts as infinitely far from any number.
                let difference = if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() };
                largest = largest.max(difference);
                of_difference += difference * difference;
            }
        });
        let relative = match (identical, squares > 0.0 && f64::is_finite(squares)) {
            (true, _) => 0.0,
            (false, true) => f64::sqrt(of_difference / squares),
            (false, false) => f64::INFINITY,
        };
        Self { name: name.to_owned(), types, identical, largest, relative }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "a: {}\nb: {}\n", self.a.display(), self.b.display())?;
        for (which, names) in [("a", &self.only_in_a), ("b", &self.only_in_b)] {
            names.iter().try_for_each(|name| writeln!(f, "only in {which}: {name}"))?;
        }
        for ShapeDifference { name, a, b } in &self.shapes {
            write_row(f, name, format_args!("{} in a\n{:NAME_WIDTH$} {} in b", shape_text(a), "", shape_text(b)))?;
        }
        let different: Vec<&TensorDifference> = self.tensors.iter().filter(|tensor| !tensor.identical).collect();
        if !different.is_empty() {
            write_row(f, "tensor", format_args!("{:>12} {:>12}", "largest diff", "relative"))?;
        }
        for TensorDifference { name, largest, relative, .. } in &different {
            write_row(f, name, format_args!("{:>12} {:>12}", number_text(*largest), number_text(*relative)))?;
        }
        let identical = self.tensors.len() - different.len();
        write!(f, "{identical} tensors are identical, {} differ", different.len())?;
        let rest = [
            (self.shapes.len(), "have different shapes"),
            (self.only_in_a.len() + self.only_in_b.len(), "are in one file only"),
        ];
        for (count, what) in rest.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        let retyped: HashSet<[&str; 2]> = self.tensors.iter().map(|tensor| tensor.types).filter(|[a, b]| a != b).collect();
        for [a, b] in retyped {
            write!(f, "\nsome are {a} in a and {b} in b")?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use half::f16;

    use super::*;
    use crate::checkpoint::stored::StoredKind;

    fn singles(numbers: &[f32]) -> StoredTensor<'static> {
        let data = Cow::Owned(numbers.iter().flat_map(|x| x.to_le_bytes()).collect());
        StoredTensor { kind: StoredKind::F32, shape: vec![numbers.len()], data }
    }

    fn between(a: &StoredTensor<'_>, b: &StoredTensor<'_>) -> (bool, f64, f64) {
        let TensorDifference { identical, largest, relative, .. } = TensorDifference::between("w", a, b);
        (identical, largest, relative)
    }

    #[test]
    fn largest_and_relative_difference() {
        let a = singles(&[3.0, 4.0, 0.0]);
        assert_eq!(between(&a, &a), (true, 0.0, 0.0));
        assert_eq!(between(&a, &singles(&[3.0, 4.5, 0.0])), (false, 0.5, 0.1));
        assert_eq!(between(&singles(&[0.0]), &singles(&[2.0])), (false, 2.0, f64::INFINITY));
        assert_eq!(between(&singles(&[f32::NAN]), &singles(&[f32::NAN])), (true, 0.0, 0.0));
        assert_eq!(between(&singles(&[1.0]), &singles(&[f32::NAN])), (false, f64::INFINITY, f64::INFINITY));
    }

    #[test]
    fn equal_numbers_of_different_types_are_identical() {
        let half = [3.0_f32, 4.0].map(|x| f16::from_f32(x).to_le_bytes()).concat();
        let half = StoredTensor { kind: StoredKind::F16, shape: vec![2], data: Cow::Owned(half) };
        let difference = TensorDifference::between("w", &singles(&[3.0, 4.0]), &half);
        assert!(difference.identical && difference.types == ["fp32", "fp16"]);
    }
}
