//! Model, data set and device of a run.

use glm_support::page::number::{count, moment};
use glm_support::page::table::{facts, text};
use maud::{Markup, html};

use super::Known;
use crate::record::sessions::Session;

impl Known {
    /// Renders model, data, device, start times and checkpoints.
    pub(super) fn provenance(&self) -> Markup {
        let mut list: Vec<(&str, Markup)> = Vec::new();
        if let Some(session) = self.sessions.last() {
            let preset = self.config.as_ref().map_or("", |config| config.model.preset.name);
            let model = format!("{preset}, {} parameters", count(session.parameters as u64));
            list.extend([
                ("Model", text(model.trim_start_matches(", "))),
                ("Initial weights", html! { code { (session.init.as_deref().unwrap_or("default of the preset")) } }),
                (
                    "Data set",
                    html! { code { (session.data.display()) } ", " (count(session.train_questions as u64)) " training " (session.task.rows()) },
                ),
                ("Fingerprint", html! { code { (session.fingerprint) } }),
                ("Evaluated on", text(self.records.evals.last().map_or_else(|| "nothing yet".to_owned(), |eval| self.evaluated_on(eval)))),
                ("Device", text(place(session))),
            ]);
            if let Some(made) = &session.provenance {
                let libtorch = made.libtorch.as_ref().map(|version| format!(", libtorch {version}")).unwrap_or_default();
                let features = made.features.iter().map(|feature| format!(", {feature}")).collect::<String>();
                list.extend([
                    ("Program", text(format!("{}{libtorch}{features}, schema version {}", made.program, made.schema_version))),
                    ("Command", html! { code { (made.command.join(" ")) } }),
                    ("Machine", text(format!("{}, {} threads, in {}", made.host, made.threads, made.directory.display()))),
                ]);
            }
        }
        if let Some(first) = self.sessions.first() {
            let resumed = match &self.sessions[1..] {
                [] => String::new(),
                [once] => format!("; resumed {}", moment(once.time)),
                [.., last] => format!("; resumed {} times, last {}", self.sessions.len() - 1, moment(last.time)),
            };
            list.push(("Started", text(format!("{}{resumed}", moment(first.time)))));
        }
        let [newest, best] =
            self.checkpoints.map(|step| step.map_or_else(|| "none".to_owned(), |step| format!("step {}", count(step))));
        list.push(("Checkpoints", text(format!("latest: {newest}; best: {best}"))));
        html! {
            (facts(&list))
            @if self.sessions.is_empty() {
                p.note { "Data set, start times and devices are unknown: sessions.jsonl is missing." }
            }
        }
    }
}

/// Returns device, precision and number of processes of a session.
pub(super) fn place(session: &Session) -> String {
    let processes = if session.ranks > 1 { format!(", {} processes", session.ranks) } else { String::new() };
    format!("{}, {}{processes}", device(&session.device), format!("{:?}", session.precision).to_lowercase())
}

/// Returns the name of a device as on the command line, and a CPU as people write it.
fn device(name: &str) -> String {
    match name.strip_prefix("Cuda(").and_then(|rest| rest.strip_suffix(')')) {
        Some(index) => format!("cuda:{index}"),
        None if name.eq_ignore_ascii_case("cpu") => "CPU".to_owned(),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_their_usual_names() {
        assert_eq!(["Cpu", "Cuda(1)", "CPU of some kind"].map(device), ["CPU", "cuda:1", "CPU of some kind"]);
    }
}
