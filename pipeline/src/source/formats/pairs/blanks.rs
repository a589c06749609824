//! Sources with blanks of their own, each of which has a part of the target.

use glm_text::pair::PART_END;

/// Written blank.
const MASK: &str = "[MASK]";

/// Checks that a source has a blank for each of some targets.
///
/// # Errors
/// A description of the fault.
pub(super) fn check(source: &str, targets: usize) -> Result<(), String> {
    match source.matches(MASK).count() {
        0 => Err(format!("the source has no {MASK} for its targets; write {MASK} in place of each blank")),
        blanks if blanks != targets => {
            Err(format!("the number of {MASK} in the source is {blanks}, that of its targets {targets}"))
        }
        _ => Ok(()),
    }
}

/// The parts of a target, separated by [`PART_END`], of which the published code ignores those that have no blank.
///
/// # Errors
/// A description of the fault: no blank, or fewer parts than blanks.
pub(super) fn of_lines(source: &str, target: &str) -> Result<String, String> {
    let blanks = source.matches(MASK).count();
    let parts: Vec<_> = target.split(PART_END).map(str::trim).take(blanks.max(1)).collect();
    check(source, parts.len())?;
    Ok(parts.join(PART_END))
}
