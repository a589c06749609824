//! Files in a list of files.

/// File in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Path below the location of the store, with forward slashes.
    pub name: String,
    /// Size in bytes; `None` if the list of the folder does not tell it.
    pub bytes: Option<u64>,
    /// Text that changes with the content; empty if unknown.
    pub tag: String,
    /// sha256 of the content, if the service tells it.
    pub sha256: Option<String>,
}
