//! The results as a person reads them.

use std::fmt;

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
            "seconds per step{fastest:12.3}   to {slowest:.3}, {} questions in {:.1} batches",
            self.batch_size, self.mean_batches
        )?;
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
        let step = self.profile.iter().map(|(_, seconds)| seconds).sum::<f64>();
        for (name, seconds) in &self.profile {
            writeln!(f, "  {name:45} {seconds:8.3} s   {:5.1} %", 100.0 * seconds / step)?;
        }
        Ok(())
    }
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
