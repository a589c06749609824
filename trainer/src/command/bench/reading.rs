//! Speed of reading a data set.

use std::sync::Arc;
use std::time::Instant;

use glm_schemas::manifest::Split;
use serde::Serialize;

use super::BenchError;
use crate::command::setup::open_task;
use crate::config::Config;
use crate::data::loader::Loader;
use crate::data::mmap::DataSet;
use crate::data::sampler::Position;
use crate::task::Purpose;

/// Speed of reading data.
#[derive(Debug, Clone, Serialize)]
pub struct ReadingSpeed {
    /// Questions per second.
    pub questions_per_second: f64,
    /// Questions per second of CPU time.
    pub questions_per_cpu_second: f64,
    /// CPU time of all cores, in seconds.
    pub cpu_seconds: f64,
    /// Elapsed time in seconds.
    pub wall_seconds: f64,
    /// Questions read.
    pub questions: usize,
    /// Tokens read.
    pub tokens: usize,
}

/// Reads one epoch of the training questions of a data set and discards them.
///
/// # Errors
/// [`BenchError`].
pub(super) fn measure(config: &Config, data: &DataSet) -> Result<ReadingSpeed, BenchError> {
    let packer = config.packer(open_task(config, data.manifest()), Purpose::Train);
    let split = Arc::new(data.split(Split::Train)?.counted(&*packer.task)?);
    let (start, before) = (Instant::now(), cpu_seconds());
    let mut loader = Loader::start(split, &data.manifest().fingerprint, config.loader(packer, Position::default()))?;
    let (mut questions, mut tokens) = (0, 0);
    while let Some(step) = loader.next_step()? {
        questions += step.samples.len();
        tokens += step.tokens();
    }
    let (wall_seconds, cpu_seconds) = (start.elapsed().as_secs_f64(), cpu_seconds() - before);
    let (questions_per_second, questions_per_cpu_second) = (questions as f64 / wall_seconds, questions as f64 / cpu_seconds);
    Ok(ReadingSpeed { questions_per_second, questions_per_cpu_second, cpu_seconds, wall_seconds, questions, tokens })
}

/// CPU time of all threads of this process, in seconds.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` has room for the answer; where the clock is missing it stays zero.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn computing_takes_cpu_time() {
        let before = cpu_seconds();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        assert!(cpu_seconds() > before);
    }
}
