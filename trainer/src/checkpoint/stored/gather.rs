//! Copies of strided views in row-major order.

use std::borrow::Cow;

/// Returns true if the elements are stored in row-major order without gaps. Strides of dimensions of size 1 are ignored.
fn is_contiguous(shape: &[usize], stride: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.iter().zip(stride).rev().filter(|(size, _)| **size != 1).all(|(size, stride)| {
        let fits = *stride == expected;
        expected = expected.saturating_mul(*size);
        fits
    })
}

/// Returns the elements of a view in row-major order, `width` bytes each; borrowed if they are already stored in this order.
///
/// `storage` holds the bytes of the whole storage; `offset` and `stride` count elements. Returns `None` if the view extends beyond it.
pub(crate) fn gather<'s>(
    storage: &'s [u8],
    width: usize,
    offset: usize,
    shape: &[usize],
    stride: &[usize],
) -> Option<Cow<'s, [u8]>> {
    if shape.contains(&0) {
        return Some(Cow::Borrowed(&[]));
    }
    let length = shape.iter().try_fold(width, |product, size| product.checked_mul(*size))?;
    let start = offset.checked_mul(width)?;
    if is_contiguous(shape, stride) {
        return storage.get(start..start.checked_add(length)?).map(Cow::Borrowed);
    }
    let (Some((columns, outer)), Some((column_stride, outer_stride))) = (shape.split_last(), stride.split_last()) else {
        return None;
    };
    let mut laid_out = Vec::with_capacity(length);
    let mut index = vec![0usize; outer.len()];
    loop {
        let row =
            index.iter().zip(outer_stride).try_fold(offset, |sum, (i, stride)| sum.checked_add(i.checked_mul(*stride)?))?;
        append_row(&mut laid_out, storage, width, row, *columns, *column_stride)?;
        if !advance(&mut index, outer) {
            return Some(Cow::Owned(laid_out));
        }
    }
}

/// Appends `columns` elements, `stride` elements apart, beginning with element `row` of the storage.
fn append_row(to: &mut Vec<u8>, storage: &[u8], width: usize, row: usize, columns: usize, stride: usize) -> Option<()> {
    let mut start = row.checked_mul(width)?;
    if stride == 1 {
        to.extend_from_slice(storage.get(start..start.checked_add(columns.checked_mul(width)?)?)?);
        return Some(());
    }
    for column in 0..columns {
        to.extend_from_slice(storage.get(start..start.checked_add(width)?)?);
        if column + 1 < columns {
            start = start.checked_add(stride.checked_mul(width)?)?;
        }
    }
    Some(())
}

/// Advances to the next index in row-major order; returns false after the last.
fn advance(index: &mut [usize], shape: &[usize]) -> bool {
    for (i, size) in index.iter_mut().zip(shape).rev() {
        *i += 1;
        if *i < *size {
            return true;
        }
        *i = 0;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn contiguous_views_are_borrowed() {
        let bytes: Vec<u8> = (0..24).collect();
        let whole = gather(&bytes, 2, 2, &[2, 1, 3], &[3, 99, 1]).expect("in range");
        assert!(matches!(&whole, Cow::Borrowed(slice) if *slice == &bytes[4..16]));
        assert!(matches!(gather(&bytes, 8, 2, &[], &[]), Some(Cow::Borrowed(slice)) if slice == &bytes[16..]));
        assert!(matches!(gather(&bytes, 8, 9, &[3, 0], &[1, 1]), Some(Cow::Borrowed([]))));
    }

    #[test]
    fn out_of_range_is_none() {
        let bytes = [0u8; 16];
        assert_eq!(gather(&bytes, 4, 1, &[4], &[1]), None);
        assert_eq!(gather(&bytes, 4, 0, &[2, 2], &[1, 4]), None);
        assert_eq!(gather(&bytes, 4, usize::MAX, &[2], &[2]), None);
        assert_eq!(gather(&bytes, 4, 0, &[2], &[usize::MAX]), None);
    }

    proptest! {
        /// Compares with the definition: element (i, j, k) is element offset + i*s0 + j*s1 + k*s2 of the storage.
        #[test]
        fn matches_the_definition(
            shape in prop::collection::vec(1usize..5, 3),
            stride in prop::collection::vec(0usize..7, 3),
            offset in 0usize..10,
        ) {
            let storage: Vec<u8> = (0..200u16).flat_map(u16::to_le_bytes).collect();
            let mut expected = Vec::new();
            for i in 0..shape[0] {
                for j in 0..shape[1] {
                    for k in 0..shape[2] {
                        let element = offset + i * stride[0] + j * stride[1] + k * stride[2];
                        expected.extend_from_slice(&u16::try_from(element).expect("small").to_le_bytes());
                    }
                }
            }
            let laid_out = gather(&storage, 2, offset, &shape, &stride).expect("in range");
            prop_assert_eq!(laid_out.as_ref(), expected.as_slice());
        }
    }
}
