//! Comparison of program, settings and data set between ranks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::list_ranks;
use crate::config::Config;
use crate::config::changes::settings;

/// Values that must be equal on all ranks, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    values: BTreeMap<String, String>,
}

impl Identity {
    /// Returns the program, settings, data set and kind of device of this process.
    pub fn of_process(config: &Config, fingerprint: &str, device_kind: &str) -> Self {
        let mut values = settings(config);
        values.insert("the program".to_owned(), program());
        values.insert("the data set's fingerprint".to_owned(), fingerprint.to_owned());
        values.insert("the device".to_owned(), device_kind.to_owned());
        Self { values }
    }
}

/// Returns the version of this program and, if its file is readable, a checksum, which distinguishes builds of one version.
fn program() -> String {
    let version = glm_build_info::SHORT;
    let file = std::env::current_exe().and_then(std::fs::read);
    match file {
        Ok(bytes) => {
            let digest = Sha256::digest(&bytes);
            let short: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
            format!("{version} (sha256 {short}…)")
        }
        Err(_) => version.to_owned(),
    }
}

/// Describes the values that differ between ranks, one sentence per value.
pub(super) fn differences(identities: &[Identity]) -> Vec<String> {
    let names: BTreeSet<&String> = identities.iter().flat_map(|identity| identity.values.keys()).collect();
    let mut differences = Vec::new();
    for name in names {
        let mut by_value: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (rank, identity) in identities.iter().enumerate() {
            by_value.entry(identity.values.get(name).map_or("missing", String::as_str)).or_default().push(rank);
        }
        if by_value.len() > 1 {
            let mut values: Vec<_> = by_value.into_iter().collect();
            // The most common value comes first.
            values.sort_by_key(|(_, ranks)| (std::cmp::Reverse(ranks.len()), ranks[0]));
            let parts: Vec<String> = values.iter().map(|(value, ranks)| format!("{value} on {}", list_ranks(ranks))).collect();
            differences.push(format!("{name} is {}", parts.join(", ")));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_value_and_the_ranks() {
        let identity = |config: &Config, data: &str| Identity::of_process(config, data, "cpu");
        let usual = Config::default();
        let mut other = Config::default();
        other.optim.lr = 2e-5;
        let all = [identity(&usual, "a"), identity(&usual, "a"), identity(&other, "a"), identity(&usual, "b")];
        assert!(differences(&all[..2]).is_empty());
        assert_eq!(
            differences(&all),
            [
                "optim.lr is 1e-5 on ranks 0, 1 and 3, 2e-5 on rank 2",
                "the data set's fingerprint is a on ranks 0, 1 and 2, b on rank 3"
            ]
        );
    }

    #[test]
    fn every_setting_and_the_program_are_compared() {
        let identity = Identity::of_process(&Config::default(), "a", "cpu");
        for name in ["train.seed", "model.preset", "data.micro_batch_tokens", "optim.grad_accumulation", "the program"] {
            assert!(identity.values.contains_key(name), "{name}");
        }
        assert!(identity.values["the program"].contains("sha256"));
    }
}
