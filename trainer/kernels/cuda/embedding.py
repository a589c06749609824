"""Sum of three embeddings with dropout, and the gradients of the tables without atomics.

For the gradients the host sorts the tokens by the row of a table that they take, and cuts the tokens of a row into chunks. One kernel
adds up each chunk, another one adds a row's chunks to the table's gradient.
"""
import triton
import triton.language as tl

from dropout import kept, row, seed_of


@triton.jit
def embedding_forward(
    words, positions, block_positions, word, position, block_position, out, key, site, limit, keep_scale, tokens, width,
    R: tl.constexpr, BLOCK: tl.constexpr, DROP: tl.constexpr,
):
    """`out` [tokens, width] = dropout(words[word] + positions[position] + block_positions[block_position])."""
    t = tl.program_id(0) * R + tl.arange(0, R)
    c = tl.arange(0, BLOCK)
    inside = t < tokens
    mask = inside[:, None] & (c < width)[None, :]
    at = tl.load(word + t, mask=inside, other=0)[:, None] * width + c[None, :]
    value = tl.load(words + at, mask=mask, other=0.0)
    at = tl.load(position + t, mask=inside, other=0)[:, None] * width + c[None, :]
    value += tl.load(positions + at, mask=mask, other=0.0)
    at = tl.load(block_position + t, mask=inside, other=0)[:, None] * width + c[None, :]
    value += tl.load(block_positions + at, mask=mask, other=0.0)
    if DROP:
        offset, factor = row(seed_of(site), tl.load(key + t, mask=inside, other=0))
        value = tl.where(kept(offset[:, None], factor[:, None], c[None, :], limit), value * keep_scale, 0.0)
    tl.store(out + t[:, None] * width + c[None, :], value.to(out.dtype.element_ty), mask=mask)


@triton.jit
def embedding_chunks(
    d_out, token, chunks, partial, key, site, limit, keep_scale, width, R: tl.constexpr, BLOCK: tl.constexpr, DROP: tl.constexpr,
):
    """`partial` [chunks, width]: sums of the gradients of each chunk's tokens. `chunks` [chunks, 2]: first entry of `token` and
    number of entries."""
    program = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    column = c < width
    first = tl.load(chunks + 2 * program).to(tl.int32)
    last = first + tl.load(chunks + 2 * program + 1).to(tl.int32)
    total = tl.zeros((BLOCK,), tl.float32)
    for i0 in range(first, last, R):
        i = i0 + tl.arange(0, R)
        inside = i < last
        t = tl.load(token + i, mask=inside, other=0).to(tl.int32)
        d = tl.load(d_out + t[:, None] * width + c[None, :], mask=inside[:, None] & column[None, :], other=0.0).to(tl.float32)
        if DROP:
            offset, factor = row(seed_of(site), tl.load(key + t, mask=inside, other=0))
            d = tl.where(kept(offset[:, None], factor[:, None], c[None, :], limit), d * keep_scale, 0.0)
        total += tl.sum(d, 0)
    tl.store(partial + program * width + c, total, mask=column)


@triton.jit
def embedding_rows(partial, rows, gradient, width, BLOCK: tl.constexpr):
    """Adds chunks to the gradient of a table. `rows` [programs, 3]: row of the table, its first chunk, number of chunks."""
    program = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    column = c < width
    at = gradient + tl.load(rows + 3 * program) * width + c
    first = tl.load(rows + 3 * program + 1).to(tl.int32)
    total = tl.load(at, mask=column, other=0.0)
    for chunk in range(first, first + tl.load(rows + 3 * program + 2).to(tl.int32)):
        total += tl.load(partial + chunk * width + c, mask=column, other=0.0)
    tl.store(at, total, mask=column)
