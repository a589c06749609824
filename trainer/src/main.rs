//! `glm-trainer`: trains and evaluates GLM on cloze data sets.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use glm_schemas::manifest::Split;
use glm_trainer::bench;
use glm_trainer::checkpoint::weights::Weights;
use glm_trainer::cli::{BenchArgs, Cli, Command, EvalArgs, RunArgs};
use glm_trainer::config::REFERENCE;
use glm_trainer::evaluate::{Evaluation, EvaluationConfig, evaluate};
use glm_trainer::launch;
use glm_trainer::train::{Outcome, train};
use tch::Kind;

/// A run was asked to stop and can be resumed: EX_TEMPFAIL of sysexits.h.
const INTERRUPTED: u8 = 75;

fn main() -> ExitCode {
    glm_trainer::memory::keep_freed_memory();
    let cli = Cli::parse();
    let level = match (cli.quiet, cli.verbose) {
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
        Command::Run(args) => run(*args),
        Command::Eval(args) => eval(*args),
        Command::Bench(args) => bench(&args),
        Command::Config => print(REFERENCE),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
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

fn run(args: RunArgs) -> Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
        eprintln!("stopping behind this step, with a checkpoint; once more to stop at once");
    })
    .context("cannot watch for Ctrl-C")?;
    let (request, config) = args.resolve()?;
    let mut run = launch::prepare(request, config)?;
    let outcome = train(&mut run, &stop)?;
    let folder = run.folder.root().display();
    match outcome {
        Outcome::Finished => tracing::info!("done: {} questions in {} steps", run.state.samples, run.state.step),
        Outcome::TargetReached => {
            tracing::info!("target accuracy reached: {:.4}", run.state.accuracy.unwrap_or_default());
        }
        Outcome::Interrupted => {
            tracing::warn!("stopped at step {}; go on with --out {folder} --resume", run.state.step);
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    Ok(ExitCode::SUCCESS)
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
    let result = evaluate(&model, &split, evaluation, |answer| {
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
