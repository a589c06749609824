//! Porter's stemmer with the extensions of NLTK.
//!
//! M. F. Porter, "An algorithm for suffix stripping", Program 14 (1980). The measure m of a stem is the number of times that a
//! consonant follows a vowel in it.

/// Words with a fixed stem.
const FIXED: [(&str, &str); 16] = [
    ("skies", "sky"),
    ("sky", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Suffixes of step 2 with their replacements, for stems with m > 0.
const STEP_2: [(&str, &str); 20] = [
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
];

/// Suffixes of step 3 with their replacements, for stems with m > 0.
const STEP_3: [(&str, &str); 7] =
    [("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

/// Suffixes that step 4 removes from stems with m > 1; longer ones before their own endings.
const STEP_4: [&str; 19] = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti", "ous",
    "ive", "ize",
];

/// Returns the stem of a word of lower-case ASCII letters and digits. Words of one or two letters are their own stems.
///
/// ```
/// use glm_trainer::text_metrics::stem::stem;
///
/// assert_eq!(stem("happily"), "happili");
/// assert_eq!(stem("running"), "run");
/// ```
pub fn stem(word: &str) -> String {
    if let Some((_, fixed)) = FIXED.iter().find(|(fixed, _)| *fixed == word) {
        return (*fixed).to_owned();
    }
    if word.len() <= 2 {
        return word.to_owned();
    }
    let mut stem = word.to_owned();
    for step in [step_1a, step_1b, step_1c, step_2, step_3, step_4, step_5] {
        stem = step(&stem);
    }
    stem
}

/// Plurals.
fn step_1a(word: &str) -> String {
    match word {
        _ if word.len() == 4 && word.ends_with("ies") => replaced(word, "ies", "ie"),
        _ if word.ends_with("sses") => replaced(word, "sses", "ss"),
        _ if word.ends_with("ies") => replaced(word, "ies", "i"),
        _ if word.ends_with("ss") => word.to_owned(),
        _ => word.strip_suffix('s').unwrap_or(word).to_owned(),
    }
}

/// -ed and -ing.
fn step_1b(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return format!("{stem}{}", if stem.len() == 1 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 { format!("{stem}ee") } else { word.to_owned() };
    }
    let stripped = ["ed", "ing"].into_iter().find_map(|suffix| word.strip_suffix(suffix).filter(|stem| has_vowel(stem)));
    let Some(stem) = stripped else { return word.to_owned() };
    if ["at", "bl", "iz"].iter().any(|suffix| stem.ends_with(suffix)) {
        return format!("{stem}e");
    }
    if ends_in_double_consonant(stem) {
        let keeps_both = stem.ends_with(['l', 's', 'z']);
        return stem[..stem.len() - usize::from(!keeps_both)].to_owned();
    }
    if measure(stem) == 1 && ends_in_short_syllable(stem) { format!("{stem}e") } else { stem.to_owned() }
}

/// -y after a consonant.
fn step_1c(word: &str) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.len() > 1 && is_consonant(stem.as_bytes(), stem.len() - 1) => format!("{stem}i"),
        _ => word.to_owned(),
    }
}

/// Double suffixes.
fn step_2(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("alli").filter(|stem| measure(stem) > 0) {
        return step_2(&format!("{stem}al"));
    }
    if let Some(stem) = word.strip_suffix("fulli") {
        return if measure(stem) > 0 { format!("{stem}ful") } else { word.to_owned() };
    }
    if let Some(stem) = word.strip_suffix("logi") {
        // The measure is that of the word without "ogi".
        return if measure(&word[..word.len() - 3]) > 0 { format!("{stem}log") } else { word.to_owned() };
    }
    first_rule(word, &STEP_2)
}

/// -ic-, -full, -ness and the like.
fn step_3(word: &str) -> String {
    first_rule(word, &STEP_3)
}

/// Suffixes of long stems.
fn step_4(word: &str) -> String {
    let found = STEP_4.iter().find_map(|suffix| Some((*suffix, word.strip_suffix(suffix)?)));
    match found {
        Some((suffix, stem)) if measure(stem) > 1 && (suffix != "ion" || stem.ends_with(['s', 't'])) => stem.to_owned(),
        _ => word.to_owned(),
    }
}

/// A final -e, and -ll.
fn step_5(word: &str) -> String {
    let without_e = match word.strip_suffix('e') {
        Some(stem) if measure(stem) > 1 || (measure(stem) == 1 && !ends_in_short_syllable(stem)) => stem,
        _ => word,
    };
    match without_e.strip_suffix('l') {
        Some(stem) if stem.ends_with('l') && measure(stem) > 1 => stem.to_owned(),
        _ => without_e.to_owned(),
    }
}

/// Applies the first rule whose suffix the word has, if the stem's measure is above 0.
fn first_rule(word: &str, rules: &[(&str, &str)]) -> String {
    let found = rules.iter().find_map(|(suffix, replacement)| Some((word.strip_suffix(suffix)?, replacement)));
    match found {
        Some((stem, replacement)) if measure(stem) > 0 => format!("{stem}{replacement}"),
        _ => word.to_owned(),
    }
}

fn replaced(word: &str, suffix: &str, replacement: &str) -> String {
    format!("{}{replacement}", word.strip_suffix(suffix).unwrap_or(word))
}

/// Returns true for letters other than vowels, and digits; `y` is a consonant at the start and after a vowel.
fn is_consonant(word: &[u8], at: usize) -> bool {
    match word[at] {
        b'a' | b'e' | b'i' | b'o' | b'u' => false,
        // A run of `y` alternates.
        b'y' => at == 0 || !is_consonant(word, at - 1),
        _ => true,
    }
}

/// Number of times that a consonant follows a vowel.
fn measure(stem: &str) -> usize {
    let word = stem.as_bytes();
    (1..word.len()).filter(|&at| is_consonant(word, at) && !is_consonant(word, at - 1)).count()
}

fn has_vowel(stem: &str) -> bool {
    (0..stem.len()).any(|at| !is_consonant(stem.as_bytes(), at))
}

fn ends_in_double_consonant(stem: &str) -> bool {
    let word = stem.as_bytes();
    matches!(word, [.., a, b] if a == b) && is_consonant(word, word.len() - 1)
}

/// Returns true for an end of consonant, vowel, consonant other than w, x and y; also for a stem of a vowel and a consonant.
fn ends_in_short_syllable(stem: &str) -> bool {
    let word = stem.as_bytes();
    let n = word.len();
    if n == 2 {
        return !is_consonant(word, 0) && is_consonant(word, 1);
    }
    n > 2
        && is_consonant(word, n - 3)
        && !is_consonant(word, n - 2)
        && is_consonant(word, n - 1)
        && !matches!(word[n - 1], b'w' | b'x' | b'y')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stems_of_any_word_are_no_longer_than_the_word(word in "[a-z0-9]{0,12}") {
            prop_assert!(stem(&word).len() <= word.len() + 1);
        }

        #[test]
        fn long_runs_of_y_end(count in 1..2000_usize) {
            prop_assert!(!stem(&"y".repeat(count)).is_empty());
        }
    }
}
