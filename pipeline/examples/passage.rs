//! Prints one passage of the sample corpus, with entities in brackets, and its questions.
//!
//! ```sh
//! cargo run --release -p glm-prep --example passage -- [INDEX [SEED]]
//! ```

use glm_prep::sample::Recipe;
use glm_prep::sample::record::Generator;
use glm_schemas::manifest::Split;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let index = numbers.next().unwrap_or(Ok(0))?;
    let seed = numbers.next().unwrap_or(Ok(1))?;
    let record = Generator::new(seed, Recipe::default())?.record(Split::Val, index, 0);

    for (position, letter) in record.passage.text.chars().enumerate() {
        let starts = record.passage.entities.iter().any(|span| span.start == position);
        let ends = record.passage.entities.iter().any(|span| span.end == position);
        print!("{}{letter}{}", if starts { "[" } else { "" }, if ends { "]" } else { "" });
    }
    println!();
    for question in &record.qas {
        let names: Vec<&str> = question.answers.iter().map(|answer| answer.text.as_str()).collect();
        println!("\n{}\n  -> {}", question.query, names.join(", "));
    }
    Ok(())
}
