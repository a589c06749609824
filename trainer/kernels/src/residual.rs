//! Bias, dropout, residual sum and LayerNorm in one pass over memory, forward and backward.
//!
//! `sum = residual + dropout(branch + branch_bias)`, `out = (sum - mean) / sqrt(variance + eps) · weight + bias`
//! (Ba et al. 2016). Rows are tokens. The backward pass needs `sum` and two numbers per row.

use crate::dropout::{Dropout, Site};
use crate::number::{Element, Real, sum};
use crate::simd::{self, Kernel};

/// Output of a sublayer, to be added to the residual stream.
#[derive(Debug, Clone, Copy)]
pub struct Branch<'a, T: Element> {
    /// `[rows, width]`.
    pub values: &'a [T],
    /// `[width]`.
    pub bias: &'a [T::Real],
    /// Dropout key of each row.
    pub keys: &'a [u64],
    /// Dropout layer.
    pub site: Site,
}

/// Parameters of a LayerNorm.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a, R> {
    /// `[width]`.
    pub weight: &'a [R],
    /// `[width]`.
    pub bias: &'a [R],
    /// Added to the variance.
    pub eps: f64,
}

/// Mean and inverse standard deviation of a row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moments<R> {
    /// Mean.
    pub mean: R,
    /// 1 / sqrt(variance + eps).
    pub inverse_std: R,
}

/// Arguments of a forward pass over a range of rows.
#[derive(Debug)]
pub struct Forward<'a, T: Element> {
    /// `[rows, width]`.
    pub residual: &'a [T],
    /// Branch to add. Without one, `sum` is not written and `out` is the LayerNorm of `residual`.
    pub branch: Option<Branch<'a, T>>,
    /// LayerNorm.
    pub norm: Norm<'a, T::Real>,
    /// Output: the new residual stream, `[rows, width]`.
    pub sum: &'a mut [T],
    /// Output: LayerNorm of the new residual stream, `[rows, width]`.
    pub out: &'a mut [T],
    /// Output: values for the backward pass, `[rows]`.
    pub moments: &'a mut [Moments<T::Real>],
}

/// Arguments of a backward pass over a range of rows.
#[derive(Debug)]
pub struct Backward<'a, T: Element> {
    /// Input of the LayerNorm: the residual stream, `[rows, width]`.
    pub sum: &'a [T],
    /// Moments from the forward pass, `[rows]`.
    pub moments: &'a [Moments<T::Real>],
    /// Weight of the LayerNorm, `[width]`.
    pub weight: &'a [T::Real],
    /// Gradient of `out`.
    pub out_gradient: &'a [T],
    /// Gradient of `sum` from its other uses.
    pub sum_gradient: Option<&'a [T]>,
    /// Output: gradient of `residual`, which equals the total gradient of `sum`.
    pub residual_gradient: &'a mut [T],
    /// Gradient of the branch.
    pub branch: BranchBackward<'a, T>,
    /// Accumulated gradient of the weight, `[width]`.
    pub weight_gradient: &'a mut [T::Real],
    /// Accumulated gradient of the bias, `[width]`.
    pub bias_gradient: &'a mut [T::Real],
}

/// Outputs for the gradient of the branch.
#[derive(Debug)]
pub enum BranchBackward<'a, T: Element> {
    /// The forward pass had no branch.
    None,
    /// The branch has no dropout. Its gradient equals that of the residual, so only the bias gradient is accumulated,
    /// `[width]`.
    Kept(&'a mut [T::Real]),
    /// The branch has dropout.
    Dropped {
        /// Dropout keys of the forward pass.
        keys: &'a [u64],
        /// Dropout layer of the forward pass.
        site: Site,
        /// Output: gradient of the branch, `[rows, width]`.
        gradient: &'a mut [T],
        /// Accumulated gradient of the branch's bias, `[width]`.
        bias_gradient: &'a mut [T::Real],
    },
}

/// Runs a forward pass.
///
/// # Panics
/// If lengths do not match.
pub fn forward<T: Element>(pass: Forward<'_, T>) {
    let (width, rows) = (pass.norm.weight.len(), pass.moments.len());
    assert!(pass.norm.bias.len() == width, "unequal widths");
    assert!(pass.residual.len() == rows * width && pass.out.len() == rows * width, "unequal rows");
    if let Some(branch) = &pass.branch {
        assert!(branch.values.len() == rows * width && pass.sum.len() == rows * width, "unequal rows");
        assert!(branch.bias.len() == width && branch.keys.len() == rows, "unequal rows");
    }
    simd::run(pass);
}

/// Runs a backward pass.
///
/// # Panics
/// If lengths do not match.
pub fn backward<T: Element>(pass: Backward<'_, T>) {
    let (width, rows) = (pass.weight.len(), pass.moments.len());
    let lengths = [pass.sum.len(), pass.out_gradient.len(), pass.residual_gradient.len()];
    assert!(lengths == [rows * width; 3], "unequal rows");
    assert!(pass.sum_gradient.is_none_or(|gradient| gradient.len() == rows * width), "unequal rows");
    assert!(pass.weight_gradient.len() == width && pass.bias_gradient.len() == width, "unequal widths");
    match &pass.branch {
        BranchBackward::None => {}
        BranchBackward::Kept(bias) => assert_eq!(bias.len(), width),
        BranchBackward::Dropped { keys, gradient, bias_gradient, .. } => {
            assert!(keys.len() == rows && gradient.len() == rows * width && bias_gradient.len() == width, "unequal rows");
        }
    }
    simd::run(pass);
}

#[inline(always)]
fn add_branch<T: Element>(sum: &mut [T], residual: &[T], branch: &[T], bias: &[T::Real], factor: impl Fn(u32) -> T::Real) {
    for ((((sum, residual), branch), bias), i) in sum.iter_mut().zip(residual).zip(branch).zip(bias).zip(0_u32..) {
        *sum = T::store(residual.load() + (branch.load() + *bias) * factor(i));
    }
}

#[inline(always)]
fn normalize<T: Element>(x: &[T], norm: &Norm<'_, T::Real>, out: &mut [T]) -> Moments<T::Real> {
    let share = T::Real::of(1.0 / x.len() as f64);
    let mean = sum(x.len(), |i| x[i].load()) * share;
    let square = |difference: T::Real| difference * difference;
    let variance = sum(x.len(), |i| square(x[i].load() - mean)) * share;
    let inverse_std = T::Real::ONE / (variance + T::Real::of(norm.eps)).sqrt();
    for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(norm.weight).zip(norm.bias) {
        *out = T::store((x.load() - mean) * inverse_std * *weight + *bias);
    }
    Moments { mean, inverse_std }
}

impl<T: Element> Kernel for Forward<'_, T> {
    #[inline(always)]
    fn run(self) {
        let width = self.norm.weight.len();
        for (row, moments) in self.moments.iter_mut().enumerate() {
            let at = row * width..(row + 1) * width;
            let (residual, out) = (&self.residual[at.clone()], &mut self.out[at.clone()]);
            let Some(branch) = &self.branch else {
                *moments = normalize(residual, &self.norm, out);
                continue;
            };
            let (sum, values) = (&mut self.sum[at.clone()], &branch.values[at]);
            if branch.site.drops() {
                let dropout: Dropout<T::Real> = branch.site.row(branch.keys[row]);
                add_branch(sum, residual, values, branch.bias, |i| dropout.factor(i));
            } else {
                add_branch(sum, residual, values, branch.bias, |_| T::Real::ONE);
            }
            // Computed from the stored (rounded) sum, because the backward pass reads the same values.
            *moments = normalize(sum, &self.norm, out);
        }
    }
}

impl<T: Element> Kernel for Backward<'_, T> {
    #[inline(always)]
    fn run(mut self) {
        let width = self.weight.len();
        let share = T::Real::of(1.0 / width as f64);
        for (row, Moments { mean, inverse_std }) in self.moments.iter().copied().enumerate() {
            let at = row * width..(row + 1) * width;
            let (x, dy) = (&self.sum[at.clone()], &self.out_gradient[at.clone()]);
            let weight = self.weight;
            let dx = &mut self.residual_gradient[at.clone()];
            let normal = |i: usize| (x[i].load() - mean) * inverse_std;
            let mean_gradient = sum(width, |i| dy[i].load() * weight[i]) * share;
            let mean_product = sum(width, |i| dy[i].load() * weight[i] * normal(i)) * share;
            let sums = self.weight_gradient.iter_mut().zip(self.bias_gradient.iter_mut());
            for ((((dx, x), dy), weight), (dw, db)) in dx.iter_mut().zip(x).zip(dy).zip(weight).zip(sums) {
                let (normal, dy) = ((x.load() - mean) * inverse_std, dy.load());
                *dw += dy * normal;
                *db += dy;
                *dx = T::store(inverse_std * (dy * *weight - mean_gradient - normal * mean_product));
            }
            if let Some(more) = self.sum_gradient {
                for (dx, more) in dx.iter_mut().zip(&more[at.clone()]) {
                    *dx = T::store(dx.load() + more.load());
                }
            }
            match &mut self.branch {
                BranchBackward::None => {}
                BranchBackward::Kept(bias) => {
                    for (sum, dx) in bias.iter_mut().zip(dx.iter()) {
                        *sum += dx.load();
                    }
                }
                BranchBackward::Dropped { keys, site, gradient, bias_gradient } => {
                    let dropout: Dropout<T::Real> = site.row(keys[row]);
                    let out = gradient[at].iter_mut().zip(bias_gradient.iter_mut());
                    for (((out, sum), dx), i) in out.zip(dx.iter()).zip(0_u32..) {
                        let value = dx.load() * dropout.factor(i);
                        *sum += value;
                        *out = T::store(value);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 20;
    const ROWS: usize = 3;

    /// Pseudo-random numbers between -1 and 1.
    fn numbers(n: usize, seed: u64) -> Vec<f64> {
        (0..n as u64).map(|i| crate::dropout::mix(seed * 1000 + i) as f64 / 2_f64.powi(63) - 1.0).collect()
    }

    struct Case {
        residual: Vec<f64>,
        branch: Vec<f64>,
        branch_bias: Vec<f64>,
        weight: Vec<f64>,
        bias: Vec<f64>,
        keys: Vec<u64>,
        site: Site,
    }

    impl Case {
        fn new(rate: f64) -> Self {
            let n = ROWS * WIDTH;
            let [residual, branch] = [1, 2].map(|seed| numbers(n, seed));
            let [branch_bias, weight, bias] = [3, 4, 5].map(|seed| numbers(WIDTH, seed));
            Self { residual, branch, branch_bias, weight, bias, keys: vec![5, 6, 7], site: Site { key: 11, rate } }
        }

        fn forward(&self) -> (Vec<f64>, Vec<f64>, Vec<Moments<f64>>) {
            let n = self.residual.len();
            let (mut sum, mut out, mut moments) = (vec![0.0; n], vec![0.0; n], vec![Moments::default(); ROWS]);
            forward(Forward {
                residual: &self.residual,
                branch: Some(Branch { values: &self.branch, bias: &self.branch_bias, keys: &self.keys, site: self.site }),
                norm: Norm { weight: &self.weight, bias: &self.bias, eps: 1e-5 },
                sum: &mut sum,
                out: &mut out,
                moments: &mut moments,
            });
            (sum, out, moments)
        }

        /// A scalar function of both outputs, with the gradients `by_sum` and `by_out`.
        fn value(&self, by_sum: &[f64], by_out: &[f64]) -> f64 {
            let (sum, out, _) = self.forward();
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            dot(&sum, by_sum) + dot(&out, by_out)
        }
    }

    #[test]
    fn rows_are_normalized() {
        let case = Case::new(0.0);
        let (sum, out, _) = case.forward();
        assert_eq!(sum.len(), ROWS * WIDTH);
        for (i, sum) in sum.iter().enumerate() {
            assert!((sum - case.residual[i] - case.branch[i] - case.branch_bias[i % WIDTH]).abs() < 1e-12);
        }
        let normal: Vec<f64> = (0..WIDTH).map(|i| (out[i] - case.bias[i]) / case.weight[i]).collect();
        let mean = normal.iter().sum::<f64>() / WIDTH as f64;
        let variance = normal.iter().map(|x| x * x).sum::<f64>() / WIDTH as f64;
        assert!(mean.abs() < 1e-9 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
    }

    #[test]
    fn gradients_match_finite_differences() {
        for rate in [0.0, 0.3] {
            let mut case = Case::new(rate);
            let (by_sum, by_out) = (numbers(ROWS * WIDTH, 6), numbers(ROWS * WIDTH, 7));
            let (sum, _, moments) = case.forward();
            let [mut d_residual, mut d_branch] = [(); 2].map(|()| vec![0.0; ROWS * WIDTH]);
            let [mut d_weight, mut d_bias, mut d_branch_bias] = [(); 3].map(|()| vec![0.0; WIDTH]);
            let branch = match case.site.drops() {
                false => BranchBackward::Kept(&mut d_branch_bias),
                true => BranchBackward::Dropped {
                    keys: &case.keys,
                    site: case.site,
                    gradient: &mut d_branch,
                    bias_gradient: &mut d_branch_bias,
                },
            };
            backward(Backward {
                sum: &sum,
                moments: &moments,
                weight: &case.weight,
                out_gradient: &by_out,
                sum_gradient: Some(&by_sum),
                residual_gradient: &mut d_residual,
                branch,
                weight_gradient: &mut d_weight,
                bias_gradient: &mut d_bias,
            });
            if !case.site.drops() {
                d_branch.clone_from(&d_residual);
            }
            type Field = fn(&mut Case) -> &mut Vec<f64>;
            let fields: [(&str, Field, &[f64]); 5] = [
                ("residual", |case| &mut case.residual, &d_residual),
                ("branch", |case| &mut case.branch, &d_branch),
                ("branch bias", |case| &mut case.branch_bias, &d_branch_bias),
                ("weight", |case| &mut case.weight, &d_weight),
                ("bias", |case| &mut case.bias, &d_bias),
            ];
            for (name, field, gradient) in fields {
                for (i, gradient) in gradient.iter().enumerate() {
                    let mut at = |step: f64| {
                        field(&mut case)[i] += step;
                        let value = case.value(&by_sum, &by_out);
                        field(&mut case)[i] -= step;
                        value
                    };
                    let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
                    assert!((slope - gradient).abs() < 1e-6, "rate {rate}, {name} {i}: {gradient}, slope {slope}");
                }
            }
        }
    }

    #[test]
    fn without_a_branch_the_result_is_a_layer_norm() {
        let case = Case::new(0.0);
        let (sum, out, moments) = case.forward();
        let (mut alone, mut again) = (vec![0.0; sum.len()], vec![Moments::default(); ROWS]);
        forward(Forward {
            residual: &sum,
            branch: None,
            norm: Norm { weight: &case.weight, bias: &case.bias, eps: 1e-5 },
            sum: &mut [],
            out: &mut alone,
            moments: &mut again,
        });
        assert_eq!((alone, again), (out, moments));
    }
}
