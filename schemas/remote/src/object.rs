//! A file in a list of files, and a value of a request for one.

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

/// Returns the value of a header. Values of this crate are valid.
pub(crate) fn http_value(text: &str) -> object_store::HeaderValue {
    object_store::HeaderValue::from_str(text).unwrap_or_else(|_| object_store::HeaderValue::from_static("glm"))
}
