//! Comparison of declared and compiled arguments when the program is built.

/// A kernel and the names and classes of its arguments: `ptr`, `i32`, `i64` or `f32`.
pub type Signature = (&'static str, &'static [(&'static str, &'static str)]);

/// Returns true if the list has the kernel with these arguments.
pub const fn declares(signatures: &[Signature], kernel: &str, arguments: &[(&str, &str)]) -> bool {
    match find(signatures, kernel) {
        Some(index) => same_arguments(signatures[index].1, arguments),
        None => false,
    }
}

/// Returns true if every kernel of a list is also in the other one.
pub const fn all_in(signatures: &[Signature], other: &[Signature]) -> bool {
    let mut index = 0;
    while index < signatures.len() {
        if find(other, signatures[index].0).is_none() {
            return false;
        }
        index += 1;
    }
    true
}

const fn find(signatures: &[Signature], kernel: &str) -> Option<usize> {
    let mut index = 0;
    while index < signatures.len() {
        if same_text(signatures[index].0, kernel) {
            return Some(index);
        }
        index += 1;
    }
    None
}

const fn same_arguments(left: &[(&str, &str)], right: &[(&str, &str)]) -> bool {
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if !same_text(left[index].0, right[index].0) || !same_text(left[index].1, right[index].1) {
            return false;
        }
        index += 1;
    }
    true
}

/// `==` of strings is not available in constants.
const fn same_text(left: &str, right: &str) -> bool {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() != right.len() {
        return false;
    }
    let mut index = 0;
    while index < left.len() {
        if left[index] != right[index] {
            return false;
        }
        index += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECLARED: &[Signature] = &[("scale", &[("x", "ptr"), ("factor", "f32")]), ("add", &[])];

    #[test]
    fn order_names_and_classes_are_compared() {
        assert!(declares(DECLARED, "scale", &[("x", "ptr"), ("factor", "f32")]));
        assert!(declares(DECLARED, "add", &[]));
        for arguments in [
            &[("x", "ptr")][..],
            &[("factor", "f32"), ("x", "ptr")],
            &[("x", "ptr"), ("factor", "i32")],
            &[("y", "ptr"), ("factor", "f32")],
        ] {
            assert!(!declares(DECLARED, "scale", arguments), "{arguments:?}");
        }
        assert!(!declares(DECLARED, "missing", &[]));
    }

    #[test]
    fn kernels_that_were_not_compiled_are_found() {
        assert!(all_in(DECLARED, DECLARED));
        assert!(all_in(&DECLARED[..1], DECLARED));
        assert!(!all_in(DECLARED, &DECLARED[..1]));
    }
}
