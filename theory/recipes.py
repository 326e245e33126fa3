"""The attention and feed-forward recipes that hand-set weights are made of."""

from typing import Any

import sympy as sp

from theory.certify import Balls, Each, Identity, Reals, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import MEANING, J, b, define, ell, l, p

__all__ = ["CLAIMS"]

gamma = sp.Function("gamma")
MEANING[gamma] = "temporal correlation at a lag"
j = define("j", "number of a head", integer=True, nonnegative=True)


def _slope(k: Any, last: Any = J) -> Any:
    """a_k of lag_heads: minus the slope of gamma over the squared lag, gamma(J) counting as 0."""
    following = sp.Piecewise((gamma(k + 1), sp.Lt(k + 1, last)), (0, True))
    return sp.Piecewise(((gamma(k) - following) / (2 * k + 1), sp.Lt(k, last)), (0, True))


def _lag_heads(square: int = 1, denominator: int = 0) -> Statement:
    weight = _slope(j) - _slope(j + 1)
    logit = (j + square) ** 2 - l**2 + denominator
    return (equal(sp.Sum(weight * logit, (j, l, J - 1)), gamma(l)),)


LAG_HEADS = Claim(
    name="lag-heads",
    title="J ReLU heads of logit (j+1)^2 - (lag)^2 with weights a_j - a_{j+1} sum to gamma on lags below J and to 0 beyond.",
    statement=_lag_heads(),
    certificate=Identity(tuple({J: n, l: k} for n in (1, 2, 3, 5, 8) for k in range(n)), reduce=sp.expand),
    provenance="derived",
    mutants=(Mutant("logit j^2 - lag^2", _lag_heads(square=0)), Mutant("logit one too large", _lag_heads(denominator=1))),
    steps=(
        ("Heads with j >= lag are positive, the others cut off by the ReLU; from lag J on all are", None),
        ("With a_j = (gamma(j) - gamma(j+1))/(2j+1) and weights a_j - a_{j+1}, f(l) - f(l+1) = (2l+1) sum_{j>=l} (a_j - a_{j+1})"
         " = (2l+1) a_l = gamma(l) - gamma(l+1), and f(J) = 0 = gamma(J) by definition", None),
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


LAG_INSTANCES = tuple({j: n, p: sp.Rational(q)} for n in (1, 4, 16) for q in ("1/2", 1, "3/2"))
LAG_POSITIVE = Claim(
    name="lag-heads-positive",
    title="For the kernels of the project every weight a_j - a_{j+1} is positive: nothing cancels, float32 keeps its digits.",
    statement=tuple(_slopes_fall(kernel) for kernel in FAMILIES.values()),
    certificate=Balls({ell: (2, 16)}, LAG_INSTANCES),
    provenance="derived",
    mutants=(
        Mutant("weights negative", tuple(_slopes_fall(kernel, reverse=True) for kernel in FAMILIES.values())),
        Mutant("for a cosine, no mixture of Gaussians", (_slopes_fall(lambda x: sp.cos(x / ell)),)),
    ),
    steps=(
        ("A mixture of Gaussians is completely monotone in the squared lag, hence convex in it: its slopes increase", None),
        ("Only a truncation makes one weight negative, that of head J-2, of size gamma(J-1)/(2J-1)", None),
    ),
    scope="decided at heads 1, 4, 16 and powers 1/2, 1, 3/2 for ell from 2 to 16; convexity is general.",
)

u_, c_, h_ = (define(name, meaning) for name, meaning in (
    ("u'", "cosine of the angle of a lag"), ("u_l", "cosine of the lag that a trapezoid is for"),
    ("h", "a third of the distance to the nearest other lag's cosine"),
))  # fmt: skip


def _relu(each: Any) -> Any:
    return sp.Max(each, 0)


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

f_, B_, ham = (define(name, meaning) for name, meaning in (
    ("f", "factor of a product"), ("B", "bound on it"), ("H'", "Hamming distance of two position codes"),
))  # fmt: skip


def _mask(scale: Any = B_) -> Statement:
    return (
        sp.Implies(equal(ham, 0), equal(_relu(f_ - scale * ham), f_)),
        sp.Implies(sp.Ge(ham, 1), equal(_relu(f_ - scale * ham), 0)),
    )


MASK_DOMAIN = (sp.Le(0, f_), sp.Le(f_, B_))
MASK = Claim(
    name="masked-product",
    title="ReLU(f - B hamming(i, j)) is f at j = i and 0 elsewhere for 0 <= f <= B: attention multiplies inside one token, exactly.",
    statement=_mask(),
    certificate=Reals(),
    provenance="derived",
    assumptions=MASK_DOMAIN,
    mutants=(
        Mutant("half the mask", _mask(B_ / 2)),
        Mutant("f of either sign", assumptions=(sp.Le(f_, B_),)),
        Mutant("f above B", assumptions=(sp.Le(0, f_), sp.Gt(B_, 0))),
    ),
    steps=(("Codes of different tokens differ in a bit, so hamming(i, j) >= 1; the codes are 0/1 with complements", None),),
)

Z, cc = define("Z_i", "row sum of the Gaussian", positive=True), define("c''", "common normaliser", positive=True)
size = define("S", "tokens", integer=True, positive=True)
token = define("k'", "a token", integer=True, nonnegative=True)
query = define("i'", "the token that asks", integer=True, nonnegative=True)
value = sp.Function("v")
MEANING[value] = "value of a token"


def _sink(logit: Any = None, register: int = 0) -> Statement:
    """Softmax over S tokens and a register of value 0 against the sum over exp(-b lag^2) v/c."""
    weight = sp.exp(-b * (query - token) ** 2)
    row = sp.Sum(weight, (token, 0, size - 1))
    sink = sp.exp(sp.log(cc - row)) if logit is None else sp.exp(logit)
    mixed = sp.Sum(weight * value(token), (token, 0, size - 1))
    return (equal((mixed + register * sink) / (row + sink), mixed / cc),)


SINK = Claim(
    name="sink-head",
    title="With register logit log(c - Z_i) and value 0, softmax returns the unnormalised Gaussian sum over c in every row.",
    statement=_sink(),
    certificate=Identity(tuple({size: 3, query: k} for k in range(3)), reduce=sp.simplify),
    provenance="derived",
    mutants=(
        Mutant("register logit 0", _sink(logit=sp.Integer(0))),
        Mutant("register logit log c", _sink(logit=sp.log(cc))),
        Mutant("register of value 1", _sink(register=1)),
    ),
    steps=(("The denominator is Z_i + exp(log(c - Z_i)) = c", cc),),
    scope="reduced for three tokens; the denominator is c for any number. In floating point c - Z_i must be positive.",
)


def _row_sum(constant: Any = 1) -> Statement:
    """sum over l >= 1 of exp(-b l^2) <= sqrt(pi/b)/2, first 60 terms."""
    return (sp.Lt(1 + 2 * sp.Sum(sp.exp(-b * l**2), (l, 1, 60)), constant * (1 + sp.sqrt(sp.pi / b))),)


ROW_SUM = Claim(
    name="row-sum",
    title="Z_i <= 1 + sqrt(pi/b) for every length, so c = 1.001 (1 + sqrt(pi/b)) normalises all rows and depends on b alone.",
    statement=_row_sum(),
    certificate=Balls({b: ("0.01", 8)}),
    provenance="derived",
    bound=1 + sp.sqrt(sp.pi / b),
    mutants=(Mutant("three quarters of it", _row_sum(sp.Rational(3, 4))), Mutant("half of it", _row_sum(sp.Rational(1, 2)))),
    steps=(("The sum of a decreasing function from 1 on is below its integral from 0 on", sp.sqrt(sp.pi / b) / 2),),
    scope="decided for the first 60 lags; the comparison with the integral is general.",
)

z = define("z'", "input of a unit")


def _gelu(form: str, sign: int = -1) -> Any:
    def gelu(x: Any) -> Any:
        if form == "erf":
            return x * (1 + sp.erf(x / sp.sqrt(2))) / 2
        if form == "tanh":
            return x * (1 + sp.tanh(sp.sqrt(2 / sp.pi) * (x + sp.Rational(44715, 1000000) * x**3))) / 2
        return x / (1 + sp.exp(-2 * x)) if form == "silu of 2x" else sp.Max(x, 0) ** 2

    return equal(gelu(z) + sign * gelu(-z), z)


GELU = Claim(
    name="gelu-pair",
    title="GELU(z) - GELU(-z) = z, for the erf and the tanh form: two hidden units are exactly linear.",
    statement=(_gelu("erf"), _gelu("tanh")),
    certificate=Identity(),
    provenance="derived",
    mutants=(
        Mutant("sum for difference", (_gelu("erf", 1), _gelu("tanh", 1))),
        Mutant("squared ReLU for GELU", (_gelu("squared"),)),
    ),
    steps=(("GELU(z) = z F(z) with F(z) + F(-z) = 1", None),),
)

e_, k_, ratio, x_ = (define(name, meaning) for name, meaning in (
    ("e'", "relative error of a guess"), ("k'", "a knot"), ("g", "ratio of neighbouring knots"), ("c'", "number to invert"),
))  # fmt: skip


def _guess(bound: Any = (ratio - 1) ** 2 / (4 * ratio), low: Any = 0) -> Statement:
    interpolant = 1 / k_ - (x_ - k_) / (k_ * k_ * ratio)
    return (sp.Le(low, x_ * interpolant - 1), sp.Le(x_ * interpolant - 1, bound))


GUESS = Claim(
    name="reciprocal-guess",
    title="Between knots k and g k the interpolant of 1/c is off by a relative error in [0, (g-1)^2/(4 g)].",
    statement=_guess(),
    certificate=Reals(),
    provenance="derived",
    assumptions=(sp.Gt(k_, 0), sp.Gt(ratio, 1), sp.Le(k_, x_), sp.Le(x_, k_ * ratio)),
    bound=(ratio - 1) ** 2 / (4 * ratio),
    mutants=(
        Mutant("an eighth for a quarter", _guess((ratio - 1) ** 2 / (8 * ratio))),
        Mutant("c beyond the knots", assumptions=(sp.Gt(k_, 0), sp.Gt(ratio, 1), sp.Le(k_, x_))),
    ),
    steps=(("The chord at c = k (1+g)/2 is farthest above 1/c in relative terms; four knots per octave give 0.0076", None),),
)


def _refine(last: int = 4) -> Statement:
    return (equal((1 - e_) * (1 + e_**2) * (1 + e_**last) * (1 + e_), 1 - e_**8),)


REFINE = Claim(
    name="reciprocal-refinement",
    title="(1-e)(1+e^2)(1+e^4) = (1-e^8)/(1+e): three products turn a guess of relative error e into one of e^8.",
    statement=_refine(),
    certificate=Identity(),
    provenance="derived",
    mutants=(Mutant("1 + e^3", _refine(3)), Mutant("one product fewer", (equal((1 - e_) * (1 + e_**2) * (1 + e_), 1 - e_**8),))),
)

hat = sp.Piecewise((2 * z, sp.Le(z, sp.Rational(1, 2))), (2 - 2 * z, True))
inner = define("w'", "error of f_m at the hat")


def _yarotsky(divisor: int = 4) -> Statement:
    """e_0 = z - z^2 and e_{m+1}(z) = e_m(g(z))/4, since z^2 = z - g/2 + g^2/4."""
    return (
        equal(z**2, z - hat / 2 + hat**2 / divisor),
        sp.Le(0, z - z**2), sp.Le(z - z**2, sp.Rational(1, divisor)), sp.Le(0, hat), sp.Le(hat, 1),
    )  # fmt: skip


YAROTSKY = Claim(
    name="multiplication-square",
    title="f_m(z) = z - sum_{k<=m} g_k(z) 4^-k has 0 <= f_m(z) - z^2 <= 4^-(m+1) on [0, 1], g_k the k-fold hat.",
    statement=_yarotsky(),
    certificate=Reals(),
    provenance="published",
    source="Yarotsky, arXiv 1610.01145, prop. 2",
    assumptions=(sp.Le(0, z), sp.Le(z, 1)),
    mutants=(
        Mutant("8^-(m+1)", _yarotsky(8)),
        Mutant("beyond [0, 1]", assumptions=(sp.Le(0, z), sp.Le(z, 2))),
    ),
    steps=(
        ("f_{m+1}(z) = z - g(z)/2 + f_m(g(z))/4 and z^2 = z - g(z)/2 + g(z)^2/4 with the hat g", hat),
        ("so the error obeys e_{m+1}(z) = e_m(g(z))/4, and e_0 = z - z^2 lies in [0, 1/4]: induction over m", None),
    ),
)

fR, vR, vv, s1_, s2_ = (define(name, meaning) for name, meaning in (
    ("R_c", "bound on the factor"), ("R_v", "bound on the value"), ("v'", "value"), ("e_1", "error of the first square"),
    ("e_2", "error of the second square"),
))  # fmt: skip


def _multiplication(share: Any = 1) -> Statement:
    first, second = (sp.Abs(f_ / fR + sign * vv / vR) / 2 for sign in (1, -1))
    computed = fR * vR * ((first**2 + s1_) - (second**2 + s2_))
    return (
        sp.And(sp.Le(first, 1), sp.Le(second, 1)),
        sp.Le(sp.Abs(computed - f_ * vv), share * fR * vR * e_),
    )


MULTIPLICATION = Claim(
    name="multiplication-module",
    title="c v = R_c R_v (a^2 - b^2) with a, b = |c/R_c +- v/R_v|/2 in [0, 1]: computed to R_c R_v 4^-(m+1).",
    statement=_multiplication(),
    certificate=Reals(),
    provenance="published",
    source="Yarotsky, arXiv 1610.01145, prop. 3; constant derived",
    assumptions=(
        sp.Gt(fR, 0), sp.Gt(vR, 0), sp.Le(0, f_), sp.Le(f_, fR), sp.Le(sp.Abs(vv), vR), sp.Le(0, s1_), sp.Le(s1_, e_),
        sp.Le(0, s2_), sp.Le(s2_, e_),
    ),
    mutants=(
        Mutant("half the error", _multiplication(sp.Rational(1, 2))),
        Mutant("squares off in either direction", assumptions=(
            sp.Gt(fR, 0), sp.Gt(vR, 0), sp.Le(0, f_), sp.Le(f_, fR), sp.Le(sp.Abs(vv), vR), sp.Le(sp.Abs(s1_), e_),
            sp.Le(sp.Abs(s2_), e_),
        )),
    ),
    steps=(("Both squares are off to the same side (multiplication-square), so their errors subtract", None),),
)  # fmt: skip

share = define("y'", "data energy of a token over that of the constants, |z|^2/B^2", nonnegative=True)


def _layer_norm(bound: Any = share / 2) -> Statement:
    shrunk = 1 / sp.sqrt(1 + share)
    return (sp.Le(1 - shrunk, bound), sp.Ge(1 - shrunk, bound - sp.Rational(3, 8) * share**2))


LAYER_NORM = Claim(
    name="layer-norm-linear",
    title="With constants +-B beside mirrored channels LayerNorm shrinks the stream by 1 - delta, |z|^2/(2B^2) - 3|z|^4/(8B^4)"
    " <= delta <= |z|^2/(2B^2).",
    statement=_layer_norm(),
    certificate=Reals(),
    provenance="derived",
    bound=share / 2,
    mutants=(Mutant("a quarter", _layer_norm(share / 4)), Mutant("the whole", _layer_norm(share))),
    steps=(
        ("Mirrored channels have mean 0; the variance is (2B^2 + 2|z|^2)/W', so a channel is divided by a constant times", sp.sqrt(1 + share)),
    ),
)  # fmt: skip

CLAIMS = (
    LAG_HEADS, LAG_POSITIVE, TRAPEZOID, MASK, SINK, ROW_SUM, GELU, GUESS, REFINE, YAROTSKY, MULTIPLICATION, LAYER_NORM,
)  # fmt: skip
