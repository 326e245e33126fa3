"""The claims hold, their mutants are refuted, and no certificate says yes to what is false or empty."""

from collections import Counter
from dataclasses import replace
from importlib import import_module

import pytest
import sympy as sp

from theory.certify import Balls, Each, Identity, Increasing, Reals, Sweep, equal
from theory.check import check_claim, check_mutants, check_variants
from theory.claim import STRENGTHS, Claim, Mutant
from theory.page import PAGE, page
from theory.rates import DECAYS, SOLVERS, Rate, imputation_rate, total_variation
from theory.registry import PATH, claims, find
from theory.render import derivation, letters, used_letters
from theory.symbols import NOTATION, SPECTRUM, Letters, kappa
from unrolled.checks import InputError

x, y = sp.symbols("x y", real=True)
NAMES = list(claims())


@pytest.mark.parametrize("name", NAMES)
def test_claim_holds_and_its_mutants_are_refuted(name):
    result = check_claim(name)
    assert result.status == "holds", result.detail
    assert not [mutant for mutant in check_mutants(name) if mutant.status != "refuted"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_generated_mutants_are_refuted(name):
    mutants = check_variants(name)
    assert not [mutant for mutant in mutants if mutant.status not in ("refuted", "true")]
    true = [mutant for mutant in mutants if mutant.status == "true"]
    assert {mutant.mutant for mutant in true} == set(find(name).true_variants), "one is named that is not true"
    assert len(mutants) - len(true) >= 8 or find(name).strength == "numeric"  # a comparison has few places


def test_no_claim_and_no_mutant_is_lost():
    known = [claim for _, claim in claims().values()]
    counted = Counter(claim.strength for claim in known)
    assert set(counted) <= set(STRENGTHS)
    assert counted == {"all": 62, "step": 27, "numeric": 21}
    assert sum(len(claim.mutants) for claim in known) >= 382
    for claim in known:
        changes = [mutant.change for mutant in claim.mutants]
        assert changes and len(set(changes)) == len(changes)
        assert claim.source or claim.provenance != "published"
        assert (claim.strength == "step") <= bool(claim.scope)
        assert claim.scope or claim.strength in ("all", "numeric")


def test_the_path_leads_over_claims():
    assert {name for _, names in PATH for name in names} <= set(claims())


def test_the_strength_is_that_of_the_weakest_part():
    box = Balls({x: (0, 1)})
    assert Each((Reals(), box)).reach == "box" and Each((Identity(({x: 1},)), box)).reach == "instances"
    assert Each((Sweep(lambda: POINTS, "two points"), Reals())).reach == "numeric"
    proof = Claim(name="n", title="t", statement=(equal(x, x),), certificate=Identity(), provenance="derived")
    assert proof.strength == "all" and replace(proof, scope="a step").strength == "step"
    assert replace(proof, certificate=box, scope="a step").strength == "box"


def test_no_mutant_is_the_claim_itself():
    for _, claim in claims().values():
        original = (claim.statement, claim.assumptions)
        for mutant in claim.mutants:
            statement = claim.statement if mutant.statement is None else mutant.statement
            assumptions = claim.assumptions if mutant.assumptions is None else mutant.assumptions
            assert (statement, assumptions) != original, mutant.change


def test_two_claims_of_one_name_are_an_error_of_the_package(monkeypatch):
    score = import_module("theory.score")
    monkeypatch.setattr(score, "CLAIMS", (*score.CLAIMS, score.CLAIMS[0]))
    with pytest.raises(ValueError, match="two claims are called 'score-formula'") as raised:
        claims.__wrapped__()
    assert not isinstance(raised.value, InputError)


@pytest.mark.parametrize("package", ["z3", "flint"])
def test_a_missing_package_is_named_with_its_cure(package, monkeypatch):
    def missing(name: str):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr("theory.registry.import_module", missing)
    with pytest.raises(InputError, match=rf"claim: claims need {package}: pip install '.\[theory\]'"):
        claims.__wrapped__()


def test_the_page_is_in_step():
    assert PAGE.read_text() == page(), "run python -m theory.page"


@pytest.mark.parametrize("as_latex", [False, True])
def test_every_claim_can_be_read(as_latex):
    for _, claim in claims().values():
        lines = list(derivation(claim, as_latex))
        assert lines[0] == claim.title and any(line.startswith("certificate: ") for line in lines)


def expressions(claim) -> list:
    """Everything that a claim writes down, in its mutants too."""
    changed = [(*(mutant.statement or ()), *(mutant.assumptions or ())) for mutant in claim.mutants]
    shown = [*claim.statement, *claim.assumptions, claim.bound, *(formula for _, formula in claim.steps)]
    return [sp.sympify(formula) for formula in (*shown, *sum(changed, ())) if formula is not None]


@pytest.mark.parametrize("name", NAMES)
def test_every_letter_of_a_claim_has_one_meaning(name):
    claim = find(name)
    used = set().union(*map(used_letters, expressions(claim)))
    printed = [str(letter) for letter in used]
    assert len(set(printed)) == len(printed), sorted(printed)
    assert used <= set(claim.letters.meanings), used - set(claim.letters.meanings)
    assert not any("'" in letter for letter in printed)
    in_subject = [str(letter) for letter in claim.letters.meanings]
    assert len(set(in_subject)) == len(in_subject)
    assert set(letters(claim)) <= set(printed)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("theory.symbols", ("J", "N", "ell", "l", "p")),
        ("theory.registry", ("find",)),
        ("theory.certify.balls", ("ball",)),
    ],
)
def test_what_reports_import_is_exported(module, names):
    imported = import_module(module)
    assert set(names) <= set(imported.__all__) and all(hasattr(imported, name) for name in imported.__all__)


def test_an_alphabet_refuses_a_second_meaning():
    alphabet = Letters("tests", NOTATION, SPECTRUM)
    assert alphabet.define("kappa", "condition number L/m of C_t") == kappa
    alphabet.define("z", "a number")
    for again in (
        lambda: alphabet.define("kappa", "something else"),
        lambda: alphabet.define("kappa", "condition number L/m of C_t", positive=True),
        lambda: alphabet.name({sp.MatrixSymbol("z", 2, 2): "a number"}),
    ):
        with pytest.raises(ValueError, match="stands for .* in tests already") as raised:
            again()
        assert not isinstance(raised.value, InputError)
    assert Letters("others").define("z", "a matrix", commutative=False) != alphabet.define("z", "a number")


def status(certificate, *statement, assumptions=()) -> str:
    return certificate.check(statement, assumptions).status


POINTS = ({x: 1.0, y: 2.0}, {x: 2.0, y: 2.0})


@pytest.mark.parametrize(
    ("certificate", "true", "false"),
    [
        (Identity(), equal((x + y) ** 2, x**2 + 2 * x * y + y**2), equal((x + y) ** 2, x**2 + x * y + y**2)),
        (Identity(({x: 1}, {x: 2})), equal((x - 1) * (x + 1) + y, x**2 + y - 1), equal((x - 1) * (x - 2) + y, y)),
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


X_REAL, X_POSITIVE = x, sp.Symbol("x", positive=True)


def test_symbols_that_print_alike_are_not_merged():
    given = (sp.Gt(X_POSITIVE, 1),)
    verdict = Reals().check((sp.Ge(X_REAL, 0),), given)
    assert verdict.status == "refuted" and "x = -" in verdict.detail
    assert status(Reals(), sp.Ge(X_POSITIVE, 0, evaluate=False), assumptions=given) == "holds"
    assert status(Identity(), equal(X_REAL, X_POSITIVE)) == "refuted"
    assert status(Sweep(lambda: ({X_REAL: 1.0, X_POSITIVE: 2.0},), "one point"), equal(X_REAL, X_POSITIVE)) == "refuted"
    assert status(Sweep(lambda: ({X_POSITIVE: 2.0},), "one point"), sp.Ge(X_REAL, 1)) == "undecided"
    assert status(Balls({X_POSITIVE: (1, 2)}), sp.Gt(X_REAL, 0)) == "refuted"
    with pytest.raises(TypeError, match="has no ball"):
        status(Balls({X_POSITIVE: (1, 2)}), sp.Gt(sp.exp(X_REAL), 0, evaluate=False))


def test_names_that_mean_two_symbols_are_refused():
    statement = (sp.Le(x, X_POSITIVE + y),)
    claim = Claim(name="n", title="t", statement=statement, certificate=Reals(), provenance="derived")
    with pytest.raises(ValueError, match="n has two symbols that print as x"):
        claim.evaluate(x=1.0, y=2.0)


def test_only_the_matrices_named_symmetric_are():
    square = sp.MatrixSymbol("M", 2, 2)
    statement = (equal(square, square.T),)
    assert Identity(symmetric=(square,)).check(statement, ()).status == "holds"
    assert Identity(symmetric=(sp.MatrixSymbol("M", 3, 3),)).check(statement, ()).status == "refuted"


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
        ("gd-depth", {"kappa": 0.5, "epsilon": 1e-3}, "kappa: 0.5 .* kappa > 1"),
        ("gd-depth", {"kappa": 10.0, "epsilon": 0.0}, "epsilon: 0.0 .* epsilon > 0"),
        ("gd-depth", {"kappa": 10.0, "epsilon": -1.0}, "epsilon: -1.0 .* epsilon > 0"),
        ("tail-exponential", {"J": 4, "N": 4, "ell": 2.0, "p": 2.0}, "J, N: .* J < N"),
        ("tail-polynomial", {"J": 4, "N": 8, "ell": 2.0, "p": 1.0}, "p: 1.0 .* p > 1"),
        ("tail-ou", {"J": 4.5, "N": 8, "rho": 0.5}, "J: 4.5 .* an integer J"),
        ("tail-ou", {"J": 4, "N": 8, "rho": -0.5}, "rho: -0.5 .* rho > 0"),
        ("gd-depth", {"kappa": 10.0}, "epsilon: None .* a number"),
        ("gd-depth", {"kappa": 10.0, "epsilon": 0.1, "nu": 1.0}, "nu: 1.0 .* values of K?.*epsilon"),
        ("gd-depth", {"kappa": float("nan"), "epsilon": 0.1}, "kappa: nan .* a finite number"),
        ("tail-ou", {"J": float("inf"), "N": 8, "rho": 0.5}, "J: inf .* a finite number"),
    ],
)
def test_violated_assumptions_are_named(name, values, named):
    with pytest.raises(InputError, match=named):
        find(name).evaluate(values)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="claim: 'gd' is not accepted; accepted: gd-contraction"):
        find("gd")
    with pytest.raises(InputError, match="of: 'Z' is not accepted"):
        find("gd-depth").evaluate(kappa=2.0, epsilon=0.1, of="Z")
    with pytest.raises(
        InputError, match="claim: 'published-lag-heads' is not accepted; accepted: a claim with a bound"
    ):
        find("published-lag-heads").evaluate()


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
        assert slopes == pytest.approx([-0.5, -0.4, -0.5])  # logarithmic pays with N instead
    assert total_variation("Chebyshev", "logarithmic").exponents()["N"] == 1.0
    with pytest.raises(InputError, match="power: None is not accepted"):
        total_variation("Chebyshev", "polynomial").exponents()
    with pytest.raises(InputError, match="monomial: n \\+ 1 is not accepted; accepted: a product of powers"):
        Rate.of(sp.Symbol("n", positive=True) + 1)
    with pytest.raises(InputError, match="solver: 'newton'"):
        total_variation("newton", "exponential")
    with pytest.raises(InputError, match="decay: 'linear'"):
        total_variation("Chebyshev", "linear")
