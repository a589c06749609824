//! Label, texts, context and ids of an example.

use glm_text::question::BLANK;
use glm_text::standard::standardise;
use serde_json::{Map, Value};

use super::super::error::ExampleError;
use super::super::file::{ChoiceSource, EnclosedPhrase, FieldText, TextSource};
use super::super::record::{Record, number, scalar};
use super::super::task::PatternTask;
use super::super::template::{Part, Template};
use super::super::text::{edited, with_enclosed, with_marked_word};
use super::{Example, ExampleIds, TextSegment, Use};

/// The filled context, as in [`Example`].
struct Context {
    passage: String,
    query: String,
    segments: Vec<TextSegment>,
    blank: usize,
    group_b: usize,
}

/// A pattern and the record that fills it.
pub(super) struct Filling<'a> {
    pub(super) task: &'a PatternTask,
    pub(super) record: Record<'a>,
    /// Number of the record among those of its lists.
    pub(super) number: usize,
    /// True if two texts are exchanged.
    pub(super) mirrored: bool,
}

impl Filling<'_> {
    /// Index of the right label; `None` if the record has none, or it must not be read.
    pub(super) fn label(&self, purpose: Use) -> Result<Option<usize>, ExampleError> {
        let source = &self.task.file.label;
        let value = if purpose == Use::Predict { None } else { self.record.get(&source.field) };
        // In tables, an empty field is all that a missing label leaves.
        let value = value.filter(|value| value.as_str() != Some(""));
        let Some(value) = value else {
            return if purpose == Use::Train { Err(ExampleError::NoLabel(source.field.clone())) } else { Ok(None) };
        };
        let found = scalar(value);
        let names = &source.names;
        let place = |found: &String| {
            let exact = names.iter().position(|name| name == found);
            exact.or_else(|| names.iter().position(|name| name.to_lowercase() == found.to_lowercase()))
        };
        let index = found.as_ref().and_then(place);
        let is_list = matches!(self.task.file.choices, Some(ChoiceSource::List { .. }));
        let index = index.or_else(|| number(value).filter(|_| is_list).and_then(|index| usize::try_from(index).ok()));
        index.map(Some).ok_or_else(|| ExampleError::Value {
            field: source.field.clone(),
            found: found.unwrap_or_else(|| value.to_string()),
            expected: if names.is_empty() { "the numbers of the choices".to_owned() } else { names.join(", ") },
        })
    }

    pub(super) fn examples(&self, label: Option<usize>, purpose: Use) -> Result<Vec<Example>, ExampleError> {
        let groups = self.choices(label, purpose)?;
        let ids = self.ids();
        let Context { passage, query, segments, blank, group_b } = self.context()?;
        let name = label.map(|label| self.label_name(label));
        let example = |(number, choices)| {
            let mut ids = ids.clone();
            if number > 0 {
                ids.name = ids.name.map(|name| format!("{name}-{number}"));
            }
            let (passage, query, segments) = (passage.clone(), query.clone(), segments.clone());
            Example { ids, passage, query, segments, blank, group_b, choices, label: name.clone() }
        };
        Ok(groups.into_iter().enumerate().map(example).collect())
    }

    pub(super) fn label_name(&self, label: usize) -> String {
        self.task.file.label.names.get(label).cloned().unwrap_or_else(|| label.to_string())
    }

    /// The first context whose texts the record has.
    fn context(&self) -> Result<Context, ExampleError> {
        let mut preferred = self.task.preferred.iter().map(|template| self.laid_out(template));
        let found = preferred.find(|found| !found.as_ref().is_err_and(ExampleError::is_missing));
        found.unwrap_or_else(|| self.laid_out(&self.task.context))
    }

    fn laid_out(&self, template: &Template) -> Result<Context, ExampleError> {
        let (mut passage, mut query, mut segments) = (None, String::new(), Vec::new());
        let (mut blank, mut group_b, mut fixed) = (0, None, String::new());
        let end = |fixed: &mut String, segments: &mut Vec<TextSegment>| {
            let text = std::mem::take(fixed);
            if !text.trim().is_empty() {
                segments.push(TextSegment { text, truncatable: false });
            }
        };
        for part in &template.0 {
            match part {
                Part::Literal(text) => {
                    fixed.push_str(text);
                    query.push_str(text);
                }
                Part::Text { name, truncatable } => {
                    let text = self.text(name)?;
                    query.push_str(&text);
                    if *truncatable {
                        end(&mut fixed, &mut segments);
                        passage.get_or_insert_with(|| text.clone());
                        segments.push(TextSegment { text, truncatable: true });
                    } else {
                        fixed.push_str(&text);
                    }
                }
                Part::Blank => {
                    end(&mut fixed, &mut segments);
                    blank = segments.len();
                    query.push_str(BLANK);
                }
                Part::GroupB => {
                    end(&mut fixed, &mut segments);
                    group_b = Some(segments.len());
                    query.push(' ');
                }
            }
        }
        end(&mut fixed, &mut segments);
        let group_b = group_b.unwrap_or(segments.len());
        Ok(Context { passage: passage.unwrap_or_default(), query, segments, blank, group_b })
    }

    pub(super) fn filled(&self, template: &Template) -> Result<String, ExampleError> {
        let mut filled = String::new();
        for part in &template.0 {
            match part {
                Part::Literal(text) => filled.push_str(text),
                Part::Text { name, .. } => filled.push_str(&self.text(name)?),
                Part::Blank | Part::GroupB => {}
            }
        }
        Ok(filled)
    }

    /// Source of a text; `None` if it is a field of the same name.
    fn source<'s>(&'s self, name: &'s str) -> (&'s str, Option<&'s TextSource>) {
        let name = match &self.task.file.mirror {
            Some([first, second]) if self.mirrored && first == name => second,
            Some([first, second]) if self.mirrored && second == name => first,
            _ => name,
        };
        (name, self.task.file.texts.get(name))
    }

    /// The text of a field as it is in the record; empty for a text that is made of others.
    pub(super) fn raw(&self, name: &str) -> Result<String, ExampleError> {
        match self.source(name) {
            (_, Some(TextSource::Field(field))) => self.record.text(&field.field),
            (_, Some(TextSource::Template(_))) => Ok(String::new()),
            (name, None) => self.record.text(name),
        }
    }

    fn text(&self, name: &str) -> Result<String, ExampleError> {
        match self.source(name) {
            (name, Some(TextSource::Template(_))) => {
                self.task.joined.get(name).map_or(Ok(String::new()), |template| self.filled(template))
            }
            (_, Some(TextSource::Field(field))) => self.field(field),
            (name, None) => Ok(standardise(&self.record.text(name)?)),
        }
    }

    fn field(&self, source: &FieldText) -> Result<String, ExampleError> {
        let raw = cut(self.record.text(&source.field)?, source)?;
        let raw = if source.map.is_empty() {
            raw
        } else {
            source.map.get(&raw).cloned().ok_or_else(|| ExampleError::Value {
                field: source.field.clone(),
                found: raw,
                expected: source.map.keys().cloned().collect::<Vec<_>>().join(", "),
            })?
        };
        let text = self.enclosed(source, edited(raw, &source.edits))?;
        let Some(mark) = &source.mark else { return Ok(text) };
        let (word, index) = (self.record.text(&mark.word)?, self.record.number(&mark.index)?);
        with_marked_word(&text, &word, index).ok_or(ExampleError::NoWord { word, index })
    }

    fn enclosed(&self, source: &FieldText, text: String) -> Result<String, ExampleError> {
        let place = |EnclosedPhrase { phrase, at, .. }: &EnclosedPhrase| -> Result<_, ExampleError> {
            Ok((self.record.text(phrase)?, self.record.number(at)?))
        };
        let places = source.enclose.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let signs = source.enclose.iter().map(|enclosed| enclosed.with.as_str());
        let phrases: Vec<_> = places.iter().zip(signs).map(|((phrase, at), sign)| (phrase.as_str(), *at, sign)).collect();
        with_enclosed(&text, &phrases).map_err(|number| {
            let (phrase, at, _) = phrases[number];
            ExampleError::NoPhrase { phrase: phrase.to_owned(), at }
        })
    }

    fn ids(&self) -> ExampleIds {
        let ids = &self.task.file.ids;
        let value = |field: &Option<String>| field.as_ref().and_then(|field| self.record.get(field));
        let default = || ["idx", "id"].into_iter().find_map(|field| self.record.get(field));
        let of_record = value(&ids.idx).or_else(|| ids.idx.is_none().then(default).flatten());
        let name = |value: &Value| number(value).map(|number| number.to_string()).or_else(|| scalar(value));
        let (of_question, of_answer) = (value(&ids.question), value(&ids.answer));
        let json = |value: &Value| number(value).map_or_else(|| value.clone(), Value::from);
        // In tables, an empty field is all that a missing id leaves.
        let of_record = of_record.filter(|value| value.as_str() != Some(""));
        let Some(of_record) = of_record else { return ExampleIds::default() };
        let names = [("p", Some(of_record)), ("q", of_question), ("a", of_answer)]
            .map(|(letter, value)| value.and_then(name).map(|name| format!("{letter}{name}")));
        let is_nested = ids.question.is_some() || ids.answer.is_some();
        // Examples of a list that have no ids of their own are numbered.
        let position = (!is_nested && !self.task.file.each.is_empty()).then_some(self.number);
        let joined = |names: &[Option<String>]| names.iter().flatten().cloned().collect::<Vec<_>>().join("-");
        let plain = name(of_record).map(|name| match position {
            Some(position) => format!("{name}-{position}"),
            None => name,
        });
        let mut full = if is_nested { Some(joined(&names)) } else { plain.clone() };
        if self.mirrored {
            full = full.map(|name| format!("{name}m"));
        }
        let idx = if is_nested {
            let mut of_all = Map::from_iter([("passage".to_owned(), json(of_record))]);
            of_all.extend(of_question.map(|value| ("question".to_owned(), json(value))));
            of_all.extend(of_answer.map(|value| ("answer".to_owned(), json(value))));
            Value::Object(of_all).to_string()
        } else {
            position.map_or_else(|| json(of_record), |_| plain.clone().into()).to_string()
        };
        ExampleIds {
            name: full,
            group: of_question.map(|_| joined(&names[..2])),
            idx: Some(idx),
            source_id: plain,
            record: number(of_record),
            question: of_question.and_then(number),
        }
    }
}

/// The part of a text that its source names.
fn cut(text: String, source: &FieldText) -> Result<String, ExampleError> {
    let FieldText { field, before, after, .. } = source;
    let divided = |mark: &str| {
        let no_mark = || ExampleError::NoMark { field: field.clone(), mark: mark.to_owned() };
        text.split_once(mark).ok_or_else(no_mark)
    };
    match (before, after) {
        (Some(mark), _) => divided(mark).map(|(before, _)| before.to_owned()),
        (None, Some(mark)) => divided(mark).map(|(_, after)| after.to_owned()),
        (None, None) => Ok(text),
    }
}
