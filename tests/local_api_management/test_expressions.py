"""Policy expressions have the values that C# gives them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from local.api_management.call import LastError, Response
from local.api_management.expressions import ExpressionError, compile_expression
from local.api_management.http_client import pieces

BODY = b'{"text": "t", "number": 7, "digits": "8", "nothing": null, "flag": true}'


@dataclass
class Context:
    """What expressions know as `context`."""

    variables: dict[str, Any] = field(default_factory=lambda: {"text": "t", "null": None, "answer": response(BODY)})
    response: Response | None = field(default_factory=lambda: response(b"", 401))
    last_error: LastError | None = field(default_factory=lambda: LastError("choose", "R", "inbound", None, "m"))


def response(content: bytes, status: int = 200) -> Response:
    """Return a response that was read."""
    return Response(status, [], pieces(content), content)


ANSWER = '((IResponse)context.Variables["answer"])'


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ('"a \\"quoted\\" \\\\ word"', 'a "quoted" \\ word'),
        ("9 - 3 - 2", 4),
        ("9 - (3 - 2)", 8),
        ("9 - 3 == 6", True),
        ("9 - 3 != 6", False),
        ("6 >= 9 - 3", True),
        ('"a" + 1 + 2', "a12"),
        ('"a" + "b" == "ab"', True),
        ("true", True),
        ("Math.Max(1, 3500 - 300)", 3200),
        ("Math.Max(1, 7 - 300)", 1),
        ('Uri.EscapeDataString("a b/+&%=ä~-._")', "a%20b%2F%2B%26%25%3D%C3%A4~-._"),
        ('string.IsNullOrEmpty("")', True),
        ('string.IsNullOrEmpty((string)context.Variables["null"])', True),
        ('string.IsNullOrEmpty((string)context.Variables["text"])', False),
        ('context.Variables.GetValueOrDefault<string>("text", "other")', "t"),
        ('context.Variables.GetValueOrDefault<string>("none", "other")', "other"),
        ("context.Response.StatusCode", 401),
        ("context.LastError.Source + context.LastError.PolicyId + context.LastError.Reason", "chooseR"),
        (ANSWER + ".StatusCode", 200),
        (ANSWER + '.Body.As<JObject>()["text"].ToString()', "t"),
        ("(int)" + ANSWER + '.Body.As<JObject>()["number"] - 300', -293),
        ("(int)" + ANSWER + '.Body.As<JObject>()["digits"]', 8),
        (
            ANSWER + '.Body.As<JObject>(preserveContent: true)["text"].ToString() + '
            "(int)" + ANSWER + '.Body.As<JObject>()["number"]',
            "t7",
        ),
    ],
)
def test_an_expression_has_its_value(expression: str, value: object) -> None:
    """https://learn.microsoft.com/dotnet/csharp/language-reference/operators/#operator-precedence."""
    assert compile_expression(expression).evaluate(Context()) == value


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ('(string)context.Variables["none"]', "There is no variable none"),
        ('(IResponse)context.Variables["text"]', "not a response"),
        ('(string)context.Variables["answer"]', "not a string"),
        (ANSWER + '.Body.As<JObject>()["nothing"].ToString()', "Object reference not set"),
        (ANSWER + '.Body.As<JObject>()["none"].ToString()', "Object reference not set"),
        ("(int)" + ANSWER + '.Body.As<JObject>()["text"]', "not a whole number"),
        ("(int)" + ANSWER + '.Body.As<JObject>()["none"]', "not a whole number"),
        (" + ".join([ANSWER + '.Body.As<JObject>()["text"].ToString()'] * 2), "no longer there"),
    ],
)
def test_an_expression_that_would_throw_in_csharp_fails(expression: str, message: str) -> None:
    """The call continues in `on-error`."""
    with pytest.raises(ExpressionError, match=message):
        compile_expression(expression).evaluate(Context())


def test_a_null_has_no_members() -> None:
    """`context.Response` is null before there is a response."""
    with pytest.raises(ExpressionError, match="Object reference not set"):
        compile_expression("context.Response.StatusCode").evaluate(Context(response=None))
