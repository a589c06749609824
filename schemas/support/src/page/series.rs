//! Smoothing and thinning of series with many points.

/// Position on the x axis and value, which may be non-finite.
pub type Point = (f64, f64);

/// Series with fewer points are not smoothed.
const MIN_SMOOTHED: usize = 20;

/// Returns the exponential moving average, whose weights halve every 1/25 of all points; non-finite values are skipped. `None`
/// for short series.
#[must_use]
pub fn smoothed(points: &[Point]) -> Option<Vec<Point>> {
    if points.len() < MIN_SMOOTHED {
        return None;
    }
    let decay = 0.5_f64.powf(25.0 / points.len() as f64);
    let (mut sum, mut weight) = (0.0, 0.0);
    let finite = points.iter().filter(|(_, value)| value.is_finite());
    Some(
        finite
            .map(|&(x, value)| {
                (sum, weight) = (sum * decay + value, weight * decay + 1.0);
                (x, sum / weight)
            })
            .collect(),
    )
}

/// Reduces the points to about `most` that look the same when drawn: of each chunk the first, the lowest, the highest, the
/// last, and a non-finite one if there is a gap.
#[must_use]
pub fn thinned(points: &[Point], most: usize) -> Vec<Point> {
    if points.len() <= most {
        return points.to_vec();
    }
    let chunk = (4 * points.len()).div_ceil(most.max(4));
    let mut kept = Vec::with_capacity(most + 4);
    for part in points.chunks(chunk) {
        let finite = || part.iter().enumerate().filter(|(_, (_, value))| value.is_finite());
        let lowest = finite().min_by(|a, b| a.1.1.total_cmp(&b.1.1)).map(|(index, _)| index);
        let highest = finite().max_by(|a, b| a.1.1.total_cmp(&b.1.1)).map(|(index, _)| index);
        let gap = part.iter().position(|(_, value)| !value.is_finite());
        let mut indices: Vec<usize> = [Some(0), lowest, highest, gap, Some(part.len() - 1)].into_iter().flatten().collect();
        indices.sort_unstable();
        indices.dedup();
        kept.extend(indices.into_iter().map(|index| part[index]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn points(values: &[f64]) -> Vec<Point> {
        values.iter().enumerate().map(|(x, &value)| (x as f64, value)).collect()
    }

    #[test]
    fn smoothing_skips_non_finite_values() {
        assert_eq!(smoothed(&points(&[1.0; 5])), None);
        let mut values = vec![3.0; 50];
        values[7] = f64::NAN;
        let line = smoothed(&points(&values)).expect("enough points");
        assert_eq!(line.len(), 49);
        assert!(line.iter().all(|&(_, value)| (value - 3.0).abs() < 1e-12));
    }

    proptest! {
        #[test]
        fn a_smoothed_line_stays_within_the_range(values in prop::collection::vec(-5.0..9.0_f64, 20..300)) {
            let line = smoothed(&points(&values)).expect("enough points");
            let (low, high) = crate::page::scale::extent(values).expect("values");
            prop_assert!(line.iter().all(|&(_, value)| (low - 1e-9..=high + 1e-9).contains(&value)));
        }

        #[test]
        fn thinning_keeps_order_ends_and_extremes(values in prop::collection::vec(-5.0..9.0_f64, 1..900), most in 8_usize..100) {
            let all = points(&values);
            let kept = thinned(&all, most);
            prop_assert!(kept.len() <= all.len() && kept.len() <= 2 * most + 8, "{}", kept.len());
            prop_assert!(kept.windows(2).all(|pair| pair[0].0 < pair[1].0));
            prop_assert_eq!((kept[0], kept[kept.len() - 1]), (all[0], all[all.len() - 1]));
            let range = |points: &[Point]| crate::page::scale::extent(points.iter().map(|point| point.1));
            prop_assert_eq!(range(&kept), range(&all));
        }
    }
}
