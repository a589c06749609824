"""What is compiled: every kernel with its argument types, constants and launch sizes.

A kernel exists once for each number format of activations (`element`) and size (head size, or width of the block that holds a row). The
names, order and types of arguments are checked against src/cuda/calls.rs when the program is built.
"""
from dataclasses import dataclass, field

import adamw
import attention
import embedding
import gelu
import reduce
import residual
import scores

ELEMENTS = ("bf16", "fp16")
# Head sizes. All published models have 64, the tiny preset 32.
HEADS = (16, 32, 64)
# Widths of the block that holds a row of a LayerNorm or an embedding: the row's width rounded up.
WIDTHS = (1024, 4096)


@dataclass(frozen=True)
class Variant:
    """One compiled form of a kernel."""

    function: object
    name: str
    element: str
    size: int
    dropout: bool
    types: dict
    constants: dict
    warps: int
    stages: int = 3
    aligned: tuple = field(default=())


# Types by argument name. `T` is a pointer to elements.
POINTERS = {
    "T": "q k v out d_out d_q d_k d_v x branch sum d_sum d_x d_branch logits half",
    "*fp32": "lse delta d_bias weight bias branch_bias mean rstd partial words positions block_positions gradient gradient0 gradient1 "
    "gradient2 d_groups values first second lr divisor skip corrections",
    "*i64": "masks rows blocks query_token query_piece query_key key word position block_position token chunks targets",
}
NUMBERS = {
    "i32": "q_stride kv_stride heads all_queries limit tokens width rows_per_program programs",
    "i64": "site numbers",
    "fp32": "keep_scale scale eps beta1 beta2 rest1 rest2 decay",
}
# Multiples of 16: hidden sizes and what is made of them, and the vocabulary.
ALIGNED_NUMBERS = ("q_stride", "kv_stride", "width")
# Exceptions, where a name means something else in one kernel.
OVERRIDES = {
    "scores_forward": {"words": "i32"},
    "scores_groups": {"words": "i32", "first": "*i64", "out": "*fp32"},
    "scores_backward": {"words": "i32", "first": "*i64"},
}


def types_of(function, name, element, constants):
    """Types of the arguments other than constants, and the names of those that are multiples of 16."""
    known = {argument: kind for table in (POINTERS, NUMBERS) for kind, names in table.items() for argument in names.split()}
    known.update(OVERRIDES.get(name, {}))
    types, aligned = {}, []
    for argument in function.arg_names:
        if argument in constants:
            continue
        kind = known[argument]
        types[argument] = f"*{element}" if kind == "T" else kind
        words = argument == "words" and kind == "i32"
        if kind in ("T", "*fp32") or argument in ALIGNED_NUMBERS or words:
            aligned.append(argument)
    return types, tuple(aligned)


def variant(function, element="", size=0, dropout=False, warps=4, stages=3, **constants):
    """A variant whose name is that of its function."""
    name = function.__name__
    types, aligned = types_of(function, name, element, constants)
    return Variant(function, name, element, size, dropout, types, constants, warps, stages, aligned)


def of_attention(element):
    """Block sizes are the fastest of those measured on an H200 for rows of 270 tokens."""
    for size in HEADS:
        for dropout in (False, True):
            yield variant(attention.attention_forward, element, size, dropout, D=size, BM=64, BN=32, DROP=dropout)
        # A rate of 0 drops nothing.
        yield variant(attention.attention_backward_query, element, size, True, D=size, BM=64, BN=32, DROP=True)
        yield variant(attention.attention_backward_key, element, size, True, D=size, BM=16, BN=64, DROP=True)


def of_rows(element):
    """Kernels that hold whole rows."""
    for size in WIDTHS:
        wide = size > 1024
        few, warps = (1, 8) if wide else (2, 4)
        many = 1 if wide else 4
        yield variant(residual.norm_forward, element, size, warps=warps, BLOCK=size, R=many)
        yield variant(residual.norm_backward, element, size, warps=warps, BLOCK=size, R=few)
        yield variant(residual.residual_forward, element, size, True, warps=warps, BLOCK=size, R=many, DROP=True)
        yield variant(residual.residual_backward, element, size, True, warps=warps, BLOCK=size, R=few, DROP=True)
        yield variant(embedding.embedding_forward, element, size, True, warps=warps, BLOCK=size, R=1, DROP=True)
        yield variant(embedding.embedding_chunks, element, size, True, warps=warps, BLOCK=size, R=few, DROP=True)


def variants(arch):
    """All variants for an architecture such as 90; so far they do not differ."""
    del arch
    for element in ELEMENTS:
        yield from of_attention(element)
        yield from of_rows(element)
        yield variant(gelu.gelu_forward, element, R=2, BLOCK=1024)
        yield variant(gelu.gelu_backward, element, R=2, BLOCK=1024)
        yield variant(scores.scores_forward, element, warps=8, BLOCK=2048)
        yield variant(scores.scores_groups, element, warps=1, BLOCK=32)
        yield variant(scores.scores_backward, element, warps=8, BLOCK=4096, TARGETS=32)
        yield variant(adamw.adamw, element, BLOCK=1024)
    for size in WIDTHS:
        yield variant(embedding.embedding_rows, size=size, BLOCK=size)
    yield variant(reduce.add_partials, R=64, BLOCK=32)
