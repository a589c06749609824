//! What all ranks must have in common, and what differs where they do not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ranks;
use crate::config::Config;
use crate::config::changes::settings;

/// What a rank runs, as names and values; all of it has to be the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    facts: BTreeMap<String, String>,
}

impl Identity {
    /// That of this process: its program, its settings, its data set, and where it computes.
    pub fn of_process(config: &Config, fingerprint: &str, device_kind: &str) -> Self {
        let mut facts = settings(config);
        facts.insert("the program".to_owned(), program());
        facts.insert("the data set's fingerprint".to_owned(), fingerprint.to_owned());
        facts.insert("the device".to_owned(), device_kind.to_owned());
        Self { facts }
    }
}

/// Version of this program, and a checksum of its file where that can be read: two builds of one version are two programs.
fn program() -> String {
    let version = env!("CARGO_PKG_VERSION");
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

/// What differs between ranks, one sentence a fact; none where all are the same.
#[must_use]
pub fn differences(identities: &[Identity]) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = identities.iter().flat_map(|identity| identity.facts.keys()).collect();
    let mut differences = Vec::new();
    for name in names {
        let mut by_value: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (rank, identity) in identities.iter().enumerate() {
            by_value.entry(identity.facts.get(name).map_or("missing", String::as_str)).or_default().push(rank);
        }
        if by_value.len() > 1 {
            let mut values: Vec<_> = by_value.into_iter().collect();
            // What most have comes first.
            values.sort_by_key(|(_, having)| (std::cmp::Reverse(having.len()), having[0]));
            let parts: Vec<String> = values.iter().map(|(value, having)| format!("{value} on {}", ranks(having))).collect();
            differences.push(format!("{name} is {}", parts.join(", ")));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_differs_is_named_with_the_ranks() {
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
    fn every_setting_and_the_program_count() {
        let identity = Identity::of_process(&Config::default(), "a", "cpu");
        for name in ["train.seed", "model.preset", "data.micro_batch_tokens", "optim.grad_accumulation", "the program"] {
            assert!(identity.facts.contains_key(name), "{name}");
        }
        assert!(identity.facts["the program"].contains("sha256"));
    }
}
