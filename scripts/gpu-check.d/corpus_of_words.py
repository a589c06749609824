"""Corpus of random words in ReCoRD's format and of ReCoRD's lengths, for measurements of speed: each word is one token of the
vocabulary. Passages have 169 to 319 words with median 206, queries about 26, and there are 8 to 10 names of 1 to 3 words.

    corpus_of_words.py VOCABULARY FILE QUESTIONS
"""

import json
import random
import sys

SEED = 0


def passage(draw, words):
    """Words of a passage, and its names as spans of words."""
    # The square makes short passages more likely.
    text = draw.choices(words, k=169 + int(150 * draw.random() ** 2))
    names, at = [], 0
    count = draw.randint(8, 10)
    gap = len(text) // count
    for number in range(count):
        at = number * gap + draw.randrange(gap - 3)
        names.append((at, at + draw.randint(1, 3)))
    return text, names


def record(draw, words, number):
    text, names = passage(draw, words)
    starts = [0]
    for word in text:
        starts.append(starts[-1] + len(word) + 1)
    # Ends are inclusive.
    spans = [{"start": starts[first], "end": starts[last] - 2} for first, last in names]
    first, last = draw.choice(names)
    query = [*draw.choices(words, k=draw.randint(4, 22)), "@placeholder", *draw.choices(words, k=draw.randint(4, 22))]
    question = {"query": " ".join(query), "answers": [{"start": 0, "end": 0, "text": " ".join(text[first:last])}], "idx": number}
    return {"source": "words", "passage": {"text": " ".join(text), "entities": spans}, "qas": [question], "idx": number}


def main():
    vocabulary, file, questions = sys.argv[1:]
    with open(vocabulary, encoding="utf-8") as lines:
        words = [word for word in map(str.strip, lines) if len(word) > 3 and word.isascii() and word.isalpha()]
    draw = random.Random(SEED)
    with open(file, "w", encoding="utf-8") as out:
        for number in range(int(questions)):
            out.write(json.dumps(record(draw, words, number)) + "\n")


if __name__ == "__main__":
    main()
