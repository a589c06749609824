//! The results as a person reads them.

use std::fmt;

use super::training::median;
use super::{BatchSizes, Comparison, ReadingSpeed, TrainingSpeed};
use crate::task::{MeanOf, words_of};

impl fmt::Display for TrainingSpeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (fastest, slowest) = self.step_seconds.iter().fold((f64::INFINITY, 0_f64), |(a, b), s| (a.min(*s), b.max(*s)));
        self.write_conditions(f)?;
        let words = words_of(self.task.table());
        let (samples, sample) = (words.samples, words.samples.trim_end_matches('s'));
        let speed = format!("{samples}/s");
        writeln!(f, "{speed:<16}{:12.2}   median of {} steps", self.questions_per_second, self.step_seconds.len())?;
        writeln!(
            f,
            "tokens/s        {:12.0}   padding not counted; {:.1} % of what is computed",
            self.tokens_per_second,
            100.0 * self.padding
        )?;
        writeln!(
            f,
            "seconds per step{fastest:12.4}   to {slowest:.4}, {} {samples} in {:.1} batches",
            self.batch_size, self.mean_batches
        )?;
        if !self.is_on_cpu() {
            let host = median(&self.host_seconds);
            let share = 100.0 * host / median(&self.step_seconds);
            writeln!(f, "host            {host:12.4}   seconds per step to queue it, {share:.0} % of its time")?;
        }
        if self.skipped_steps > 0 {
            let (skipped, steps) = (self.skipped_steps, self.step_seconds.len());
            writeln!(f, "skipped steps   {skipped:12}   of {steps}, without AdamW: loss or gradient not finite, or a spike")?;
        }
        let (per_sample, scored) = (format!("tokens/{sample}"), self.mean_scored);
        let choices = match words.mean_of {
            MeanOf::Samples => format!("{:.1} choices", self.mean_choices),
            MeanOf::Targets => format!("{:.0} predicted/s", self.targets_per_second),
        };
        writeln!(
            f,
            "{per_sample:<16}{:12.1}   context, and {:.1} of pieces; {scored:.1} scored, {choices}",
            self.mean_context_tokens, self.mean_piece_tokens
        )?;
        writeln!(
            f,
            "model GFLOP/s   {:12.0}   {:.1} GFLOP per {sample}; {:.0} % of the {:.0} of a matrix product",
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

    /// Model, precision and device.
    pub(super) fn write_conditions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millions = self.parameters as f64 / 1e6;
        writeln!(f, "{millions:.0} million parameters, {} on {}, {} threads", self.precision, self.device, self.threads)
    }

    /// Time per kind of operation, if measured.
    pub(super) fn write_profile(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.profile.is_empty() {
            return Ok(());
        }
        let step = self.profile.iter().map(|(_, seconds)| seconds).sum::<f64>();
        let duration = |seconds: f64| if step < 1.0 { format!("{:.2} ms", 1e3 * seconds) } else { format!("{seconds:.3} s") };
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

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (published, recomputed) = (&self.published, if self.published.recomputation { "with" } else { "without" });
        write!(f, "{}", self.ours)?;
        writeln!(
            f,
            "published form: every choice padded to 512 tokens, PyTorch {}, {} on {}, {recomputed} recomputation",
            published.torch, published.precision, published.device
        )?;
        writeln!(
            f,
            "questions/s     {:12.2}   {} questions, {:.1} choices and {:.0} positions each",
            published.questions_per_second, published.questions, published.mean_choices, published.positions_computed
        )?;
        writeln!(f, "peak memory     {:12.2}   GB", published.peak_memory_bytes as f64 / 1e9)?;
        writeln!(f, "speedup         {:12.1}   questions/s of glm-trainer over those of the published form", self.speedup)
    }
}

impl fmt::Display for BatchSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(first) = self.0.first() {
            first.write_conditions(f)?;
        }
        let columns = ["questions", "batches", "questions/s", "ms/step", "host ms", "utilisation", "peak GB", "skipped"];
        let [questions, batches, speed, step, host, utilisation, peak, skipped] = columns;
        writeln!(
            f,
            "{questions:>9}  {batches:>7}  {speed:>11}  {step:>9}  {host:>9}  {utilisation:>11}  {peak:>7}  {skipped:>7}"
        )?;
        for speed in &self.0 {
            let peak = speed.peak_memory_bytes.map_or("-".to_owned(), |bytes| format!("{:.2}", bytes as f64 / 1e9));
            writeln!(
                f,
                "{:9}  {:7.1}  {:11.2}  {:9.2}  {:9.2}  {:>11}  {peak:>7}  {:7}",
                speed.batch_size,
                speed.mean_batches,
                speed.questions_per_second,
                1e3 * median(&speed.step_seconds),
                1e3 * median(&speed.host_seconds),
                format!("{:.0} %", 100.0 * speed.utilisation),
                speed.skipped_steps,
            )?;
        }
        for speed in self.0.iter().filter(|speed| !speed.profile.is_empty()) {
            writeln!(f, "{} questions per step", speed.batch_size)?;
            speed.write_profile(f)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::bench::PublishedSpeed;
    use crate::task::Objective;

    fn on_gpu(batch_size: usize, seconds: f64, skipped_steps: usize) -> TrainingSpeed {
        TrainingSpeed {
            task: Objective::Cloze,
            targets_per_second: 27.0 * batch_size as f64 / seconds,
            questions_per_second: batch_size as f64 / seconds,
            tokens_per_second: 267.0 * batch_size as f64 / seconds,
            step_seconds: vec![seconds; 3],
            host_seconds: vec![0.25 * seconds; 3],
            skipped_steps,
            batch_size,
            mean_batches: 1.0,
            mean_context_tokens: 247.5,
            mean_piece_tokens: 19.0,
            mean_scored: 19.0,
            mean_choices: 9.0,
            padding: 0.0,
            data_wait: 0.0,
            model_flops_per_question: 490e9,
            model_flops_per_second: 490e9 * batch_size as f64 / seconds,
            product_flops_per_second: 790e12,
            utilisation: 490e9 * batch_size as f64 / seconds / 790e12,
            peak_memory_bytes: Some(12_340_000_000),
            precision: "bf16".to_owned(),
            device: "cuda(0)".to_owned(),
            threads: 8,
            parameters: 335_000_000,
            loss: 2.2,
            profile: vec![("products, forward", 0.75 * seconds), ("the rest", 0.25 * seconds)],
        }
    }

    #[test]
    fn a_gpu_has_its_host_time_and_its_events() {
        let text = on_gpu(64, 0.08, 2).to_string();
        for line in [
            "questions/s           800.00   median of 3 steps",
            "host                  0.0200   seconds per step to queue it, 25 % of its time",
            "skipped steps              2   of 3, without AdamW",
            "model GFLOP/s         392000   490.0 GFLOP per question; 50 % of the 790000 of a matrix product",
            "time of a step on the GPU, with the events that measure it: 80.00 ms",
            "products, forward                               60.00 ms    75.0 %",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        let on_cpu = TrainingSpeed { device: "cpu".to_owned(), ..on_gpu(64, 8.0, 0) }.to_string();
        assert!(!on_cpu.contains("host") && !on_cpu.contains("skipped"), "{on_cpu}");
        assert!(on_cpu.contains("time of a step: 8.000 s"), "{on_cpu}");
    }

    #[test]
    fn a_comparison_ends_with_the_speedup() {
        let published = PublishedSpeed {
            questions_per_second: 20.0,
            questions: 64,
            mean_choices: 9.0,
            positions_computed: 4608.0,
            recomputation: false,
            precision: "bf16".to_owned(),
            device: "cuda:0".to_owned(),
            torch: "2.11.0".to_owned(),
            peak_memory_bytes: 21_000_000_000,
        };
        let text = Comparison { ours: on_gpu(64, 0.08, 0), published, speedup: 40.0 }.to_string();
        let lines: Vec<_> = text.lines().rev().take(4).collect();
        assert_eq!(lines[0], "speedup                 40.0   questions/s of glm-trainer over those of the published form");
        assert_eq!(lines[1], "peak memory            21.00   GB");
        assert_eq!(lines[2], "questions/s            20.00   64 questions, 9.0 choices and 4608 positions each");
        assert!(lines[3].ends_with("PyTorch 2.11.0, bf16 on cuda:0, without recomputation"), "{text}");
    }

    #[test]
    fn batch_sizes_are_rows_of_a_table() {
        let text = BatchSizes(vec![on_gpu(8, 0.02, 0), on_gpu(128, 0.15, 1)]).to_string();
        let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(text.lines().next(), Some("335 million parameters, bf16 on cuda(0), 8 threads"));
        assert_eq!(rows[2], ["8", "1.0", "400.00", "20.00", "5.00", "25", "%", "12.34", "0"]);
        assert_eq!(rows[3], ["128", "1.0", "853.33", "150.00", "37.50", "53", "%", "12.34", "1"]);
        let widths: Vec<_> = text.lines().skip(1).take(3).map(str::len).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
        assert!(text.contains("128 questions per step\ntime of a step on the GPU"), "{text}");
    }
}
