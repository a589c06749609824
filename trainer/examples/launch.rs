//! The launcher of `glm-trainer run --nproc` with shell scripts as workers, for the launcher's tests.
//!
//! ```text
//! cargo run --release --workspace --example launch -- --nproc 3 'echo "rank $RANK of $WORLD_SIZE"; exit $((RANK == 1))'
//! ```

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use glm_support::command::log::{LogArgs, Times};
use glm_trainer::distributed::launcher::{Options, Outcome, WorkerCommand, launch};
use glm_trainer::exit_code::{ABORTED, INTERRUPTED};

#[derive(Parser)]
struct Arguments {
    /// Number of workers
    #[arg(long)]
    nproc: usize,
    /// Maximum number of restarts after a failure
    #[arg(long, default_value_t = 0)]
    max_restarts: u32,
    /// Milliseconds from the failure of a worker to SIGTERM for the others
    #[arg(long, default_value_t = 10_000)]
    grace: u64,
    /// Milliseconds from SIGTERM to SIGKILL
    #[arg(long, default_value_t = 10_000)]
    kill_after: u64,
    /// OMP_NUM_THREADS of the workers
    #[arg(long)]
    threads: Option<usize>,
    /// Shell script that each worker runs
    script: String,
}

fn main() -> ExitCode {
    let Arguments { nproc, max_restarts, grace, kill_after, threads, script } = Arguments::parse();
    LogArgs::default().start(tracing::Level::INFO, Times::Shown);
    let options = Options {
        max_restarts,
        grace: Duration::from_millis(grace),
        kill_after: Duration::from_millis(kill_after),
        threads,
        ..Options::new(nproc)
    };
    let command = WorkerCommand { program: "sh".into(), arguments: vec!["-c".into(), script.into()] };
    match launch(&options, &command) {
        Ok(Outcome::Finished) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => ExitCode::from(INTERRUPTED),
        Ok(Outcome::Aborted) => ExitCode::from(ABORTED),
        Err(error) => {
            tracing::error!("{:#}", anyhow::Error::from(error));
            ExitCode::FAILURE
        }
    }
}
