//! `glm-trainer bench --simulate-ranks`: what training over many ranks would take. Nothing is computed and nothing sent; real
//! questions are dealt to ranks as training deals them, and the rest is arithmetic with assumptions that are told.
//!
//! `deal` gives each rank its batches, `gradients` knows what a backward pass completes when and in which buckets it is sent,
//! `network` how long a bucket takes, and `timeline` puts these together to a step.

pub mod assumptions;
mod deal;
mod gradients;
pub mod network;
mod print;
pub mod timeline;

use glm_schemas::vocab::embedding_rows;
use serde::Serialize;
use tch::Device;

use self::assumptions::{Assumption, ComputeSpeed, Given, Origin};
use self::deal::{Question, deal, questions};
use self::timeline::{StepTime, Timeline};
use super::{VOCABULARY, product_speed};
use crate::batch::work::FlopRates;
use crate::config::Config;
use crate::data::mmap::DataSet;
use crate::train::TrainError;

/// Questions that are dealt for a row of a table, where a step has fewer: about as many as ReCoRD has.
const QUESTIONS: usize = 100_000;
/// What ranks' work may differ by.
const EVEN: f64 = 0.03;
/// Questions a rank that are tried to keep ranks even.
const QUESTIONS_A_RANK: [usize; 13] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32];

/// What to simulate.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Numbers of ranks, each at least 1.
    pub ranks: Vec<usize>,
    /// Steps at most; a table's row has fewer where these would be more than an epoch of ReCoRD.
    pub steps: usize,
    /// What is assumed of the machines.
    pub given: Given,
}

/// Training by so many ranks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Ranks.
    pub ranks: usize,
    /// Steps that were dealt.
    pub steps: usize,
    /// Questions of a step over all ranks.
    pub batch_size: usize,
    /// By how much the busiest rank's work exceeds the mean, as a share of it: mean of the steps.
    pub mean_spread: f64,
    /// The same of the worst step.
    pub worst_spread: f64,
    /// Seconds of a step by what they go into, mean of the steps.
    pub seconds: StepTime,
    /// Seconds of a step, mean of the steps.
    pub step_seconds: f64,
    /// Questions a second.
    pub questions_per_second: f64,
    /// Questions a second of a rank, over those of one rank alone that has the same questions in steps of the setting's size.
    pub efficiency: f64,
}

/// From how many questions a rank on ranks' work is even.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvenRow {
    /// Ranks.
    pub ranks: usize,
    /// Least questions a rank where the mean of the steps' spreads is below the bound; `None`: not with any that were tried.
    pub by_mean: Option<usize>,
    /// Least questions a rank where the worst step's is.
    pub by_worst: Option<usize>,
}

/// What training by many ranks would take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Simulation {
    /// What was taken for granted.
    pub assumptions: Vec<Assumption>,
    /// Bytes of gradients that each rank sends into a reduction.
    pub gradient_bytes: u64,
    /// Bytes of the buckets they go in, in the order in which they are sent.
    pub bucket_bytes: Vec<u64>,
    /// As many questions a step however many ranks there are.
    pub same_step: Vec<Row>,
    /// As many questions a rank.
    pub same_share: Vec<Row>,
    /// What ranks' work may differ by in [`Self::even`].
    pub even_bound: f64,
    /// How many questions a rank keep ranks even.
    pub even: Vec<EvenRow>,
}

/// Simulates training on a data set's questions, or on made-up ones of ReCoRD's lengths. `device` is where the speed of this
/// machine is measured, if that is asked for.
///
/// # Errors
/// [`TrainError`].
pub fn simulate(config: &Config, data: Option<&DataSet>, device: Device, plan: &Plan) -> Result<Simulation, TrainError> {
    let vocabulary = data.map_or(VOCABULARY, |data| data.manifest().tokenizer.vocab_size);
    let sizes = config.random_model(embedding_rows(vocabulary))?;
    let measured = match plan.given.compute {
        Some(ComputeSpeed::Measured) => Some(product_speed(&sizes, config.train.precision.on(device).kind(), device)?),
        _ => None,
    };
    let (first_bucket, bucket) = (config.distributed.first_bucket_bytes(), config.distributed.bucket_bytes());
    let machine = plan.given.machine(measured, first_bucket, bucket);

    let share = config.questions_per_update();
    let most = plan.ranks.iter().copied().max().unwrap_or(1);
    let largest_step = most.saturating_mul(share.max(QUESTIONS_A_RANK[QUESTIONS_A_RANK.len() - 1]));
    let wanted = largest_step.max(QUESTIONS.min(largest_step.saturating_mul(plan.steps)));
    let simulator = Simulator {
        questions: questions(config, data, wanted)?,
        steps: plan.steps,
        share,
        micro_batch_tokens: config.data.micro_batch_tokens,
        rates: FlopRates::of(&sizes),
        timeline: Timeline::new(&sizes, machine.bucket_bytes, machine.speeds, machine.network),
    };
    let rows = |questions: fn(usize, usize) -> usize| -> Vec<Row> {
        plan.ranks.iter().map(|&ranks| simulator.row(ranks, questions(ranks, share))).collect()
    };
    let bucket_bytes: Vec<u64> = simulator.timeline.bucket_bytes().collect();
    let mut assumptions = simulator.counted(config, data, sizes.parameters());
    assumptions.extend(machine.assumptions);
    Ok(Simulation {
        assumptions,
        gradient_bytes: bucket_bytes.iter().sum(),
        bucket_bytes,
        same_step: rows(|_, share| share),
        same_share: rows(|ranks, share| ranks * share),
        even_bound: EVEN,
        even: plan.ranks.iter().filter(|&&ranks| ranks > 1).map(|&ranks| simulator.even(ranks)).collect(),
    })
}

/// What the tables are made from.
struct Simulator {
    questions: Vec<Question>,
    steps: usize,
    /// Questions of a step by one rank.
    share: usize,
    micro_batch_tokens: usize,
    rates: FlopRates,
    timeline: Timeline,
}

impl Simulator {
    /// The questions of each step.
    fn steps_of(&self, batch_size: usize) -> impl Iterator<Item = &[Question]> {
        let steps = self.steps.min((QUESTIONS / batch_size).max(1));
        self.questions.chunks_exact(batch_size).take(steps)
    }

    fn row(&self, ranks: usize, batch_size: usize) -> Row {
        let (mut spreads, mut seconds, mut alone) = (Vec::new(), StepTime::default(), 0.0);
        for step in self.steps_of(batch_size) {
            let dealt = deal(step, ranks, self.micro_batch_tokens, &self.rates);
            spreads.push(dealt.spread);
            seconds += self.timeline.step(&dealt.batches_of_rank);
            let by_one = step.chunks(self.share).map(|part| deal(part, 1, self.micro_batch_tokens, &self.rates));
            alone += by_one.map(|dealt| self.timeline.step(&dealt.batches_of_rank).total()).sum::<f64>();
        }
        let steps = spreads.len() as f64;
        let step_seconds = seconds.total() / steps;
        Row {
            ranks,
            steps: spreads.len(),
            batch_size,
            mean_spread: spreads.iter().sum::<f64>() / steps,
            worst_spread: spreads.iter().copied().fold(0.0, f64::max),
            seconds: seconds.mean_of(steps),
            step_seconds,
            questions_per_second: batch_size as f64 / step_seconds,
            efficiency: alone / steps / (ranks as f64 * step_seconds),
        }
    }

    fn even(&self, ranks: usize) -> EvenRow {
        let (mut by_mean, mut by_worst) = (None, None);
        for questions in QUESTIONS_A_RANK {
            let steps = self.steps_of(questions * ranks);
            let spreads: Vec<f64> = steps.map(|step| deal(step, ranks, self.micro_batch_tokens, &self.rates).spread).collect();
            if spreads.iter().sum::<f64>() < EVEN * spreads.len() as f64 {
                by_mean.get_or_insert(questions);
            }
            if spreads.iter().all(|&spread| spread < EVEN) {
                by_worst.get_or_insert(questions);
                break;
            }
        }
        EvenRow { ranks, by_mean, by_worst }
    }

    fn counted(&self, config: &Config, data: Option<&DataSet>, parameters: usize) -> Vec<Assumption> {
        let counted = |name, value, unit, reason| Assumption { name, value, unit, origin: Origin::Counted, reason };
        let setting =
            |name, value: usize, unit, reason| Assumption { name, value: value as f64, unit, origin: Origin::Setting, reason };
        let mean = |measure: &dyn Fn(&Question) -> f64| {
            self.questions.iter().map(measure).sum::<f64>() / self.questions.len().max(1) as f64
        };
        let source = match data {
            Some(data) => format!("mean of a question in {}", data.folder().display()),
            None => "mean of a made-up question of ReCoRD's lengths".to_owned(),
        };
        vec![
            counted("parameters", parameters as f64 / 1e6, "million", format!("GLM-{}", config.model.preset.name())),
            counted("tokens", mean(&|question| question.work.tokens as f64), "", source),
            counted(
                "operations",
                mean(&|question| 3e-9 * self.rates.forward(&question.work)),
                "GFLOP",
                "of a question, forward and backward".to_owned(),
            ),
            setting("questions a step", self.share, "", "data.batch_size times optim.grad_accumulation".to_owned()),
            setting("tokens of a batch", self.micro_batch_tokens, "", "data.micro_batch_tokens, at most".to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulated(ranks: &[usize], given: Given) -> Simulation {
        let plan = Plan { ranks: ranks.to_vec(), steps: 20, given };
        simulate(&Config::default(), None, Device::Cpu, &plan).expect("simulates")
    }

    #[test]
    fn one_rank_has_nobody_to_talk_to() {
        let simulation = simulated(&[1], Given::default());
        assert_eq!(simulation.gradient_bytes, 4 * 334_688_256);
        assert!(simulation.even.is_empty());
        for row in simulation.same_step.iter().chain(&simulation.same_share) {
            assert_eq!((row.seconds.all_reduce, row.seconds.exposed, row.worst_spread), (0.0, 0.0, 0.0));
            assert!((row.efficiency - 1.0).abs() < 1e-12, "{row:?}");
        }
    }

    #[test]
    fn where_nothing_else_costs_the_spread_is_what_is_lost() {
        let free = f64::INFINITY;
        let given = Given {
            memory_gigabytes: Some(free),
            launch_us: Some(0.0),
            link_gbps: Some(free),
            network_gbps: Some(free),
            latency_us: Some(0.0),
            ..Given::default()
        };
        let simulation = simulated(&[2, 8, 16], given);
        for row in simulation.same_step.iter().chain(&simulation.same_share) {
            let least = 1.0 / (1.0 + row.worst_spread);
            // Costs are whole operations, times are not.
            assert!(row.efficiency <= 1.0 + 1e-9 && row.efficiency >= least - 1e-9, "{row:?}");
        }
        assert!(simulation.same_step[2].efficiency < 0.99, "two questions a rank are not even");
    }

    #[test]
    fn eight_ranks_are_even_with_four_questions_each() {
        let simulation = simulated(&[8, 16], Given::default());
        let row = &simulation.same_step[0];
        assert_eq!((row.batch_size, row.steps), (32, 20));
        assert!(row.worst_spread < EVEN, "{row:?}");
        // What is told beside the tables is of the same deal.
        let (even, two) = (&simulation.even[0], &simulation.same_step[1]);
        assert!(even.by_mean <= even.by_worst && even.by_worst <= Some(4), "{even:?}");
        assert!(two.mean_spread > EVEN && simulation.even[1].by_mean > Some(2), "{two:?}");
    }
}
