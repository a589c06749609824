//! Provenance of results: program, command line and machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Program, command line and machine that made a result, recorded next to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name, version and git revision of the program, such as `glm-prep 0.1.0 (1a2b3c4d5e)`.
    pub program: String,
    /// Version of the contract of the shards.
    pub schema_version: u32,
    /// Version of the libtorch that was loaded; `None` for a program without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libtorch: Option<String>,
    /// Cargo features of the program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Command line, the program first.
    pub command: Vec<String>,
    /// Working directory, to which paths of the command line are relative.
    pub directory: PathBuf,
    /// Name of the machine.
    pub host: String,
    /// Number of threads that compute.
    pub threads: usize,
}

impl Provenance {
    /// Returns command line and machine of this process.
    pub fn of_process(program: String, schema_version: u32, threads: usize) -> Self {
        // Linux; elsewhere the name stays empty.
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            program,
            schema_version,
            libtorch: None,
            features: Vec::new(),
            command: std::env::args_os().map(|argument| without_signature(argument.to_string_lossy().into_owned())).collect(),
            directory: std::env::current_dir().unwrap_or_default(),
            host: host.trim().to_owned(),
            threads,
        }
    }
}

/// Leaves out the query of a URL, which may give access to what is there.
fn without_signature(mut argument: String) -> String {
    if argument.contains("://")
        && let Some(query) = argument.find('?')
    {
        argument.truncate(query);
    }
    argument
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_left_out() {
        for (argument, recorded) in [
            ("https://host/x?signature=secret", "https://host/x"),
            ("--init=https://host/x?signature=secret", "--init=https://host/x"),
            ("s3://bucket/x", "s3://bucket/x"),
            ("Who barked?", "Who barked?"),
        ] {
            assert_eq!(without_signature(argument.to_owned()), recorded);
        }
    }

    #[test]
    fn the_process_is_described() {
        let provenance = Provenance::of_process("glm-prep 0.1.0 (1a2b3c4d5e)".into(), 3, 2);
        assert!(!provenance.command.is_empty());
        assert_eq!(provenance.directory, std::env::current_dir().expect("directory"));
        let json = serde_json::to_string(&provenance).expect("json");
        assert!(!json.contains("libtorch"), "{json}");
        assert_eq!(serde_json::from_str::<Provenance>(&json).expect("read"), provenance);
    }
}
