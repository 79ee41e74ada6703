"""DataFusion's expressions as the plain tree that `core.pushdown` translates."""

import re
from typing import Any

import pyarrow as pa
from datafusion import expr as nodes
from datafusion.expr import Expr

from caraway.core.predicate import Literal
from caraway.core.pushdown import (
    Binary,
    Column,
    Expression,
    Match,
    Membership,
    Negation,
    NullTest,
    Opaque,
)

_TEXT = pa.string()


def words_of(text: str) -> frozenset[str]:
    """The words of an expression's or a plan's text; the names of its columns are among them."""
    return frozenset(re.findall(r"\w+", text))


def variant_of(expression: Expr) -> Any:
    """The node of an expression; None for kinds that the binding does not know."""
    try:
        return expression.to_variant()
    except (ValueError, RuntimeError, TypeError, NotImplementedError):
        return None


def expression_of(expression: Expr) -> Expression:
    """The same condition as plain values; what has no plain form is Opaque."""
    match node := variant_of(expression):
        case nodes.Column():
            return Column(node.name())
        case nodes.Literal():
            return _literal(expression)
        case nodes.BinaryExpr():
            return Binary(node.op(), expression_of(node.left()), expression_of(node.right()))
        case nodes.Not():
            return Negation(expression_of(node.expr()))
        case nodes.IsNull():
            return NullTest(expression_of(node.expr()))
        case nodes.IsNotNull():
            return Negation(NullTest(expression_of(node.expr())))
        case nodes.InList():
            values = tuple(expression_of(value) for value in node.list())
            return _signed(node.negated(), Membership(expression_of(node.expr()), values))
        case nodes.Like() | nodes.ILike():
            return _signed(node.negated(), _match(node, expression))
        case _:
            return Opaque(words_of(expression.canonical_name()))


def _signed(negated: bool, expression: Expression) -> Expression:
    return Negation(expression) if negated else expression


def _match(node: "nodes.Like", expression: Expr) -> Expression:
    insensitive = expression.variant_name() == "ILike" or " ILIKE " in expression.canonical_name()
    return Match(expression_of(node.expr()), expression_of(node.pattern()), node.escape_char(), insensitive)


def _literal(expression: Expr) -> Expression:
    try:
        scalar = expression.python_value()
    except (ValueError, RuntimeError, TypeError, NotImplementedError):
        return Opaque()
    return literal_of(scalar) if isinstance(scalar, pa.Scalar) else Opaque()


def literal_of(scalar: pa.Scalar) -> Literal | Opaque:
    """A scalar as a literal: temporal values as storage integers, encodings (dictionary, view, large) undone."""
    kind = scalar.type
    if kind == _TEXT:  # first, since lists of them may be long
        return Literal(scalar.as_py(), "string")
    if pa.types.is_dictionary(kind):
        return literal_of(scalar.value) if scalar.is_valid else Literal(None, str(kind.value_type))
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return Literal(scalar.as_py(), "string")
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return Literal(scalar.as_py(), "binary")
    if pa.types.is_interval(kind) or pa.types.is_nested(kind) or pa.types.is_float16(kind):
        return Opaque()
    if pa.types.is_temporal(kind):
        return Literal(scalar.value, str(kind))
    return Literal(scalar.as_py(), str(kind))
