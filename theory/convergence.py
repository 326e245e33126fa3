"""How fast the solvers converge."""

from collections.abc import Iterator
from typing import Any

import sympy as sp
import torch

from theory.certify import Each, Identity, Increasing, Reals, Sweep, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import NOTATION, SPECTRUM, K, L, Letters, eps, kappa, lam, m
from unrolled.solvers import chebyshev, conjugate_gradient, gradient_descent

__all__ = ["CLAIMS"]

LETTERS = Letters("convergence", NOTATION, SPECTRUM)
SAAD = "Saad, Iterative Methods for Sparse Linear Systems, 2nd ed."
SPECTRUM = (sp.Lt(0, m), sp.Le(m, lam), sp.Le(lam, L))
RATE = (kappa - 1) / (kappa + 1)
eta = LETTERS.define("eta", "step size")


def _contraction(step: Any = 2 / (m + L)) -> Statement:
    return (sp.Le(sp.Abs(1 - step * lam), (L / m - 1) / (L / m + 1)),)


CONTRACTION = Claim(
    name="gd-contraction",
    title="A step of gradient descent with eta = 2/(m+L) shrinks every eigendirection by (kappa-1)/(kappa+1) at least.",
    statement=_contraction(),
    certificate=Reals(),
    provenance="published",
    source=f"{SAAD}, example 4.1",
    assumptions=SPECTRUM,
    mutants=(
        Mutant("eta = 1/(m+L)", _contraction(1 / (m + L))),
        Mutant("an eigenvalue above L", assumptions=(sp.Lt(0, m), sp.Le(m, lam), sp.Le(m, L))),
    ),
    steps=(("s_k - s = (I - eta C)^k (s_0 - s); the factor of eigenvalue lambda is", 1 - 2 * lam / (m + L)),),
)

GD_OPTIMAL = Claim(
    name="gd-optimal-step",
    title="No other fixed step size has a smaller worst factor over [m, L].",
    statement=(sp.Ge(sp.Max(sp.Abs(1 - eta * m), sp.Abs(1 - eta * L)), (L - m) / (L + m)),),
    certificate=Reals(),
    provenance="published",
    source=f"{SAAD}, example 4.1",
    assumptions=(sp.Lt(0, m), sp.Le(m, L)),
    mutants=(
        Mutant("worst factor L/(L+m)", (sp.Ge(sp.Max(sp.Abs(1 - eta * m), sp.Abs(1 - eta * L)), L / (L + m)),)),
        Mutant("at the largest eigenvalue alone", (sp.Ge(sp.Abs(1 - eta * L), (L - m) / (L + m)),)),
    ),
    true_variants={"minus for plus -1": "with one sign turned one of the two is 1 or more, whichever sign eta has"},
)


INVERSE, DIGITS = LETTERS.symbols({
    "z": "1/kappa for gradient descent, 1/sqrt(kappa) for Chebyshev", "Lambda": "log(1/epsilon) or log(2/epsilon)",
}, positive=True)  # fmt: skip
FAST = (sp.sqrt(kappa) - 1) / (sp.sqrt(kappa) + 1)
GD_STEPS = kappa / 2 * sp.log(1 / eps)
CHEBYSHEV_STEPS = sp.sqrt(kappa) / 2 * sp.log(2 / eps)


def _gd_depth(steps: Any = GD_STEPS) -> Statement:
    return (sp.Le(steps * sp.log(RATE), sp.log(eps)),)


def _chebyshev_depth(steps: Any = CHEBYSHEV_STEPS) -> Statement:
    return (sp.Le(2 * POWER / (1 + POWER**2), 2 * POWER), sp.Le(steps * sp.log(FAST), sp.log(eps / 2)))


def _below_one(exponent: int, prefactor: int) -> Increasing:
    """With kappa = z^-exponent and epsilon = prefactor e^-Lambda it is that of -2 z and log((1-z)/(1+z))."""
    return Increasing(
        INVERSE, 0, factor=(1 - INVERSE) * (1 + INVERSE), scale=2 * INVERSE / DIGITS,
        old={kappa: INVERSE**-exponent, eps: prefactor * sp.exp(-DIGITS)},
        letters={INVERSE: kappa ** -sp.Rational(1, exponent), DIGITS: sp.log(prefactor / eps)},
    )  # fmt: skip


POWER = LETTERS.define("w", "q^K", nonnegative=True)
DEPTH_STEPS = (
    ("With z = 1/kappa or 1/sqrt(kappa) the rate is (1-z)/(1+z); its logarithm is at most", -2 * INVERSE),
    ("since both are 0 at z = 0 and the slope of the difference is 2/(1-z^2) - 2 >= 0", None),
)
GD_DEPTH = Claim(
    name="gd-depth",
    title="K >= (kappa/2) log(1/epsilon) steps of gradient descent reach a relative error of epsilon.",
    statement=_gd_depth(),
    certificate=_below_one(1, 1),
    provenance="derived",
    assumptions=(sp.Gt(kappa, 1), sp.Gt(eps, 0), sp.Lt(eps, 1)),
    bound=GD_STEPS,
    mutants=(
        Mutant("half the steps", _gd_depth(GD_STEPS / 2)),
        Mutant("steps of order sqrt(kappa)", _gd_depth(sp.sqrt(kappa) / 2 * sp.log(1 / eps))),
    ),
    steps=(*DEPTH_STEPS, ("K steps leave ((kappa-1)/(kappa+1))^K of an error (gd-contraction)", None)),
)
CHEBYSHEV_DEPTH = Claim(
    name="chebyshev-depth",
    title="K >= (sqrt(kappa)/2) log(2/epsilon) steps of Chebyshev, or of conjugate gradient in the C-norm, reach "
    "epsilon.",
    statement=_chebyshev_depth(),
    certificate=Each((Reals(), _below_one(2, 2))),
    provenance="published",
    source=f"{SAAD}, sec. 6.11.3",
    assumptions=(sp.Gt(kappa, 1), sp.Gt(eps, 0), sp.Lt(eps, 2)),
    bound=CHEBYSHEV_STEPS,
    mutants=(
        Mutant("half the steps", _chebyshev_depth(CHEBYSHEV_STEPS / 2)),
        Mutant("steps of order kappa^(1/4)", _chebyshev_depth(kappa ** sp.Rational(1, 4) / 2 * sp.log(2 / eps))),
    ),
    steps=(*DEPTH_STEPS, ("K steps leave 2 q^K/(1 + q^(2K)) <= 2 q^K of an error (chebyshev-value)", None)),
    true_variants={"relation 1: power 1 for 2 of w": "any denominator that is 1 or more only helps"},
)

lam2, first, second = LETTERS.symbols({
    "lambda_2": "second distinct eigenvalue of C_t", "r_1": "component of the right side, of the first eigenvalue",
    "r_2": "component of the right side, of the second eigenvalue",
})  # fmt: skip


def _cg_ends(sign: int = 1, steps: int = 2) -> Statement:
    """Textbook conjugate gradient on diag(lambda, lambda_2), symbolically."""
    eigenvalues = sp.Matrix([lam, lam2])
    residual = -sp.Matrix([first, second])
    s, direction = sp.zeros(2, 1), residual
    for _ in range(steps):
        image = eigenvalues.multiply_elementwise(direction)
        length = residual.dot(residual) / direction.dot(image)
        s = s + length * direction
        following = residual - length * image
        direction = following + sign * following.dot(following) / residual.dot(residual) * direction
        residual = following
    exact = -sp.Matrix([first / lam, second / lam2])
    return tuple(equal(left, right) for left, right in zip(s, exact, strict=True))


CG_ENDS = Claim(
    name="cg-ends",
    title="Conjugate gradient is exact after as many steps as C has distinct eigenvalues; here two.",
    statement=_cg_ends(),
    certificate=Identity(),
    provenance="published",
    source=f"{SAAD}, sec. 6.11.3",
    mutants=(
        Mutant("one step fewer", _cg_ends(steps=1)),
        Mutant("directions of the wrong sign", _cg_ends(sign=-1)),
    ),
    steps=(
        ("CG minimises the C-norm of p(C)(s_0 - s) over polynomials p of degree K with p(0) = 1", None),
        ("With j distinct eigenvalues the polynomial that vanishes at them has degree j", None),
    ),
    scope="reduced for two eigenvalues and any right side; an eigenvalue repeated is one more equal component.",
)


error2, error_C, solution2, solution_C, share = LETTERS.symbols({
    "e_2": "squared 2-norm of an error", "e_C": "its squared C-norm", "s_2": "squared 2-norm of the solution",
    "s_C": "its squared C-norm", "delta": "relative error in the C-norm",
}, nonnegative=True)  # fmt: skip


def _two_norm(factor: Any = sp.sqrt(L / m)) -> Statement:
    return (sp.Le(sp.sqrt(error2), factor * share * sp.sqrt(solution2)),)


NORMS = (
    sp.Lt(0, m), sp.Le(m, L), sp.Le(m * error2, error_C), sp.Le(solution_C, L * solution2),
    sp.Le(error_C, share**2 * solution_C),
)  # fmt: skip
CG_TWO_NORM = Claim(
    name="cg-two-norm",
    title="A relative error of delta in the C-norm, in which conjugate gradient is bounded, is one of sqrt(kappa) "
    "delta at most in the 2-norm.",
    statement=_two_norm(),
    certificate=Reals(),
    provenance="derived",
    assumptions=NORMS,
    bound=sp.sqrt(kappa),
    mutants=(
        Mutant("the same in both norms", _two_norm(sp.Integer(1))),
        Mutant("kappa^(1/4)", _two_norm(sp.sqrt(sp.sqrt(L / m)))),
        Mutant("without m |v|^2 <= v'Cv", assumptions=(*NORMS[:2], *NORMS[3:])),
    ),
    steps=(("m |v|^2 <= v'Cv <= L |v|^2 for every v, here the error and the solution", None),),
)


s0, s, P1, P2, Cn = LETTERS.symbols({
    "s_0": "first iterate", "s": "exact solution", "P_1": "first approximate inverse",
    "P_2": "second approximate inverse", "C": "covariance of X_t",
}, commutative=False)  # fmt: skip


def _product(exchanged: bool = False, sign: int = 1) -> Statement:
    first_step = s0 - P1 * (Cn * s0 - Cn * s)  # r = -C s
    second_step = first_step - sign * P2 * (Cn * first_step - Cn * s)
    factors = (1 - P2 * Cn) * (1 - P1 * Cn) if not exchanged else (1 - P1 * Cn) * (1 - P2 * Cn)
    return (equal(second_step - s, factors * (s0 - s)),)


PRODUCT = Claim(
    name="preconditioned-product",
    title="After two preconditioned steps the error is (I - P_2 C)(I - P_1 C)(s_0 - s), in that order.",
    statement=_product(),
    certificate=Identity(reduce=sp.expand),
    provenance="derived",
    mutants=(Mutant("factors exchanged", _product(exchanged=True)), Mutant("second step uphill", _product(sign=-1))),
    scope="an identity in non-commuting letters: it holds for matrices of every size. More steps are more factors.",
)

NILPOTENT, root = LETTERS.symbols({
    "c": "any number", "x": "indeterminate of a characteristic polynomial",
})  # fmt: skip


UNIT = sp.ImmutableMatrix(sp.eye(2))


def _nilpotent(power: int = 2, norm: Any = NILPOTENT**2) -> Statement:
    """For C = diag(m, L) and a P that is not symmetric: the characteristic polynomial of I - PC, its squared norm."""
    covariance = sp.ImmutableMatrix([[m, 0], [0, L]])
    inverse = sp.ImmutableMatrix([[1 / m, -NILPOTENT / L], [0, 1 / L]])
    error = sp.MatAdd(UNIT, sp.MatMul(-1, inverse, covariance))
    second = sp.ImmutableMatrix([0, 1])
    image: Any = sp.MatMul(error, second)
    return (
        equal(sp.Determinant(sp.MatAdd(sp.MatMul(root, UNIT), sp.MatMul(-1, error))), root**power),
        equal(sp.Trace(sp.MatMul(image, image.T)), norm),
    )


SPECTRUM_ALONE = Claim(
    name="spectrum-bounds-nothing",
    title="I - PC may have 0 as its only eigenvalue and yet any norm: if P is not symmetric, the spectrum alone bounds "
    "no error.",
    statement=_nilpotent(),
    certificate=Identity(),
    provenance="derived",
    mutants=(
        Mutant("an eigenvalue less", _nilpotent(power=1)),
        Mutant("norm 0", _nilpotent(norm=0)),
    ),
    steps=(("The second unit vector, an error of size 1, becomes one of size |c| in the first step", None),),
)

GD_BOUND, CHEBYSHEV_BOUND, CG_MEASURED = LETTERS.symbols(
    {f"{name} error": f"largest relative error of {name} seen" for name in ("GD", "Chebyshev", "CG")},
    nonnegative=True,
)
SMALLEST_BOUND = 1e-9
"""Bounds below this are not measured: rounding, of size eps kappa, is then part of the error."""
ROUNDING = 1e-3
"""eps kappa over the smallest bound: what rounding may add to an error that attains its bound, relative to it."""


def _runs() -> Iterator[dict[Any, float]]:
    """Solvers on diagonal matrices with the given condition number, spectra clustered, even and at both ends."""
    generator = torch.Generator().manual_seed(0)
    for condition in (1.5, 10.0, 100.0, 1000.0):
        uniform = torch.rand(24, 40, generator=generator, dtype=torch.float64)
        uniform[:, 0], uniform[:, 1] = 0.0, 1.0
        uniform[::3] = uniform[::3].round()  # two distinct eigenvalues
        eigenvalues = 1 + (condition - 1) * uniform
        r = torch.randn(24, 40, generator=generator, dtype=torch.float64)
        exact = -r / eigenvalues
        energy = (eigenvalues * exact**2).sum(dim=1)
        for steps in (1, 2, 4, 8, 16, 32, 64):

            def operator(v: torch.Tensor, c: torch.Tensor = eigenvalues) -> torch.Tensor:
                return c * v

            *_, plain = gradient_descent(operator, r, 1.0, condition, steps)
            *_, fast = chebyshev(operator, r, 1.0, condition, steps)
            *_, conjugate = conjugate_gradient(operator, r, steps)
            relative = [((iterate - exact).norm(dim=1) / exact.norm(dim=1)).max() for iterate in (plain, fast)]
            cg = ((eigenvalues * (conjugate - exact) ** 2).sum(dim=1) / energy).sqrt().max()
            q = (condition**0.5 - 1) / (condition**0.5 + 1)
            if 2 * q**steps > SMALLEST_BOUND:
                yield {
                    kappa: condition, K: steps, GD_BOUND: float(relative[0]), CHEBYSHEV_BOUND: float(relative[1]),
                    CG_MEASURED: float(cg),
                }  # fmt: skip


def _errors(gd: Any = RATE**K, fast: Any = None) -> Statement:
    fast = 2 * FAST**K / (1 + FAST ** (2 * K)) if fast is None else fast
    return (sp.Le(GD_BOUND, gd), sp.Le(CHEBYSHEV_BOUND, fast), sp.Le(CG_MEASURED, fast))


ERRORS = Claim(
    name="convergence-measured",
    title="The errors of the shipped solvers stay within ((kappa-1)/(kappa+1))^K and 2 q^K/(1+q^(2K)).",
    statement=_errors(),
    certificate=Sweep(_runs, "kappa 1.5 to 1000, K 1 to 64, 24 spectra of 40 eigenvalues each, seed 0, "
    "float64", ROUNDING),
    provenance="published",
    source=f"{SAAD}, sec. 6.11.3 and 12.3.2",
    bound=_errors()[1].rhs,
    assumptions=(sp.Ge(kappa, 1),),
    mutants=(
        Mutant("q^K without the 2", _errors(fast=FAST**K)),
        Mutant("gradient descent at Chebyshev's rate", _errors(gd=_errors()[1].rhs)),
        Mutant("Chebyshev at the rate of kappa^(1/4)", _errors(fast=_errors()[1].rhs.subs(kappa, sp.sqrt(kappa)))),
    ),
)  # fmt: skip

CLAIMS = (CONTRACTION, GD_OPTIMAL, GD_DEPTH, CHEBYSHEV_DEPTH, CG_ENDS, CG_TWO_NORM, PRODUCT, SPECTRUM_ALONE, ERRORS)
