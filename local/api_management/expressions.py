"""Policy expressions: the part of C# that the gateway's policy uses, with its types.

An expression is compiled when the policy is read. What is not in the tables below is refused then, as the real gateway
refuses what does not compile: https://learn.microsoft.com/azure/api-management/api-management-policy-expressions
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\["\\])*")
      | (?P<int>\d+)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<symbol>==|!=|>=|<=|&&|\|\||[()\[\].,:<>!+-])
    )""",
    re.VERBOSE,
)


class PolicyError(Exception):
    """The policy uses something that this stand-in does not support; the message says what."""


class ExpressionError(Exception):
    """An expression could not be evaluated, like an exception in C#."""


@dataclass(frozen=True)
class Expression:
    """A compiled expression: the type of its value, and a function from the `context` to the value."""

    type: str
    evaluate: Callable[[Any], Any]


@dataclass(frozen=True)
class Member:
    """A property, a method or an indexer: the types of its arguments and of its value, and its implementation.

    `options` are optional arguments, by name.
    """

    takes: tuple[str, ...]
    type: str
    call: Callable[..., Any]
    options: tuple[str, ...] = ()


class JsonObject:
    """Newtonsoft's JObject: a missing property is null."""

    def __init__(self, text: bytes) -> None:
        try:
            found = json.loads(text)
        except ValueError as error:
            raise ExpressionError("The body is not JSON.") from error
        if not isinstance(found, dict):
            raise ExpressionError("The body is not a JSON object.")
        self._found: dict[str, Any] = found

    def get(self, name: str) -> Any:
        """Return the value, or None if it is missing or null."""
        return self._found.get(name)


def _text_of(token: Any) -> str:
    if token is None:
        raise ExpressionError("Object reference not set to an instance of an object.")
    if not isinstance(token, str):
        raise PolicyError(f"The stand-in of API Management does not support {token!r} as a string.")
    return token


def _whole_number(token: Any) -> int:
    try:
        return int(token)
    except (TypeError, ValueError) as error:
        raise ExpressionError("The value is not a whole number.") from error


def _variable(context: Any, name: str) -> Any:
    try:
        return context.variables[name]
    except KeyError as error:
        raise ExpressionError(f"There is no variable {name}.") from error


def _response(found: Any) -> Any:
    if found is None or hasattr(found, "status"):
        return found
    raise ExpressionError("The variable is not a response.")


def _string(found: Any) -> Any:
    if found is None or isinstance(found, str):
        return found
    raise ExpressionError("The variable is not a string.")


PROPERTIES: dict[tuple[str, str], Member] = {
    ("Context", "Variables"): Member((), "Variables", lambda context: context),
    ("Context", "Response"): Member((), "IResponse", lambda context: context.response),
    ("Context", "LastError"): Member((), "LastError", lambda context: context.last_error),
    ("IResponse", "StatusCode"): Member((), "int", lambda response: response.status),
    ("IResponse", "Body"): Member((), "IMessageBody", lambda response: response),
    ("LastError", "Source"): Member((), "string", lambda error: error.source),
    ("LastError", "Reason"): Member((), "string", lambda error: error.reason),
    ("LastError", "Section"): Member((), "string", lambda error: error.section),
    ("LastError", "PolicyId"): Member((), "string", lambda error: error.policy_id),
}
METHODS: dict[tuple[str, str], Member] = {
    ("Variables", "GetValueOrDefault<string>"): Member(
        ("string", "string"), "string", lambda context, name, default: _string(context.variables.get(name, default))
    ),
    ("IMessageBody", "As<JObject>"): Member(
        (),
        "JObject",
        lambda response, preserveContent=False: JsonObject(response.read(preserveContent)),  # noqa: N803
        options=("preserveContent",),
    ),
    ("JToken", "ToString"): Member((), "string", _text_of),
}
INDEXERS: dict[str, Member] = {
    "Variables": Member(("string",), "object", _variable),
    "JObject": Member(("string",), "JToken", JsonObject.get),
}
STATICS: dict[tuple[str, str], Member] = {
    ("string", "IsNullOrEmpty"): Member(("string",), "bool", lambda text: not text),
    ("Uri", "EscapeDataString"): Member(("string",), "string", lambda text: quote(text, safe="")),
    ("Math", "Max"): Member(("int", "int"), "int", max),
}
CASTS: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("IResponse", "object"): _response,
    ("string", "object"): _string,
    ("int", "JToken"): _whole_number,
}
BINARY: dict[tuple[str, str, str], tuple[str, Callable[[Any, Any], Any]]] = {
    ("string", "+", "string"): ("string", lambda left, right: (left or "") + (right or "")),
    ("string", "+", "int"): ("string", lambda left, right: f"{left or ''}{right}"),
    ("int", "-", "int"): ("int", lambda left, right: left - right),
    ("int", "==", "int"): ("bool", lambda left, right: left == right),
    ("int", "!=", "int"): ("bool", lambda left, right: left != right),
    ("int", ">=", "int"): ("bool", lambda left, right: left >= right),
    ("string", "==", "string"): ("bool", lambda left, right: left == right),
}
# Operators on the same level are left-associative.
PRECEDENCE = {"==": 1, "!=": 1, ">=": 2, "+": 3, "-": 3}


def compile_expression(text: str) -> Expression:
    """Compile the text between `@(` and `)`. Raises PolicyError if it contains anything that is not supported."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0

    def parse(self) -> Expression:
        found = self._binary(0)
        if self._at < len(self._tokens):
            raise self._unknown(self._tokens[self._at][1])
        return found

    def _binary(self, least: int) -> Expression:
        left = self._unary()
        while PRECEDENCE.get(self._peek(), 0) > least:
            operator = self._take()
            right = self._binary(PRECEDENCE[operator])
            left = self._combine(left, operator, right)
        return left

    def _combine(self, left: Expression, operator: str, right: Expression) -> Expression:
        known = BINARY.get((left.type, operator, right.type))
        if known is None:
            raise self._unknown(f"{left.type} {operator} {right.type}")
        kind, apply = known
        return Expression(kind, lambda context: apply(left.evaluate(context), right.evaluate(context)))

    def _unary(self) -> Expression:
        if self._peek() != "(":
            return self._postfix(self._primary())
        if self._peek(2) == ")" and self._peek(1) in {wanted for wanted, _ in CASTS}:
            self._take("(")
            wanted = self._take()
            self._take(")")
            operand = self._unary()
            cast = CASTS.get((wanted, operand.type))
            if cast is None:
                raise self._unknown(f"({wanted}){operand.type}")
            return Expression(wanted, lambda context: cast(operand.evaluate(context)))
        self._take("(")
        inner = self._binary(0)
        self._take(")")
        return self._postfix(inner)

    def _primary(self) -> Expression:
        kind, text = self._next()
        if kind == "string":
            value = re.sub(r"\\(.)", r"\1", text[1:-1])
            return Expression("string", lambda _: value)
        if kind == "int":
            return Expression("int", lambda _: int(text))
        if text in ("true", "false"):
            return Expression("bool", lambda _: text == "true")
        if text == "context":
            return Expression("Context", lambda context: context)
        if kind == "name" and self._peek() == ".":
            self._take(".")
            name = self._take()
            return self._call(text, STATICS.get((text, name)), name, None)
        raise self._unknown(text)

    def _postfix(self, operand: Expression) -> Expression:
        while self._peek() in (".", "["):
            if self._take() == "[":
                member = INDEXERS.get(operand.type)
                arguments = [self._binary(0)]
                self._take("]")
                operand = self._apply(f"{operand.type}[]", member, operand, arguments, {})
                continue
            name = self._take()
            if self._peek() == "<" and self._peek(2) == ">":
                name += "".join(self._take() for _ in range(3))
            if self._peek() == "(":
                operand = self._call(operand.type, METHODS.get((operand.type, name)), name, operand)
            else:
                member = PROPERTIES.get((operand.type, name))
                operand = self._apply(f"{operand.type}.{name}", member, operand, [], {})
        return operand

    def _call(self, owner: str, member: Member | None, name: str, operand: Expression | None) -> Expression:
        self._take("(")
        arguments: list[Expression] = []
        options: dict[str, Expression] = {}
        while self._peek() != ")":
            if arguments or options:
                self._take(",")
            if self._peek(1) == ":":
                option = self._take()
                self._take(":")
                options[option] = self._binary(0)
            else:
                arguments.append(self._binary(0))
        self._take(")")
        return self._apply(f"{owner}.{name}", member, operand, arguments, options)

    def _apply(
        self,
        label: str,
        member: Member | None,
        operand: Expression | None,
        arguments: Sequence[Expression],
        options: dict[str, Expression],
    ) -> Expression:
        given = tuple(argument.type for argument in arguments)
        if member is None or given != member.takes or not set(options) <= set(member.options):
            raise self._unknown(f"{label} with ({', '.join((*given, *options))})")
        call = member.call

        def evaluate(context: Any) -> Any:
            receiver = [] if operand is None else [_not_null(operand.evaluate(context), operand.type)]
            values = [argument.evaluate(context) for argument in arguments]
            named = {option: value.evaluate(context) for option, value in options.items()}
            return call(*receiver, *values, **named)

        return Expression(member.type, evaluate)

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at][1] if at < len(self._tokens) else ""

    def _next(self) -> tuple[str, str]:
        if self._at == len(self._tokens):
            raise self._unknown("an end here")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, expected: str | None = None) -> str:
        text = self._next()[1]
        if expected is not None and text != expected:
            raise self._unknown(text)
        return text

    def _unknown(self, what: str) -> PolicyError:
        return PolicyError(f"The stand-in of API Management does not support {what}, in the expression {self._text!r}.")


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at, end = [], 0, len(text.rstrip())
    while at < end:
        match = TOKEN.match(text, at)
        if match is None:
            raise PolicyError(
                f"The stand-in of API Management cannot read {text[at:].strip()!r}, in the expression {text!r}."
            )
        found.append((str(match.lastgroup), match.group(match.lastgroup or 0)))
        at = match.end()
    return found


def _not_null(value: Any, kind: str) -> Any:
    if value is None and kind != "JToken":  # a token's own methods handle null themselves
        raise ExpressionError("Object reference not set to an instance of an object.")
    return value
