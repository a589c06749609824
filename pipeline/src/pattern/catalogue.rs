//! Embedded pattern files.

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../patterns/", $name, ".toml")))),*]
    };
}

/// Name and text of every embedded file.
pub const ALL: &[(&str, &str)] = files![
    "agnews",
    "clue/afqmc",
    "clue/cluewsc",
    "clue/tnews",
    "glue/cola",
    "glue/mnli",
    "glue/mnli-mm",
    "glue/mrpc",
    "glue/qnli",
    "glue/qqp",
    "glue/sst-2",
    "multichoice",
    "race",
    "superglue/ax-b",
    "superglue/ax-g",
    "superglue/boolq",
    "superglue/cb",
    "superglue/copa",
    "superglue/multirc",
    "superglue/rte",
    "superglue/wic",
    "superglue/wsc",
    "superglue/wsc-candidates",
    "xstance",
    "yahoo",
    "yelp-full",
    "yelp-polarity",
];

/// Returns the name of an embedded file that differs only in punctuation, case or folder.
pub fn similar(name: &str) -> Option<&'static str> {
    let letters =
        |text: &str| -> String { text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase() };
    let last = |text: &str| letters(text.rsplit('/').next().unwrap_or(text));
    let names = || ALL.iter().map(|(found, _)| *found);
    names().find(|found| letters(found) == letters(name)).or_else(|| names().find(|found| last(found) == last(name)))
}

/// Returns the text of the file with this name.
pub fn find(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(found, _)| *found == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_names_are_found() {
        assert_eq!(similar("glue/sst2"), Some("glue/sst-2"));
        assert_eq!(similar("BoolQ"), Some("superglue/boolq"));
        assert_eq!(similar("sst_2"), Some("glue/sst-2"));
        assert_eq!(similar("squad"), None);
    }
}
