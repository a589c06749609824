//! Names and phrases of the sample corpus, read from the embedded `phrases.json`.

use std::ops::Deref;

use serde::Deserialize;

const JSON: &str = include_str!("phrases.json");

/// Content of `phrases.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Phrases<'a> {
    #[serde(borrow)]
    pub(super) names: Names<'a>,
    pub(super) story: StoryTemplates<'a>,
    pub(super) query: QueryTemplates<'a>,
    /// Kinds of news item.
    pub(super) themes: List<Theme<'a>>,
}

impl Phrases<'static> {
    /// Parses the embedded file.
    ///
    /// # Errors
    /// A [`serde_json::Error`] with line and column.
    pub(super) fn load() -> Result<Self, serde_json::Error> {
        serde_json::from_str(JSON)
    }
}

/// Parses the embedded file as plain JSON.
///
/// # Errors
/// As [`Phrases::load`].
pub(super) fn json() -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_str(JSON)
}

/// Names of people, places and organisations.
///
/// Lower-cased and without accents, every word is a single token of the BERT-uncased vocabulary, so that a small model needs few
/// examples to learn a name's embedding. No word is in two lists, and none occurs in the phrases of the themes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Names<'a> {
    /// First names of women.
    #[serde(borrow)]
    pub(super) women: List<&'a str>,
    /// First names of men.
    pub(super) men: List<&'a str>,
    pub(super) surnames: List<&'a str>,
    /// Cities and countries.
    pub(super) places: List<&'a str>,
    /// First words of the names of organisations and teams.
    pub(super) group_first: List<&'a str>,
    /// Last words of the names of organisations.
    pub(super) firm_last: List<&'a str>,
    /// Last words of the names of teams.
    pub(super) team_last: List<&'a str>,
}

/// Sentences of passages. `{}` is the name of an entity, `{role}` and `{did}` are the role and deed of a person.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoryTemplates<'a> {
    /// Openings of sentences about a person.
    #[serde(borrow)]
    pub(super) openings: List<&'a str>,
    /// Sentences with the role before the name. `{The}` is an article, with or without an opening before it.
    pub(super) role_first: List<&'a str>,
    /// Sentences with the role after the name. `{open}` is an opening or empty.
    pub(super) name_first: List<&'a str>,
    /// Lines that name a person without a fact; `{quote}` is a quotation.
    pub(super) person_highlights: List<&'a str>,
    /// Lines that name a place without a fact.
    pub(super) place_highlights: List<&'a str>,
    /// Lines that name an organisation or team without a fact.
    pub(super) group_highlights: List<&'a str>,
}

/// Queries about people, with the slots of [`StoryTemplates`]. `{}` is the blank, `{topic}` the topic of the deed, `{news}` a remark.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryTemplates<'a> {
    /// Openings of queries about a person, different from those of passages.
    #[serde(borrow)]
    pub(super) openings: List<&'a str>,
    /// Openings of queries about a place or an organisation.
    pub(super) headings: List<&'a str>,
    /// Queries that repeat the role, before or after the blank.
    pub(super) by_role: [List<&'a str>; 2],
    /// Queries that repeat the deed.
    pub(super) by_deed: List<&'a str>,
    /// Queries that repeat role and deed, the role before or after the blank.
    pub(super) by_both: [List<&'a str>; 2],
    /// Queries that mention only the topic of the deed.
    pub(super) by_topic: List<&'a str>,
    /// Remarks about a person that are not in the passage.
    pub(super) remarks: List<&'a str>,
    /// Remarks with a pronoun (`{she}`, `{her}`, `{object}`), which shows the gender.
    pub(super) gendered_remarks: List<&'a str>,
}

/// One kind of news item, with its people, places and organisations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Theme<'a> {
    /// Value of `source` in the records.
    pub(super) name: &'a str,
    /// Set if the groups are teams instead of organisations.
    #[serde(default)]
    pub(super) teams: bool,
    /// Opening sentences, without entities.
    pub(super) leads: List<&'a str>,
    /// Roles of people, for either gender. Each role is given to at most one person per passage.
    pub(super) roles: List<&'a str>,
    /// Quotations, not tied to any fact.
    pub(super) quotes: List<&'a str>,
    /// Deeds of people.
    pub(super) deeds: List<Deed<'a>>,
    /// Facts about places.
    pub(super) places: List<Fact<'a>>,
    /// Facts about organisations or teams.
    pub(super) groups: List<Fact<'a>>,
}

/// Deed of a person. The deeds of a theme share no content word.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deed<'a> {
    /// Predicate in the past tense: `voted against the bridge`.
    pub(super) did: &'a str,
    /// Noun phrase that can follow `about`: `the bridge`.
    pub(super) topic: &'a str,
}

/// Fact about a place or an organisation, whose name replaces `{}`. The facts of a theme share no content word with each other
/// or with its roles and deeds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fact<'a> {
    /// Statement in the passage.
    pub(super) statement: &'a str,
    /// Query that repeats words of the statement next to the name.
    pub(super) repeated: &'a str,
    /// Query that words the same fact differently.
    pub(super) reworded: &'a str,
}

/// List with at least one entry.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<T>")]
pub(super) struct List<T>(Vec<T>);

impl<T> TryFrom<Vec<T>> for List<T> {
    type Error = &'static str;

    fn try_from(list: Vec<T>) -> Result<Self, Self::Error> {
        if list.is_empty() { Err("a list is empty") } else { Ok(Self(list)) }
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn embedded_phrases_parse_and_fit_their_templates() {
        let Phrases { names, themes, .. } = Phrases::load().expect("phrases.json");
        assert_eq!(themes.len(), 12);
        let lists = [&names.women, &names.men, &names.surnames, &names.places, &names.group_first];
        let lists = lists.into_iter().chain([&names.firm_last, &names.team_last]);
        let mut seen = HashSet::new();
        assert!(lists.flat_map(|list| list.iter()).all(|name| seen.insert(*name)), "a name is in two lists");
        for theme in themes.iter() {
            assert!(theme.roles.len() >= 10 && theme.deeds.len() >= 10, "{}", theme.name);
            assert!(theme.places.len() >= 4 && theme.groups.len() >= 4, "{}", theme.name);
            for fact in theme.places.iter().chain(theme.groups.iter()) {
                for text in [fact.statement, fact.repeated, fact.reworded] {
                    assert_eq!(text.matches("{}").count(), 1, "{text}");
                }
            }
        }
    }

    #[test]
    fn empty_lists_are_rejected() {
        let error = serde_json::from_str::<List<u8>>("[]").expect_err("empty").to_string();
        assert!(error.starts_with("a list is empty"), "{error}");
    }
}
