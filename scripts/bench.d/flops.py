"""FLOPs per question, counted from the shards: of the published form, and after each optimization of the packed form.

Per layer and token of a sequence of n tokens, forward, with width h:

    24 h²   q, k and v 6 h², output of attention 2 h², feed-forward 16 h²
    4 n h   attention: scores q kᵀ 2 n h, probabilities times v 2 n h

and 2 V h for each position that is projected to the vocabulary of V rows. The backward pass costs twice the forward pass.
Recomputation in the backward pass is another forward pass of the layers. Embeddings, LayerNorm, softmax, dropout and the
optimizer are not counted.
"""

from dataclasses import dataclass

import cloze_data

VOCABULARY = 30592
LENGTH = cloze_data.SEQUENCE
FORWARD_AND_BACKWARD = 3


@dataclass
class Counts:
    """Counts of one question."""

    # For every choice: tokens of its sequence without padding, scored tokens.
    choices: list
    # For every row of the packed form: context tokens, all tokens, positions projected to the vocabulary.
    rows: list


def count_one(question):
    contexts = len(question.query_left) + len(question.query_right) + cloze_data.CONTEXT_OVERHEAD
    choices = [(contexts + question.kept_passage(choice) + len(choice) + 1, len(choice) + 1) for choice in question.choices]
    rows = []
    for kept, numbers in cloze_data.rows_of(question).items():
        piece = 1 + sum(len(question.choices[number]) for number in numbers)
        rows.append((contexts + kept, contexts + kept + piece, piece))
    return Counts(choices, rows)


def count(split, questions=5000):
    """Counts of at most `questions` questions, spread over the split."""
    return [count_one(split[row]) for row in split.spread(questions)]


def means(counted):
    """Averages over the questions."""
    def mean(value):
        return sum(value(one) for one in counted) / len(counted)

    return {
        "questions": len(counted),
        "choices": mean(lambda one: len(one.choices)),
        "published_positions": mean(lambda one: len(one.choices) * LENGTH),
        "published_positions_without_padding": mean(lambda one: sum(length for length, _ in one.choices)),
        "answer_tokens": mean(lambda one: sum(scored for _, scored in one.choices)),
        "packed_rows": mean(lambda one: len(one.rows)),
        "packed_context_tokens": mean(lambda one: sum(context for context, _, _ in one.rows)),
        "packed_piece_tokens": mean(lambda one: sum(piece for _, _, piece in one.rows)),
        "packed_scored_positions": mean(lambda one: sum(scored for _, _, scored in one.rows)),
    }


def layer(tokens, h):
    return tokens * (24 * h * h + 4 * tokens * h)


def last_layer(tokens, scored, h):
    """FLOPs with keys and values of all tokens, and everything else only for scored ones."""
    return tokens * 4 * h * h + scored * (20 * h * h + 4 * tokens * h)


def vocabulary(positions, h):
    return positions * 2 * VOCABULARY * h


def steps(counted, layers, h):
    """`[(optimization, FLOPs per question after it)]`; the first entry is the published program."""
    def mean(value):
        return sum(value(one) for one in counted) / len(counted)

    def published(passes):
        return mean(lambda one: len(one.choices) * (
            passes * layers * layer(LENGTH, h) + FORWARD_AND_BACKWARD * vocabulary(LENGTH, h)))

    def alone(length_of):
        return FORWARD_AND_BACKWARD * mean(lambda one: sum(
            layers * layer(length_of(length), h) + vocabulary(scored, h) for length, scored in one.choices))

    def packed(last):
        return FORWARD_AND_BACKWARD * mean(lambda one: sum(
            (layers - 1) * layer(tokens, h) + last(tokens, scored) + vocabulary(scored, h) for _, tokens, scored in one.rows))

    return [
        ("published, with recomputation", published(FORWARD_AND_BACKWARD + 1)),
        ("no recomputation", published(FORWARD_AND_BACKWARD)),
        ("vocabulary at scored positions only", alone(lambda length: LENGTH)),
        ("no padding to 512", alone(lambda length: length)),
        ("context once, pieces packed", packed(lambda tokens, scored: layer(tokens, h))),
        ("last layer only where it is needed", packed(lambda tokens, scored: last_layer(tokens, scored, h))),
    ]
