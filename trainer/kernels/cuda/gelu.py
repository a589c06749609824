"""Bias and GELU in its tanh form, forward and backward."""
import triton
import triton.language as tl

# sqrt(2 / pi)
ROOT = tl.constexpr(0.7978845608028654)
CUBIC = tl.constexpr(0.044715)


@triton.jit
def tanh(x):
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def gelu_forward(x, bias, out, tokens, width, R: tl.constexpr, BLOCK: tl.constexpr):
    """`out` = gelu(x + bias): x is [tokens, width]. A program computes R rows of BLOCK columns."""
    t = tl.program_id(0) * R + tl.arange(0, R)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = c < width
    mask = (t < tokens)[:, None] & column[None, :]
    at = t[:, None] * width + c[None, :]
    value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) + tl.load(bias + c, mask=column, other=0.0)[None, :]
    curve = tanh(ROOT * value * (1.0 + CUBIC * value * value))
    tl.store(out + at, (0.5 * value * (1.0 + curve)).to(out.dtype.element_ty), mask=mask)


@triton.jit
def gelu_backward(x, bias, d_out, partial, tokens, width, rows_per_program, R: tl.constexpr, BLOCK: tl.constexpr):
    """Overwrites x with its gradient; `partial` [programs, width] receives each program's gradient of the bias."""
    program = tl.program_id(0)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    column = c < width
    added = tl.load(bias + c, mask=column, other=0.0)
    d_bias = tl.zeros((BLOCK,), tl.float32)
    first = program * rows_per_program
    last = tl.minimum(first + rows_per_program, tokens)
    for t0 in range(first, last, R):
        t = t0 + tl.arange(0, R)
        mask = (t < last)[:, None] & column[None, :]
        at = t[:, None] * width + c[None, :]
        value = tl.load(x + at, mask=mask, other=0.0).to(tl.float32) + added[None, :]
        gradient = tl.load(d_out + at, mask=mask, other=0.0).to(tl.float32)
        curve = tanh(ROOT * value * (1.0 + CUBIC * value * value))
        slope = 0.5 * (1.0 + curve) + 0.5 * value * (1.0 - curve * curve) * ROOT * (1.0 + 3.0 * CUBIC * value * value)
        d = gradient * slope
        d_bias += tl.sum(d, 0)
        tl.store(x + at, d.to(x.dtype.element_ty), mask=mask)
    tl.store(partial + program * width + c, d_bias, mask=column)
