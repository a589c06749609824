"""Documents of random words, for checks of blank infilling: sentences of 3 to 24 words, of which 1 to 60 make a document.

    documents_of_words.py VOCABULARY FOLDER TRAIN VAL
"""

import json
import random
import sys
from pathlib import Path

SEED = 1


def document(draw, words):
    sentences = (draw.choices(words, k=draw.randint(3, 24)) for _ in range(draw.randint(1, 60)))
    return " ".join(" ".join(sentence) + "." for sentence in sentences)


def main():
    vocabulary, folder, *counts = sys.argv[1:]
    with open(vocabulary, encoding="utf-8") as lines:
        # Few words, so that a short run learns something.
        words = [word for word in map(str.strip, lines) if len(word) > 3 and word.isascii() and word.isalpha()][:500]
    draw = random.Random(SEED)
    for split, count in zip(("train", "val"), map(int, counts), strict=True):
        lines = (json.dumps({"text": document(draw, words)}) + "\n" for _ in range(count))
        (Path(folder) / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
