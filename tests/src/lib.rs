//! Harness of the end-to-end tests: finds and runs the real programs; every test has its own folder.

pub mod browser;
pub mod pages;
pub mod processes;
pub mod shell;
pub mod training;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Returns the path of a program built by `cargo build --release --workspace`.
///
/// # Panics
/// Panics if it has not been built.
pub fn program(name: &str) -> PathBuf {
    // Tests run from target/<profile>/deps; the programs are in the parent folder.
    let test = std::env::current_exe().expect("path of the test");
    let folder = test.parent().and_then(Path::parent).expect("target folder");
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing: build the workspace first, as scripts/test does", path.display());
    path
}

/// Environment variables that could change the behavior of the programs.
const VARIABLES: [&str; 9] = [
    "GLM_DATA_DIR",
    "GLM_STORE_SECRET",
    "RUST_LOG",
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "SLURM_STEP_ID",
];

/// Returns a command for one of the programs, without environment variables that could change its behavior.
pub fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    for name in VARIABLES {
        command.env_remove(name);
    }
    // Tests run in parallel; spinning threads in excess of the cores would take minutes.
    command.env("OMP_NUM_THREADS", "1");
    command
}

/// Runs a command to completion.
///
/// # Panics
/// Panics if it cannot be started.
pub fn run(command: &mut Command) -> Finished {
    let output = command.output().expect("start the program");
    Finished { output }
}

/// Runs a command line in a folder, as a user would who has copied it from a message: in a shell that finds the programs.
///
/// # Panics
/// Panics if the shell cannot be started.
pub fn shell_line(folder: &Path, line: &str) -> Finished {
    let programs = program("glm-trainer").parent().expect("folder of the programs").to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(folder).env("PATH", path).env("OMP_NUM_THREADS", "1");
    for name in VARIABLES {
        shell.env_remove(name);
    }
    run(&mut shell)
}

/// Result of a completed program.
#[derive(Debug)]
pub struct Finished {
    output: Output,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self { output }
    }
}

impl Finished {
    /// Returns the exit code.
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    /// Returns its standard output.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Returns its standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Returns the rest of the line of standard error that follows `marker`.
    ///
    /// # Panics
    /// Panics if there is none.
    pub fn after(&self, marker: &str) -> String {
        let stderr = self.stderr();
        let found = stderr.lines().find_map(|line| Some(line.split_once(marker)?.1.to_owned()));
        found.unwrap_or_else(|| panic!("no {marker:?} in\n{stderr}"))
    }

    /// Asserts that the program succeeded.
    ///
    /// # Panics
    /// Panics if it did not.
    pub fn success(self) -> Self {
        assert_eq!(self.code(), Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr());
        self
    }
}

/// Returns the folder of test fixtures: `$GLM_FIXTURES`, or that of the repository.
pub fn fixtures() -> PathBuf {
    let elsewhere = std::env::var_os("GLM_FIXTURES").map(PathBuf::from);
    elsewhere.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"))
}

/// Reads a file of JSON lines.
///
/// # Panics
/// Panics if it is not a valid one.
pub fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).expect("json")).collect()
}

/// Ingests a file of raw passages into `folder` with the real program, as each of `splits`.
///
/// # Panics
/// Panics if that fails.
pub fn ingest(folder: &Path, passages: &Path, splits: &[&str]) {
    let raw = folder.join("ReCoRD");
    std::fs::create_dir_all(&raw).expect("folder");
    for split in splits {
        std::fs::copy(passages, raw.join(format!("{split}.jsonl"))).expect("copy");
    }
    run(command("glm-prep").arg("ingest").arg(folder)).success();
}

/// Returns the path of a file that may not be published with the project, if it exists next to the repository.
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name);
    path.exists().then_some(path)
}
