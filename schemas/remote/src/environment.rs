//! Environment variables.

#[cfg(test)]
use std::cell::RefCell;

/// Returns an environment variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    environment().into_iter().find(|(other, _)| other == name).map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// Returns all set variables with a prefix.
#[cfg(feature = "network")]
pub(crate) fn variables(prefix: &'static str) -> impl Iterator<Item = (String, String)> {
    environment().into_iter().filter(move |(name, value)| name.starts_with(prefix) && !value.is_empty())
}

/// Environment variables in UTF-8; in tests, those that a test sets for its thread.
fn environment() -> Vec<(String, String)> {
    #[cfg(test)]
    return ENVIRONMENT.with_borrow(Clone::clone);
    #[cfg(not(test))]
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

#[cfg(test)]
thread_local! {
    /// Environment of the stores that this thread opens.
    static ENVIRONMENT: RefCell<Vec<(String, String)>> = const { RefCell::new(Vec::new()) };
}

/// Sets the environment of the stores that this thread opens.
#[cfg(test)]
pub(crate) fn set_environment(variables: &[(&str, &str)]) {
    let variables = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    ENVIRONMENT.set(variables);
    #[cfg(feature = "network")]
    crate::store::forget_stores();
}
