//! Hardest questions of the latest evaluation, with their text if the data set is available.

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

/// Maximum number of questions shown, the first few of them unfolded.
const MAX_SHOWN: usize = 20;
const UNFOLDED: usize = 2;

/// Renders the section. `data` overrides the location of the data set recorded by the last session.
pub(super) fn section(folder: &Path, session: Option<&Session>, data: Option<&Path>) -> Markup {
    let Some((summary, judged)) = read(folder) else {
        return html! {
            p.empty { "No answers yet: each evaluation writes them to "
                code { (ANSWERS_FILE) } " in the run folder." }
        };
    };
    let shown = &judged[..judged.len().min(MAX_SHOWN)];
    let place = data.or(session.map(|session| session.data.as_path()));
    let texts = match place {
        None => Err("the data set of the run is unknown; specify it with --data DIR".to_owned()),
        Some(place) => texts(place, session, &summary, shown),
    };
    html! {
        p {
            "The questions of the evaluation at step " (count(summary.step)) " whose right answer scored furthest below "
            "the best wrong one: "
            (count(shown.len() as u64)) " of " (count(summary.questions as u64)) ". "
            code { (ANSWERS_FILE) } " contains " (count(judged.len() as u64)) " of them."
        }
        div.charts { (margins(&summary)) (by_choices(&summary)) }
        @match texts {
            Ok(mut texts) => {
                (legend(true))
                @for (number, judged) in shown.iter().enumerate() {
                    @let question = texts.remove(&judged.example_id).unwrap_or_else(|| without_text(judged));
                    (answered(question, judged).render("hardest", number < UNFOLDED))
                }
            }
            Err(reason) => {
                p.warning { "The text of the questions is missing, so the page shows ids and scores only: " (reason) "." }
                (scores(shown))
            }
        }
    }
}

/// Reads the answers of the latest evaluation; unreadable lines are skipped.
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

/// Returns the questions by id, or the reason why they are not available.
fn texts(
    place: &Path,
    session: Option<&Session>,
    summary: &Summary,
    shown: &[Judged],
) -> Result<HashMap<String, Question>, String> {
    let data = DataSet::open(place).map_err(|error| match error {
        DataError::NotADataSet { path } => {
            format!("there is no data set in {} any more; specify another location with --data DIR", path.display())
        }
        error => error.to_string(),
    })?;
    let fingerprint = &data.manifest().fingerprint;
    if session.is_some_and(|session| session.fingerprint != *fingerprint) {
        return Err(format!("{} contains another data set than that of the run", place.display()));
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

/// Adds the model's answer to a question.
fn answered(mut question: Question, judged: &Judged) -> Question {
    for (choice, score) in question.choices.iter_mut().zip(&judged.scores) {
        // A score that is not finite was still computed.
        choice.score = Some(score.unwrap_or(f64::NAN));
    }
    question.chosen = judged.predicted;
    let stored_id =
        judged.source_id.as_ref().map(|own| format!("stored as {}", std::mem::replace(&mut question.id, own.clone())));
    question.about = [margin(judged), question.about, stored_id.unwrap_or_default()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("; ");
    question
}

fn margin(judged: &Judged) -> String {
    match judged.margin {
        Some(margin) if margin < 0.0 => format!("the right answer is {:.2} below the best wrong one", -margin),
        Some(margin) => format!("the right answer is {margin:.2} above the best wrong one"),
        None => "its scores are not finite".to_owned(),
    }
}

/// Returns a placeholder for an id that is not in the data set.
fn without_text(judged: &Judged) -> Question {
    let choice = |i: usize| Choice {
        text: format!("choice {}", index(judged, i)),
        index: index(judged, i),
        right: judged.correct.contains(&i),
        score: None,
    };
    Question { id: judged.example_id.clone(), choices: (0..judged.scores.len()).map(choice).collect(), ..Question::default() }
}

/// Returns the index of a choice in the raw data.
fn index(judged: &Judged, choice: usize) -> usize {
    judged.choice_index.get(choice).copied().unwrap_or(choice)
}

fn scores(shown: &[Judged]) -> Markup {
    let score = |judged: &Judged, i: usize| {
        let score = judged.scores.get(i).copied().flatten();
        format!("{} ({})", index(judged, i), score.map_or_else(|| "not finite".to_owned(), |score| format!("{score:.3}")))
    };
    let row = |judged: &Judged| {
        let right = judged.correct.iter().map(|&i| score(judged, i)).collect::<Vec<_>>().join(", ");
        let margin = judged.margin.map_or_else(|| "n/a".to_owned(), |margin| format!("{margin:.3}"));
        let id = judged.source_id.as_ref().unwrap_or(&judged.example_id);
        vec![
            html! { bdi { (id) } },
            text(margin),
            text(judged.predicted.map_or_else(String::new, |predicted| score(judged, predicted))),
            text(right),
        ]
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
            from: f64::from(bin) / 2.0,
            to: f64::from(bin + 1) / 2.0,
            range: format!("{} to {}", at(bin), at(bin + 1)),
            count: summary.margins.get(&bin).copied().unwrap_or(0) as u64,
        })
        .collect();
    let wrong = summary.questions.saturating_sub(summary.hits);
    let [wrong, right] = [wrong, summary.hits].map(|questions| count(questions as u64));
    let summary = format!("Left of 0 the answer was wrong ({wrong} questions), right of 0 it was right ({right}).");
    Histogram {
        id: "margins",
        title: "Score of the right answer minus the best wrong one",
        x: "margin",
        counted: "questions",
        bars: &bars,
        x_range: None,
        split_at_zero: true,
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
