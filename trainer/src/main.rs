//! `glm-trainer`: trains and evaluates GLM on cloze data sets.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use glm_schemas::manifest::Split;
use glm_trainer::bench;
use glm_trainer::checkpoint::weights::Weights;
use glm_trainer::cli::{BenchArgs, Cli, Command, EvalArgs, RunArgs};
use glm_trainer::config::REFERENCE;
use glm_trainer::convert;
use glm_trainer::distributed::launcher::{self, INTERRUPTED, Processes, WorkerCommand};
use glm_trainer::distributed::{DistributedError, Environment};
use glm_trainer::evaluate::{Evaluation, EvaluationConfig, evaluate};
use glm_trainer::fetch;
use glm_trainer::inspect;
use glm_trainer::launch::{self, Resume};
use glm_trainer::report;
use glm_trainer::train::{Outcome, Run, train};
use tch::Kind;

fn main() -> ExitCode {
    glm_trainer::memory::keep_freed_memory();
    let cli = Cli::parse();
    let level = match (cli.quiet, cli.verbose) {
        // The first rank tells for all.
        (0, 0) if is_another_rank() => tracing::Level::WARN,
        (0, 0) => tracing::Level::INFO,
        (0, _) => tracing::Level::DEBUG,
        (1, _) => tracing::Level::WARN,
        _ => tracing::Level::ERROR,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let result = match cli.command {
        Command::Run(args) => match args.nproc {
            Some(processes) => launch_workers(*args, processes),
            None => run(*args),
        },
        Command::Eval(args) => eval(*args),
        Command::Bench(args) => bench(&args),
        Command::Fetch(args) => fetch::run(&args).map_err(Into::into).and_then(|text| print(&text)),
        Command::Inspect(args) => {
            inspect::inspect(&args).map_err(Into::into).and_then(|report| print(&show(&report, args.json)?))
        }
        Command::Convert(args) => convert::convert(&args).map_err(Into::into).and_then(|done| print(&done.to_string())),
        Command::Report(args) => {
            report::run(&args).map_err(Into::into).and_then(|path| print(&format!("{}\n", path.display())))
        }
        Command::Config => print(REFERENCE),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// Whether this process is one of several and not the first.
fn is_another_rank() -> bool {
    // What is wrong with the environment is said where it is used.
    matches!(Environment::read(), Ok(Some(environment)) if environment.rank > 0)
}

/// An error with its causes; many of ours end with the text of theirs already.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.ends_with(&cause) {
        true => text,
        false if text.is_empty() => cause,
        false => format!("{text}: {cause}"),
    })
}

/// Whoever read our output has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn print(text: &str) -> Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write")?;
    Ok(ExitCode::SUCCESS)
}

/// Runs this program once for every process that was asked for, and watches over them.
fn launch_workers(args: RunArgs, processes: Processes) -> Result<ExitCode> {
    launcher::check_environment(|name| std::env::var_os(name))?;
    let world_size = processes.count().context("--nproc gpu starts a process for each GPU")?;
    if world_size > 1 {
        libtorch_ext::distributed::available()?;
    }
    let options = launcher::Options {
        max_restarts: args.max_restarts.unwrap_or(0),
        threads: launcher::threads_each(world_size, args.device),
        ..launcher::Options::new(world_size)
    };
    // What is wrong with the settings is said once, not by every worker.
    args.resolve()?;
    let command = WorkerCommand::this_program_without(&["--nproc", "--max-restarts"]).context("cannot find this program")?;
    Ok(match launcher::launch(&options, &command)? {
        launcher::Outcome::Finished => ExitCode::SUCCESS,
        launcher::Outcome::Interrupted => ExitCode::from(INTERRUPTED),
    })
}

fn run(args: RunArgs) -> Result<ExitCode> {
    let stop = glm_trainer::stop::flag().context("cannot watch for signals")?;
    let (mut request, config) = args.resolve()?;
    let environment = Environment::read()?;
    if environment.as_ref().is_some_and(|environment| environment.attempt > 0) {
        // Whoever started all processes again did so with the same arguments.
        request.resume = Resume::IfPossible;
    }
    let (device, world) = launch::join(request.device, &config, environment, Box::new(end_at_once))?;
    let result = launch::prepare(request, config, device, world.clone()).and_then(|mut run| {
        let outcome = train(&mut run, &stop)?;
        tell(&run, outcome);
        Ok(outcome)
    });
    match (result, world) {
        (Ok(Outcome::Interrupted), _) => Ok(ExitCode::from(INTERRUPTED)),
        (Ok(_), _) => Ok(ExitCode::SUCCESS),
        (Err(error), Some(world)) => Err(error.told_to(&world).into()),
        (Err(error), None) => Err(error.into()),
    }
}

/// A rank that waits inside a call that never comes back can only be ended.
fn end_at_once(error: DistributedError) {
    tracing::error!("{error}");
    std::process::exit(1);
}

/// The last line of a run, on the rank that has written it.
fn tell(run: &Run, outcome: Outcome) {
    let Some(records) = &run.records else { return };
    match outcome {
        Outcome::Finished => tracing::info!("done: {} questions in {} steps", run.state.samples, run.state.step),
        Outcome::TargetReached => {
            tracing::info!("target accuracy reached: {:.4}", run.state.accuracy.unwrap_or_default());
        }
        Outcome::Interrupted => {
            let folder = records.folder().root().display();
            tracing::warn!("stopped at step {}; go on with --out {folder} --resume", run.state.step);
        }
    }
}

fn bench(args: &BenchArgs) -> Result<ExitCode> {
    let config = args.resolve()?;
    launch::use_threads(&config);
    let data = args.data.as_deref().map(launch::open_data).transpose()?;
    if let Some(plan) = args.simulate.plan(args.steps) {
        let simulation = bench::simulate::simulate(&config, data.as_ref(), args.device.resolve()?, &plan)?;
        return print(&show(&simulation, args.json)?);
    }
    let text = match (&data, args.data_only) {
        (Some(data), true) => show(&bench::reading(&config, data)?, args.json)?,
        _ => {
            let plan = bench::Plan { warmup: args.warmup, steps: args.steps, profile: args.profile };
            show(&bench::training(&config, data.as_ref(), args.device.resolve()?, plan)?, args.json)?
        }
    };
    print(&text)
}

/// A result as JSON, or as a person reads it.
fn show(result: &(impl serde::Serialize + std::fmt::Display), json: bool) -> Result<String> {
    if json { Ok(serde_json::to_string(result).context("cannot print the result")? + "\n") } else { Ok(result.to_string()) }
}

fn eval(args: EvalArgs) -> Result<ExitCode> {
    ensure!(args.split != Split::Test, "the split test has no answers, so there is no accuracy to measure; take val or train");
    let config = args.settings.resolve(&[])?;
    launch::use_threads(&config);
    let device = args.device.resolve()?;
    let data = launch::open_data(&launch::data_folder(args.data))?;
    let split = Arc::new(data.split(args.split)?);
    let model = launch::load_model(&Weights::open(&args.init)?, &config, data.manifest(), device, Kind::Float)?;
    let evaluation = EvaluationConfig {
        kind: config.train.precision.on(device).kind(),
        kernels: config.train.kernels,
        packer: config.packer(data.manifest().special_ids, false),
        threads: config.data.decode_threads,
        limit: config.train.eval_questions,
    };

    let mut lines = match &args.scores {
        Some(path) => {
            let temporary = path.with_extension("tmp");
            let file = File::create(&temporary).with_context(|| format!("cannot write {}", temporary.display()))?;
            Some((BufWriter::new(file), temporary, path))
        }
        None => None,
    };
    let mut written = Ok(());
    let result = evaluate(&model, &split, evaluation, None, |answer| {
        if let (Some((file, ..)), Ok(())) = (&mut lines, &written) {
            written = serde_json::to_writer(&mut *file, &answer).map_err(Into::into).and_then(|()| file.write_all(b"\n"));
        }
    })?;
    if let Some((file, temporary, path)) = lines {
        let publish = || -> std::io::Result<()> {
            written?;
            file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
            std::fs::rename(&temporary, path)
        };
        publish().with_context(|| format!("cannot write {}", path.display()))?;
    }

    if args.json {
        let text = serde_json::to_string(&result).context("cannot print the result")?;
        return print(&format!("{text}\n"));
    }
    let Evaluation { accuracy, hits, questions, chance, most_frequent, seconds } = result;
    print(&format!(
        "accuracy              {:6.2} %   {hits} of {questions} questions, {seconds:.1} s\n\
         chance                {:6.2} %   a guess among the choices\n\
         most frequent entity  {:6.2} %   the choice that the passage names most often\n",
        100.0 * accuracy,
        100.0 * chance,
        100.0 * most_frequent,
    ))
}
