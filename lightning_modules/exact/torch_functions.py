"""Logarithm, exponential and sum that give the same bits on every machine, thread count, batch size and device.

They use + - * / alone, which IEEE 754 rounds correctly, one operation a kernel, so that nothing can be fused; a
library's log and exp differ in the last bit between versions, instruction sets and devices. All on float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LN2_HIGH = 6.93147180369123816490e-01
"""ln 2 without its last 21 bits: products with integers below 2^21 are exact."""
LN2_LOW = 1.90821492927058770002e-10
LOG_TERMS = 12
EXP_TERMS = 15
EXPONENT_BIAS, MANTISSA_BITS = 1023, 52


def ln(x: Tensor) -> Tensor:
    """Natural logarithm of finite x > 0, to 3e-16 relative or absolute; same shape.

    x = m 2^e with sqrt(1/2) <= m < sqrt(2), and ln m = 2 artanh(s) with s = (m - 1) / (m + 1), |s| < 0.172.
    """
    m, e = torch.frexp(x)
    is_low = m < math.sqrt(0.5)
    m = torch.where(is_low, m + m, m)
    exponent = e.to(torch.float64) - is_low.to(torch.float64)
    s = (m - 1.0) / (m + 1.0)
    square = s * s
    series = torch.full_like(s, 1.0 / (2 * LOG_TERMS - 1))
    for k in range(LOG_TERMS - 2, -1, -1):
        series = series * square + 1.0 / (2 * k + 1)
    return exponent * LN2_HIGH + (exponent * LN2_LOW + (s + s) * series)


def exp(x: Tensor) -> Tensor:
    """Return e^x for -700 < x < 700, to 4e-16 relative. x = k ln 2 + r, Taylor's series of |r| <= ln(2) / 2."""
    k = torch.round(x / math.log(2.0))
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    series = torch.ones_like(r)
    for n in range(EXP_TERMS, 0, -1):
        series = series * r / n + 1.0
    return series * power_of_two(k)


def power_of_two(exponent: Tensor) -> Tensor:
    """Return 2^exponent, exactly, for integers in -1022 ... 1023 of any type; same shape."""
    return ((exponent.to(torch.int64) + EXPONENT_BIAS) << MANTISSA_BITS).view(torch.float64)


def tree_sum(x: Tensor) -> Tensor:
    """Return (...) of (..., D): the upper part is added onto the lower one, elementwise, until one number is left.

    The halves are cut at powers of two, so zeros appended to the axis do not change a bit of the result.
    """
    if x.shape[-1] == 0:
        return x.new_zeros(x.shape[:-1])
    return folded_(x.clone(), 1)[..., 0]


def folded_(x: Tensor, width: int) -> Tensor:
    """Return the partial sums of `tree_sum` once at most `width` are left, a power of two; x is overwritten."""
    size = x.shape[-1]
    while size > width:
        half = 1 << ((size - 1).bit_length() - 1)
        x[..., : size - half].add_(x[..., half:size])
        size = half
    return x[..., :size]


def ceil_log2(count: int) -> int:
    """Least p with 2^p >= count, for count >= 1."""
    return (count - 1).bit_length()
