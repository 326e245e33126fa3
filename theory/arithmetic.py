"""The feed-forward recipes: exact lines, reciprocals, multiplication by layers, LayerNorm made linear."""

from typing import Any

import sympy as sp

from theory.certify import Identity, Reals, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import Letters

__all__ = ["CLAIMS"]

LETTERS = Letters("arithmetic")
z = LETTERS.define("z", "input of a unit")


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

e_, k_, ratio, x_ = LETTERS.symbols({
    "e": "relative error of a guess", "k": "a knot", "g": "ratio of neighbouring knots", "c": "number to invert",
})  # fmt: skip


def _guess(bound: Any = (ratio - 1) ** 2 / (4 * ratio), low: Any = 0) -> Statement:
    interpolant = 1 / k_ - (x_ - k_) / (k_ * k_ * ratio)
    return (sp.Le(low, x_ * interpolant - 1), sp.Le(x_ * interpolant - 1, bound))


GUESS = Claim(
    name="reciprocal-guess",
    title="Between knots k and g k the interpolant of 1/c is off by a relative error in [0, (g-1)^2/(4 g)].",
    statement=_guess(),
    certificate=Reals(),
    provenance="derived",
    assumptions=(sp.Gt(k_, 0), sp.Le(k_, x_), sp.Le(x_, k_ * ratio)),
    bound=(ratio - 1) ** 2 / (4 * ratio),
    mutants=(
        Mutant("an eighth for a quarter", _guess((ratio - 1) ** 2 / (8 * ratio))),
        Mutant("c beyond the knots", assumptions=(sp.Gt(k_, 0), sp.Gt(ratio, 1), sp.Le(k_, x_))),
    ),
    steps=(
        ("The chord at c = k (1+g)/2 is farthest above 1/c in relative terms; four knots per octave give 0.0075", None),
    ),
)


def _refine(last: int = 4) -> Statement:
    return (equal((1 - e_) * (1 + e_**2) * (1 + e_**last) * (1 + e_), 1 - e_**8),)


REFINE = Claim(
    name="reciprocal-refinement",
    title="(1-e)(1+e^2)(1+e^4) = (1-e^8)/(1+e): three factors turn a guess of relative error e into one of e^8.",
    statement=_refine(),
    certificate=Identity(),
    provenance="derived",
    mutants=(
        Mutant("1 + e^3", _refine(3)),
        Mutant("one product fewer", (equal((1 - e_) * (1 + e_**2) * (1 + e_), 1 - e_**8),)),
    ),
)

hat = sp.Piecewise((2 * z, sp.Le(z, sp.Rational(1, 2))), (2 - 2 * z, True))


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

f_, fR, vR, vv, s1_, s2_, e_m = LETTERS.symbols({
    "f": "factor of a product", "R_f": "bound on the factor", "R_v": "bound on the value", "v": "value",
    "e_1": "error of the first square", "e_2": "error of the second square", "e_m": "4^-(m+1), bound on both",
})  # fmt: skip


def _multiplication(share: Any = 1) -> Statement:
    first, second = (sp.Abs(f_ / fR + sign * vv / vR) / 2 for sign in (1, -1))
    computed = fR * vR * ((first**2 + s1_) - (second**2 + s2_))
    return (
        sp.And(sp.Le(first, 1), sp.Le(second, 1)),
        sp.Le(sp.Abs(computed - f_ * vv), share * fR * vR * e_m),
    )


MULTIPLICATION = Claim(
    name="multiplication-module",
    title="f v = R_f R_v (a^2 - b^2) with a, b = |f/R_f +- v/R_v|/2 in [0, 1]: computed to R_f R_v 4^-(m+1).",
    statement=_multiplication(),
    certificate=Reals(),
    provenance="published",
    source="Yarotsky, arXiv 1610.01145, prop. 3; constant derived",
    assumptions=(
        sp.Gt(fR, 0), sp.Gt(vR, 0), sp.Le(0, f_), sp.Le(f_, fR), sp.Le(sp.Abs(vv), vR), sp.Le(0, s1_), sp.Le(s1_, e_m),
        sp.Le(0, s2_), sp.Le(s2_, e_m),
    ),
    mutants=(
        Mutant("half the error", _multiplication(sp.Rational(1, 2))),
        Mutant("squares off in either direction", assumptions=(
            sp.Gt(fR, 0), sp.Gt(vR, 0), sp.Le(0, f_), sp.Le(f_, fR), sp.Le(sp.Abs(vv), vR), sp.Le(sp.Abs(s1_), e_m),
            sp.Le(sp.Abs(s2_), e_m),
        )),
    ),
    true_variants=dict.fromkeys(
        ("relation 1: 1/2 times 0.5", "relation 1: 1/2 times 0.5 (2)", "relation 1: R_f times 1.1",
         "relation 1: R_v times 1.1"),
        "what lies below 1 lies there when it is smaller",
    ),
    steps=(("Both squares are off to the same side (multiplication-square), so their errors subtract", None),),
)  # fmt: skip

share = LETTERS.define("y", "data energy of a token over that of the constants, |z|^2/B^2", nonnegative=True)


def _layer_norm(bound: Any = share / 2) -> Statement:
    shrunk = 1 / sp.sqrt(1 + share)
    return (sp.Le(1 - shrunk, bound), sp.Ge(1 - shrunk, bound - sp.Rational(3, 8) * share**2))


LAYER_NORM = Claim(
    name="layer-norm-linear",
    title="With constants +-B beside mirrored channels LayerNorm shrinks the stream by 1 - delta,"
    " |z|^2/(2B^2) - 3|z|^4/(8B^4) <= delta <= |z|^2/(2B^2).",
    statement=_layer_norm(),
    certificate=Reals(),
    provenance="derived",
    bound=share / 2,
    mutants=(Mutant("a quarter", _layer_norm(share / 4)), Mutant("the whole", _layer_norm(share))),
    true_variants=dict.fromkeys(
        ("relation 2: right side times 0.9", "relation 2: right side times 0.5"), "delta is 0 or more"
    ),
    steps=(
        ("Mirrored channels have mean 0; the variance is (2B^2 + 2|z|^2)/W, so a channel is divided by a constant "
         "times", sp.sqrt(1 + share)),
    ),
)  # fmt: skip

CLAIMS = (GELU, GUESS, REFINE, YAROTSKY, MULTIPLICATION, LAYER_NORM)
