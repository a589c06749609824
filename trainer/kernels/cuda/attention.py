"""Attention over packed rows under GLM's mask, forward and backward.

Rows lie end to end, without padding. All tokens of a row see its context; the start of piece also sees itself, and a token of a
piece the start of piece and its own piece up to itself. A program computes one block of queries (or keys) of one row and one head.
Nothing is added with atomics, so results repeat bit for bit.

Tables, all int64:
- `rows` [rows, 6]: first token, tokens, context tokens, first query, queries, index among the row's queries of the first one that
  is not in the context.
- `blocks` [programs, 2]: row, index of the first query (or key) within the row.
- `query_token`, `query_piece`, `query_key` [queries]: index within the row, index of the first token of its piece (-1 in the
  context), dropout key.
- `masks` [heads, queries]: offset and factor of each query's dropout mask. The forward pass leaves it for the backward pass, which
  otherwise would mix 64 bits for every second score.

`q` is [queries, heads * D] with rows `q_stride` apart; `k` and `v` are [tokens, heads * D] with rows `kv_stride` apart. `lse`
[heads, queries] is the base-2 logarithm of the softmax's denominator; `all_queries` is the number of queries of all rows.
"""
import triton
import triton.language as tl

from dropout import head_seed, kept, mixed_bits, split

LOG2_E = tl.constexpr(1.4426950408889634)
HIDDEN = tl.constexpr(-1e30)


@triton.jit
def place(rows, blocks, program):
    """First query (or key) of a program's block within the row, and the columns of the row's table."""
    table = rows + tl.load(blocks + 2 * program) * 6
    first = tl.load(blocks + 2 * program + 1).to(tl.int32)
    start, length = tl.load(table).to(tl.int32), tl.load(table + 1).to(tl.int32)
    context, query_start = tl.load(table + 2).to(tl.int32), tl.load(table + 3).to(tl.int32)
    queries, piece_query = tl.load(table + 4).to(tl.int32), tl.load(table + 5).to(tl.int32)
    return first, start, length, context, query_start, queries, piece_query


@triton.jit
def visible(key, token, piece, context):
    """True where a query that is token `token` of its row sees key `key`."""
    own = (key == context) | ((key >= piece) & (key <= token))
    return (key < context) | ((piece >= 0) & own)


@triton.jit
def forward_keys(
    first, end, q, k, v, kv_stride, start, length, context, token, piece, offset, factor, limit, log2_scale,
    most, total, acc, D: tl.constexpr, BN: tl.constexpr, DROP: tl.constexpr, MASKED: tl.constexpr,
):
    """Adds keys `first..end` of a row to the running softmax: maximum, denominator, weighted sum of values."""
    d = tl.arange(0, D)
    for k0 in range(first, end, BN):
        key = k0 + tl.arange(0, BN)
        if MASKED:
            inside = key < length
            keys = tl.load(k + (start + key)[None, :] * kv_stride + d[:, None], mask=inside[None, :], other=0.0)
        else:
            keys = tl.load(k + (start + key)[None, :] * kv_stride + d[:, None])
        score = tl.dot(q, keys)
        if MASKED:
            score = tl.where(visible(key[None, :], token[:, None], piece[:, None], context), score, HIDDEN)
        new = tl.maximum(most, tl.max(score, 1))
        shrink = tl.exp2((most - new) * log2_scale)
        p = tl.exp2(score * log2_scale - (new * log2_scale)[:, None])
        total = total * shrink + tl.sum(p, 1)
        acc = acc * shrink[:, None]
        if DROP:
            p = tl.where(kept(offset[:, None], factor[:, None], key[None, :], limit), p, 0.0)
        if MASKED:
            values = tl.load(v + (start + key)[:, None] * kv_stride + d[None, :], mask=inside[:, None], other=0.0)
        else:
            values = tl.load(v + (start + key)[:, None] * kv_stride + d[None, :])
        acc = tl.dot(p.to(values.dtype), values, acc)
        most = new
    return most, total, acc


@triton.jit
def attention_forward(
    q, k, v, out, lse, masks, rows, blocks, query_token, query_piece, query_key, q_stride, kv_stride, heads, all_queries, site, limit, keep_scale, scale,
    D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, DROP: tl.constexpr,
):
    """`out` = dropout(softmax(q kᵀ scale)) v, [queries, heads * D]."""
    program = tl.program_id(0)
    head = tl.program_id(1)
    q0, start, length, context, query_start, queries, _ = place(rows, blocks, program)
    m = q0 + tl.arange(0, BM)
    d = tl.arange(0, D)
    asked = m < queries
    at = query_start + m
    block = tl.load(q + at[:, None] * q_stride + head * D + d[None, :], mask=asked[:, None], other=0.0)
    token = tl.load(query_token + at, mask=asked, other=0).to(tl.int32)
    piece = tl.load(query_piece + at, mask=asked, other=-1).to(tl.int32)
    mixed = mixed_bits(head_seed(site, head), tl.load(query_key + at, mask=asked, other=0))
    if DROP:
        tl.store(masks + head * all_queries + at, mixed.to(tl.int64, bitcast=True), mask=asked)
    offset, factor = split(mixed)
    k += head * D
    v += head * D
    log2_scale = scale * LOG2_E
    most = tl.full((BM,), HIDDEN, tl.float32)
    total = tl.zeros((BM,), tl.float32)
    acc = tl.zeros((BM, D), tl.float32)
    # Every query sees all keys of the blocks that lie in the context; only queries in pieces see keys after it.
    whole = context // BN * BN
    most, total, acc = forward_keys(
        0, whole, block, k, v, kv_stride, start, length, context, token, piece, offset, factor, limit, log2_scale,
        most, total, acc, D, BN, DROP, False,
    )
    end = tl.where(tl.max(piece, 0) >= 0, length, context)
    most, total, acc = forward_keys(
        whole, end, block, k, v, kv_stride, start, length, context, token, piece, offset, factor, limit, log2_scale,
        most, total, acc, D, BN, DROP, True,
    )
    share = 1.0 / total
    if DROP:
        share = share * keep_scale
    acc = acc * share[:, None]
    tl.store(out + at[:, None] * (heads * D) + head * D + d[None, :], acc.to(out.dtype.element_ty), mask=asked[:, None])
    tl.store(lse + head * all_queries + at, most * log2_scale + tl.log2(total), mask=asked)


@triton.jit
def query_keys(
    first, end, q, d_out, k, v, kv_stride, start, length, context, token, piece, offset, factor, limit, keep_scale, log2_scale,
    lse, delta, acc, D: tl.constexpr, BN: tl.constexpr, DROP: tl.constexpr, MASKED: tl.constexpr,
):
    """Adds what keys `first..end` of a row contribute to the gradient of the queries."""
    d = tl.arange(0, D)
    for k0 in range(first, end, BN):
        key = k0 + tl.arange(0, BN)
        if MASKED:
            inside = key < length
            keys = tl.load(k + (start + key)[:, None] * kv_stride + d[None, :], mask=inside[:, None], other=0.0)
            values = tl.load(v + (start + key)[None, :] * kv_stride + d[:, None], mask=inside[None, :], other=0.0)
        else:
            keys = tl.load(k + (start + key)[:, None] * kv_stride + d[None, :])
            values = tl.load(v + (start + key)[None, :] * kv_stride + d[:, None])
        p = tl.exp2(tl.dot(q, tl.trans(keys)) * log2_scale - lse[:, None])
        if MASKED:
            p = tl.where(visible(key[None, :], token[:, None], piece[:, None], context), p, 0.0)
        dp = tl.dot(d_out, values)
        if DROP:
            stays = kept(offset[:, None], factor[:, None], key[None, :], limit)
            dp = tl.where(stays, dp * keep_scale - delta[:, None], -delta[:, None])
        else:
            dp = dp - delta[:, None]
        acc = tl.dot((p * dp).to(keys.dtype), keys, acc)
    return acc


@triton.jit
def attention_backward_query(
    q, k, v, out, d_out, lse, masks, delta, d_q, d_bias, rows, blocks, query_token, query_piece, q_stride, kv_stride, heads, all_queries,
    limit, keep_scale, scale, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, DROP: tl.constexpr,
):
    """Gradient of the queries, and `delta` [heads, queries]: out · d_out, which the gradients of keys and values need.

    `d_bias` [programs, heads * D] receives the sums of the gradients over each block."""
    program = tl.program_id(0)
    head = tl.program_id(1)
    q0, start, length, context, query_start, queries, _ = place(rows, blocks, program)
    m = q0 + tl.arange(0, BM)
    d = tl.arange(0, D)
    asked = m < queries
    at = query_start + m
    block = tl.load(q + at[:, None] * q_stride + head * D + d[None, :], mask=asked[:, None], other=0.0)
    of_head = at[:, None] * (heads * D) + head * D + d[None, :]
    result = tl.load(out + of_head, mask=asked[:, None], other=0.0)
    gradient = tl.load(d_out + of_head, mask=asked[:, None], other=0.0)
    dot = tl.sum(result.to(tl.float32) * gradient.to(tl.float32), 1)
    tl.store(delta + head * all_queries + at, dot, mask=asked)
    token = tl.load(query_token + at, mask=asked, other=0).to(tl.int32)
    piece = tl.load(query_piece + at, mask=asked, other=-1).to(tl.int32)
    offset, factor = split(tl.load(masks + head * all_queries + at, mask=asked, other=0).to(tl.uint64, bitcast=True))
    log_sum = tl.load(lse + head * all_queries + at, mask=asked, other=0.0)
    k += head * D
    v += head * D
    log2_scale = scale * LOG2_E
    acc = tl.zeros((BM, D), tl.float32)
    whole = context // BN * BN
    acc = query_keys(
        0, whole, block, gradient, k, v, kv_stride, start, length, context, token, piece, offset, factor, limit, keep_scale, log2_scale,
        log_sum, dot, acc, D, BN, DROP, False,
    )
    end = tl.where(tl.max(piece, 0) >= 0, length, context)
    acc = query_keys(
        whole, end, block, gradient, k, v, kv_stride, start, length, context, token, piece, offset, factor, limit, keep_scale, log2_scale,
        log_sum, dot, acc, D, BN, DROP, True,
    )
    acc = acc * scale
    tl.store(d_q + at[:, None] * q_stride + head * D + d[None, :], acc.to(d_q.dtype.element_ty), mask=asked[:, None])
    tl.store(d_bias + program * (heads * D) + head * D + d, tl.sum(acc, 0))


@triton.jit
def key_queries(
    first, queries, keys, values, q, q_stride, d_out, lse, masks, delta, heads, head, all_queries, query_start, query_token, query_piece, key,
    context, limit, keep_scale, log2_scale, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, DROP: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Gradients of a block of keys and values from queries `first..queries` of their row."""
    d = tl.arange(0, D)
    d_keys = tl.zeros((BN, D), tl.float32)
    d_values = tl.zeros((BN, D), tl.float32)
    for q0 in range(first, queries, BM):
        m = q0 + tl.arange(0, BM)
        asked = m < queries
        at = query_start + m
        block = tl.load(q + at[None, :] * q_stride + d[:, None], mask=asked[None, :], other=0.0)
        gradient = tl.load(d_out + at[:, None] * (heads * D) + d[None, :], mask=asked[:, None], other=0.0)
        # Where there is no query, the probability becomes 0.
        log_sum = tl.load(lse + head * all_queries + at, mask=asked, other=1e30)
        dot = tl.load(delta + head * all_queries + at, mask=asked, other=0.0)
        # [BN, BM]
        p = tl.exp2(tl.dot(keys, block) * log2_scale - log_sum[None, :])
        if MASKED:
            token = tl.load(query_token + at, mask=asked, other=0).to(tl.int32)
            piece = tl.load(query_piece + at, mask=asked, other=-1).to(tl.int32)
            p = tl.where(visible(key[:, None], token[None, :], piece[None, :], context), p, 0.0)
        dp = tl.dot(values, tl.trans(gradient))
        if DROP:
            offset, factor = split(tl.load(masks + head * all_queries + at, mask=asked, other=0).to(tl.uint64, bitcast=True))
            stays = kept(offset[None, :], factor[None, :], key[:, None], limit)
            dropped = tl.where(stays, p, 0.0)
            dp = tl.where(stays, dp * keep_scale - dot[None, :], -dot[None, :])
        else:
            dropped = p
            dp = dp - dot[None, :]
        d_values = tl.dot(dropped.to(gradient.dtype), gradient, d_values)
        d_keys = tl.dot((p * dp).to(block.dtype), tl.trans(block), d_keys)
    return d_keys, d_values


@triton.jit
def attention_backward_key(
    q, k, v, d_out, lse, masks, delta, d_k, d_v, d_bias, rows, blocks, query_token, query_piece, q_stride, kv_stride, heads, all_queries,
    limit, keep_scale, scale, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, DROP: tl.constexpr,
):
    """Gradients of keys and values. `d_bias` [programs, 2 * heads * D] receives their sums over each block."""
    program = tl.program_id(0)
    head = tl.program_id(1)
    k0, start, length, context, query_start, queries, piece_query = place(rows, blocks, program)
    key = k0 + tl.arange(0, BN)
    d = tl.arange(0, D)
    inside = key < length
    of_head = (start + key)[:, None] * kv_stride + head * D + d[None, :]
    keys = tl.load(k + of_head, mask=inside[:, None], other=0.0)
    values = tl.load(v + of_head, mask=inside[:, None], other=0.0)
    q += head * D
    d_out += head * D
    log2_scale = scale * LOG2_E
    if k0 + BN <= context:
        d_keys, d_values = key_queries(
            0, queries, keys, values, q, q_stride, d_out, lse, masks, delta, heads, head, all_queries, query_start, query_token, query_piece, key,
            context, limit, keep_scale, log2_scale, D, BM, BN, DROP, False,
        )
    else:
        # Only pieces see the keys after the context.
        first = tl.where(k0 >= context, piece_query // BM * BM, 0)
        d_keys, d_values = key_queries(
            first, queries, keys, values, q, q_stride, d_out, lse, masks, delta, heads, head, all_queries, query_start, query_token, query_piece,
            key, context, limit, keep_scale, log2_scale, D, BM, BN, DROP, True,
        )
    d_keys = d_keys * scale
    if DROP:
        d_values = d_values * keep_scale
    tl.store(d_k + of_head, d_keys.to(d_k.dtype.element_ty), mask=inside[:, None])
    tl.store(d_v + of_head, d_values.to(d_v.dtype.element_ty), mask=inside[:, None])
    bias = d_bias + program * (2 * heads * D) + head * D + d
    # The block may be longer than the rest of the row.
    tl.store(bias, tl.sum(tl.where(inside[:, None], d_keys, 0.0), 0))
    tl.store(bias + heads * D, tl.sum(tl.where(inside[:, None], d_values, 0.0), 0))
