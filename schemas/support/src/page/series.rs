//! What a line chart shows of many points.

/// A point: its place on the x axis, and its value, which may be no number.
pub type Point = (f64, f64);

/// Fewer points have no smoothed line.
const LEAST_SMOOTHED: usize = 20;

/// The mean over the points before each one, weighted so that the weight halves every 1/25 of all points; values that are no
/// numbers are passed over. `None` for so few points that the eye does as well.
#[must_use]
pub fn smoothed(points: &[Point]) -> Option<Vec<Point>> {
    if points.len() < LEAST_SMOOTHED {
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

/// At most about `most` points that look like all of them: of each stretch the first, the lowest, the highest and the last, and
/// one that is no number where the line has a gap.
#[must_use]
pub fn thinned(points: &[Point], most: usize) -> Vec<Point> {
    if points.len() <= most {
        return points.to_vec();
    }
    let stretch = (4 * points.len()).div_ceil(most.max(4));
    let mut kept = Vec::with_capacity(most + 4);
    for part in points.chunks(stretch) {
        let finite = || part.iter().enumerate().filter(|(_, (_, value))| value.is_finite());
        let lowest = finite().min_by(|a, b| a.1.1.total_cmp(&b.1.1)).map(|(place, _)| place);
        let highest = finite().max_by(|a, b| a.1.1.total_cmp(&b.1.1)).map(|(place, _)| place);
        let gap = part.iter().position(|(_, value)| !value.is_finite());
        let mut places: Vec<usize> = [Some(0), lowest, highest, gap, Some(part.len() - 1)].into_iter().flatten().collect();
        places.sort_unstable();
        places.dedup();
        kept.extend(places.into_iter().map(|place| part[place]));
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
    fn smoothing_passes_over_what_is_no_number() {
        assert_eq!(smoothed(&points(&[1.0; 5])), None);
        let mut values = vec![3.0; 50];
        values[7] = f64::NAN;
        let line = smoothed(&points(&values)).expect("enough points");
        assert_eq!(line.len(), 49);
        assert!(line.iter().all(|&(_, value)| (value - 3.0).abs() < 1e-12));
    }

    proptest! {
        #[test]
        fn a_smoothed_line_stays_within_its_points(values in prop::collection::vec(-5.0..9.0_f64, 20..300)) {
            let line = smoothed(&points(&values)).expect("enough points");
            let (low, high) = crate::page::scale::extent(values).expect("values");
            prop_assert!(line.iter().all(|&(_, value)| (low - 1e-9..=high + 1e-9).contains(&value)));
        }

        #[test]
        fn thinning_keeps_order_ends_and_peaks(values in prop::collection::vec(-5.0..9.0_f64, 1..900), most in 8_usize..100) {
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
