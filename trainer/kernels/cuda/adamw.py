"""AdamW: divides gradients, updates master weights and moments, writes the weights in half precision, and clears the gradients."""
import triton
import triton.language as tl


@triton.jit
def adamw(
    values, gradient, first, second, half, lr, divisor, skip, corrections, beta1, beta2, rest1, rest2, eps, decay, numbers, BLOCK: tl.constexpr,
):
    """One step over `numbers` parameters. `lr`, `divisor`, `skip` are single numbers on the device; `rest1` and `rest2` are 1 - β, which
    float32 arithmetic would round; `corrections` [2] are 1 - β1ᵗ and
    sqrt(1 - β2ᵗ). If `skip` is not 0, only the gradients are cleared."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < numbers
    skipped = tl.load(skip) != 0.0
    rate = tl.load(lr)
    scale = 1.0 / tl.load(divisor)
    correction1, correction2 = tl.load(corrections), tl.load(corrections + 1)
    g = tl.load(gradient + i, mask=inside, other=0.0)
    if not skipped:
        g = g * scale
        value = tl.load(values + i, mask=inside, other=0.0)
        m = tl.load(first + i, mask=inside, other=0.0)
        v = tl.load(second + i, mask=inside, other=0.0)
        m = beta1 * m + rest1 * g
        v = beta2 * v + rest2 * g * g
        value = value - rate * decay * value
        value = value - rate / correction1 * m / (tl.sqrt(v) / correction2 + eps)
        tl.store(values + i, value, mask=inside)
        tl.store(first + i, m, mask=inside)
        tl.store(second + i, v, mask=inside)
        tl.store(half + i, value.to(half.dtype.element_ty), mask=inside)
    tl.store(gradient + i, tl.zeros((BLOCK,), tl.float32), mask=inside)
