"""How far the score of a sample covariance is from the exact one: its expected error, to leading order in 1/n.

Let C = alpha_t^2 Sigma_0 + sigma_t^2 I be the covariance of X_t, with eigenvalues c_i, and Sigma_0 that of the clean
p = N d values, with eigenvalues l_i. Mean m and covariance S = Sigma_0 + D of n sequences give the score s_n. Derived:

    s_n - s = alpha^2 C^{-1} D C^{-1} (x - alpha mu) + alpha C^{-1} (m - mu) + terms of second order in D and m - mu.

Averaged over x ~ p_t, whose covariance is C, the squared norm is

    alpha^4 tr(C^{-1} D C^{-1} D C^{-1}) + alpha^2 |C^{-1} (m - mu)|^2.

Averaged over the sequences, with E[D A D] = (Sigma_0 A Sigma_0 + tr(A Sigma_0) Sigma_0)/n for Gaussian sequences and
symmetric A, and E[(m - mu)(m - mu)'] = Sigma_0/n, it is K/n with

    K = alpha^4 [ sum_i l_i^2/c_i^3 + (sum_i l_i/c_i) (sum_i l_i/c_i^2) ] + alpha^2 sum_i l_i/c_i^2.

The squared norm of the exact score is tr C^{-1} on average. Shrinkage by a share of order 1/n moves s_n by order 1/n,
and the squared error by order 1/n^2: the shrunk covariance has the same K.
"""

import math

from unrolled.checks import require_integer
from unrolled.diffusion import alpha
from unrolled.process import GaussianProcess

__all__ = ["expected_score_error"]


def expected_score_error(process: GaussianProcess, t: float, n: int) -> float:
    """sqrt(K / (n tr C^{-1})): root of the leading term of the expected relative squared error of the score, see above.

    It is the error that `score_errors` measures, as far as n is large beside N d and beside what small t asks for.

    Raises:
        InputError: n < 1.
    """
    require_integer("n", n)
    c = process.eigenvalues(t)
    clean = process.temporal_eigen[0][:, None] * process.spatial_eigen[0]
    a2 = alpha(float(t)) ** 2
    once, twice = (clean / c).sum(), (clean / c**2).sum()
    k = a2**2 * ((clean**2 / c**3).sum() + once * twice) + a2 * twice
    return math.sqrt(float(k / (1 / c).sum()) / n)
