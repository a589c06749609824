//! The results as a person reads them.

use std::fmt;

use super::training::median;
use super::{ReadingSpeed, TrainingSpeed};

impl fmt::Display for TrainingSpeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fastest, slowest) = self.step_seconds.iter().fold((f64::INFINITY, 0_f64), |(a, b), s| (a.min(*s), b.max(*s)));
        writeln!(
            f,
            "{:.0} million parameters, {} on {}, {} threads",
            self.parameters as f64 / 1e6,
            self.precision,
            self.device,
            self.threads
        )?;
        writeln!(f, "questions/s     {:12.2}   median of {} steps", self.questions_per_second, self.step_seconds.len())?;
        writeln!(
            f,
            "tokens/s        {:12.0}   padding not counted; {:.1} % of what is computed",
            self.tokens_per_second,
            100.0 * self.padding
        )?;
        writeln!(
            f,
            "seconds per step{fastest:12.4}   to {slowest:.4}, {} questions in {:.1} batches",
            self.batch_size, self.mean_batches
        )?;
        if !self.is_on_cpu() {
            let host = median(&self.host_seconds);
            let share = 100.0 * host / median(&self.step_seconds);
            writeln!(f, "host            {host:12.4}   seconds per step to queue it, {share:.0} % of its time")?;
        }
        if self.skipped_steps > 0 {
            let (skipped, steps) = (self.skipped_steps, self.step_seconds.len());
            writeln!(f, "skipped steps   {skipped:12}   of {steps}: loss or gradient not finite, so AdamW changed nothing")?;
        }
        writeln!(
            f,
            "tokens/question {:12.1}   context, and {:.1} of pieces; {:.1} scored, {:.1} choices",
            self.mean_context_tokens, self.mean_piece_tokens, self.mean_scored, self.mean_choices
        )?;
        writeln!(
            f,
            "model GFLOP/s   {:12.0}   {:.1} GFLOP per question; {:.0} % of the {:.0} of a matrix product",
            self.model_flops_per_second / 1e9,
            self.model_flops_per_question / 1e9,
            100.0 * self.utilisation,
            self.product_flops_per_second / 1e9
        )?;
        writeln!(f, "waiting for data{:12.2} %", 100.0 * self.data_wait)?;
        if let Some(bytes) = self.peak_memory_bytes {
            writeln!(f, "peak memory     {:12.2}   GB", bytes as f64 / 1e9)?;
        }
        self.write_profile(f)
    }
}

impl TrainingSpeed {
    fn is_on_cpu(&self) -> bool {
        self.device == "cpu"
    }

    /// Time per kind of operation, if measured.
    fn write_profile(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.profile.is_empty() {
            return Ok(());
        }
        let step = self.profile.iter().map(|(_, seconds)| seconds).sum::<f64>();
        match self.is_on_cpu() {
            true => writeln!(f, "time of a step: {}", duration(step))?,
            false => writeln!(f, "time of a step on the GPU, with the events that measure it: {}", duration(step))?,
        }
        for (name, seconds) in &self.profile {
            writeln!(f, "  {name:45} {:>10}   {:5.1} %", duration(*seconds), 100.0 * seconds / step)?;
        }
        Ok(())
    }
}

/// Milliseconds below one second.
fn duration(seconds: f64) -> String {
    if seconds.abs() < 1.0 { format!("{:.2} ms", 1e3 * seconds) } else { format!("{seconds:.3} s") }
}

impl fmt::Display for ReadingSpeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "questions/s                 {:12.0}   {} questions, {} tokens",
            self.questions_per_second, self.questions, self.tokens
        )?;
        writeln!(f, "questions/s of CPU time     {:12.0}", self.questions_per_cpu_second)?;
        writeln!(
            f,
            "seconds                     {:12.3}   on the wall, {:.3} of all cores",
            self.wall_seconds, self.cpu_seconds
        )
    }
}
