//! `glm-trainer`: trains and evaluates GLM.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use glm_support::command::log::{Times, joined};
use glm_support::command::pipe::is_broken_pipe;
use glm_support::command::{completions, manual};
use glm_support::files::output::is_stdout;
use glm_trainer::cli::{Cli, Command};
use glm_trainer::command::bench;
use glm_trainer::command::convert;
use glm_trainer::command::eval;
use glm_trainer::command::fetch;
use glm_trainer::command::generate;
use glm_trainer::command::inspect;
use glm_trainer::command::predict;
use glm_trainer::command::report;
use glm_trainer::command::run::plan::Machine;
use glm_trainer::command::run::{self, Resume, RunArgs, RunError, SeedRuns, log_outcome, quoted};
use glm_trainer::command::score;
use glm_trainer::command::setup::SetupError;
use glm_trainer::config::SettingsError;
use glm_trainer::distributed::launcher::{self, LaunchError, WorkerCommand};
use glm_trainer::distributed::{DistributedError, Environment};
use glm_trainer::exit_code::{ABORTED, FAILED, INTERRUPTED, USAGE, exit_now};
use glm_trainer::train::{Outcome, train};

/// The allocator, also of libtorch: mimalloc defines `malloc` and its relatives in this program, and libraries find them there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    glm_trainer::memory::keep_freed_memory();
    let cli = Cli::parse();
    if let Some(folder) = &cli.cache {
        glm_remote::cache::set_folder(folder);
    }
    let level = match is_another_rank() {
        // Rank 0 logs for all ranks.
        true => tracing::Level::WARN,
        false => tracing::Level::INFO,
    };
    let trains = matches!(cli.command, Command::Run(_));
    let log = cli.log.start(level, if trains { Times::Shown } else { Times::None });
    let result = match cli.command {
        Command::Run(args) if args.plan => plan_memory(*args),
        Command::Run(args) if !args.seeds.is_empty() => launch_seeds(&args),
        Command::Run(args) if args.nproc.is_some() => launch_workers(*args),
        Command::Run(args) => train_model(*args),
        Command::Eval(args) => {
            eval::run(&args).map_err(Into::into).and_then(|result| print_beside([args.scores], &show(&result, args.json)?))
        }
        Command::Predict(args) => predict::run(&args)
            .map_err(Into::into)
            .and_then(|result| print_beside([Some(args.out), args.scores], &show(&result, args.json)?)),
        Command::Score(args) => {
            score::run(&args, &mut std::io::stdout().lock()).map_err(Into::into).map(|()| ExitCode::SUCCESS)
        }
        Command::Generate(args) => {
            generate::run(&args, &mut std::io::stdout().lock()).map_err(Into::into).map(|()| ExitCode::SUCCESS)
        }
        Command::Bench(args) => bench::run(&args).map_err(Into::into).and_then(|result| print(&show(&result, args.json)?)),
        Command::Fetch(args) => fetch::run(&args).map_err(Into::into).and_then(|text| print(&text)),
        Command::Inspect(args) => {
            inspect::inspect(&args).map_err(Into::into).and_then(|report| print(&show(&report, args.json)?))
        }
        Command::Convert(args) => convert::convert(&args).map_err(Into::into).and_then(|done| print(&done.to_string())),
        Command::Report(args) => {
            report::run(&args).map_err(Into::into).and_then(|result| match &args.out {
                // Its only line would be the name of the page.
                Some(page) if is_stdout(page) && !args.json => Ok(ExitCode::SUCCESS),
                _ => print_beside([args.out], &show(&result, args.json)?),
            })
        }
        Command::Config(args) => print(&args.text()),
        Command::Presets(args) => args.text().context("cannot print the presets").and_then(|text| print(&text)),
        Command::Completions(args) => print(&String::from_utf8_lossy(&completions::script(Cli::command(), args.shell))),
        Command::Man(args) => {
            manual::write(Cli::command(), &args.dir).map_err(Into::into).and_then(|pages| print(&pages.to_string()))
        }
    };
    match result {
        Ok(code) => code,
        // The reader of the output has closed it.
        Err(error) if is_broken_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            let is_usage = error.chain().any(|cause| cause.is::<SettingsError>());
            log.error(&joined(error.chain()), is_usage);
            ExitCode::from(if is_usage { USAGE } else { FAILED })
        }
    }
}

/// Returns true if this process is a rank other than 0.
fn is_another_rank() -> bool {
    // Errors of the environment are reported where it is used.
    matches!(Environment::read(), Ok(Some(environment)) if environment.rank > 0)
}

fn print(text: &str) -> Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write")?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a result; to standard error if one of the command's files is standard output.
fn print_beside(files: impl IntoIterator<Item = Option<PathBuf>>, text: &str) -> Result<ExitCode> {
    if files.into_iter().flatten().any(|file| is_stdout(&file)) {
        std::io::stderr().write_all(text.as_bytes()).context("cannot write")?;
        return Ok(ExitCode::SUCCESS);
    }
    print(text)
}

/// Options of a launch of as many processes as the arguments ask for, each of which is this program.
fn launch_options(args: &RunArgs, option: &'static str) -> Result<launcher::Options> {
    launcher::check_environment(option, |name| std::env::var_os(name))?;
    let world_size = match args.nproc {
        Some(processes) => processes.count().context("--nproc gpu starts one process per GPU")?,
        None => 1,
    };
    if world_size > 1 {
        libtorch_ext::distributed::available()?;
    }
    Ok(launcher::Options {
        alone: args.nproc.is_none(),
        max_restarts: args.max_restarts.unwrap_or(0),
        threads: launcher::threads_per_worker(world_size, args.device),
        ..launcher::Options::new(world_size)
    })
}

/// Runs this program once per process and supervises the processes.
fn launch_workers(args: RunArgs) -> Result<ExitCode> {
    let options = launch_options(&args, "--nproc")?;
    // Reports invalid settings once instead of from every worker.
    args.resolve()?;
    let command = WorkerCommand::this_program_without(&["--nproc", "--max-restarts"]).context("cannot find this program")?;
    Ok(exit_code(launcher::launch(&options, &command)?))
}

/// Runs this program once per seed, in processes of its own, so that no run has anything of the one before.
fn launch_seeds(args: &RunArgs) -> Result<ExitCode> {
    let options = launch_options(args, "--seeds")?;
    let runs = SeedRuns::of(args)?;
    let launched = ["--nproc", "--max-restarts", "--seeds", "--out"];
    let command = WorkerCommand::this_program_without(&launched).context("cannot find this program")?;
    let mut summary = runs.note()?;
    let count = runs.runs().len();
    for (number, (seed, folder)) in runs.runs().enumerate() {
        tracing::info!("seed {seed}, run {} of {count}", number + 1);
        let mut of_seed = command.clone();
        of_seed.arguments.extend(["--seed".into(), seed.to_string().into(), "--out".into(), folder.into_os_string()]);
        let outcome = match launcher::launch(&options, &of_seed) {
            // The run has said why.
            Err(LaunchError::Worker(_)) if options.alone => {
                anyhow::bail!("the run with seed {seed} has failed; the same command continues there")
            }
            outcome => outcome?,
        };
        summary = runs.note()?;
        if outcome != launcher::Outcome::Finished {
            return Ok(exit_code(outcome));
        }
    }
    for line in summary.to_string().lines() {
        tracing::info!("{line}");
    }
    tracing::info!("next: glm-trainer report {}", quoted(runs.folder()));
    Ok(ExitCode::SUCCESS)
}

fn exit_code(outcome: launcher::Outcome) -> ExitCode {
    match outcome {
        launcher::Outcome::Finished => ExitCode::SUCCESS,
        launcher::Outcome::Interrupted => ExitCode::from(INTERRUPTED),
        launcher::Outcome::Aborted => ExitCode::from(ABORTED),
    }
}

/// Prints the memory plan of a run.
fn plan_memory(args: RunArgs) -> Result<ExitCode> {
    let ranks = match (args.ranks, args.nproc) {
        (Some(ranks), _) => ranks.get(),
        (None, Some(processes)) => processes.count().context("--nproc gpu starts one process per GPU")?,
        (None, None) => 1,
    };
    let (machine, json) = (Machine { ranks, memory: args.device_memory }, args.json);
    let (request, config) = args.resolve()?;
    let report = run::plan::plan(&request, &config, machine)?;
    print(&show(&report, json)?)
}

fn train_model(args: RunArgs) -> Result<ExitCode> {
    let stop = glm_trainer::train::stop::flag().context("cannot watch for signals")?;
    let (mut request, config) = args.resolve()?;
    let environment = Environment::read()?;
    if environment.as_ref().is_some_and(|environment| environment.attempt > 0) {
        // A launcher restarts all processes with the same arguments.
        request.resume = Resume::IfPossible;
    }
    let (device, world) = run::join(request.device, &config, environment, Box::new(end_at_once))?;
    let result = run::prepare(request, config, device, world.clone()).map_err(RunError::from).and_then(|mut run| {
        let start = Instant::now();
        let outcome = train(&mut run, &stop)?;
        if let Some(records) = &mut run.records {
            records.checkpoints.finish_copy().map_err(SetupError::from)?;
        }
        log_outcome(&run, outcome, start.elapsed());
        Ok(outcome)
    });
    match (result, world) {
        (Ok(Outcome::Interrupted), _) => Ok(ExitCode::from(INTERRUPTED)),
        (Ok(_), _) => Ok(ExitCode::SUCCESS),
        (Err(error), Some(world)) => {
            let error = anyhow::Error::from(error.attribute_to_peer(&world));
            if device.is_cuda() {
                // Dropping the group would wait for work on the GPU, which never ends if another rank is gone.
                tracing::error!("{}", joined(error.chain()));
                exit_now(FAILED)
            }
            Err(error)
        }
        (Err(error), None) => Err(error.into()),
    }
}

/// Ends a rank that hangs in a call which never returns.
fn end_at_once(error: DistributedError) {
    tracing::error!("{error}");
    exit_now(FAILED)
}

/// Formats a result as JSON or for people.
fn show(result: &(impl serde::Serialize + std::fmt::Display), json: bool) -> Result<String> {
    if json { Ok(serde_json::to_string(result).context("cannot print the result")? + "\n") } else { Ok(result.to_string()) }
}
