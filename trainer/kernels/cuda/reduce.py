"""Sums of the partial gradients that the programs of another kernel have left."""
import triton
import triton.language as tl


@triton.jit
def add_partials(partial, gradient0, gradient1, gradient2, programs, width, R: tl.constexpr, BLOCK: tl.constexpr):
    """Adds the sum over programs of `partial` [n, programs, width] to n gradients of `width` numbers."""
    which = tl.program_id(1)
    c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    column = c < width
    at = partial + which.to(tl.int64) * programs * width
    total = tl.zeros((R, BLOCK), tl.float32)
    for first in range(0, programs, R):
        p = first + tl.arange(0, R)
        total += tl.load(at + p[:, None] * width + c[None, :], mask=(p < programs)[:, None] & column[None, :], other=0.0)
    gradient = gradient0
    if which == 1:
        gradient = gradient1
    if which == 2:
        gradient = gradient2
    tl.store(gradient + c, tl.load(gradient + c, mask=column, other=0.0) + tl.sum(total, 0), mask=column)
