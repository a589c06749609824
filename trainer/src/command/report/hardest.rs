//! The questions that the newest evaluation did worst on, with their text where the data set is at hand.

use std::collections::HashMap;
use std::path::Path;

use glm_support::page::histogram::{Bar, Histogram};
use glm_support::page::number::{count, percent};
use glm_support::page::question::{Choice, Question, legend};
use glm_support::page::table::{Column, bar, table, text};
use maud::{Markup, html};

use crate::data::DataError;
use crate::data::mmap::DataSet;
use crate::record::answers::{ANSWERS_FILE, Count, Judged, Line, Summary};
use crate::record::sessions::Session;

/// Questions that are shown in full.
const MOST_SHOWN: usize = 20;

/// The section; `data` is where the data set is, if not where the last session read it.
pub(super) fn section(folder: &Path, session: Option<&Session>, data: Option<&Path>) -> Markup {
    let Some((summary, judged)) = read(folder) else {
        return html! {
            p.empty { "No evaluation has left its answers yet: each writes them to "
                code { (ANSWERS_FILE) } " in the run's folder." }
        };
    };
    let shown = &judged[..judged.len().min(MOST_SHOWN)];
    let place = data.or(session.map(|session| session.data.as_path()));
    let texts = match place {
        None => Err("which data set it was is not known; --data DIR names it".to_owned()),
        Some(place) => texts(place, session, &summary, shown),
    };
    html! {
        p {
            "Of the evaluation at step " (count(summary.step)) ", the questions whose right answer scored furthest below "
            "the best wrong one: "
            (count(shown.len() as u64)) " of " (count(summary.questions as u64)) ". "
            code { (ANSWERS_FILE) } " holds " (count(judged.len() as u64)) " of them."
        }
        div.charts { (margins(&summary)) (by_choices(&summary)) }
        @match texts {
            Ok(mut texts) => {
                (legend(true))
                @for judged in shown {
                    @let question = texts.remove(&judged.example_id).unwrap_or_else(|| without_text(judged));
                    (answered(question, judged).render())
                }
            }
            Err(reason) => {
                p.warning { "The questions' texts are missing, so here are ids and scores only: " (reason) "." }
                (scores(shown))
            }
        }
    }
}

/// The file of the newest evaluation, as far as it can be read.
fn read(folder: &Path) -> Option<(Summary, Vec<Judged>)> {
    let file = std::fs::read_to_string(folder.join(ANSWERS_FILE)).ok()?;
    let (mut summary, mut judged) = (None, Vec::new());
    for line in file.lines() {
        match serde_json::from_str(line) {
            Ok(Line::Evaluation(found)) => summary = Some(found),
            Ok(Line::Answer(answer)) => judged.push(answer),
            Err(_) => {}
        }
    }
    Some((summary?, judged))
}

/// The questions by their ids, or why they cannot be had.
fn texts(
    place: &Path,
    session: Option<&Session>,
    summary: &Summary,
    shown: &[Judged],
) -> Result<HashMap<String, Question>, String> {
    let data = DataSet::open(place).map_err(|error| match error {
        DataError::NotADataSet { path } => {
            format!("there is no data set in {} any more; --data DIR names another place", path.display())
        }
        error => error.to_string(),
    })?;
    let fingerprint = &data.manifest().fingerprint;
    if session.is_some_and(|session| session.fingerprint != *fingerprint) {
        return Err(format!("{} holds another data set than the run was on", place.display()));
    }
    let split = data.split(summary.split.parse()?).map_err(|error| error.to_string())?;
    let ids: Vec<&str> = shown.iter().map(|judged| judged.example_id.as_str()).collect();
    let mut found = HashMap::new();
    let mut take = |question: Question| {
        found.insert(question.id.clone(), question);
    };
    split
        .find(&ids, &data.manifest().blank, |view, text, row| take(Question::of_row(view, text, row)))
        .map_err(|error| error.to_string())?;
    Ok(found)
}

/// A question with what the model said to it.
fn answered(mut question: Question, judged: &Judged) -> Question {
    for (choice, score) in question.choices.iter_mut().zip(&judged.scores) {
        // A score that is no number is still one that was given.
        choice.score = Some(score.unwrap_or(f64::NAN));
    }
    question.chosen = Some(judged.predicted);
    question.about =
        [question.about, margin(judged)].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
    question
}

fn margin(judged: &Judged) -> String {
    match judged.margin {
        Some(margin) if margin < 0.0 => format!("the right answer is {:.2} below the best wrong one", -margin),
        Some(margin) => format!("the right answer is {margin:.2} above the best wrong one"),
        None => "its scores are no numbers".to_owned(),
    }
}

/// For an id that the data set does not have.
fn without_text(judged: &Judged) -> Question {
    let choice = |i: usize| Choice { text: format!("choice {i}"), right: judged.correct.contains(&i), score: None };
    Question { id: judged.example_id.clone(), choices: (0..judged.scores.len()).map(choice).collect(), ..Question::default() }
}

fn scores(shown: &[Judged]) -> Markup {
    let score = |judged: &Judged, i: usize| {
        let score = judged.scores.get(i).copied().flatten();
        format!("{i} ({})", score.map_or_else(|| "no number".to_owned(), |score| format!("{score:.3}")))
    };
    let row = |judged: &Judged| {
        let right = judged.correct.iter().map(|&i| score(judged, i)).collect::<Vec<_>>().join(", ");
        let margin = judged.margin.map_or_else(|| "n/a".to_owned(), |margin| format!("{margin:.3}"));
        vec![html! { bdi { (judged.example_id) } }, text(margin), text(score(judged, judged.predicted)), text(right)]
    };
    let columns = [
        ("question", Column::Text),
        ("margin", Column::Number),
        ("chosen (score)", Column::Number),
        ("right (score)", Column::Number),
    ];
    table("Hardest questions", &columns, &shown.iter().map(row).collect::<Vec<_>>())
}

fn margins(summary: &Summary) -> Markup {
    let (Some((&first, _)), Some((&last, _))) = (summary.margins.first_key_value(), summary.margins.last_key_value()) else {
        return glm_support::page::table::nothing();
    };
    let at = |bin: i32| format!("{:.1}", f64::from(bin) / 2.0).replace(".0", "");
    let bars: Vec<Bar> = (first..=last)
        .map(|bin| Bar {
            label: at(bin),
            range: format!("{} to {}", at(bin), at(bin + 1)),
            count: summary.margins.get(&bin).copied().unwrap_or(0) as u64,
        })
        .collect();
    let missed = summary.questions.saturating_sub(summary.hits);
    let summary = format!("Above 0 the question was answered rightly; {} were not.", count(missed as u64));
    Histogram {
        id: "margins",
        title: "Right answer's score less the best wrong one's",
        x: "margin",
        counted: "questions",
        bars: &bars,
        summary,
    }
    .render()
}

fn by_choices(summary: &Summary) -> Markup {
    let row = |(choices, of): (&usize, &Count)| {
        let accuracy = of.hits as f64 / of.questions.max(1) as f64;
        vec![text(count(*choices as u64)), text(count(of.questions as u64)), text(percent(accuracy)), bar(accuracy)]
    };
    let rows: Vec<_> = summary.by_choices.iter().map(row).collect();
    let columns =
        [("choices", Column::Number), ("questions", Column::Number), ("accuracy", Column::Number), ("", Column::Text)];
    html! {
        figure.chart id="by-choices" {
            figcaption { "Accuracy by number of choices" }
            (table("Accuracy by number of choices", &columns, &rows))
        }
    }
}
