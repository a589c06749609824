"""Questions from shards, and the two forms of model input that the benchmarks compare.

`padded_choice` is the published form: every choice is a separate sequence, padded to 512 positions.
`packed_rows` is the form of glm-trainer: the context once, the start of piece once, then the tokens of all choices. Choices of a
long question keep different parts of the passage; those that keep the same part share a row.

This module needs numpy and pyarrow, but not torch.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SEQUENCE = 512
PAD, CLS, MASK, SOP, EOP = 0, 101, 103, 30522, 30523
# [CLS], [MASK] and the end of the context.
CONTEXT_OVERHEAD = 3


@dataclass
class Question:
    """Tokens of one question, not truncated; `correct` has one entry per choice."""

    example_id: str
    passage: np.ndarray
    query_left: np.ndarray
    query_right: np.ndarray
    choices: list
    correct: np.ndarray

    @property
    def label(self):
        """Index of the first correct choice."""
        return int(np.argmax(self.correct))

    def kept_passage(self, choice):
        """Number of tokens of the passage that fit beside a choice; only the passage is truncated, at its end."""
        room = SEQUENCE - CONTEXT_OVERHEAD - len(self.query_left) - len(self.query_right) - len(choice) - 1
        if room < 0:
            raise ValueError(f"{self.example_id}: the query and a choice are too long")
        return min(room, len(self.passage))

    def context(self, kept):
        """`[CLS] passage left [MASK] right [PAD]`, and the index of its first `[MASK]` (the passage may contain one)."""
        ids = np.concatenate(([CLS], self.passage[:kept], self.query_left, [MASK], self.query_right, [PAD]))
        return ids, int(np.argmax(ids == MASK))


class Column:
    """A list column: an array of values and one of offsets."""

    def __init__(self, array):
        self.values = array.values.to_numpy(zero_copy_only=False)
        self.offsets = array.offsets.to_numpy()

    def __getitem__(self, i):
        return self.values[self.offsets[i]:self.offsets[i + 1]]


class Split:
    """The questions of one split of a data set, with token columns in memory. Picklable, for the workers of a DataLoader."""

    def __init__(self, folder, split):
        paths = sorted(Path(folder, "shards/data").glob(f"{split}-*.parquet"))
        if not paths:
            raise SystemExit(f"no shards {split}-*.parquet in {folder}/shards/data; glm-prep ingest writes them")
        names = ["example_id", "segments.list.element.ids", "choices.list.element.ids", "choices.list.element.correct"]
        self.chunks, self.starts = [], [0]
        for path in paths:
            table = pq.ParquetFile(path).read(columns=names).combine_chunks()
            if table.num_rows == 0:
                continue
            columns = {name: table.column(name).combine_chunks() for name in table.column_names}
            columns = {name: column.chunk(0) if isinstance(column, pa.ChunkedArray) else column for name, column in columns.items()}
            choices = columns["choices"]
            self.chunks.append({
                "example_id": columns["example_id"].to_pylist(),
                # Passage, query before and query after the blank.
                "segments": columns["segments"].offsets.to_numpy(),
                "segment_ids": Column(columns["segments"].values.field("ids")),
                "choices": choices.offsets.to_numpy(),
                "choice_ids": Column(choices.values.field("ids")),
                "correct": choices.values.field("correct").to_numpy(zero_copy_only=False),
            })
            self.starts.append(self.starts[-1] + table.num_rows)

    def __len__(self):
        return self.starts[-1]

    def __getitem__(self, row):
        chunk = int(np.searchsorted(self.starts, row, side="right")) - 1
        columns, i = self.chunks[chunk], row - self.starts[chunk]
        first, last = columns["choices"][i], columns["choices"][i + 1]
        passage, query_left, query_right = (columns["segment_ids"][columns["segments"][i] + n] for n in range(3))
        return Question(
            example_id=columns["example_id"][i],
            passage=passage,
            query_left=query_left,
            query_right=query_right,
            choices=[columns["choice_ids"][c] for c in range(first, last)],
            correct=columns["correct"][first:last],
        )

    def spread(self, count):
        """`count` rows at equal distances. A split is sorted by number of choices, so its first rows are not representative."""
        count = min(count, len(self))
        return [(2 * i + 1) * len(self) // (2 * count) for i in range(count)]


def padded_choice(question, choice):
    """The published input of one choice: arrays of 512, and `sep`, the number of context tokens.

    `position` has two rows, position ids and block position ids.
    """
    context, blank = question.context(question.kept_passage(choice))
    sep, piece = len(context), len(choice) + 1
    ids, target, counts = (np.zeros(SEQUENCE, dtype=np.int64) for _ in range(3))
    position = np.zeros((2, SEQUENCE), dtype=np.int64)
    ids[:sep] = context
    ids[sep] = SOP
    ids[sep + 1:sep + piece] = choice
    target[sep:sep + piece - 1] = choice
    target[sep + piece - 1] = EOP
    counts[sep:sep + piece] = 1
    position[0, :sep] = np.arange(sep)
    position[0, sep:sep + piece] = blank
    position[1, sep:sep + piece] = np.arange(1, piece + 1)
    return {"ids": ids, "position": position, "target": target, "counts": counts, "sep": sep}


def padded_question(question, choices=None):
    """All choices of a question in the published form, stacked.

    If `choices` exceeds the number of choices, the missing ones are copies of the first, and masked out of the loss.
    """
    inputs = [padded_choice(question, choice) for choice in question.choices]
    real = len(inputs)
    inputs += [inputs[0]] * ((choices or real) - real)
    stacked = {name: np.stack([one[name] for one in inputs]) for name in inputs[0]}
    stacked["real"] = np.arange(len(inputs)) < real
    stacked["label"] = question.label
    return stacked


def rows_of(question):
    """Choices grouped by the part of the passage that they keep, in order of first occurrence: `{kept: [choice, …]}`."""
    rows = {}
    for number, choice in enumerate(question.choices):
        rows.setdefault(question.kept_passage(choice), []).append(number)
    return rows


def packed_rows(question):
    """The rows of a question in the packed form, without padding.

    `piece` is the piece of a token: 0 for the context, 1 for the start of piece, and 2 or more for the choices of the row. The
    first token of a choice is predicted at the start of piece, its end of piece at its last token. `scored` holds each of these
    positions once; every predicted token has an entry in `target`, in `scored_at` (an index into `scored`) and in `choice`.
    """
    rows = []
    for kept, numbers in rows_of(question).items():
        context, blank = question.context(kept)
        sep = len(context)
        lengths = np.array([len(question.choices[number]) for number in numbers])
        length = sep + 1 + int(lengths.sum())
        row = {name: np.zeros(length, dtype=np.int64) for name in ("ids", "position", "block_position", "piece")}
        row["ids"][:sep] = context
        row["ids"][sep] = SOP
        row["position"][:sep] = np.arange(sep)
        row["position"][sep:] = blank
        row["block_position"][sep] = 1
        row["piece"][sep] = 1
        target, scored_at = [], []
        at = sep + 1
        for place, number in enumerate(numbers):
            choice = question.choices[number]
            end = at + len(choice)
            row["ids"][at:end] = choice
            row["block_position"][at:end] = np.arange(2, len(choice) + 2)
            row["piece"][at:end] = place + 2
            target += [*choice, EOP]
            scored_at += [0, *range(at - sep, end - sep)]
            at = end
        row["sep"] = sep
        row["scored"] = np.arange(sep, length)
        row["target"] = np.array(target, dtype=np.int64)
        row["scored_at"] = np.array(scored_at, dtype=np.int64)
        row["choice"] = np.repeat(numbers, lengths + 1)
        rows.append(row)
    return rows
