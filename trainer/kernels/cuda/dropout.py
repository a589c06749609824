"""Dropout without a stored mask, as in src/dropout.rs: a hash of a key and the element's index."""
import triton
import triton.language as tl


@triton.jit
def mix(x):
    """The finalizer of SplitMix64 on uint64."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


@triton.jit
def seed_of(site):
    """What `row` needs of a site's key."""
    return site.to(tl.uint64, bitcast=True) + 0x9E3779B97F4A7C15


@triton.jit
def head_seed(site, head):
    """As `seed_of`, for one head of attention, which has a site of its own."""
    return mix(site.to(tl.uint64, bitcast=True) + head.to(tl.uint64)) + 0x9E3779B97F4A7C15


@triton.jit
def mixed_bits(seed, key):
    """64 bits that make the masks of the rows with these keys (int64)."""
    return mix(seed ^ key.to(tl.uint64, bitcast=True))


@triton.jit
def split(mixed):
    """Offset and factor of masks from their mixed bits."""
    return mixed.to(tl.uint32), (mixed >> 32).to(tl.uint32) | 1


@triton.jit
def row(seed, key):
    """Offset and factor of the masks of the rows with these keys (int64)."""
    return split(mixed_bits(seed, key))


@triton.jit
def kept(offset, factor, index, limit):
    """True where the element with this index stays. `limit` is the uint32 in the bits of an int32."""
    x = (index.to(tl.uint32) ^ offset) * factor
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x >= limit.to(tl.uint32, bitcast=True)
