//! Version of the program, of libtorch and of the contract, as shown by `--version` and recorded with every result.

use std::sync::LazyLock;

use glm_schemas::SCHEMA_VERSION;
use glm_support::provenance::Provenance;

/// Name, version and git revision, such as `glm-trainer 0.1.0 (1a2b3c4d5e)`.
pub static PROGRAM: LazyLock<String> = LazyLock::new(|| format!("glm-trainer {}", glm_build_info::SHORT));

/// Returns program and libtorch, such as `glm-trainer 0.1.0 (1a2b3c4d5e), libtorch 2.11.0`.
pub fn with_libtorch() -> String {
    let libtorch = libtorch_ext::version().map(|version| format!(", libtorch {version}"));
    format!("{}{}", *PROGRAM, libtorch.unwrap_or_default())
}

/// Text of `--version` after the name of the program.
pub static LONG: LazyLock<String> = LazyLock::new(|| {
    let libtorch = libtorch_ext::version().unwrap_or_else(|| "of unknown version".to_owned());
    let features = features();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
    format!("{}\nlibtorch {libtorch}\nfeatures: {features}\nschema version {SCHEMA_VERSION}", glm_build_info::SHORT)
});

/// Cargo features of the program.
fn features() -> Vec<String> {
    let all = [("cuda", cfg!(feature = "cuda")), ("network", cfg!(feature = "network"))];
    all.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name.to_owned()).collect()
}

/// Returns program, command line and machine of this process.
pub fn provenance() -> Provenance {
    let threads = usize::try_from(tch::get_num_threads()).unwrap_or_default();
    Provenance {
        libtorch: libtorch_ext::version(),
        features: features(),
        ..Provenance::of_process(PROGRAM.clone(), SCHEMA_VERSION, threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_libtorch_is_that_of_tch() {
        assert_eq!(libtorch_ext::version().as_deref(), Some("2.11.0"));
        assert!(LONG.contains("libtorch 2.11.0"), "{}", *LONG);
    }
}
