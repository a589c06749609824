//! Log lines about the length of a run and its learning rate.

use crate::config::Config;
use crate::config::plan::Plan;
use crate::config::recipe::Recipe;
use crate::optim::schedule::Schedule;

/// Logs the length of a run and its learning rate. `task`: name of the task of cloze questions of the data set.
pub(super) fn log_schedule(config: &Config, recipe: Option<Recipe>, task: Option<&str>, samples: usize, word: &str) {
    let Schedule { lr, warmup, decay_steps, .. } = config.schedule();
    let steps = Plan::of(config, samples).steps;
    if let (Some(recipe), Some(task)) = (recipe, task)
        && !recipe.suits(task)
    {
        tracing::warn!("recipe {recipe} is that of another task than {task}, the task of the data set");
    }
    let recipe = recipe.map_or_else(String::new, |recipe| format!("recipe {recipe}: "));
    tracing::info!("{recipe}{steps} steps of {} {word}, learning rate {lr:?}", config.samples_per_update());
    if steps != decay_steps {
        tracing::info!("the learning rate decays over {decay_steps} steps (optim.decay_steps)");
    }
    let warm = warmup * decay_steps as f64;
    if steps == 1 && warm > 0.0 {
        tracing::warn!(
            "the only step has learning rate 0, as the first step of every warm-up: the weights do not change. Train for more steps, \
             or without warm-up: --set optim.warmup=0"
        );
    } else if (steps as f64) < warm {
        tracing::warn!(
            "the run ends after {steps} steps, within the warm-up of {warm:.0} steps: the learning rate reaches only {:.0} % of \
             optim.lr. With --set optim.decay_steps=0, the schedule follows the length of the run",
            100.0 * steps as f64 / warm
        );
    }
}
