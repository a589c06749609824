//! A simulation as a person reads it.

use std::fmt;

use super::assumptions::{Assumption, Origin};
use super::{EvenRow, Row, Simulation};

impl fmt::Display for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Derived, not measured: nothing was computed or sent.\n")?;
        self.assumptions.iter().try_for_each(|assumption| assumption.fmt(f))?;

        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let (most, last) = (self.bucket_bytes.iter().max(), self.bucket_bytes.last());
        let (most, last) = (most.copied().unwrap_or(0), last.copied().unwrap_or(0));
        writeln!(
            f,
            "\nGradients: {:.1} MB in {} buckets of up to {:.1} MB. The last, complete at the end of the backward pass, has {:.1} MB.",
            megabytes(self.gradient_bytes),
            self.bucket_bytes.len(),
            megabytes(most),
            megabytes(last),
        )?;
        table(f, "The same number of questions a step", &self.same_step)?;
        table(f, "The same number of questions a rank", &self.same_share)?;
        if self.even.is_empty() {
            return Ok(());
        }
        let bound = 100.0 * self.even_bound;
        writeln!(f, "\nLeast questions a rank whose work exceeds the mean by less than {bound:.0} %:")?;
        writeln!(f, "{:>5}  {:>13}  {:>13}", "ranks", "mean of steps", "worst step")?;
        for EvenRow { ranks, by_mean, by_worst } in &self.even {
            let number = |least: &Option<usize>| least.map_or("not found".to_owned(), |least| least.to_string());
            writeln!(f, "{ranks:5}  {:>13}  {:>13}", number(by_mean), number(by_worst))?;
        }
        Ok(())
    }
}

impl fmt::Display for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, value, unit, origin, reason } = self;
        let origin = match origin {
            Origin::Default => "assumed",
            Origin::Given => "given",
            Origin::Setting => "setting",
            Origin::Measured => "measured here",
            Origin::Counted => "counted",
        };
        let value = if value.fract() == 0.0 { value.to_string() } else { format!("{value:.1}") };
        let comma = if reason.is_empty() { "" } else { ": " };
        writeln!(f, "{name:22} {value:>8} {unit:8} {origin}{comma}{reason}")
    }
}

/// Milliseconds of a step, the mean of the steps.
fn table(f: &mut fmt::Formatter<'_>, title: &str, rows: &[Row]) -> fmt::Result {
    writeln!(f, "\n{title}; milliseconds:")?;
    writeln!(
        f,
        "ranks  steps  questions  a rank  spread mean   worst  compute  all-reduce  exposed  update    step  questions/s  efficiency"
    )?;
    for row in rows {
        let ms = |seconds: f64| 1e3 * seconds;
        writeln!(
            f,
            "{:5}  {:5}  {:9}  {:6}  {:9.2} %  {:5.1}%  {:7.1}  {:10.1}  {:7.1}  {:6.1}  {:6.1}  {:11.0}  {:8.1} %",
            row.ranks,
            row.steps,
            row.batch_size,
            // Two digits and no more: a rank of 64 has half a question of 32.
            (100.0 * row.batch_size as f64 / row.ranks as f64).round() / 100.0,
            100.0 * row.mean_spread,
            100.0 * row.worst_spread,
            ms(row.seconds.compute),
            ms(row.seconds.all_reduce),
            ms(row.seconds.exposed),
            ms(row.seconds.update),
            ms(row.step_seconds),
            row.questions_per_second,
            100.0 * row.efficiency,
        )?;
    }
    Ok(())
}
