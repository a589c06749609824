//! Headers of requests.

use object_store::HeaderValue;

/// Returns the value of a header. Values of this crate are valid.
pub(crate) fn http_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("glm"))
}
