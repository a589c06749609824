//! Command line of `glm-trainer run --nproc`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use glm_trainer::exit_code::{FAILED, USAGE};

/// Runs `glm-trainer run` with these arguments, and with RANK set in the environment if given.
fn glm_trainer(arguments: &[&str], rank: Option<&str>) -> Output {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_glm-trainer")));
    command.arg("run").args(arguments).stdin(Stdio::null()).env("OMP_NUM_THREADS", "1");
    for variable in ["RANK", "WORLD_SIZE", "RUST_LOG", "GLM_DATA_DIR"] {
        command.env_remove(variable);
    }
    command.envs(rank.map(|rank| ("RANK", rank))).output().expect("start the program")
}

#[test]
fn errors_of_the_command_line_name_the_cause() {
    let text = |arguments: &[&str], rank, code: u8| {
        let output = glm_trainer(arguments, rank);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code.into()), "{stderr}");
        stderr
    };
    let inside = text(&["--nproc", "1"], Some("0"), FAILED);
    assert!(inside.contains("RANK=\"0\"") && inside.contains("unset RANK"), "{inside}");
    assert!(text(&["--nproc", "0"], None, USAGE).contains("invalid number of processes"));
    assert!(text(&["--max-restarts", "1", "--out", "x"], None, USAGE).contains("--nproc"));
    assert!(text(&["--max-restarts", "1", "--nproc", "1"], None, USAGE).contains("--out"));
    let settings = text(&["--nproc", "1", "--set", "train.no_such=1"], None, USAGE);
    assert!(settings.contains("no_such") && !settings.contains("rank 0"), "{settings}");
}

#[test]
fn workers_run_this_program_with_the_remaining_arguments() {
    let output = glm_trainer(&["--nproc", "1", "--data", "/no/such/folder"], None);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("folder /no/such/folder does not exist") && stderr.contains("rank 0 (host "), "{stderr}");
}
