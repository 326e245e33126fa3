"""False variants that were accepted once, and mutants that are generated."""

from dataclasses import replace

import pytest
import sympy as sp
import z3

from theory import registry
from theory.certify import Identity, Induction, IntegralTest, Reals, equal, reals
from theory.certify.mutate import check_variant, variants
from theory.certify.points import counterexample, domain, truth
from theory.check import check_variants
from theory.claim import Claim
from theory.registry import find
from theory.symbols import J, N, gamma, l

x, y = sp.symbols("x y", real=True)
ONCE_ACCEPTED = [
    ("gd-depth", "steps of order sqrt(kappa)"),
    ("chebyshev-depth", "steps of order kappa^(1/4)"),
    ("tail-polynomial", "without p > 1"),
    ("row-sum", "95 % of it"),
    ("sink-head", "without c > Z_i, where the logit is not real"),
    ("score-formula", "curvature 1/2 + (n-1)(n-2), right for n = 1 and 2"),
    ("guarantee", "half the score error's part"),
    ("girsanov", "0.9 of KL(p_T || N(0, I))"),
    ("sizes-relu-gradient-descent", "floor(log2 N) + 1 bits"),
    ("covering-number", "D^2 M L"),
]
"""Each is a mutant of its claim, and every mutant is checked with its claim; the quick ones here too."""
MEASURED = {"guarantee", "girsanov", "sizes-relu-gradient-descent"}


@pytest.mark.parametrize(("name", "change"), ONCE_ACCEPTED)
def test_variants_that_were_accepted_are_refuted(name, change):
    claim = find(name)
    (mutant,) = [mutant for mutant in claim.mutants if mutant.change == change]
    if name not in MEASURED:
        assert claim.check_mutant(mutant).status == "refuted"


@pytest.mark.parametrize("change", [sp.sqrt, lambda k: k**2, lambda k: k + 1, lambda k: k * 0.9])
@pytest.mark.parametrize("name", ["gd-depth", "chebyshev-depth"])
def test_no_other_power_of_kappa_is_deep_enough(name, change):
    """Fewer steps are refuted, and more steps are fewer for the inverse change."""
    claim = find(name)
    kappa = next(symbol for symbol in claim.bound.free_symbols if str(symbol) == "kappa")
    steps, fewer = claim.bound, claim.bound.subs(kappa, change(kappa))
    relation = claim.statement[-1]
    for one, other in ((steps, fewer), (fewer, steps)):
        factor = sp.simplify(other / one)
        scaled = relation.func(relation.lhs * factor, relation.rhs, evaluate=False)
        verdict = counterexample((scaled,), claim.assumptions)
        smaller = factor.subs(kappa, 100) < 1 or factor.subs(kappa, sp.Rational(11, 10)) < 1
        assert bool(verdict) == bool(smaller)


def test_a_step_of_an_induction_is_needed():
    """A formula that is right at the start and wrong afterwards, or wrong by a constant."""
    total = sp.Sum(gamma(l), (l, J, N - 1))
    inside = (sp.Lt(J, N),)
    certificate = Induction(N, J)
    telescoping = sp.Sum(gamma(l) - gamma(l + 1), (l, J, N - 1))
    assert certificate.check((equal(telescoping, gamma(J) - gamma(N)),), inside).status == "holds"
    for right in (gamma(J) - gamma(N + 1), gamma(J) - gamma(N) + 1, (N - J) * (gamma(J) - gamma(N))):
        assert certificate.check((equal(telescoping, right),), inside).status == "refuted"
    assert certificate.check((equal(telescoping, gamma(J) - gamma(N)),), ()).status != "holds"
    assert certificate.check((equal(total, total),), inside).status == "holds"
    assert Induction(N, J).check((sp.Le(total, total + 1, evaluate=False),), inside).status == "undecided"


def test_an_integral_bounds_decreasing_terms_only():
    inside = (sp.Lt(J, N),)
    growing = sp.Sum(l**2, (l, J, N - 1))
    between = (N**3 - (J - 1) ** 3) / 3
    certificate = IntegralTest(index=l, integral=l**3 / 3)
    assert certificate.check((sp.Le(growing, between),), inside).status != "holds"
    falling = sp.Sum(1 / l**2, (l, J + 1, N - 1))
    certificate = IntegralTest(index=l, integral=-1 / l)
    assert certificate.check((sp.Le(falling, 1 / J - 1 / (N - 1)),), inside).status == "holds"
    assert certificate.check((sp.Le(falling, 1 / J - 1 / sp.Integer(1)),), inside).status == "refuted"
    assert IntegralTest(index=l, integral=-2 / l).check((sp.Le(falling, 2 / J),), inside).status != "holds"


def test_a_denominator_that_may_be_0_refutes():
    p = sp.Symbol("p", positive=True)
    falling = sp.Sum(1 / l**2, (l, J + 1, N - 1))
    statement = (sp.Le(falling, 1 / J + 1 / (p - 1) ** 2),)
    certificate = IntegralTest(index=l, integral=-1 / l)
    assert certificate.check(statement, (sp.Lt(J, N), sp.Ne(p, 1))).status == "holds"
    assert certificate.check(statement, (sp.Lt(J, N),)).status == "refuted"


def test_what_exceeds_a_term_must_not_be_negative():
    inside = (sp.Lt(J, N),)
    falling = sp.Sum(1 / l**2, (l, J + 1, N - 1))
    above = IntegralTest(index=l, integral=-1 / l - 1 / l**2, more=2 / l**3)
    assert above.check((sp.Le(falling, 1 / J + 1 / J**2),), inside).status == "holds"
    below = IntegralTest(index=l, integral=-1 / l + 1 / l**2, more=-2 / l**3)
    assert below.check((sp.Le(falling, 1 / J + 1 / J**2),), inside).status == "undecided"


def test_counterexamples_are_looked_for_in_the_whole_domain():
    p = sp.Symbol("p", positive=True)
    assert counterexample((sp.Le(p, 2),), ()) is not None
    assert counterexample((sp.Le(p, 2),), (sp.Le(p, 2),)) is None
    assert counterexample((equal(p, p + sp.Float("1e-12")),), ()) is not None
    points = domain({x, y}, (sp.Lt(0, x), sp.Le(x, y), sp.Lt(y, 1)))
    assert len(points) > 16 and all(0 < point[x] <= point[y] < 1 for point in points)
    assert {point[x].is_Integer for point in domain({N}, (sp.Ge(N, 3),)) for x in point} == {True}


def test_what_cancels_refutes_nothing():
    t = sp.Symbol("t", positive=True)
    assert truth(equal(sp.exp(-t) - sp.exp(-t) * (1 + sp.exp(-t)), -sp.exp(-2 * t)), {t: sp.Integer(500)}) is not False


def test_integers_are_integers_for_z3_where_they_must_be():
    apart = (sp.Lt(J, N),)
    assert Reals().check((sp.Ge(N, J + 1, evaluate=False),), apart).status == "holds"
    real = {J: x, N: y}
    assert Reals().check((sp.Ge(y, x + 1, evaluate=False),), tuple(a.subs(real) for a in apart)).status == "refuted"
    low = sp.Symbol("low", negative=True)
    assert Reals().check((sp.Lt(low, 0, evaluate=False),), ()).status == "holds"


def test_the_order_of_integers_does_not_depend_on_what_was_asked_before(monkeypatch):
    monkeypatch.setattr(reals, "EFFORT", 10**9)
    monkeypatch.setattr(reals, "TIMEOUT", 300)
    cubes = sum((z3.Int(name) ** 3 for name in ("i", "j", "k")), z3.IntVal(0)) == 42
    for _ in range(3):
        assert reals._ask(cubes, z3.Int("i") > 100)[0] == z3.unknown
        for _ in range(3):
            assert Reals().check((sp.Ge(N, J + 1, evaluate=False),), (sp.Lt(J, N),)).status == "holds"


def test_a_premise_that_nothing_satisfies_proves_nothing():
    impossible = sp.And(sp.Gt(x, 1), sp.Lt(x, 0), evaluate=False)
    statement = (sp.Implies(impossible, sp.Gt(y, 5), evaluate=False),)
    assert Reals().check(statement, ()).status == "undecided"


def test_generated_mutants_change_one_place():
    claim = find("kappa-noise")
    generated = variants(claim)
    assert len(generated) >= 8
    assert len({mutant.change for mutant in generated}) == len(generated)
    for mutant, changed in generated.items():
        assert (changed is None) == (mutant.statement is None) != (mutant.assumptions is None)
        assert check_variant(claim, mutant, changed).status == "refuted" or mutant.change in claim.true_variants


def test_a_loose_claim_has_survivors_and_names_them(monkeypatch):
    loose = sp.Le(x, 3 * y, evaluate=False)
    given = (sp.Ge(y, 0), sp.Le(x, y))
    claim = Claim(name="n", title="t", statement=(loose,), certificate=Reals(), provenance="derived", assumptions=given)
    verdicts = {mutant.change: check_variant(claim, mutant, k).status for mutant, k in variants(claim).items()}
    assert verdicts["right side times 0.9"] == "holds"
    assert "right side times 1.1" not in verdicts  # weaker: true because the claim is
    survivors = [change for change, status in verdicts.items() if status != "refuted"]
    named = replace(claim, true_variants=dict.fromkeys(survivors[1:], "there is room"))
    monkeypatch.setitem(registry.claims(), "n", ("tests", named))
    found = {result.mutant: (result.status, result.detail) for result in check_variants("n")}
    assert found[survivors[0]][0] == "holds"
    assert all(found[change] == ("true", "there is room") for change in survivors[1:])


def test_matrices_of_every_size_are_words():
    n = sp.Symbol("n", integer=True, positive=True)
    C, D = (sp.MatrixSymbol(name, n, n) for name in "CD")
    v = sp.MatrixSymbol("v", n, 1)
    assert Identity(symmetric=(C,)).check((equal(v.T * C * D * v, v.T * D.T * C * v),), ()).status == "holds"
    assert Identity().check((equal(v.T * C * D * v, v.T * D.T * C * v),), ()).status == "refuted"
    assert Identity().check((equal(C * C.inv() * v, v),), ()).status == "holds"
    assert Identity().check((equal(C * D, D * C),), ()).status == "refuted"
    shifted = (2 * C + 3 * sp.Identity(n)).inv()
    assert Identity().check((equal(2 * C * shifted * v, v - 3 * shifted * v),), ()).status == "holds"
    assert Identity().check((equal(2 * C * shifted * v, v + 3 * shifted * v),), ()).status == "refuted"
