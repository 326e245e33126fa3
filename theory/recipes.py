"""The attention recipes of hand-set weights: kernels by lag, products inside a token, unnormalised Gaussians."""

from typing import Any

import sympy as sp

from theory.certify import Balls, Identity, Reals, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import LAGS, NOTATION, J, Letters, b, ell, gamma, l, p, total

__all__ = ["CLAIMS"]

LETTERS = Letters("recipes", NOTATION, LAGS)
j = LETTERS.define("j", "number of a head", integer=True, nonnegative=True)


def _slope(k: Any, kernel: Any, last: Any = J) -> Any:
    """a_k of lag_heads: minus the slope of the kernel over the squared lag, the kernel at J counting as 0."""
    following = sp.Piecewise((kernel(k + 1), sp.Lt(k + 1, last)), (0, True))
    return sp.Piecewise(((kernel(k) - following) / (2 * k + 1), sp.Lt(k, last)), (0, True))


def _lag_heads(square: int = 1, more: int = 0, floor: int = 1) -> Statement:
    """Cut off at J; and for J = N, gamma - gamma(N) with one more head for gamma(N)."""
    logit = (j + square) ** 2 - l**2 + more

    def summed(kernel: Any) -> Any:
        return sp.Sum((_slope(j, kernel) - _slope(j + 1, kernel)) * logit, (j, l, J - 1))

    return (
        equal(summed(gamma), gamma(l)),
        equal(summed(lambda lag: gamma(lag) - gamma(J)) + floor * gamma(J), gamma(l)),
    )


LAG_HEADS = Claim(
    name="lag-heads",
    title="J ReLU heads of logit (j+1)^2 - (lag)^2 with weights a_j - a_{j+1} sum to gamma on lags below J and to 0 "
    "beyond; for J = N a head more.",
    statement=_lag_heads(),
    certificate=Identity(tuple({J: n, l: k} for n in (1, 2, 3, 5, 8) for k in range(n)), reduce=sp.expand),
    provenance="derived",
    mutants=(
        Mutant("logit j^2 - lag^2", _lag_heads(square=0)), Mutant("logit one too large", _lag_heads(more=1)),
        Mutant("without the floor", _lag_heads(floor=0)),
    ),
    steps=(
        ("Heads with j >= lag are positive, the others cut off by the ReLU; from lag J on all are", None),
        ("With a_j = (gamma(j) - gamma(j+1))/(2j+1) and weights a_j - a_{j+1}, f(l) - f(l+1) ="
         " (2l+1) sum_{j>=l} (a_j - a_{j+1}) = (2l+1) a_l = gamma(l) - gamma(l+1), and"
         " f(J) = 0 = gamma(J) by definition", None),
    ),
    scope="reduced for J = 1, 2, 3, 5, 8 at every lag; the telescoping sum is general.",
)  # fmt: skip

FAMILIES = {
    "exponential": lambda x: sp.exp(-((x / ell) ** p)),
    "polynomial": lambda x: (1 + (x / ell) ** 2) ** (-p / 2),
    "logarithmic": lambda x: (1 + sp.log(1 + (x / ell) ** 2)) ** (-p),
}


def _slopes_fall(kernel: Any, reverse: bool = False) -> Any:
    """a_j > a_{j+1} between neighbouring lags."""
    first = (kernel(j) - kernel(j + 1)) / (2 * j + 1)
    second = (kernel(j + 1) - kernel(j + 2)) / (2 * j + 3)
    return sp.Lt(first, second) if reverse else sp.Gt(first, second)


LAG_INSTANCES = tuple({j: n, p: sp.Rational(q)} for n in (1, 8) for q in ("1/2", "3/2"))
LAG_POSITIVE = Claim(
    name="lag-heads-positive",
    title="Without truncation every weight a_j - a_{j+1} of the project's kernels is positive: nothing cancels, "
    "float32 keeps its digits.",
    statement=tuple(_slopes_fall(kernel) for kernel in FAMILIES.values()),
    certificate=Balls({ell: (2, 16)}, LAG_INSTANCES),
    provenance="derived",
    mutants=(
        Mutant("weights negative", tuple(_slopes_fall(kernel, reverse=True) for kernel in FAMILIES.values())),
        Mutant("for a cosine, no mixture of Gaussians", (_slopes_fall(lambda x: sp.cos(x / ell)),)),
    ),
    steps=(
        (
            "A mixture of Gaussians is completely monotone in the squared lag, hence convex in it: its slopes increase",
            None,
        ),
        (
            "A truncation makes one weight negative, that of head J-2, of size gamma(J-1)/(2J-1): terms then "
            "cancel up to"
            " about J gamma(J-1)/2 over gamma",
            None,
        ),
    ),
    scope="decided at heads 1 and 8 and powers 1/2 and 3/2 for ell from 2 to 16; convexity is general.",
)

u_, c_, h_ = LETTERS.symbols({
    "u": "cosine of the angle of a lag", "u_l": "cosine of the lag that a trapezoid is for",
    "h": "a third of the distance to the nearest other lag's cosine",
})  # fmt: skip


def _relu(number: Any) -> Any:
    return sp.Max(number, 0)


def _trapezoid(signs: tuple[int, ...] = (1, -1, -1, 1), reach: Any = 2) -> Statement:
    corners = (-2, -1, 1, 2)
    value = sum(sign * _relu(u_ - c_ - corner * h_) for sign, corner in zip(signs, corners, strict=True)) / h_
    return (
        sp.Implies(sp.Le(sp.Abs(u_ - c_), h_), equal(value, 1)),
        sp.Implies(sp.Ge(sp.Abs(u_ - c_), reach * h_), equal(value, 0)),
    )


TRAPEZOID = Claim(
    name="published-lag-heads",
    title="Four ReLU heads make a trapezoid: 1 within h of a lag's cosine, 0 from 2h on.",
    statement=_trapezoid(),
    certificate=Reals(),
    provenance="published",
    source="arXiv 2510.02216, four ReLU heads for each lag",
    assumptions=(sp.Gt(h_, 0),),
    mutants=(
        Mutant("signs + - + -", _trapezoid((1, -1, 1, -1))),
        Mutant("0 from h on", _trapezoid(reach=1)),
        Mutant("without h > 0", assumptions=(sp.Ne(h_, 0),)),
    ),
)

f_, B_, ham = LETTERS.symbols({
    "f": "factor of a product", "B_f": "bound on the factor", "d_H": "Hamming distance of two position codes",
})  # fmt: skip


def _mask(scale: Any = B_) -> Statement:
    return (
        sp.Implies(equal(ham, 0), equal(_relu(f_ - scale * ham), f_)),
        sp.Implies(sp.Ge(ham, 1), equal(_relu(f_ - scale * ham), 0)),
    )


MASK_DOMAIN = (sp.Le(0, f_), sp.Le(f_, B_))
MASK = Claim(
    name="masked-product",
    title="ReLU(f - B hamming(i, j)) is f at j = i and 0 elsewhere for 0 <= f <= B: attention multiplies inside one "
    "token, exactly.",
    statement=_mask(),
    certificate=Reals(),
    provenance="derived",
    assumptions=MASK_DOMAIN,
    mutants=(
        Mutant("half the mask", _mask(B_ / 2)),
        Mutant("f of either sign", assumptions=(sp.Le(f_, B_),)),
        Mutant("f above B", assumptions=(sp.Le(0, f_), sp.Gt(B_, 0))),
    ),
    steps=(
        ("Codes of different tokens differ in a bit, so hamming(i, j) >= 1; the codes are 0/1 with complements", None),
    ),
)

Z, cc = LETTERS.symbols({
    "Z_i": "row sum of the Gaussian", "c": "common normaliser",
}, positive=True)  # fmt: skip
size = LETTERS.define("S", "tokens", integer=True, positive=True)
token, query = LETTERS.symbols({
    "k": "a token", "i": "the token that asks",
}, integer=True, nonnegative=True)  # fmt: skip
value = sp.Function("v")
LETTERS.name({value: "value of a token"})


def _sink(logit: Any = None, register: int = 0) -> Statement:
    """Softmax over S tokens and a register of value 0 against the sum over exp(-b lag^2) v/c."""
    weight = sp.exp(-b * (query - token) ** 2)
    row = sp.Sum(weight, (token, 0, size - 1))
    sink = sp.exp(sp.UnevaluatedExpr(sp.log(cc - row))) if logit is None else sp.exp(logit)
    mixed = sp.Sum(weight * value(token), (token, 0, size - 1))
    return (equal((mixed + register * sink) / (row + sink), mixed / cc),)


SINK = Claim(
    name="sink-head",
    title="With register logit log(c - Z_i) and value 0, softmax returns the unnormalised Gaussian sum over c in "
    "every row.",
    statement=_sink(),
    certificate=Identity(tuple({size: 3, query: k} for k in range(3)), reduce=sp.simplify),
    provenance="derived",
    mutants=(
        Mutant("register logit 0", _sink(logit=sp.Integer(0))),
        Mutant("register logit log c", _sink(logit=sp.log(cc))),
        Mutant("register of value 1", _sink(register=1)),
    ),
    steps=(("The denominator is Z_i + exp(log(c - Z_i)) = c", cc),),
    assumptions=(sp.Gt(cc, Z),),
    scope="reduced for three tokens; the denominator is c for any number. c must exceed every Z_i: row-sum.",
)


def _row_sum(constant: Any = 1) -> Statement:
    """sum over l >= 1 of exp(-b l^2) <= sqrt(pi/b)/2, first 60 terms."""
    return (sp.Lt(1 + 2 * total(sp.exp(-b * l**2), (l, 1, 60)), constant * (1 + sp.sqrt(sp.pi / b))),)


ROW_SUM = Claim(
    name="row-sum",
    title="Z_i <= 1 + sqrt(pi/b) for every length, so c = 1.001 (1 + sqrt(pi/b)) normalises all rows and depends on "
    "b alone.",
    statement=_row_sum(),
    certificate=Balls({b: ("0.01", 8)}),
    provenance="derived",
    bound=1 + sp.sqrt(sp.pi / b),
    mutants=(
        Mutant("three quarters of it", _row_sum(sp.Rational(3, 4))),
        Mutant("half of it", _row_sum(sp.Rational(1, 2))),
    ),
    steps=(("The sum of a decreasing function from 1 on is below its integral from 0 on", sp.sqrt(sp.pi / b) / 2),),
    scope="decided for the first 60 lags; the comparison with the integral is general.",
)

CLAIMS = (LAG_HEADS, LAG_POSITIVE, TRAPEZOID, MASK, SINK, ROW_SUM)
