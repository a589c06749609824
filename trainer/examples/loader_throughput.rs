//! Throughput of the data loader without a consumer's work, in questions per second; `scripts/bench` makes data for it.
//!
//! ```text
//! cargo run --release --workspace --example loader_throughput -- DIR [--threads N] [--epochs N] [--step QUESTIONS] [--tokens N] [--feed]
//! ```
//!
//! With `--feed`, the steps also become tensors on the CPU, including the padded view. The example prints wall-clock and CPU
//! seconds; questions per CPU second are the rate per core, for any number of threads.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use glm_schemas::manifest::Split;
use glm_trainer::batch::layout::LayoutKind;
use glm_trainer::config::Config;
use glm_trainer::data::DataError;
use glm_trainer::data::feed::Feeder;
use glm_trainer::data::loader::{Loader, LoaderConfig};
use glm_trainer::data::mmap::DataSet;
use glm_trainer::data::sampler::{Order, Position};
use glm_trainer::task::{self, Purpose};
use tch::Device;

#[derive(Parser)]
struct Arguments {
    /// Folder of a data set.
    dir: PathBuf,
    /// Number of decode threads, and of pack threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Number of epochs.
    #[arg(long, default_value_t = 1)]
    epochs: u64,
    /// Questions per step.
    #[arg(long, default_value_t = 24)]
    step: usize,
    /// Maximum number of tokens per batch.
    #[arg(long, default_value_t = 4096)]
    tokens: usize,
    /// Make tensors with the feeder.
    #[arg(long)]
    feed: bool,
}

/// Totals over all steps.
#[derive(Default)]
struct Total {
    questions: usize,
    tokens: usize,
    batches: usize,
    /// Time to the first step.
    first: Option<Duration>,
}

impl Total {
    fn add(&mut self, questions: usize, tokens: usize, batches: usize, start: Instant) {
        self.first.get_or_insert_with(|| start.elapsed());
        self.questions += questions;
        self.tokens += tokens;
        self.batches += batches;
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut config = Config::default();
    config.data.micro_batch_tokens = arguments.tokens;
    let data = DataSet::open(&arguments.dir)?;
    let split = Arc::new(data.split(Split::Train)?);
    let task = task::open(data.manifest().task, config.task(data.manifest().special_ids));
    let loader = LoaderConfig {
        order: Order::Shuffled { seed: 1 },
        batch_size: arguments.step,
        start: Position::default(),
        epochs: arguments.epochs,
        threads: arguments.threads,
        prefetch_steps: config.data.prefetch_steps,
        packer: config.packer(task, Purpose::Train),
    };
    let cpu_before = cpu_seconds()?;
    let start = Instant::now();
    let loader = Loader::start(split, &data.manifest().fingerprint, loader)?;
    let total = if arguments.feed { feed(loader, start)? } else { load(loader, start)? };
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds()? - cpu_before);

    let Total { questions, tokens, batches, first } = total;
    println!("{questions} questions, {tokens} tokens in {batches} batches; --threads {}", arguments.threads);
    println!("first step after {:.3} s, wall {wall:.3} s, CPU {cpu:.3} s", first.unwrap_or_default().as_secs_f64());
    println!("{:.0} questions/s, {:.0} questions per CPU second", questions as f64 / wall, questions as f64 / cpu);
    Ok(())
}

fn load(mut loader: Loader, start: Instant) -> Result<Total, DataError> {
    let mut total = Total::default();
    while let Some(step) = loader.next_step()? {
        total.add(step.samples.len(), step.tokens(), step.batches.len(), start);
    }
    Ok(total)
}

fn feed(loader: Loader, start: Instant) -> Result<Total, DataError> {
    let mut feeder = Feeder::start(loader, Device::Cpu, LayoutKind::Packed)?;
    let mut total = Total::default();
    while let Some(step) = feeder.next_step()? {
        total.add(step.samples.len(), step.work().tokens, step.batches.len(), start);
    }
    Ok(total)
}

/// User and system time of this process with all its threads. Linux counts in hundredths of a second.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is a name in parentheses, which may contain spaces; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}
