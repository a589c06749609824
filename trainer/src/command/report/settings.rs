//! Settings of a run.

use glm_support::page::number::count;
use glm_support::page::table::{Column, folded, table, text};
use maud::{Markup, html};

use crate::config::Config;
use crate::config::changes::settings;

/// Renders the settings, starting with those that differ from the defaults, or the reason why they cannot be shown.
pub(super) fn section(config: Result<&Config, &str>) -> Markup {
    let config = match config {
        Ok(config) => config,
        Err(reason) => return html! { p.warning { "The settings cannot be shown: " (reason) } },
    };
    let defaults = settings(&Config::default());
    let all = settings(config);
    let default = |key: &str| defaults.get(key).map_or("", String::as_str);
    let changed: Vec<Vec<Markup>> = all
        .iter()
        .filter(|(key, value)| default(key) != value.as_str())
        .map(|(key, value)| vec![code(key), code(value), code(default(key))])
        .collect();
    let every: Vec<Vec<Markup>> = all
        .iter()
        .map(|(key, value)| {
            let differs = default(key) != value.as_str();
            let mark = if differs { format!("changed from {}", default(key)) } else { String::new() };
            vec![
                code(key),
                if differs {
                    html! { strong { (code(value)) } }
                } else {
                    code(value)
                },
                text(mark),
            ]
        })
        .collect();
    let columns = [("setting", Column::Text), ("value", Column::Text), ("default", Column::Text)];
    html! {
        @if changed.is_empty() {
            p { "All settings have their defaults." }
        } @else {
            p { (count(changed.len() as u64)) " of " (count(every.len() as u64)) " settings differ from the defaults." }
            (table("Settings that differ from the defaults", &columns, &changed))
        }
        (folded("All settings", &table("All settings", &[("setting", Column::Text), ("value", Column::Text), ("", Column::Text)], &every)))
    }
}

fn code(text: &str) -> Markup {
    html! { code { (text) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_settings_are_marked() {
        let mut config = Config::default();
        assert!(section(Ok(&config)).into_string().contains("All settings have their defaults"));
        config.optim.lr = 2e-5;
        let text = section(Ok(&config)).into_string();
        assert!(
            text.contains("1 of ") && text.contains("<strong><code>2e-5</code></strong></td><td>changed from 1e-5"),
            "{text}"
        );
        assert!(section(Err("bad <file>")).into_string().contains("bad &lt;file&gt;"));
    }
}
