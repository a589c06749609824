//! Harness of the end-to-end tests: finds and runs the real programs, each test in a folder of its own.

pub mod browser;
pub mod pages;
pub mod processes;
pub mod shell;
pub mod training;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The path of a program that `cargo build --release --workspace` made.
///
/// # Panics
/// If it has not been built.
pub fn program(name: &str) -> PathBuf {
    // A test runs from target/<profile>/deps; the programs are one folder up.
    let test = std::env::current_exe().expect("path of the test");
    let folder = test.parent().and_then(Path::parent).expect("target folder");
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing: build the workspace first, as scripts/test does", path.display());
    path
}

/// A command for one of the programs, with no setting of the caller's environment that could change what it does.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    for name in ["GLM_DATA_DIR", "RUST_LOG", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_STEP_ID"]
    {
        command.env_remove(name);
    }
    // Tests run side by side; more threads than cores that wait for each other by spinning would take minutes.
    command.env("OMP_NUM_THREADS", "1");
    command
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started.
pub fn run(command: &mut Command) -> Finished {
    let output = command.output().expect("start the program");
    Finished { output }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    output: Output,
}

impl Finished {
    /// The exit code.
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    /// What it printed.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// What it said beside.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Itself, if it ended well.
    ///
    /// # Panics
    /// If it did not.
    pub fn success(self) -> Self {
        assert_eq!(self.code(), Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr());
        self
    }
}

/// The folder of files that tests compare with.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The values of a file of JSON lines.
///
/// # Panics
/// If it is none.
pub fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("json")).collect()
}

/// Ingests one file of raw passages into `folder` with the real program, once for every split.
///
/// # Panics
/// If that fails.
pub fn ingest(folder: &Path, passages: &Path, splits: &[&str]) {
    let raw = folder.join("ReCoRD");
    std::fs::create_dir_all(&raw).expect("folder");
    for split in splits {
        std::fs::copy(passages, raw.join(format!("{split}.jsonl"))).expect("copy");
    }
    run(command("glm-prep").arg("ingest").arg(folder)).success();
}

/// Files that may not be published with the project: beside the repository where they are there.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name);
    path.exists().then_some(path)
}
