//! Names of fields that are meant as those of the format `plain`.

/// Fields of the format with other names that data sets use for them, in lower case.
const NAMES: [(&str, &[&str]); 3] = [
    ("context", &["text", "passage", "sentence", "question", "query", "input", "prompt", "article", "story", "body"]),
    ("choices", &["options", "candidates", "endings", "alternatives", "answer_choices", "choice_list"]),
    (
        "answer",
        &["label", "answers", "correct", "target", "gold", "solution", "answer_idx", "answer_index", "correct_answer", "key"],
    ),
];

/// Returns the field that a name is meant as: another usual name of it, or a misspelling.
pub(in crate::source) fn meant_as(name: &str) -> Option<&'static str> {
    let lower = name.to_lowercase();
    let fields = NAMES.iter().filter(|(field, _)| name != *field);
    let mut meant = fields.filter(|(field, others)| others.contains(&lower.as_str()) || is_misspelled(&lower, field));
    meant.next().map(|&(field, _)| field)
}

/// Returns true if a name differs from a field by at most two letters.
fn is_misspelled(name: &str, field: &str) -> bool {
    // Levenshtein distance, row by row.
    let field: Vec<char> = field.chars().collect();
    let mut row: Vec<usize> = (0..=field.len()).collect();
    if name.chars().count().abs_diff(field.len()) > 2 {
        return false;
    }
    for (at, c) in name.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (number, &expected) in field.iter().enumerate() {
            let replaced = diagonal + usize::from(c != expected);
            diagonal = row[number + 1];
            row[number + 1] = replaced.min(diagonal + 1).min(row[number] + 1);
        }
    }
    row.last().is_some_and(|&distance| distance <= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_and_misspellings_are_recognised() {
        for (name, field) in [
            ("label", "answer"),
            ("Options", "choices"),
            ("question", "context"),
            ("choice", "choices"),
            ("CHOICES", "choices"),
            ("contex", "context"),
            ("anwser", "answer"),
        ] {
            assert_eq!(meant_as(name), Some(field), "{name}");
        }
        for name in ["context", "choices", "answer", "id", "source", "split", "topic", ""] {
            assert_eq!(meant_as(name), None, "{name}");
        }
    }
}
