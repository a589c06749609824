//! The corpora that GLM was pretrained on, with the fields and filters of the published code, except its filter by language.

use std::borrow::Cow;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{MIN_CHARS, is_longer, not_blank};
use crate::source::document::Document;
use crate::source::error::RecordError;
use crate::source::format::{Content, DocumentFormat, Format, Framing, json_object};
use crate::source::formats::given::Given;
use crate::source::head::Head;

/// Parts of the Pile that are left out.
const LEFT_OUT: [&str; 7] =
    ["Github", "StackExchange", "DM Mathematics", "Ubuntu IRC", "EuroParl", "YoutubeSubtitles", "Enron Emails"];
/// Parts of the Pile of which a share is kept.
const SAMPLED: [&str; 3] = ["PubMed Central", "ArXiv", "FreeLaw"];
/// That share.
const KEPT_SHARE: f64 = 0.3;
/// Maximum length of the description of a question in a prompt, in characters.
const DESCRIPTION_CHARS: usize = 100;
/// Number of votes above which short answers are kept.
const MANY_VOTES: i64 = 1_000;
/// Minimum length of a best answer, in characters.
const BEST_ANSWER_CHARS: usize = 10;

type Text<'a> = Option<Cow<'a, str>>;

fn or_empty<'a>(text: &'a Text<'_>) -> &'a str {
    text.as_deref().unwrap_or_default()
}

/// Declares a format: its type, name, help text, sign, the keys that it is detected by, its framing, and whether it is English.
macro_rules! corpus {
    ($(#[$doc:meta])* $type:ident, $name:literal, $about:literal, $signs:literal, $keys:expr, $framing:expr, $english:literal, $parse:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default)]
        pub struct $type;

        impl Format for $type {
            fn name(&self) -> &'static str {
                $name
            }

            fn about(&self) -> &'static str {
                $about
            }

            fn signs(&self) -> &'static str {
                $signs
            }

            fn framing(&self) -> Framing {
                $framing
            }

            fn detect(&self, head: &Head<'_>) -> bool {
                matches!(head, Head::Json(keys) if keys.has_all(&$keys))
            }

            fn content(&self) -> Content<'_> {
                Content::Documents(self)
            }
        }

        impl DocumentFormat for $type {
            fn documents(&self, record: &str) -> Result<Vec<Option<Document>>, RecordError> {
                $parse(json_object($name, record)?)
            }

            fn is_english(&self) -> bool {
                $english
            }
        }
    };
}

corpus!(
    /// News of Common Crawl.
    CcNews, "cc-news", "Documents: cc-news, {\"title\", \"description\", \"maintext\"} per line", "`maintext`",
    ["maintext"], Framing::Lines, true, cc_news
);
corpus!(
    /// The Pile.
    Pile, "pile", "Documents: the Pile, {\"text\", \"meta\": {\"pile_set_name\"}} per line", "`meta.pile_set_name`",
    ["text", "meta.pile_set_name"], Framing::Lines, true, pile
);
corpus!(
    /// Articles of an encyclopedia.
    Baike, "baike", "Documents: {\"title\", \"abstract\", \"content\"} per line", "`title`, `abstract` and `content`",
    ["title", "abstract", "content"], Framing::Lines, false, baike
);
corpus!(
    /// Questions with one answer.
    Zhihu, "zhihu", "Documents: {\"q_title\", \"q-content\", \"ans-content\", …} per line", "`q_title` and `ans-content`",
    ["q_title", "ans-content"], Framing::Lines, false, zhihu
);
corpus!(
    /// Questions with several answers.
    Zhidao, "zhidao", "Documents: {\"title\", \"content\", \"best_answer\", \"other_answers\"} per line", "`best_answer`",
    ["title", "best_answer"], Framing::Lines, false, zhidao
);
corpus!(
    /// Web pages; a file is one JSON object.
    Wudao, "wudao", "Documents: a file is {\"RECORDS\": [{\"title\", \"content\"}, …]}", "`RECORDS`",
    ["RECORDS[].content"], Framing::Array("RECORDS"), false, wudao
);

/// Returns a document of a corpus, or an error if its text is blank.
fn document(source: &str, prompt: Option<String>, text: String) -> Result<Option<Document>, RecordError> {
    not_blank(Document { id: None, source: source.to_owned(), prompt, text }).map(Some)
}

fn longer_than(document: Option<Document>, chars: usize) -> Option<Document> {
    document.filter(|document| is_longer(&document.text, chars))
}

#[derive(Deserialize)]
struct RawNews<'a> {
    #[serde(borrow)]
    title: Text<'a>,
    #[serde(borrow)]
    description: Text<'a>,
    #[serde(borrow)]
    maintext: Text<'a>,
}

fn cc_news(raw: RawNews<'_>) -> Result<Vec<Option<Document>>, RecordError> {
    let (title, description, main) = (or_empty(&raw.title), or_empty(&raw.description), or_empty(&raw.maintext));
    let mut text = String::new();
    for part in [title, if main.starts_with(description) { "" } else { description }] {
        if !part.trim().is_empty() {
            text.push_str(part.trim());
            text.push(' ');
        }
    }
    text.push_str(main);
    Ok(vec![longer_than(document("cc-news", None, text)?, MIN_CHARS)])
}

#[derive(Deserialize)]
struct RawPile<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow)]
    meta: PileMeta<'a>,
}

#[derive(Deserialize)]
struct PileMeta<'a> {
    #[serde(borrow)]
    pile_set_name: Cow<'a, str>,
}

fn pile(raw: RawPile<'_>) -> Result<Vec<Option<Document>>, RecordError> {
    let part = &*raw.meta.pile_set_name;
    // The choice depends on nothing but the text, so that it is the same for any order and number of threads.
    let is_kept = || {
        let digest = Sha256::digest(raw.text.as_bytes());
        let head = digest.as_chunks::<8>().0.first().map_or(0, |head| u64::from_le_bytes(*head));
        (head as f64) < KEPT_SHARE * 2_f64.powi(64)
    };
    if LEFT_OUT.contains(&part) || (SAMPLED.contains(&part) && !is_kept()) {
        return Ok(vec![None]);
    }
    Ok(vec![document(part, None, raw.text.into_owned())?])
}

#[derive(Deserialize)]
struct RawArticle<'a> {
    #[serde(borrow)]
    title: Text<'a>,
    #[serde(borrow, rename = "abstract")]
    summary: Text<'a>,
    #[serde(borrow)]
    content: Text<'a>,
}

fn baike(raw: RawArticle<'_>) -> Result<Vec<Option<Document>>, RecordError> {
    let text = [or_empty(&raw.title), or_empty(&raw.summary), or_empty(&raw.content)].concat();
    Ok(vec![document("baike", None, text)?])
}

/// Returns the description of a question as it is written in a prompt.
fn description(content: &str) -> String {
    match content.char_indices().nth(DESCRIPTION_CHARS) {
        Some((end, _)) => [&content[..end], "......"].concat(),
        None => content.to_owned(),
    }
}

#[derive(Deserialize)]
struct RawAnswer<'a> {
    #[serde(borrow)]
    q_title: Text<'a>,
    #[serde(borrow, rename = "q-content")]
    q_content: Text<'a>,
    #[serde(borrow, rename = "user-signature")]
    signature: Text<'a>,
    #[serde(borrow, rename = "ans-content")]
    answer: Text<'a>,
    #[serde(default, rename = "ans-up-num")]
    votes: Given,
}

fn zhihu(raw: RawAnswer<'_>) -> Result<Vec<Option<Document>>, RecordError> {
    let votes = match raw.votes {
        Given::Integer(votes) => votes,
        Given::Text(votes) => votes.trim().parse().unwrap_or(0),
        _ => 0,
    };
    let (title, content) = (or_empty(&raw.q_title), description(or_empty(&raw.q_content)));
    let (signature, answer) = (or_empty(&raw.signature), or_empty(&raw.answer));
    let prompt = ["问题：", title, " 问题描述：", &content, " 回答用户：", signature, " 回答："].concat();
    let found = document("zhihu", Some(prompt), answer.to_owned())?;
    Ok(vec![if votes > MANY_VOTES { found } else { longer_than(found, MIN_CHARS) }])
}

#[derive(Deserialize)]
struct RawQuestion<'a> {
    #[serde(borrow)]
    title: Text<'a>,
    #[serde(borrow)]
    content: Text<'a>,
    #[serde(borrow)]
    best_answer: Option<AnswerText<'a>>,
    #[serde(borrow)]
    other_answers: Option<Vec<AnswerText<'a>>>,
}

#[derive(Deserialize)]
struct AnswerText<'a> {
    #[serde(borrow)]
    content: Text<'a>,
}

fn zhidao(raw: RawQuestion<'_>) -> Result<Vec<Option<Document>>, RecordError> {
    let content = description(or_empty(&raw.content));
    let prompt = ["问题：", or_empty(&raw.title), " 问题描述：", &content, " 回答："].concat();
    let others = raw.other_answers.unwrap_or_default();
    let best = raw.best_answer.iter().map(|answer| (answer, BEST_ANSWER_CHARS));
    let answers = best.chain(others.iter().map(|answer| (answer, MIN_CHARS)));
    let documents = answers.map(|(answer, chars)| {
        let text = or_empty(&answer.content);
        is_longer(text, chars)
            .then(|| document("zhidao", Some(prompt.clone()), text.to_owned()))
            .transpose()
            .map(Option::flatten)
    });
    documents.collect()
}

#[derive(Deserialize)]
struct RawPage<'a> {
    #[serde(borrow)]
    title: Text<'a>,
    #[serde(borrow)]
    content: Text<'a>,
}

fn wudao(raw: RawPage<'_>) -> Result<Vec<Option<Document>>, RecordError> {
    let text = [or_empty(&raw.title).trim(), or_empty(&raw.content)].join(" ");
    Ok(vec![longer_than(document("wudao", None, text)?, MIN_CHARS)])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(format: &dyn DocumentFormat, record: &serde_json::Value) -> Vec<Option<(Option<String>, String)>> {
        let found = format.documents(&record.to_string()).expect("a record");
        found.into_iter().map(|document| document.map(|document| (document.prompt, document.text))).collect()
    }

    fn text(text: impl Into<String>) -> Vec<Option<(Option<String>, String)>> {
        vec![Some((None, text.into()))]
    }

    #[test]
    fn news_are_joined_without_a_repeated_description() {
        let long = "m".repeat(100);
        let news = |title: &str, description: &str, main: &str| {
            texts(&CcNews, &json!({"title": title, "description": description, "maintext": main, "url": 1}))
        };
        assert_eq!(news(" T ", " d ", &long), text(format!("T d {long}")));
        assert_eq!(news("T", "mm", &long), text(format!("T {long}")));
        assert_eq!(news("", "", &long), [None], "100 characters are too few");
        assert_eq!(texts(&CcNews, &json!({"title": null, "maintext": "m".repeat(101)})), text("m".repeat(101)));
    }

    #[test]
    fn parts_of_the_pile_are_left_out_or_sampled() {
        let kept = |part: &str, text: &str| texts(&Pile, &json!({"text": text, "meta": {"pile_set_name": part}}))[0].is_some();
        assert!(kept("Wikipedia (en)", "a"));
        assert!(LEFT_OUT.iter().all(|part| !kept(part, "a")));
        for part in SAMPLED {
            let share = (0..2_000).filter(|number| kept(part, &format!("text {number}"))).count();
            assert!((540..660).contains(&share), "{share} of 2000");
        }
    }

    #[test]
    fn chinese_corpora_become_prompts_and_texts() {
        assert_eq!(texts(&Baike, &json!({"title": "甲", "abstract": "乙", "content": "丙"})), text("甲乙丙"));
        let page = |content: &str| texts(&Wudao, &json!({"title": " 题 ", "content": content}));
        assert_eq!(page(&"文".repeat(99)), text(format!("题 {}", "文".repeat(99))));
        assert_eq!(page(&"文".repeat(98)), [None]);

        let answer = |content: &str, answer: &str, votes: serde_json::Value| {
            let record = json!({"q_title": "题", "q-content": content, "user-signature": "人", "ans-content": answer, "ans-up-num": votes});
            texts(&Zhihu, &record)
        };
        let expected = |content: &str, answer: &str| {
            vec![Some((Some(format!("问题：题 问题描述：{content} 回答用户：人 回答：")), answer.to_owned()))]
        };
        let long = "答".repeat(101);
        assert_eq!(answer("述", &long, json!(0)), expected("述", &long));
        assert_eq!(answer(&"述".repeat(101), &long, json!("")), expected(&format!("{}......", "述".repeat(100)), &long));
        assert_eq!(answer("述", "答", json!("1000")), [None]);
        assert_eq!(answer("述", "答", json!("1001")), expected("述", "答"));

        let question = json!({
            "title": "题", "content": "述", "best_answer": {"content": "好".repeat(11)},
            "other_answers": [{"content": "坏".repeat(100)}, {"content": long}],
        });
        let prompt = || Some("问题：题 问题描述：述 回答：".to_owned());
        let expected = [Some((prompt(), "好".repeat(11))), None, Some((prompt(), long.clone()))];
        assert_eq!(texts(&Zhidao, &question), expected);
    }

    #[test]
    fn blank_texts_are_errors() {
        for (format, record) in [
            (&CcNews as &dyn DocumentFormat, json!({"maintext": " "})),
            (&Baike, json!({"title": "", "abstract": "", "content": ""})),
            (&Pile, json!({"text": "\n", "meta": {"pile_set_name": "Books3"}})),
        ] {
            assert_eq!(format.documents(&record.to_string()), Err(RecordError::EmptyText));
        }
    }
}
