"""Independent reading of raw records: the questions that a row may be made of."""

import json
from typing import NamedTuple, Optional

PLAIN_CHARACTERS = str.maketrans({"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'", "\u2013": "-"})
HIGHLIGHT, BULLET = "@highlight\n", "- "


class Question(NamedTuple):
    """A question as the program must understand it."""

    passage: str
    # None for plain data: where its context is split into passage and query is left to the program.
    query: Optional[str]
    # Texts of the mentions, or None if that is not compared.
    mentions: Optional[list]
    # In the order of the record.
    choices: list
    correct: set
    # True if texts that differ in white space are different choices: in ReCoRD, as in the published code.
    differs_in_space: bool = False

    def has_text_of(self, row):
        if self.query is not None:
            return (row["passage"], row["query"]) == (self.passage, self.query)
        # The query, cut out of the context, leaves the passage, but for white space.
        context, query = without_space(self.passage), without_space(row["query"])
        return context.replace(query, "", 1) == without_space(row["passage"])

    def has_choices_of(self, row):
        """Each choice has the text at its index in the record, none is missing, and the right ones are right."""
        choices = row["choices"]
        key = str if self.differs_in_space else normal
        expected = {key(text): normal(text) for text in self.choices}
        return (
            all(normal(one["text"]) == normal(self.choices[one["choice_index"]]) for one in choices)
            and sorted(normal(one["text"]) for one in choices) == sorted(expected.values())
            and {normal(one["text"]) for one in choices if one["correct"]} == {normal(text) for text in self.correct}
        )

    def has_mentions_of(self, row):
        return self.mentions is None or sorted(entity["text"] for entity in row["entities"]) == self.mentions


def fault_of(row, questions):
    """Returns what is wrong with a row of the validation split, or None if it is one of the questions of its line."""
    for entity in row["entities"]:
        if row["passage"][entity["char_start"] : entity["char_end"]] != entity["text"]:
            return f"mention {entity} is not the text at its place"
    checks = {"passage and query": Question.has_text_of, "choices": Question.has_choices_of, "mentions": Question.has_mentions_of}
    for name, check in checks.items():
        questions = [question for question in questions if check(question, row)]
        if not questions:
            return f"{name} are not those of line {row['raw_line']}"
    return None


def questions_of(line, kind):
    """Returns the questions of a line; none if it is not a record."""
    try:
        record = json.loads(line.decode("utf-8"))
        return record_questions(record) if kind == "record" else plain_questions(record)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return []


def record_questions(record):
    """Questions of a record of SuperGLUE's ReCoRD. Spans count code points; ends are inclusive."""
    raw = standard(record["passage"]["text"])
    spans = [(entity["start"], entity["end"]) for entity in record["passage"]["entities"]]
    mentions = [raw[start : end + 1] for start, end in spans]
    # A mention that overlaps a marker changes its text.
    markers = [at for at in range(len(raw)) if raw.startswith(HIGHLIGHT, at)]
    overlap = any(start < at + len(HIGHLIGHT) and at <= end for start, end in spans for at in markers)
    found = []
    for question in record["qas"]:
        try:
            query, answers = standard(question["query"]), question.get("answers") or []
            correct = {standard(answer["text"]) for answer in answers}
        except (TypeError, KeyError, AttributeError):
            continue
        found.append(Question(raw.replace(HIGHLIGHT, BULLET), query, None if overlap else sorted(mentions), mentions, correct, True))
    return found


def plain_questions(record):
    """The question of a plain record."""
    choices = [standard(choice) for choice in record["choices"]]
    answer = record.get("answer")
    right = answer if isinstance(answer, list) else [answer]
    correct = {choices[index] for index in right if isinstance(index, int) and 0 <= index < len(choices)}
    return [Question(standard(record["context"]), None, None, choices, correct)]


def standard(text):
    return text.translate(PLAIN_CHARACTERS)


def normal(text):
    """Choices are compared without white space around them and repeated in them."""
    return " ".join(text.split())


def without_space(text):
    return "".join(text.split())
