"""The attention recipes of hand-set weights: kernels by lag, products inside a token, unnormalised Gaussians."""

from typing import Any

import sympy as sp

from theory.certify import Each, Identity, Increasing, Induction, IntegralTest, Reals, Signs, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import LAGS, NOTATION, J, Letters, N, b, gamma, l, total

__all__ = ["CLAIMS"]

LETTERS = Letters("recipes", NOTATION, LAGS)
j = LETTERS.define("j", "number of a head", integer=True, nonnegative=True)


def _slope(k: Any, kernel: Any = gamma) -> Any:
    """a_k of lag_heads: minus the slope of the kernel over the squared lag."""
    return (kernel(k) - kernel(k + 1)) / (2 * k + 1)


def _lag_heads(square: int = 1, more: int = 0, left: Any = None) -> Statement:
    """What the heads l .. J-1 sum to, whatever the kernel; the rest vanishes where the kernel is 0 from lag J on."""
    logit = (j + square) ** 2 - l**2 + more
    rest = gamma(J) + _slope(J) * (J**2 - l**2) if left is None else left
    return (equal(total((_slope(j) - _slope(j + 1)) * logit, (j, l, J - 1)), gamma(l) - rest),)


LAG_HEADS = Claim(
    name="lag-heads",
    title="J ReLU heads of logit (j+1)^2 - (lag)^2 with weights a_j - a_{j+1} sum to gamma on lags below J and to 0 "
    "beyond, for a gamma that is 0 from lag J on.",
    statement=_lag_heads(),
    certificate=Induction(J, l),
    provenance="derived",
    assumptions=(sp.Le(l, J),),
    mutants=(
        Mutant("logit j^2 - lag^2", _lag_heads(square=0)), Mutant("logit one too large", _lag_heads(more=1)),
        Mutant("without what is left at J", _lag_heads(left=0)),
    ),
    true_variants={"without l <= J": "a sum that runs backwards counts negatively, so that it holds there too"},
    steps=(
        ("Heads with j >= lag are positive, the others cut off by the ReLU; from lag J on all are", None),
        ("With a_j = (gamma(j) - gamma(j+1))/(2j+1) what is left is 0 where gamma is 0 from lag J on, as a"
         " truncated kernel is", gamma(J) + _slope(J) * (J**2 - l**2)),
        ("For J = N apply it to gamma - gamma(N), 0 from lag N on by definition; one more head adds gamma(N)", None),
    ),
)  # fmt: skip

y = LETTERS.define("y", "b (2j+1), or b (2j+3)", nonnegative=True)


def _convex(first: Any = 2 * j + 1, second: Any = 2 * j + 3, share: Any = 1) -> Statement:
    """a_j - a_{j+1} for a Gaussian, which is convex in the squared lag; both parts of it against b."""
    gaussian = [sp.exp(-b * (j + k) ** 2) for k in range(3)]
    slopes = (gaussian[0] - gaussian[1]) / (2 * j + 1) - (gaussian[1] - gaussian[2]) / (2 * j + 3)
    parts = (sp.exp(b * first) - 1) / first - (1 - sp.exp(-b * second)) / second
    return (
        equal(slopes, gaussian[1] * parts),
        sp.Ge(sp.exp(y) - 1, share * y), sp.Le(1 - sp.exp(-y), share * y),
    )  # fmt: skip


def _exponentials(difference: Any) -> Any:
    return sp.simplify(sp.powsimp(sp.expand(difference)))


LAG_POSITIVE = Claim(
    name="lag-heads-positive",
    title="Without truncation every weight a_j - a_{j+1} of the project's kernels is positive: nothing cancels, "
    "float32 keeps its digits.",
    statement=_convex(),
    certificate=Each((
        Identity(reduce=_exponentials), Increasing(y, 0, factor=sp.exp(-y), order=2),
        Increasing(y, 0, factor=sp.exp(y), order=2),
    )),
    provenance="derived",
    mutants=(
        Mutant("lags of equal steps", _convex(second=2 * j + 1)),
        Mutant("from lag j+1 on", _convex(first=2 * j + 3, second=2 * j + 5)),
        Mutant("against 2b", _convex(share=2)),
        Mutant("against b/2", _convex(share=sp.Rational(1, 2))),
    ),
    steps=(
        ("For exp(-b l^2) a weight is a positive factor times (e^(b(2j+1)) - 1)/(2j+1) - (1 - e^(-b(2j+3)))/(2j+3)",
         None),
        ("The first is at least b and the second at most b, with equality at b = 0 alone", None),
        ("The kernels are mixtures of such Gaussians (mixture-..), so their weights are positive too", None),
        ("A truncation makes one weight negative, that of head J-2, of size gamma(J-1)/(2J-1): terms then cancel up to"
         " about J gamma(J-1)/2 over gamma", None),
    ),
    scope="a Gaussian of every width and every head; that a mixture adds positive weights up is in words.",
)  # fmt: skip

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
    true_variants={"relation 2: h times 1.1": "outside the sum is 0, whatever it is divided by"},
)

f_, B_, ham = LETTERS.symbols({
    "f": "factor of a product", "B_f": "bound on the factor", "d_H": "Hamming distance of two position codes",
})  # fmt: skip


def _mask(scale: Any = B_, least: Any = 0) -> Statement:
    """At the token itself, where the distance is 0, and at any other."""
    return (equal(_relu(f_ - scale * least), f_), equal(_relu(f_ - scale * ham), 0))


MASK_DOMAIN = (sp.Le(0, f_), sp.Le(f_, B_), sp.Ge(ham, 1))
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
        Mutant("a mask at the token itself", _mask(least=1)),
        Mutant("f of either sign", assumptions=MASK_DOMAIN[1:]),
        Mutant("f above B", assumptions=(sp.Le(0, f_), sp.Gt(B_, 0), sp.Ge(ham, 1))),
        Mutant("codes that may be equal", assumptions=(*MASK_DOMAIN[:2], sp.Ge(ham, 0))),
    ),
    steps=(
        ("Codes of different tokens differ in a bit, so hamming(i, j) >= 1; the codes are 0/1 with complements", None),
    ),
)

Z, cc = LETTERS.symbols({
    "Z_i": "row sum of the Gaussian, the sum of exp(-b lag^2)", "c": "common normaliser",
}, positive=True)  # fmt: skip
mixed = LETTERS.define("V_i", "the Gaussian's sum of exp(-b lag^2) v over the tokens of a row")


def _sink(logit: Any = None, register: int = 0, share: Any = 1 - Z / cc) -> Statement:
    """Softmax over any number of tokens and a register of value 0; the register's share lies in (0, 1)."""
    sink = sp.exp(sp.UnevaluatedExpr(sp.log(cc - Z) if logit is None else logit))
    return (
        equal((mixed + register * sink) / (Z + sink), mixed / cc),
        equal(sink / (Z + sink), share),
        sp.And(sp.Lt(0, 1 - Z / cc), sp.Lt(1 - Z / cc, 1)),
    )


SINK = Claim(
    name="sink-head",
    title="With register logit log(c - Z_i) and value 0, softmax returns the unnormalised Gaussian sum over c in "
    "every row.",
    statement=_sink(),
    certificate=Each((Identity(), Identity(), Reals())),
    provenance="derived",
    mutants=(
        Mutant("register logit 0", _sink(logit=sp.Integer(0))),
        Mutant("register logit log c", _sink(logit=sp.log(cc))),
        Mutant("register of value 1", _sink(register=1)),
        Mutant("without c > Z_i, where the logit is not real", assumptions=()),
    ),
    steps=(("The denominator is Z_i + exp(log(c - Z_i)) = c; c exceeds every Z_i (row-sum)", cc),),
    assumptions=(sp.Gt(cc, Z),),
)


def _complement(difference: Any) -> Any:
    """erf as 1 - erfc."""
    return sp.expand(difference.replace(sp.erf, lambda z: 1 - sp.erfc(z)))


def _row_sum(constant: Any = 1) -> Statement:
    """Row sums are largest in an endless sequence: the lags 1 .. N-1 on either side."""
    return (sp.Le(1 + 2 * total(sp.exp(-b * l**2), (l, 1, N - 1)), constant * (1 + sp.sqrt(sp.pi / b))),)


ROW_SUM = Claim(
    name="row-sum",
    title="Z_i <= 1 + sqrt(pi/b) for every length, so c = 1.001 (1 + sqrt(pi/b)) normalises all rows and depends on "
    "b alone.",
    statement=_row_sum(),
    certificate=IntegralTest(
        index=l,
        integral=sp.sqrt(sp.pi / b) / 2 * sp.erf(sp.sqrt(b) * l),
        end=Signs(_complement),
        probes=({b: sp.Rational(1, 4000), N: sp.Integer(300)}, {b: sp.Integer(10**5), N: sp.Integer(2)}),
    ),
    provenance="derived",
    mutants=(
        Mutant("95 % of it", _row_sum(sp.Rational(95, 100))),
        Mutant("half of it", _row_sum(sp.Rational(1, 2))),
    ),
    true_variants={"minus for plus -1": "the bound holds for every number of lags"},
    steps=(("The sum of a decreasing function from 1 on is below its integral from 0 on", sp.sqrt(sp.pi / b) / 2),),
)

CLAIMS = (LAG_HEADS, LAG_POSITIVE, TRAPEZOID, MASK, SINK, ROW_SUM)
