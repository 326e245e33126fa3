"""The claims hold, their mutants are refuted, and no certificate says yes to what is false or empty."""

from collections import Counter

import pytest
import sympy as sp

from theory.certify import Balls, Each, Identity, Increasing, Reals, Sweep, equal
from theory.check import check_claim, check_mutants
from theory.claim import Claim, Mutant
from theory.page import PAGE, page
from theory.rates import DECAYS, SOLVERS, Rate, imputation_rate, total_variation
from theory.registry import alphabet_of, claims, find
from theory.render import derivation, letters, letters_used
from theory.symbols import NOTATION, Letters, kappa

x, y = sp.symbols("x y", real=True)
NAMES = list(claims())


@pytest.mark.parametrize("name", NAMES)
def test_claim_holds_and_its_mutants_are_refuted(name):
    result = check_claim(name)
    assert result.status == "holds", result.detail
    survivors = {each.mutant: (each.status, each.detail) for each in check_mutants(name) if each.status != "refuted"}
    assert not survivors


def test_there_are_enough_claims_and_mutants():
    found = [claim for _, claim in claims().values()]
    assert Counter(claim.kind for claim in found) == {"identity": 37, "inequality": 36, "numeric": 18}
    assert all(claim.mutants for claim in found)
    assert sum(len(claim.mutants) for claim in found) == 214
    assert all(claim.source for claim in found if claim.provenance == "published")


def test_the_page_is_in_step():
    assert PAGE.read_text() == page(), "run python -m theory.page"


@pytest.mark.parametrize("as_latex", [False, True])
def test_every_claim_can_be_read(as_latex):
    for _, claim in claims().values():
        lines = list(derivation(claim, as_latex))
        assert lines[0] == claim.title and any(line.startswith("certificate: ") for line in lines)


def test_letters_of_a_subject_have_one_meaning_each():
    """No two letters of a subject print alike, none is told apart by a prime, and the page can say what each stands
    for."""
    used: dict[str, dict[str, set]] = {}
    for subject, claim in claims().values():
        for letter in letters_used(claim):
            used.setdefault(subject, {}).setdefault(str(letter), set()).add(letter)
            assert alphabet_of(claim).meaning(letter), f"{claim.name}: {letter} has no meaning"
        assert set(letters(claim)) == {str(letter) for letter in letters_used(claim)}
    for subject, letters_of_subject in used.items():
        for name, symbols in letters_of_subject.items():
            assert len(symbols) == 1 and "'" not in name, f"{subject}: {name}"


def test_a_letter_means_one_thing_in_a_subject_and_another_in_the_next():
    shared = Letters()
    kappa_ = shared.define("kappa", "condition number")
    one, two = Letters(shared), Letters(shared)
    x1, x2 = one.define("x", "a state"), two.define("x", "a knot")
    assert x1 == x2 and (one.meaning(x1), two.meaning(x2)) == ("a state", "a knot")
    assert one.meaning(kappa_) == "condition number" and one.meaning(sp.Symbol("y")) is None
    assert one.define("x", "a state") == x1
    for again in ({"meaning": "another"}, {"meaning": "a state", "positive": True}):
        with pytest.raises(RuntimeError, match="stands for"):
            one.define("x", **again)


def test_symbols_that_print_alike_are_not_one_variable():
    """Before, z3 got one variable for both, so that what was assumed of one proved the other."""
    real, positive = sp.Symbol("x", real=True), sp.Symbol("x", positive=True)
    both = (sp.Ge(real, 0) | sp.Lt(positive, 0),)
    assert Reals().check((sp.Ge(positive, 0) & sp.Gt(positive + 1, 1),), ()).status == "holds"
    assert Reals().check(both, ()).status == "refuted"
    assert Reals().check((sp.Ge(real, 0),), (sp.Gt(positive, 0),)).status == "refuted"
    with pytest.raises(RuntimeError, match="two symbols are called x"):
        Claim("x", "x", (sp.Le(real, positive),), Reals(), "derived").evaluate(x=1.0)


def status(certificate, *statement, assumptions=()) -> str:
    return certificate.check(statement, assumptions).status


POINTS = ({x: 1.0, y: 2.0}, {x: 2.0, y: 2.0})


@pytest.mark.parametrize(
    ("certificate", "true", "false"),
    [
        (Identity(), equal((x + y) ** 2, x**2 + 2 * x * y + y**2), equal((x + y) ** 2, x**2 + x * y + y**2)),
        (Identity(({x: 1}, {x: 2})), equal((x - 1) * (x - 2) + y, y), equal((x - 1) * (x - 3) + y, y)),
        (Reals(), sp.Ge(x**2 + y**2, 2 * x * y), sp.Ge(x**2 + y**2, 3 * x * y)),
        (Increasing(x, 0), sp.Le(sp.log(1 + x**2), x**2), sp.Le(x**2, x**2 - x)),
        (Balls({x: (1, 2)}), sp.Lt(sp.log(x), x - sp.Rational(1, 2)), sp.Lt(sp.log(x), x - sp.Rational(11, 10))),
        (Sweep(lambda: POINTS, "two points"), sp.Le(x, y), sp.Lt(x, y)),
        (Sweep(lambda: POINTS[1:], "one point"), equal(x, y), equal(x, y + 1)),
    ],
    ids=["identity", "instances", "reals", "increasing", "balls", "sweep", "equation"],
)
def test_certificates_tell_true_from_false(certificate, true, false):
    given = (sp.Ge(x, 0),)
    factor = isinstance(certificate, Increasing)
    exact = Increasing(x, 0, factor=1 + x**2) if factor else certificate
    assert status(exact, true, assumptions=given) == "holds"
    assert status(exact, false, assumptions=given) == "refuted"
    assert status(Each((exact, exact)), true, true, assumptions=given) == "holds"
    assert status(Each((exact, exact)), true, false, assumptions=given) == "refuted"


@pytest.mark.parametrize(
    ("certificate", "statement", "assumptions"),
    [
        # z3: what is not defined, or assumed away
        (Reals(), sp.Piecewise((sp.sqrt(x), x >= 0), (sp.sqrt(-x), True)) <= 0, ()),
        (Reals(), sp.Implies(x < 0, sp.sqrt(x) >= 7), ()),
        (Reals(), sp.Implies(sp.And(equal(x, 0), equal(y, 0)), sp.Le(1 / x, 1 / y)), ()),
        (Reals(), sp.Ge(x, 5), (sp.Lt(x, 0), sp.Gt(x, 0))),
        # derivatives: a factor of the wrong sign, poles, gaps and jumps
        (Increasing(x, 0, factor=sp.Integer(-1)), sp.Le(x, 0, evaluate=False), (sp.Ge(x, 0),)),
        (Increasing(x, 0, factor=(1 - x) ** 2), sp.Le(1, 1 / (1 - x)), (sp.Ge(x, 0),)),
        (Increasing(x, 0), sp.Ge(x**2 - 4 * x + 1, 0), (sp.Ge(x, 2),)),
        (Increasing(x, 0), sp.Ge(-sp.Piecewise((0, x < 1), (5, True)), 0), (sp.Ge(x, 0),)),
        (Increasing(x, 0), sp.Ge(x, 0), ()),
        # balls: no inequality, no instance, equality at an edge
        (Balls({x: (0, 1)}), equal(0, 1 + x**2), ()),
        (Balls({x: (0, 1)}, ()), sp.Lt(5 + x, 1, evaluate=False), ()),
        (Balls({x: (0, 1)}), sp.Lt(x, 2 * x), ()),
        # identities and sweeps of nothing
        (Identity(()), equal(x, y), ()),
        (Identity(), sp.Ne(x, x, evaluate=False), ()),
        (Sweep(lambda: (), "nothing"), sp.Le(x, y), ()),
        (Sweep(lambda: POINTS, "two points"), sp.Ne(x, y), ()),
    ],
)  # fmt: skip
def test_no_certificate_holds_what_is_empty_or_undefined(certificate, statement, assumptions):
    assert status(certificate, statement, assumptions=assumptions) != "holds"


def test_infinite_and_undefined_measurements_hold_nothing():
    infinite = Sweep(lambda: ({x: 3.0, y: float("inf")},), "infinite", rtol=1e-3)
    assert status(infinite, equal(x, y)) == "refuted"
    nan = Sweep(lambda: ({x: float("nan"), y: 1.0},), "not a number")
    assert status(nan, sp.Le(x, y)) == "refuted"


def test_a_claim_of_nothing_or_of_what_sympy_sees_itself_does_not_hold():
    for statement in ((), (sp.Le(x, x),)):
        claim = Claim(name="n", title="t", statement=statement, certificate=Reals(), provenance="derived")
        assert claim.check().status == "undecided"
    claim = Claim(name="n", title="t", statement=(equal(x, x),), certificate=Identity(), provenance="derived")
    assert claim.check_mutant(Mutant("false", (sp.false,))).status == "refuted"


@pytest.mark.parametrize(
    ("name", "values", "named"),
    [
        ("gd-depth", {"kappa": 0.5, "epsilon": 1e-3}, "kappa: 0.5 .* kappa >= 1"),
        ("gd-depth", {"kappa": 10.0, "epsilon": 0.0}, "epsilon: 0 .* epsilon > 0"),
        ("gd-depth", {"kappa": 10.0, "epsilon": -1.0}, "epsilon: -1 .* epsilon > 0"),
        ("tail-exponential", {"J": 4, "ell": 2.0, "p": 2.5}, "p: 2.5 .* p <= 2"),
        ("tail-polynomial", {"J": 4, "ell": 2.0, "p": 1.0}, "p: 1 .* p > 1"),
        ("tail-ou", {"J": 4.5, "N": 8, "rho": 0.5}, "J: 4.5 .* an integer J"),
        ("tail-ou", {"J": 4, "N": 8, "rho": -0.5}, "rho: -0.5 .* rho > 0"),
        ("gd-depth", {"kappa": 10.0}, "epsilon: not given"),
        ("gd-depth", {"kappa": 10.0, "epsilon": 0.1, "nu": 1.0}, "nu: not a symbol"),
        ("gd-depth", {"kappa": float("nan"), "epsilon": 0.1}, "kappa: nan"),
    ],
)
def test_violated_assumptions_are_named(name, values, named):
    with pytest.raises(ValueError, match=named):
        find(name).evaluate(values)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="claim: 'gd' is not a claim; accepted: gd-contraction"):
        find("gd")
    with pytest.raises(ValueError, match="of: 'Z' is not accepted"):
        find("gd-depth").evaluate(kappa=2.0, epsilon=0.1, of="Z")
    assert NOTATION.meaning(kappa) == "condition number L/m of C_t"


def test_bounds_evaluate_to_what_the_solvers_say():
    from unrolled.solvers import chebyshev_bound, gradient_descent_bound

    for condition, steps in ((2.0, 3), (1413.0, 64)):
        measured = find("convergence-measured")
        assert measured.evaluate(kappa=condition, K=steps) == pytest.approx(
            chebyshev_bound(condition, steps), rel=1e-12
        )
        plain = measured.evaluate(kappa=condition, K=steps, of="GD error")
        assert plain == pytest.approx(gradient_descent_bound(condition, steps), rel=1e-12)
        needed = find("gd-depth").evaluate(kappa=condition, epsilon=1e-2)
        assert gradient_descent_bound(condition, int(needed) + 1) <= 1e-2


def test_rates_are_products_of_powers():
    published = imputation_rate()
    assert published.exponents() == {"n": -0.5, "N": 0.5, "d": 1.0, "kappa": 2.5}
    for solver in SOLVERS:
        slopes = [total_variation(solver, decay).exponents(power=3.0)["n"] for decay in DECAYS]
        assert slopes == [pytest.approx(each) for each in (-0.5, -0.4, -0.5)]  # logarithmic pays with N instead
    assert total_variation("Chebyshev", "logarithmic").exponents()["N"] == 1.0
    with pytest.raises(ValueError, match="power: None"):
        total_variation("Chebyshev", "polynomial").exponents()
    with pytest.raises(ValueError, match="monomial"):
        Rate.of(sp.Symbol("n", positive=True) + 1)
    with pytest.raises(ValueError, match="solver: 'newton'"):
        total_variation("newton", "exponential")
    with pytest.raises(ValueError, match="decay: 'linear'"):
        total_variation("Chebyshev", "linear")
