//! Choices of an example.

use std::collections::HashSet;

use super::super::error::ExampleError;
use super::super::file::ChoiceSource;
use super::super::template::Template;
use super::super::text::edited;
use super::filling::Filling;
use super::{ExampleChoice, Use};

/// Largest number of choices beside the right one in training, as published.
const MAX_OTHERS: usize = 9;

impl Filling<'_> {
    /// The choices of every example that the record makes.
    pub(super) fn choices(&self, label: Option<usize>, purpose: Use) -> Result<Vec<Vec<ExampleChoice>>, ExampleError> {
        let choice = |index: usize, text: String, name: String, correct| ExampleChoice { text, name, correct, index };
        match &self.task.file.choices {
            None => {
                let word = |(index, template): (usize, &Template)| {
                    let text = self.choice(index, template)?;
                    Ok(choice(index, text, self.label_name(index), label == Some(index)))
                };
                Ok(vec![self.task.words.iter().enumerate().map(word).collect::<Result<_, _>>()?])
            }
            Some(ChoiceSource::List { list, edits }) => {
                let texts = self.record.texts(list)?;
                if texts.is_empty() {
                    return Err(ExampleError::NoChoices);
                }
                if let Some(label) = label.filter(|&label| label >= texts.len()) {
                    return Err(ExampleError::LabelOutOfRange { label: self.label_name(label), choices: texts.len() });
                }
                if let Some(empty) = texts.iter().position(|text| text.trim().is_empty()) {
                    return Err(ExampleError::EmptyChoice(empty));
                }
                let one = |(index, text): (usize, String)| {
                    choice(index, edited(text, edits), self.label_name(index), label == Some(index))
                };
                Ok(vec![texts.into_iter().enumerate().map(one).collect()])
            }
            Some(ChoiceSource::Answer { others, .. }) => {
                let template = self.task.answer.as_ref().ok_or(ExampleError::NoChoices)?;
                let answer = choice(0, self.choice(0, template)?, self.label_name(1), label == Some(1));
                let others = match others {
                    Some(field) if self.record.get(field).is_some() => self.record.texts(field)?,
                    _ => Vec::new(),
                };
                if let Some(empty) = others.iter().position(|text| text.trim().is_empty()) {
                    return Err(ExampleError::EmptyChoice(empty + 1));
                }
                let mut seen = HashSet::new();
                let distinct = others.iter().enumerate().filter(|(_, text)| seen.insert(*text));
                let others: Vec<_> =
                    distinct.map(|(at, text)| choice(at + 1, text.clone(), self.label_name(0), false)).collect();
                let groups = if purpose == Use::Train { groups_of(&others, MAX_OTHERS) } else { vec![others] };
                let with_answer = |group: Vec<ExampleChoice>| [answer.clone()].into_iter().chain(group).collect();
                Ok(groups.into_iter().map(with_answer).collect())
            }
        }
    }

    /// Text of a choice, which may be empty only if edits have made it so.
    fn choice(&self, index: usize, template: &Template) -> Result<String, ExampleError> {
        let text = self.filled(template)?;
        if text.trim().is_empty() {
            let mut names = template.names();
            let is_given = names.any(|name| self.raw(name).is_ok_and(|raw| !raw.trim().is_empty()));
            if !is_given || !self.task.multi_token() {
                return Err(ExampleError::EmptyChoice(index));
            }
        }
        Ok(text)
    }
}

/// Groups of at most `size` choices, in order; the last of several is filled up from the first choices.
fn groups_of(choices: &[ExampleChoice], size: usize) -> Vec<Vec<ExampleChoice>> {
    if choices.len() <= size {
        return vec![choices.to_vec()];
    }
    let full = |group: &[ExampleChoice]| group.iter().chain(&choices[..size - group.len()]).cloned().collect();
    choices.chunks(size).map(full).collect()
}
