"""What accuracy alone forces on any score model: its mean Jacobian, and how its error splits.

X_t is Gaussian with mean m = alpha mu and covariance C, and its score is s = -C^{-1}(x - m). For a model f with
E|f(X_t)|^2 finite, W x + w is the affine map that is closest to it in mean square over X_t.
"""

from typing import Any

import sympy as sp

from theory.certify import Each, Identity, Reals, equal
from theory.claim import Claim, Mutant, Statement
from theory.symbols import Letters

__all__ = ["CLAIMS"]

LETTERS = Letters("best_affine")
y, at, slope, curvature, value, change = LETTERS.symbols({
    "y": "displacement of the state along one coordinate", "y_0": "where it is",
    "g": "that coordinate of C^{-1}(x - m) at y = 0", "Lambda": "diagonal entry of C^{-1} at that coordinate",
    "f": "an output of the model there", "f_y": "its derivative by the coordinate",
})  # fmt: skip
C, W, V = sp.symbols("C W V", commutative=False)
LETTERS.name({C: "covariance of X_t", W: "slope of the best affine map", V: "its transpose W'"})


def _parts(density: Any = None, force: Any = curvature * y + slope, product: bool = True) -> Statement:
    """d/dy (f p) = (f' - f force) p, at a point where f has the value f and the derivative f_y."""
    p = sp.exp(-curvature * y**2 / 2 - slope * y) if density is None else density
    model = value + change * (y - at)
    inside = model * p if product else model + p
    return (equal(sp.Subs(sp.Derivative(inside, y), y, at), ((change - value * force) * p).subs(y, at)),)


STEIN = Claim(
    name="stein",
    title="E[J f(X_t)] = E[f(X_t) (X_t - alpha mu)'] C_t^{-1} = W: the mean Jacobian of any score model is the slope "
    "of "
    "its best affine map, so influence by regression and by differentiation are one number.",
    statement=_parts(),
    certificate=Identity(),
    provenance="published",
    source="Stein, Annals of Statistics 9, 1981, lemma 1",
    bound=curvature * at + slope,
    mutants=(
        Mutant("force of the other sign", _parts(force=-curvature * y - slope)),
        Mutant("force without C^{-1}", _parts(force=y + slope)),
        Mutant("force at y = 0", _parts(force=slope)),
        Mutant("half the force", _parts(force=(curvature * y + slope) / 2)),
        Mutant("density without the half", _parts(sp.exp(-curvature * y**2 - slope * y))),
        Mutant("a Laplace density", _parts(sp.exp(-curvature * y - slope * y))),
        Mutant("density that grows", _parts(sp.exp(curvature * y**2 / 2 + slope * y))),
        Mutant("sum for product", _parts(product=False)),
    ),
    steps=(
        ("Along a coordinate log p is -Lambda y^2/2 - g y up to a constant, whatever the number of coordinates"
         " (score-formula), and minus its slope is that coordinate of C^{-1}(x - m)", curvature * y + slope),
        ("The derivative of f p at a point knows f by its value and its derivative there alone", None),
        ("f p vanishes far out, so the integral of its derivative is 0: E[df/dx_k] = E[f (C^{-1}(X - m))_k]", None),
        ("The closest affine map has E[(f - W X - w)(X - m)'] = 0, which is W C = E[f (X - m)']", None),
    ),
    scope="for f that is differentiable almost everywhere with E|Jf| and E|f|^2 finite; that f p vanishes far out is "
    "in "
    "words.",
)  # fmt: skip

model, affine, score = LETTERS.symbols({
    "f_k": "an output of the model at a state", "v_k": "the same of W x + w", "s_k": "the same of the score",
})  # fmt: skip
total, operator, lean, curved = LETTERS.symbols({
    "E": "E|f - s|^2, the squared score error", "E_1": "|(W + C^{-1}) C^(1/2)|_F^2, error of the operator",
    "E_0": "|E f|^2, squared error of the mean", "E_2": "E|f - W x - w|^2, what is not affine",
})  # fmt: skip


def _split(
    slopes: Any = W + V, cross: Any = 2, rest: Any = model - affine, sign: int = 1, inverse: Any = C**-1,
    bound: Any = total,
) -> Statement:  # fmt: skip
    """The operator's part in words, the two parts of an output at every state, and what follows."""
    off = affine - score
    return (
        equal((W + sign * C**-1) * C * (V + sign * C**-1), W * C * V + slopes + inverse),
        equal((model - score) ** 2, rest**2 + off**2 + cross * rest * off),
        sp.Le(operator, bound),
    )


PARTS = (equal(total, operator + lean + curved), sp.Ge(lean, 0), sp.Ge(curved, 0))
PYTHAGORAS = Claim(
    name="score-error-splits",
    title="E|f - s|^2 = |(W + C^{-1}) C^(1/2)|_F^2 + |E f|^2 + E|f - Wx - w|^2: the influence of any accurate model is "
    "-C_t^{-1}, within its root mean square score error.",
    statement=_split(),
    certificate=Each((Identity(reduce=sp.expand), Identity(), Reals())),
    provenance="derived",
    assumptions=PARTS,
    bound=total,
    mutants=(
        Mutant("W - C^{-1}", _split(sign=-1)),
        Mutant("W once", _split(slopes=W)),
        Mutant("without W + W'", _split(slopes=0)),
        Mutant("C for C^{-1}", _split(inverse=C)),
        Mutant("cross terms once", _split(cross=1)),
        Mutant("without cross terms, whatever v is", _split(cross=0)),
        Mutant("rest from the score", _split(rest=model - score)),
        Mutant("half of the error", _split(bound=total / 2)),
        Mutant("a part may be negative", assumptions=PARTS[:-1]),
        Mutant("parts that need not add up", assumptions=PARTS[1:]),
    ),
    steps=(
        ("At every state (f - s)^2 is the square of f - W x - w, that of W x + w - s, and twice their product", None),
        ("f - W x - w is orthogonal to every affine function of x, and the score is one: the product has mean 0", None),
        ("W x + w - s = (W + C^{-1})(x - m) + E f, whose mean square is the trace of (W + C^{-1}) C (W + C^{-1})' and"
         " |E f|^2", W * C * V + W + V + C**-1),
        ("So for Gaussian data whatever a model has that is not affine is error, and its influence by lag says how"
         " accurate it is, and nothing of how it computes", None),
    ),
    scope="the product is reduced as words in letters that do not commute, so for every N and d; the mean over states "
    "is in words.",
)  # fmt: skip

CLAIMS = (STEIN, PYTHAGORAS)
