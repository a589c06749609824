"""Bias, dropout, residual sum and LayerNorm in one pass, forward and backward.

A program computes R rows at a time, each of `width` numbers in a block of BLOCK. `key` [tokens] holds dropout keys; `mean` and `rstd`
[tokens] are those of the sum.
"""
import triton
import triton.language as tl

from dropout import kept, row, seed_of


@triton.jit
def norm_of(x, weight, bias, width, eps, c):
    """Mean, reciprocal standard deviation and LayerNorm of the rows of x [R, BLOCK]."""
    mean = tl.sum(x, 1) / width
    centred = tl.where((c < width)[None, :], x - mean[:, None], 0.0)
    rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / width + eps)
    return mean, rstd, centred * rstd[:, None] * weight[None, :] + bias[None, :]


@triton.jit
def norm_forward(x, weight, bias, out, mean, rstd, eps, tokens, width, BLOCK: tl.constexpr, R: tl.constexpr):
    """`out` = LayerNorm(x)."""
    t = tl.program_id(0) * R + tl.arange(0, R)
    c = tl.arange(0, BLOCK)
    column = c < width
    mask = (t < tokens)[:, None] & column[None, :]
    w, b = tl.load(weight + c, mask=column, other=0.0), tl.load(bias + c, mask=column, other=0.0)
    at = t[:, None] * width + c[None, :]
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    m, r, result = norm_of(value, w, b, width, eps, c)
    tl.store(out + at, result.to(out.dtype.element_ty), mask=mask)
    tl.store(mean + t, m, mask=t < tokens)
    tl.store(rstd + t, r, mask=t < tokens)


@triton.jit
def residual_forward(
    x, branch, branch_bias, weight, bias, sum, out, mean, rstd, key, site, limit, keep_scale, eps, tokens, width,
    BLOCK: tl.constexpr, R: tl.constexpr, DROP: tl.constexpr,
):
    """`sum` = x + dropout(branch + branch_bias), `out` = LayerNorm(sum)."""
    t = tl.program_id(0) * R + tl.arange(0, R)
    c = tl.arange(0, BLOCK)
    column = c < width
    mask = (t < tokens)[:, None] & column[None, :]
    w, b = tl.load(weight + c, mask=column, other=0.0), tl.load(bias + c, mask=column, other=0.0)
    added = tl.load(branch_bias + c, mask=column, other=0.0)
    at = t[:, None] * width + c[None, :]
    value = tl.load(branch + at, mask=mask, other=0.0).to(tl.float32) + added[None, :]
    if DROP:
        offset, factor = row(seed_of(site), tl.load(key + t, mask=t < tokens, other=0))
        value = tl.where(kept(offset[:, None], factor[:, None], c[None, :], limit), value * keep_scale, 0.0)
    value += tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    # The sum is used as it is stored, as in the backward pass.
    stored = value.to(sum.dtype.element_ty)
    tl.store(sum + at, stored, mask=mask)
    m, r, result = norm_of(tl.where(column[None, :], stored.to(tl.float32), 0.0), w, b, width, eps, c)
    tl.store(out + at, result.to(out.dtype.element_ty), mask=mask)
    tl.store(mean + t, m, mask=t < tokens)
    tl.store(rstd + t, r, mask=t < tokens)


@triton.jit
def norm_gradient(gradient, normed, weight, rstd, width):
    """Gradient of the rows that a LayerNorm was made of."""
    weighted = gradient * weight[None, :]
    plain = tl.sum(weighted, 1) / width
    along = tl.sum(weighted * normed, 1) / width
    return rstd[:, None] * (weighted - plain[:, None] - normed * along[:, None])


@triton.jit
def norm_backward(
    d_out, x, weight, mean, rstd, d_x, partial, tokens, width, rows_per_program, BLOCK: tl.constexpr, R: tl.constexpr,
):
    """`d_x`; `partial` [2, programs, width] receives each program's gradients of weight and bias."""
    program = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    column = c < width
    w = tl.load(weight + c, mask=column, other=0.0)
    d_weight = tl.zeros((BLOCK,), tl.float32)
    d_bias = tl.zeros((BLOCK,), tl.float32)
    first = program * rows_per_program
    last = tl.minimum(first + rows_per_program, tokens)
    for t0 in range(first, last, R):
        t = t0 + tl.arange(0, R)
        mask = (t < last)[:, None] & column[None, :]
        at = t[:, None] * width + c[None, :]
        gradient = tl.load(d_out + at, mask=mask, other=0.0).to(tl.float32)
        m, r = tl.load(mean + t, mask=t < last, other=0.0), tl.load(rstd + t, mask=t < last, other=0.0)
        value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
        normed = tl.where(mask, (value - m[:, None]) * r[:, None], 0.0)
        d_weight += tl.sum(gradient * normed, 0)
        d_bias += tl.sum(gradient, 0)
        tl.store(d_x + at, norm_gradient(gradient, normed, w, r, width).to(d_x.dtype.element_ty), mask=mask)
    programs = tl.num_programs(0)
    tl.store(partial + program * width + c, d_weight, mask=column)
    tl.store(partial + (programs + program) * width + c, d_bias, mask=column)


@triton.jit
def residual_backward(
    d_out, d_sum, sum, weight, mean, rstd, d_x, d_branch, partial, key, site, limit, keep_scale, tokens, width, rows_per_program,
    BLOCK: tl.constexpr, R: tl.constexpr, DROP: tl.constexpr,
):
    """`d_x` and `d_branch` (the same numbers without dropout, and then not written); `partial` [3, programs, width] receives each
    program's gradients of weight, bias and branch bias."""
    program = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    column = c < width
    w = tl.load(weight + c, mask=column, other=0.0)
    d_weight = tl.zeros((BLOCK,), tl.float32)
    d_bias = tl.zeros((BLOCK,), tl.float32)
    d_branch_bias = tl.zeros((BLOCK,), tl.float32)
    first = program * rows_per_program
    last = tl.minimum(first + rows_per_program, tokens)
    for t0 in range(first, last, R):
        t = t0 + tl.arange(0, R)
        mask = (t < last)[:, None] & column[None, :]
        at = t[:, None] * width + c[None, :]
        gradient = tl.load(d_out + at, mask=mask, other=0.0).to(tl.float32)
        value = tl.load(sum + at, mask=mask, other=0.0).to(tl.float32)
        more = tl.load(d_sum + at, mask=mask, other=0.0).to(tl.float32)
        m, r = tl.load(mean + t, mask=t < last, other=0.0), tl.load(rstd + t, mask=t < last, other=0.0)
        normed = tl.where(mask, (value - m[:, None]) * r[:, None], 0.0)
        d_weight += tl.sum(gradient * normed, 0)
        d_bias += tl.sum(gradient, 0)
        d = norm_gradient(gradient, normed, w, r, width) + more
        tl.store(d_x + at, d.to(d_x.dtype.element_ty), mask=mask)
        if DROP:
            offset, factor = row(seed_of(site), tl.load(key + t, mask=t < last, other=0))
            d = tl.where(kept(offset[:, None], factor[:, None], c[None, :], limit), d * keep_scale, 0.0)
            tl.store(d_branch + at, d.to(d_branch.dtype.element_ty), mask=mask)
        d_branch_bias += tl.sum(tl.where(mask, d, 0.0), 0)
    programs = tl.num_programs(0)
    tl.store(partial + program * width + c, d_weight, mask=column)
    tl.store(partial + (programs + program) * width + c, d_bias, mask=column)
    tl.store(partial + (2 * programs + program) * width + c, d_branch_bias, mask=column)
