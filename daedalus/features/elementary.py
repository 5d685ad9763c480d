# cython: language_level=3
# ruff: noqa: ERA001, PLR0124
# mypy: disallow-untyped-decorators=False, disable-error-code="no-any-return"
"""Our own exp and log: the same bits on every machine, at most 1 ULP from the true value.

libm is not reproducible: the C library picks variants by CPU (with fused multiply-add masked, 700 of a
million exp results differ on one and the same machine). These two use only +, -, x and / in a fixed order,
and the build forbids contraction, so x86-64, aarch64 and uncompiled Python agree.

log: x = 2^k m with m in [sqrt(1/2), sqrt(2)), then ln m = 2 atanh(f / (2 + f)), f = m - 1, by its series.
exp: x = k ln 2 + r with abs(r) <= ln(2)/2, then the Taylor series of exp(r). The leading terms are added last
and apart, which is what keeps the error below one unit.
"""

from __future__ import annotations

import cython
from cython.cimports.libc.math import ldexp, sqrt

__all__ = ["exp", "ln"]

_LN2_HIGH = cython.declare(
    cython.double, 6.93147180369123816490e-01
)  # its low 32 bits are 0: k x it is exact
_LN2_LOW = cython.declare(cython.double, 1.90821492927058770002e-10)
_INVERSE_LN2 = cython.declare(cython.double, 1.44269504088896338700e00)
_SQRT2 = cython.declare(cython.double, 1.41421356237309504880e00)
_SQRT_HALF = cython.declare(cython.double, 7.07106781186547524401e-01)
_TWO_54 = cython.declare(cython.double, 18014398509481984.0)
_NAN = cython.declare(cython.double, float("nan"))
_INFINITY = cython.declare(cython.double, float("inf"))
_TWO_512 = cython.declare(cython.double, 2.0**512)
_TINY = cython.declare(cython.double, 2.0**-31)
_HUGE = cython.declare(cython.double, 2.0**31)


@cython.ccall
@cython.exceptval(check=False)
def ln(x: cython.double) -> cython.double:
    """Return the natural logarithm; NaN below 0, -inf at 0."""
    k: cython.int = 0
    step: cython.int
    power: cython.double
    if x != x or x < 0.0:
        return _NAN
    if x == 0.0:
        return -_INFINITY
    if x == _INFINITY:
        return x
    if x < _SQRT_HALF:
        if x < 1e-300:  # subnormal soon: scale up first
            x *= _TWO_54
            k -= 54
        step = 512
        power = _TWO_512
        if x >= _TINY:  # the usual sizes: the same steps, without a loop
            step = 0
            if x * 65536.0 < _SQRT2:
                x *= 65536.0
                k -= 16
            if x * 256.0 < _SQRT2:
                x *= 256.0
                k -= 8
            if x * 16.0 < _SQRT2:
                x *= 16.0
                k -= 4
            if x * 4.0 < _SQRT2:
                x *= 4.0
                k -= 2
            if x * 2.0 < _SQRT2:
                x *= 2.0
                k -= 1
        while step:
            if x * power < _SQRT2:
                x *= power
                k -= step
            step >>= 1
            power = sqrt(power)  # exact: 2^step
    elif x >= _SQRT2:
        step = 512
        power = _TWO_512
        if x < _HUGE:
            step = 0
            if x * 1.52587890625e-05 >= _SQRT_HALF:
                x *= 1.52587890625e-05
                k += 16
            if x * 0.00390625 >= _SQRT_HALF:
                x *= 0.00390625
                k += 8
            if x * 0.0625 >= _SQRT_HALF:
                x *= 0.0625
                k += 4
            if x * 0.25 >= _SQRT_HALF:
                x *= 0.25
                k += 2
            if x * 0.5 >= _SQRT_HALF:
                x *= 0.5
                k += 1
        while step:
            if x / power >= _SQRT_HALF:
                x /= power
                k += step
            step >>= 1
            power = sqrt(power)
    f: cython.double = x - 1.0
    if f == 0.0:
        return k * _LN2_HIGH + k * _LN2_LOW
    s: cython.double = f / (2.0 + f)
    z: cython.double = s * s
    w: cython.double = z * z
    # 2 (z/3 + z^2/5 + z^3/7 + ...), odd and even terms apart: two short chains instead of a long one.
    odd: cython.double = z * (
        2.0 / 3.0
        + w * (2.0 / 7.0 + w * (2.0 / 11.0 + w * (2.0 / 15.0 + w * (2.0 / 19.0 + w * (2.0 / 23.0)))))
    )
    even: cython.double = w * (
        2.0 / 5.0 + w * (2.0 / 9.0 + w * (2.0 / 13.0 + w * (2.0 / 17.0 + w * (2.0 / 21.0))))
    )
    half: cython.double = 0.5 * f * f
    return k * _LN2_HIGH - ((half - (s * (half + (odd + even)) + k * _LN2_LOW)) - f)


@cython.ccall
@cython.exceptval(check=False)
def exp(x: cython.double) -> cython.double:
    """Return e to the power of x; 0 below -745, inf above 709.78."""
    if x != x:
        return x
    if x > 709.782712893384:
        return _INFINITY
    if x < -745.1332191019412:
        return 0.0
    k: cython.int = cython.cast(cython.int, x * _INVERSE_LN2 + (0.5 if x >= 0.0 else -0.5))
    high: cython.double = x - k * _LN2_HIGH
    low: cython.double = k * _LN2_LOW
    r: cython.double = high - low
    z: cython.double = r * r
    # (exp(r) - 1 - r) / r^2, odd and even terms apart.
    even: cython.double = 1.0 / 2.0 + z * (
        1.0 / 24.0 + z * (1.0 / 720.0 + z * (1.0 / 40320.0 + z * (1.0 / 3628800.0 + z * (1.0 / 479001600.0))))
    )
    odd: cython.double = 1.0 / 6.0 + z * (
        1.0 / 120.0
        + z * (1.0 / 5040.0 + z * (1.0 / 362880.0 + z * (1.0 / 39916800.0 + z * (1.0 / 6227020800.0))))
    )
    y: cython.double = 1.0 + (high - (low - z * (even + r * odd)))
    if -30 < k <= 0:
        return y / (1 << -k)
    return ldexp(y, k)  # a power of two: exact, so the same everywhere
