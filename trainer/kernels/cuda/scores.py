"""Log softmax at the targets: logits are [scored, words]."""
import triton
import triton.language as tl


@triton.jit
def scores_forward(logits, lse, words, BLOCK: tl.constexpr):
    """`lse` [scored]: natural logarithm of the sum of exponentials of each row."""
    program = tl.program_id(0)
    c = tl.arange(0, BLOCK)
    at = logits + program.to(tl.int64) * words
    most = tl.full((BLOCK,), -1e30, tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, words, BLOCK):
        value = tl.load(at + first + c, mask=first + c < words, other=-1e30).to(tl.float32)
        new = tl.maximum(most, value)
        total = total * tl.exp(most - new) + tl.where(first + c < words, tl.exp(value - new), 0.0)
        most = new
    highest = tl.max(most, 0)
    tl.store(lse + program, highest + tl.log(tl.sum(total * tl.exp(most - highest), 0)))


@triton.jit
def scores_groups(logits, lse, first, targets, out, words, BLOCK: tl.constexpr):
    """`out` [groups]: for each group the sum of its targets' log probabilities. `first` [groups + 1]: the group's entries of
    `targets` [targets, 2], which are row of the logits and word."""
    program = tl.program_id(0)
    begin = tl.load(first + program).to(tl.int32)
    end = tl.load(first + program + 1).to(tl.int32)
    total = tl.zeros((BLOCK,), tl.float32)
    for i0 in range(begin, end, BLOCK):
        i = i0 + tl.arange(0, BLOCK)
        inside = i < end
        scored = tl.load(targets + 2 * i, mask=inside, other=0)
        word = tl.load(targets + 2 * i + 1, mask=inside, other=0)
        value = tl.load(logits + scored * words + word, mask=inside, other=0.0).to(tl.float32)
        total += tl.where(inside, value - tl.load(lse + scored, mask=inside, other=0.0), 0.0)
    tl.store(out + program, tl.sum(total, 0))


@triton.jit
def scores_backward(logits, lse, d_groups, first, targets, words, BLOCK: tl.constexpr, TARGETS: tl.constexpr):
    """Overwrites the logits with their gradient. `first` [scored + 1]: the row's entries of `targets` [targets, 2], which are word
    and group."""
    program = tl.program_id(0)
    begin = tl.load(first + program).to(tl.int32)
    end = tl.load(first + program + 1).to(tl.int32)
    log_sum = tl.load(lse + program)
    weights = tl.zeros((TARGETS,), tl.float32)
    for i0 in range(begin, end, TARGETS):
        i = i0 + tl.arange(0, TARGETS)
        group = tl.load(targets + 2 * i + 1, mask=i < end, other=0)
        weights += tl.load(d_groups + group, mask=i < end, other=0.0)
    weight = tl.sum(weights, 0)
    c = tl.arange(0, BLOCK)
    at = logits + program.to(tl.int64) * words
    for start in range(0, words, BLOCK):
        column = start + c
        value = tl.load(at + column, mask=column < words, other=0.0).to(tl.float32)
        d = -weight * tl.exp(value - log_sum)
        for i in range(begin, end):
            word = tl.load(targets + 2 * i).to(tl.int32)
            d += tl.where(column == word, tl.load(d_groups + tl.load(targets + 2 * i + 1)), 0.0)
        tl.store(at + column, d.to(logits.dtype.element_ty), mask=column < words)
