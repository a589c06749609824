//! The launcher of `glm-trainer run --nproc`, with a shell script for a worker; the launcher's tests run it.
//!
//! ```text
//! cargo run --release --workspace --example launch -- --nproc 3 'echo "I am $RANK of $WORLD_SIZE"; exit $((RANK == 1))'
//! ```

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use glm_trainer::distributed::launcher::{INTERRUPTED, Options, Outcome, WorkerCommand, launch};

#[derive(Parser)]
struct Arguments {
    /// Workers.
    #[arg(long)]
    nproc: usize,
    /// How often all are started again after a failure.
    #[arg(long, default_value_t = 0)]
    max_restarts: u32,
    /// Milliseconds that workers have to end by themselves after one has failed.
    #[arg(long, default_value_t = 10_000)]
    grace: u64,
    /// Milliseconds from SIGTERM to SIGKILL.
    #[arg(long, default_value_t = 10_000)]
    kill_after: u64,
    /// OMP_NUM_THREADS of a worker.
    #[arg(long)]
    threads: Option<usize>,
    /// What each worker runs.
    script: String,
}

fn main() -> ExitCode {
    let Arguments { nproc, max_restarts, grace, kill_after, threads, script } = Arguments::parse();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
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
        Err(error) => {
            tracing::error!("{:#}", anyhow::Error::from(error));
            ExitCode::FAILURE
        }
    }
}
