//! Log of both programs on standard error: its level, its form, and the line with which a failed command ends.
//!
//! `-q` and `-v` set the level, and `RUST_LOG` replaces both, for single modules as well: `RUST_LOG=info,glm_trainer::data=trace`.

use std::env;
use std::fmt::{self, Display};
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use clap::{ArgAction, Args, ValueEnum};
use serde_json::{Map, Value};
use tracing::field::Field;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::paint::log_has_colour;

/// Variable with levels of single modules.
const VARIABLE: &str = "RUST_LOG";

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object per line: timestamp, level, message
    Json,
}

/// Arguments of the log. The field that these are flattened into must not have a doc comment: clap would print it.
#[derive(Debug, Clone, Copy, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct LogArgs {
    /// Print fewer messages; twice: errors only
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
    /// Print more messages; twice: all
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Form of messages
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// Time at the beginning of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// None, for commands that end soon.
    None,
    /// Date and time in a file; on a terminal, where they would take half of the line, the time since the start of the program.
    Shown,
}

/// The log of this process.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    format: LogFormat,
    times: Times,
}

impl LogArgs {
    /// Starts the log. `usual` is the level without `-q` and `-v`.
    pub fn start(&self, usual: Level, times: Times) -> Log {
        let log = Log { format: self.log_format, times };
        let lines = tracing_subscriber::fmt().with_writer(io::stderr).with_target(false).with_env_filter(self.filter(usual));
        match (log.format, times) {
            (LogFormat::Json, _) => lines.with_ansi(false).event_format(JsonLines).init(),
            (LogFormat::Text, Times::None) => lines.with_ansi(log_has_colour()).without_time().init(),
            (LogFormat::Text, Times::Shown) if io::stderr().is_terminal() => {
                lines.with_ansi(log_has_colour()).with_timer(Elapsed::start()).init();
            }
            (LogFormat::Text, Times::Shown) => lines.with_ansi(false).init(),
        }
        log
    }

    /// Returns the levels of the command line, or those of the environment if it has any.
    fn filter(&self, usual: Level) -> EnvFilter {
        let level = self.level(usual);
        let builder = EnvFilter::builder().with_default_directive(level.into());
        match env::var(VARIABLE) {
            Ok(levels) if !levels.is_empty() => builder.parse_lossy(levels),
            // It reports every attempt of a request, without the file; failures are errors here.
            _ if level == Level::INFO => builder.parse_lossy("info,object_store=warn"),
            _ => builder.parse_lossy(""),
        }
    }

    /// Returns the level of the command line.
    fn level(&self, usual: Level) -> Level {
        match (self.quiet, self.verbose) {
            (0, 0) => usual,
            (0, 1) => Level::DEBUG,
            (0, _) => Level::TRACE,
            (1, _) if usual > Level::WARN => Level::WARN,
            _ => Level::ERROR,
        }
    }
}

impl Log {
    /// Writes the error with which the program ends. A mistake in the arguments has the form of those that the parser finds,
    /// `error: …`, and so has every error of a command without times; another one is a line of the log.
    pub fn error(&self, error: &dyn Display, is_usage: bool) {
        match (self.format, self.times) {
            (LogFormat::Text, times) if is_usage || times == Times::None => eprintln!("error: {error}"),
            _ => tracing::error!("{error}"),
        }
    }
}

/// Joins the texts of an error and its causes. A cause that the text already contains is left out.
pub fn joined<'a>(causes: impl IntoIterator<Item = &'a (dyn std::error::Error + 'static)>) -> String {
    causes.into_iter().map(ToString::to_string).fold(String::new(), |text, cause| match text.contains(&cause) {
        true => text,
        false if text.is_empty() => cause,
        false => format!("{text}: {cause}"),
    })
}

/// One JSON object per message.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let level = event.metadata().level().as_str();
        let mut line = Map::from_iter([("timestamp".to_owned(), time.into()), ("level".to_owned(), level.into())]);
        let mut add = |field: &Field, value: &dyn fmt::Debug| {
            line.insert(field.name().to_owned(), format!("{value:?}").into());
        };
        event.record(&mut add);
        writeln!(out, "{}", Value::Object(line))
    }
}

/// Log time `h:mm:ss` since the start of the program.
#[derive(Debug)]
struct Elapsed(Instant);

impl Elapsed {
    fn start() -> Self {
        Self(Instant::now())
    }
}

impl FormatTime for Elapsed {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        out.write_str(&clock(self.0.elapsed()))
    }
}

fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_raise_and_lower_the_level() {
        let level = |quiet, verbose, usual| LogArgs { quiet, verbose, ..LogArgs::default() }.level(usual);
        assert_eq!([0, 1, 2].map(|verbose| level(0, verbose, Level::INFO)), [Level::INFO, Level::DEBUG, Level::TRACE]);
        assert_eq!([1, 2].map(|quiet| level(quiet, 0, Level::INFO)), [Level::WARN, Level::ERROR]);
        assert_eq!(level(1, 0, Level::WARN), Level::ERROR);
    }

    #[test]
    fn a_cause_that_is_told_already_is_not_repeated() {
        #[derive(Debug)]
        struct Told(&'static str);
        impl Display for Told {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0)
            }
        }
        impl std::error::Error for Told {}
        let text = |texts: &[&'static str]| {
            let errors: Vec<Told> = texts.iter().map(|text| Told(text)).collect();
            joined(errors.iter().map(|error| error as &(dyn std::error::Error + 'static)))
        };
        assert_eq!(text(&["line 1: too long; shorten it", "too long"]), "line 1: too long; shorten it");
        assert_eq!(text(&["cannot write", "disk full"]), "cannot write: disk full");
    }

    #[test]
    fn elapsed_time_has_seconds() {
        assert_eq!(clock(Duration::from_millis(59_999)), "0:00:59");
        assert_eq!(clock(Duration::from_secs(3600 * 25 + 61)), "25:01:01");
    }
}
