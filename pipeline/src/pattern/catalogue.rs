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

/// Returns the text of the file with this name.
pub fn find(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(found, _)| *found == name).map(|(_, text)| *text)
}
