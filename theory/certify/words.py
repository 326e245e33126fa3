"""Identities of matrices of every size: words in letters that do not commute."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import sympy as sp

__all__ = ["words"]


def words(expression: Any, symmetric: Sequence[Any]) -> Any:
    """The expression as a sum of words, one letter for each matrix, its transpose and its inverse; 0 if it is 0.

    A letter beside its inverse cancels, and a word of shape (1, 1) equals its transpose.

    Raises:
        TypeError: an expression of anything but sums, products, transposes and inverses of letters, and of inverses
            of a multiple of a letter plus a multiple of the identity.
    """
    alphabet = _Alphabet(symmetric)
    terms = alphabet.reduced(alphabet.word(expression, False))
    total = sp.Integer(0)
    for letters, factor in terms.items():
        total += factor * sp.Mul(*(alphabet.smaller(letters) if expression.shape == (1, 1) else letters))
    return sp.expand(total)


class _Alphabet:
    def __init__(self, symmetric: Sequence[Any]):
        self.symmetric = set(symmetric)
        self.transposes: dict[Any, Any] = {}
        """Letter -> the letter of its transpose."""
        self.rules: dict[tuple[Any, Any], Any] = {}
        """Two letters in a row -> what they are."""

    def word(self, matrix: Any, transposed: bool) -> Any:
        if isinstance(matrix, sp.MatAdd):
            return sp.Add(*(self.word(part, transposed) for part in matrix.args))
        if isinstance(matrix, sp.MatMul):
            parts = [self.word(part, transposed) for part in matrix.args]
            return sp.Mul(*(reversed(parts) if transposed else parts))
        if isinstance(matrix, sp.Transpose):
            return self.word(matrix.arg, not transposed)
        if isinstance(matrix, sp.Identity | sp.ZeroMatrix):
            return sp.Integer(int(isinstance(matrix, sp.Identity)))
        if isinstance(matrix, sp.Inverse):
            return self._inverse(matrix.arg, transposed)
        if isinstance(matrix, sp.MatrixSymbol):
            return self._letter(str(matrix), matrix in self.symmetric, transposed)
        if isinstance(matrix, sp.Expr) and matrix.is_commutative and not matrix.is_Matrix:
            return matrix
        raise TypeError(f"{type(matrix).__name__} is no word")

    def _letter(self, name: str, symmetric: bool, transposed: bool) -> Any:
        plain = sp.Symbol(name, commutative=False)
        mirrored = plain if symmetric else sp.Symbol(f"{name}'", commutative=False)
        self.transposes |= {plain: mirrored, mirrored: plain}
        return mirrored if transposed else plain

    def _inverse(self, matrix: Any, transposed: bool) -> Any:
        """With factor X + shift, X B = B X = (1 - shift B)/factor for the inverse B."""
        inside = sp.expand(self.word(matrix, transposed))
        shift, rest = sp.Integer(0), []
        for term in sp.Add.make_args(inside):
            factors, letters = term.args_cnc()
            if not letters:
                shift += term
            else:
                rest.append((sp.Mul(*factors), letters))
        if len(rest) != 1 or len(rest[0][1]) != 1:
            raise TypeError(f"{inside} is not a letter and a multiple of the identity")
        factor, (letter,) = rest[0]
        inverse = self._letter(f"({inside})^-1", self.transposes[letter] == letter, False)
        for pair in ((letter, inverse), (inverse, letter)):
            self.rules[pair] = (1 - shift * inverse) / factor
        return inverse

    def reduced(self, total: Any) -> dict[tuple[Any, ...], Any]:
        """Word -> factor, with every rule applied to neighbours until none applies."""
        waiting, done = list(sp.Add.make_args(sp.expand(total))), dict[tuple[Any, ...], Any]()
        while waiting:
            factors, powers = waiting.pop().args_cnc()
            letters = [base for base, count in (power.as_base_exp() for power in powers) for _ in range(int(count))]
            at = next((k for k, pair in enumerate(pairwise(letters)) if pair in self.rules), None)
            if at is None:
                done[tuple(letters)] = done.get(tuple(letters), 0) + sp.Mul(*factors)
            else:
                middle = self.rules[letters[at], letters[at + 1]]
                waiting += sp.Add.make_args(sp.expand(sp.Mul(*factors, *letters[:at], middle, *letters[at + 2 :])))
        reduced = {word: sp.simplify(factor) for word, factor in done.items()}
        return {word: factor for word, factor in reduced.items() if factor != 0}

    def smaller(self, letters: Sequence[Any]) -> Sequence[Any]:
        """A word of shape (1, 1), or its transpose where that comes first."""
        mirrored = [self.transposes[letter] for letter in reversed(letters)]
        return min(list(letters), mirrored, key=str)
