//! How many questions a second the loader hands to a consumer that does nothing with them.
//!
//! ```text
//! cargo run --release --workspace --example loader_throughput -- DIR [THREADS] [EPOCHS] [QUESTIONS_A_STEP] [BATCH_TOKENS]
//! ```
//!
//! It prints wall-clock and CPU seconds: the rate a core is questions over CPU seconds, whatever the number of threads.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use glm_schemas::manifest::Split;
use glm_trainer::config::Config;
use glm_trainer::data::loader::{Loader, LoaderConfig, Position};
use glm_trainer::data::mmap::DataSet;
use glm_trainer::data::sampler::Order;
use glm_trainer::launch;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = arguments.first() else { anyhow::bail!("say the folder of a data set") };
    let number = |place: usize, default: usize| arguments.get(place).map_or(Ok(default), |text| text.parse());
    let (threads, epochs, questions_a_step) = (number(1, 1)?, number(2, 1)?, number(3, 24)?);
    let mut config = Config::default();
    config.data.batch_tokens = number(4, 4096)?;

    let data = DataSet::open(Path::new(folder))?;
    let split = Arc::new(data.split(Split::Train)?);
    let loader = LoaderConfig {
        order: Order::Shuffled { seed: 1 },
        questions_a_step,
        start: Position::default(),
        epochs: epochs as u64,
        threads,
        queue_steps: 4,
        packer: launch::packer(&config, data.manifest(), true),
    };
    let before = cpu_seconds()?;
    let start = Instant::now();
    let mut loader = Loader::start(Arc::clone(&split), &data.manifest().fingerprint, loader)?;
    let (mut questions, mut tokens, mut batches, mut largest, mut first) = (0, 0, 0, 0, None);
    while let Some(step) = loader.next_step()? {
        first.get_or_insert_with(|| start.elapsed());
        questions += step.questions;
        batches += step.batches.len();
        for batch in &step.batches {
            tokens += batch.tokens();
            largest = largest.max(batch.tokens());
        }
    }
    let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds()? - before);
    println!("{questions} questions, {tokens} tokens, {batches} batches, largest {largest} tokens; {threads} decode threads");
    println!("first step after {:.3} s; wall {wall:.3} s, CPU {cpu:.3} s", first.unwrap_or_default().as_secs_f64());
    let (by_wall, by_cpu) = (questions as f64 / wall, questions as f64 / cpu);
    println!("{by_wall:.0} questions/s, {by_cpu:.0} questions a CPU second, {:.0} tokens a CPU second", tokens as f64 / cpu);
    Ok(())
}

/// User and system time of this process, all threads, as Linux counts it: hundredths of a second.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field is a name in parentheses, which may hold anything; user and system time are the 14th and 15th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}
