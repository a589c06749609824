//! Embedded pattern files.

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../patterns/", $name, ".toml")))),*]
    };
}

/// Name and text of every embedded file.
pub const ALL: &[(&str, &str)] = files![
    "clue/afqmc",
    "clue/cluewsc",
    "clue/tnews",
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
];

/// Returns the text of the file with this name.
pub fn find(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(found, _)| *found == name).map(|(_, text)| *text)
}
