//! Events of a run, by step.

use glm_support::page::number::{count, moment, value};
use glm_support::page::table::{Column, folded, table, text};
use maud::{Markup, html};

use super::Known;
use super::overview::shown;
use super::provenance::place;
use super::records::{Anomaly, Records};

/// Maximum number of events listed, latest first.
const MAX_LISTED: usize = 200;
/// Longer lists are folded.
const MAX_UNFOLDED: usize = 12;
/// Maximum number of question ids listed per step.
const MAX_NAMED: usize = 4;

impl Known {
    pub(super) fn events(&self) -> Markup {
        let mut events = self.list();
        events.sort_by_key(|(step, ..)| *step);
        let all = events.len();
        let listed = events.split_off(all.saturating_sub(MAX_LISTED));
        let rows: Vec<Vec<Markup>> =
            listed.into_iter().map(|(step, what, detail)| vec![text(count(step)), text(what), text(detail)]).collect();
        let columns = [("step", Column::Number), ("event", Column::Text), ("", Column::Text)];
        html! {
            @if rows.is_empty() { p.empty { "No events yet." } } @else {
                @if all > rows.len() { p.note { "The last " (count(rows.len() as u64)) " of " (count(all as u64)) "." } }
                @let table = table("Events", &columns, &rows);
                @if rows.len() > MAX_UNFOLDED { (folded(format!("All events ({})", count(rows.len() as u64)), &table)) } @else { (table) }
            }
        }
    }

    fn list(&self) -> Vec<(u64, &'static str, String)> {
        let Records { evals, skipped, spikes, .. } = &self.records;
        let sessions = self.sessions.iter().enumerate().map(|(number, session)| {
            let what = if number == 0 { "started" } else { "resumed" };
            (session.step, what, format!("{}, {}", moment(session.time), place(session)))
        });
        let best = self.best().map(|best| best.step);
        let evals = evals.iter().map(|eval| {
            let best = if best == Some(eval.step) { ", the best" } else { "" };
            let value = self.selected().map_or_else(String::new, |info| format!("{} {}", info.label, shown(info, eval)));
            (eval.step, "evaluation", format!("{value}{best}"))
        });
        let skipped = skipped.iter().map(|at| {
            let in_a_row = at.skipped_in_a_row.map_or_else(String::new, |number| format!(", {number} consecutive"));
            (at.step, "skipped", format!("{}{in_a_row}; {}", numbers(at), questions(at)))
        });
        let spikes = spikes.iter().map(|at| {
            let what = if at.skipped { "spike, skipped" } else { "spike" };
            let quantity = match at.quantity.as_deref() {
                Some("loss") => "loss",
                _ => "gradient norm",
            };
            let far = format!("{quantity} {:.1} standard deviations above its mean", at.zscore.unwrap_or(f64::NAN));
            (at.step, what, format!("{far}: {}; {}", numbers(at), questions(at)))
        });
        sessions.chain(skipped).chain(spikes).chain(evals).collect()
    }
}

fn numbers(at: &Anomaly) -> String {
    let number = |number: Option<f64>| number.map_or_else(|| "not finite".to_owned(), value);
    format!("loss {}, gradient norm {}", number(at.loss), number(at.gradient_norm))
}

fn questions(at: &Anomaly) -> String {
    let named = at.example_ids.iter().take(MAX_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match at.example_ids.len().saturating_sub(MAX_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
