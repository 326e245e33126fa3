"""One block is enough for an Ornstein-Uhlenbeck process: the inverse of its noisy covariance is a sum of exponentials
of the distance to a frame, to its images in two mirrors and to two shifted frames, each with a positive weight.

With P the inverse of Gamma, (Gamma + tau I)^{-1} = (I - B)/tau for B = (I + tau P)^{-1}: from (I + tau P) B = I follows
I - B = tau P B, so that Gamma (I - B) = tau B, and (Gamma + tau I)(I - B) = tau I. A row of a tridiagonal matrix times
a column of exponentials r^|i-j|, r^(i+j), .. is a polynomial in r and the powers r^i, r^j, r^N. With these powers as
letters of their own it is one identity for every i, j and N; where the row lies decides which of seven cases it is.
"""

from collections.abc import Callable
from typing import Any

import sympy as sp

from theory.certify import Each, Identity, Reals, equal
from theory.certify.identity import reduce_to_zero
from theory.claim import Claim, Mutant, Statement
from theory.symbols import Letters

__all__ = ["CLAIMS", "powers_as_letters"]

LETTERS = Letters("one_block")
N = LETTERS.define("N", "frames of a sequence", integer=True, positive=True)
i, j, l = LETTERS.symbols({  # noqa: E741
    "i": "row, a frame 0..N-1", "j": "column, a frame 0..N-1", "l": "distance of two frames",
}, integer=True, nonnegative=True)  # fmt: skip
rho, r, tau, T, R, z = LETTERS.symbols({
    "rho": "e^(-1/lengthscale), correlation of neighbours", "r": "the same of B, closer to 0",
    "tau": "noise to signal, sigma_t^2/(alpha_t^2 s) for an eigenvalue s of Sigma",
    "T": "(1-rho)/(1+rho)", "R": "(1-r)/(1+r)", "z": "r^(N-1)",
}, positive=True)  # fmt: skip
mirror, size = LETTERS.symbols({
    "c": "weight of a mirror image", "w": "one over what B has on its diagonal without images",
}, positive=True)  # fmt: skip

NOISE = (1 - rho**2) / (rho * (r + 1 / r) - 1 - rho**2)
"""tau, as rho and r determine it."""
NEIGHBOUR = NOISE * rho / (1 - rho**2)
"""q, minus what I + tau P has beside its diagonal."""
MIRROR = r * (rho - r) / (1 - rho * r)
Entry = Callable[[Any, Any, Any], Any]
"""Entry (i, j) of a matrix, from i, j and their distance."""


def powers_as_letters(difference: Any) -> Any:
    """0, or the difference with powers of symbolic integers as free letters: r^(2N-i+1) is r (r^N)^2/(r^i)."""
    known: dict[Any, Any] = {}

    def split(power: Any) -> Any:
        base, exponent = power.args
        product = sp.Integer(1)
        for term in sp.Add.make_args(sp.expand(exponent)):
            count, symbol = term.as_coeff_Mul()
            letter = base if symbol == 1 else known.setdefault((base, symbol), sp.Dummy(positive=True))
            product *= letter**count
        return product

    return reduce_to_zero(difference.replace(lambda part: part.is_Pow and not part.exp.is_number, split))


def _rows(entry: Entry, one: Any, inner: Any, end: Any, single: Any, neighbour: Any = -1) -> Statement:
    """The row cases of (tridiagonal matrix) x (entries) = one I: where the row lies, and where the column."""
    last = N - 1

    def above(row: Any, column: Any) -> Any:
        return entry(row, column, column - row)

    def below(row: Any, column: Any) -> Any:
        return entry(row, column, row - column)

    return (
        equal(inner * above(i, j) + neighbour * (above(i - 1, j) + above(i + 1, j)), 0),
        equal(inner * above(i, i) + neighbour * (above(i - 1, i) + below(i + 1, i)), one),
        equal(inner * below(i, j) + neighbour * (below(i - 1, j) + below(i + 1, j)), 0),
        equal(end * above(0, j) + neighbour * above(1, j), 0),
        equal(end * above(0, 0) + neighbour * below(1, 0), one),
        equal(end * below(last, j) + neighbour * below(last - 1, j), 0),
        equal(end * above(last, last) + neighbour * above(last - 1, last), one),
        equal(single * above(0, 0).subs(N, 1), one.subs(N, 1)),
    )


def _bracket(c: Any = mirror, twice: Any = None, double: int = 2, span: Any = N - 1) -> Entry:
    def entry(row: Any, column: Any, distance: Any) -> Any:
        both = c**2 if twice is None else twice
        mirrored = c * r ** (row + column) + c * r ** (2 * span - row - column)
        return r**distance + mirrored + both * r ** (double * span - distance)

    return entry


def _scale(root: Any = 1 / r - r, images: int = 1) -> Any:
    """w (1 - c^2 r^(2L)) over q."""
    return root * (1 - images * mirror**2 * r ** (2 * (N - 1)))


KEPT = (r + mirror / r) / (1 + mirror)
"""rho, as the images keep it at either end: x_{-1} = rho x_0 for x_i = r^(-i) + c r^i."""


def _inverse(
    entry: Entry | None = None, scale: Any = None, kept: Any = KEPT, image: Any = MIRROR, noise: Any = NOISE,
    corner: Any = rho**2,
) -> Statement:  # fmt: skip
    """Rows of B over q; c; q (r + 1/r) and q (r + 1/r - rho) are the diagonal of I + tau P; rows of P."""
    neighbour = noise * rho / (1 - rho**2)
    single = ((1 + noise) / neighbour).subs(rho, KEPT)
    chain: Entry = lambda row, column, distance: rho**distance  # noqa: E731
    return (
        *_rows(entry or _bracket(), _scale() if scale is None else scale, r + 1 / r, r + 1 / r - kept, single),
        equal(KEPT.subs(mirror, image), rho),
        equal(1 + noise * (1 + rho**2) / (1 - rho**2), neighbour * (r + 1 / r)),
        equal(1 + noise * (1 + rho**2 - corner) / (1 - rho**2), neighbour * (r + 1 / r - rho)),
        *_rows(chain, 1 - rho**2, 1 + rho**2, 1 + rho**2 - corner, 1 - rho**2, -rho),
    )


INVERSE = Claim(
    name="images-inverse",
    title="For OU and every N >= 1, (Gamma + tau I)^{-1} = (I - B)/tau with B_ij = [r^|i-j| + c r^(i+j) + c "
    "r^(2(N-1)-i-j) + c^2 r^(2(N-1)-|i-j|)]/(w (1 - c^2 r^(2(N-1)))).",
    statement=_inverse(),
    certificate=Identity(reduce=powers_as_letters),
    provenance="derived",
    bound=NOISE,
    mutants=(
        Mutant("mirror images of the other sign", _inverse(_bracket(-mirror))),
        Mutant("c = r (rho - r)", _inverse(image=r * (rho - r))),
        Mutant("c = rho r", _inverse(image=rho * r)),
        Mutant("no mirror images", _inverse(_bracket(sp.Integer(0)))),
        Mutant("no doubly mirrored image", _inverse(_bracket(twice=0))),
        Mutant("doubly mirrored with weight c", _inverse(_bracket(twice=mirror))),
        Mutant("doubly mirrored at N - 1 for 2(N - 1)", _inverse(_bracket(double=1))),
        Mutant("mirror behind the last frame", _inverse(_bracket(span=N))),
        Mutant("without 1 - c^2 r^(2(N-1))", _inverse(scale=_scale(images=0))),
        Mutant("w = q/r", _inverse(scale=_scale(root=1 / r))),
        Mutant("end rows like inner rows", _inverse(kept=0)),
        Mutant("end rows that keep x_{-1} = r x_0", _inverse(kept=r)),
        Mutant("twice the noise", _inverse(noise=2 * NOISE)),
        Mutant("ends of P like its middle", _inverse(corner=0)),
    ),
    steps=(
        ("P = Gamma^{-1} has rows (-rho, 1 + rho^2, -rho)/(1 - rho^2), and 1 for 1 + rho^2 at both ends; I + tau P has"
         " beside its diagonal -q, with q", NEIGHBOUR),
        ("r solves q (r + 1/r) = 1 + a, a = tau (1 + rho^2)/(1 - rho^2), and w = q (1/r - r)", NEIGHBOUR * (1 / r - r)),
        ("Over q, the rows of I + tau P are (-1, r + 1/r, -1), and r + 1/r - rho on the diagonal at both ends. Times a"
         " column of the bracket they are 0 off the diagonal, and w (1 - c^2 r^(2(N-1)))/q on it: inside above, on and"
         " below the diagonal, first row and last row on and off it, and N = 1. N = 2 has first and last row", KEPT),
        ("c makes that rho the one of Gamma", MIRROR),
        ("The powers r^i, r^j, r^N are letters of their own, so the cases hold for all i, j and N", None),
    ),
)  # fmt: skip


T_RHO = (1 - T) / (1 + T)
R_R = (1 - R) / (1 + R)
T_NOISE = T * (1 - R**2) / (R**2 - T**2)
"""tau in T and R: R^2 = P/Q, P = 1 + tau T, Q = 1 + tau/T."""


def _stable(
    root: Any = None, images: Any = None, excess: Any = None, ratio: Any = 1, gap: Any = 1 - T**2, step: Any = 1
) -> Statement:
    """What the code computes without differences of near numbers is r, c, w - 1."""
    P, Q = 1 + T_NOISE * T, 1 + T_NOISE / T
    q = T_NOISE * T_RHO / (1 - T_RHO**2)
    a = T_NOISE * (1 + T_RHO**2) / (1 - T_RHO**2)
    w, c = R * Q, R_R * (R - T) / (R + T)
    root = (1 + R) ** 2 if root is None else root
    images = (R + T) ** 2 if images is None else images
    excess = T_NOISE * (T + 1 / T) + T_NOISE**2 if excess is None else excess
    return (
        equal(P / Q, ratio * R**2), equal(q * (R_R + 1 / R_R), 1 + a), equal(q * (1 / R_R - R_R), w),
        equal(w**2, (1 + a) ** 2 - 4 * q**2), equal(R_R * (T_RHO - R_R) / (1 - T_RHO * R_R), c),
        equal(T_NOISE * gap / (T * Q * root), R_R), equal(step * R_R * gap / (Q * images), c),
        equal(excess, (w - 1) * (w + 1)), equal(4 * T_RHO / (1 + T_RHO) ** 2, gap),
    )  # fmt: skip


STABLE = Claim(
    name="images-stable",
    title="With T = (1-rho)/(1+rho), Q = 1 + tau/T and R^2 = (1 + tau T)/Q, the numbers r, c and w - 1 are products "
    "and "
    "quotients of sums of positive terms: no digit is lost.",
    statement=_stable(),
    certificate=Identity(),
    provenance="derived",
    bound=R_R,
    mutants=(
        Mutant("R^2 = 2 P/Q", _stable(ratio=2)),
        Mutant("1 + R^2 for (1 + R)^2", _stable(root=1 + R**2)),
        Mutant("(1 - R)^2 for (1 + R)^2", _stable(root=(1 - R) ** 2)),
        Mutant("R^2 - T^2 for (R + T)^2", _stable(images=R**2 - T**2)),
        Mutant("(1 + T)^2 for (R + T)^2", _stable(images=(1 + T) ** 2)),
        Mutant("1 - T for 1 - T^2", _stable(gap=1 - T)),
        Mutant("half of c", _stable(step=sp.Rational(1, 2))),
        Mutant("w^2 - 1 without tau^2", _stable(excess=T_NOISE * (T + 1 / T))),
        Mutant("w^2 - 1 with T - 1/T", _stable(excess=T_NOISE * (T - 1 / T) + T_NOISE**2)),
    ),
    steps=(
        ("In T and R everything is rational, with tau", T_NOISE),
        ("r = (1-R)/(1+R) and 1 - R^2 = tau (1-T^2)/(T Q); c = r (R-T)/(R+T) and R^2 - T^2 = (1-T^2)/Q", None),
        ("w^2 = P Q, so w - 1 is this over w + 1", T_NOISE * (T + 1 / T) + T_NOISE**2),
    ),
)

REFLECTED = R_R * (R - T) / (R + T)
SQUARE = (1 + tau * T) / (1 + tau / T)
"""P/Q."""
POSITIVE_DOMAIN = (sp.Lt(T, R), sp.Lt(R, 1), sp.Le(z, 1))


def _positive(
    below: Any = T_RHO, image: Any = R_R * T_RHO, least: Any = 1, left: Any = 1 - T_RHO**4, sign: int = 1, top: Any = 1
) -> Statement:
    return (
        sp.Lt(T**2, SQUARE), sp.Lt(SQUARE, top), sp.Lt(0, R_R), sp.Lt(R_R, below), sp.Lt(0, sign * REFLECTED),
        sp.Lt(REFLECTED, image), sp.Gt(R * (1 + T_NOISE / T), least), sp.Gt(1 - REFLECTED**2 * z**2, left),
    )  # fmt: skip


POSITIVE = Claim(
    name="images-positive",
    title="For OU, 0 < r < rho, 0 < c < r rho and w > 1 at every tau > 0, so every term of B is positive and nothing "
    "small is divided by: 1 - c^2 r^(2(N-1)) > 1 - rho^4.",
    statement=_positive(),
    certificate=Reals(),
    provenance="derived",
    assumptions=POSITIVE_DOMAIN,
    mutants=(
        Mutant("r < rho^2", _positive(below=T_RHO**2)),
        Mutant("r < 0.9 rho", _positive(below=sp.Rational(9, 10) * T_RHO)),
        Mutant("c < 0.9 r rho", _positive(image=sp.Rational(9, 10) * R_R * T_RHO)),
        Mutant("c < r^2", _positive(image=R_R**2)),
        Mutant("c < 0", _positive(sign=-1)),
        Mutant("w > 1.1", _positive(least=sp.Rational(11, 10))),
        Mutant("w > 2", _positive(least=2)),
        Mutant("1 - c^2 r^(2(N-1)) > 1 - rho^6", _positive(left=1 - T_RHO**6)),
        Mutant("R^2 < T", _positive(top=T)),
        Mutant("r above rho allowed", assumptions=POSITIVE_DOMAIN[1:]),
        Mutant("r < 0 allowed", assumptions=(POSITIVE_DOMAIN[0], POSITIVE_DOMAIN[2])),
        Mutant("powers of r above 1 allowed", assumptions=POSITIVE_DOMAIN[:2]),
    ),
    steps=(
        ("R^2 = P/Q lies between T^2 and 1 for every tau > 0 and 0 < T < 1, and in T and R all is rational", SQUARE),
        ("r = (1-R)/(1+R) falls as R grows, and is rho at R = T; c is", REFLECTED),
        ("w = R Q", sp.factor(R * (1 + T_NOISE / T))),
        ("The factors of the heads, 1/w, c/(w (1 - c^2 r^(2(N-1)))) and c times that, are positive with them", None),
    ),
)

FAR = 2 * (N - 1)


def _shifts(
    rest: Any = r**FAR * r**l, other: Any = r ** (FAR + l), direct: Any = 1 / size, shifted: Any = mirror,
    span: Any = FAR,
) -> Statement:  # fmt: skip
    """The doubly mirrored term for frames that are l apart, either first; B as the heads hold it."""
    amplitude = 1 / (size * (1 - mirror**2 * r**FAR))
    ends = r ** (i + j) + r ** (FAR - i - j)
    shifts = r ** (span - l) + other
    b = amplitude * (r**l + mirror * ends + mirror**2 * r ** (FAR - l))
    return (
        equal(r ** (FAR - l), r ** (span - l) + other - rest),
        equal(b, direct * r**l + amplitude * mirror * ends + amplitude * mirror * shifted * shifts),
        sp.Ge(span - l, N - 1, evaluate=False),
    )


SHIFTS = Claim(
    name="images-shifts",
    title="The doubly mirrored term is two shifts, r^(2L-|l|) = r^(2L-l) + r^(2L+l) - r^(2L) r^|l| with L = N-1, so B "
    "is five exponentials of distances, of weights 1/w, A c twice and A c^2 twice, A = 1/(w (1 - c^2 r^(2L))).",
    statement=_shifts(),
    certificate=Each((Identity(reduce=powers_as_letters), Identity(reduce=powers_as_letters), Reals())),
    provenance="derived",
    bound=1 / (size * (1 - mirror**2 * r**FAR)),
    assumptions=(sp.Le(l, N - 1),),
    mutants=(
        Mutant("without the rest", _shifts(rest=sp.Integer(0))),
        Mutant("rest of the other sign", _shifts(rest=-(r**FAR) * r**l)),
        Mutant("rest r^(2L)", _shifts(rest=r**FAR)),
        Mutant("one shift", _shifts(other=sp.Integer(0))),
        Mutant("the same shift twice", _shifts(other=r ** (FAR - l))),
        Mutant("direct weight A", _shifts(direct=1 / (size * (1 - mirror**2 * r**FAR)))),
        Mutant("shifted weight A c", _shifts(shifted=sp.Integer(1))),
        Mutant("shift of L", _shifts(span=N - 1)),
        Mutant("shift of 2N", _shifts(span=2 * N)),
        Mutant("frames further apart than N - 1", assumptions=()),
    ),
    steps=(
        ("For l = i - j >= 0 the first and the third power are r^(2L-l), the second and the fourth r^(2L+l); for l < 0"
         " they change places", None),
        ("The rest, -c^2 r^(2L) r^|l|, joins the direct term: A (1 - c^2 r^(2L)) = 1/w", None),
        ("A query at the frame, at -i, at 2L-i, at i-2L and at i+2L looks at these five distances; the last two are at"
         " least L", None),
    ),
)  # fmt: skip

CLAIMS = (INVERSE, STABLE, POSITIVE, SHIFTS)
