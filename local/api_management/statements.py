"""What each statement of a policy does to a call.

The elements, attributes and values below are those that the gateway's policy uses. Anything else is refused when the
document is read: https://learn.microsoft.com/azure/api-management/api-management-policies
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import jwt

from local.api_management.call import Call, Failure, LastError, Response, Returned, response_of
from local.api_management.elements import (
    attributes_of,
    check_value,
    children_by_tag,
    children_of,
    entries_of,
    text_of,
)
from local.api_management.expressions import ExpressionError, PolicyError, compile_expression
from local.api_management.http_client import Headers, NoResponseError, fetch, pieces, send

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from xml.etree import ElementTree as ET

SECTIONS = ("inbound", "backend", "outbound", "on-error")
# https://learn.microsoft.com/azure/api-management/cache-store-value-policy#usage-notes, and the pages beside it.
ONCE_A_SECTION = ("cache-lookup-value", "cache-store-value", "forward-request")
HOP_BY_HOP = frozenset({"connection", "keep-alive", "host", "expect", "te", "upgrade"})

Statement = Callable[[Call], Awaitable[None]]
Value = Callable[[Call], Any]


async def run_all(statements: Iterable[Statement], call: Call) -> None:
    """Run statements one after the other."""
    for statement in statements:
        await statement(call)


class SectionReader:
    """Reads the statements of one section."""

    def __init__(self, section: str) -> None:
        self._section = section

    def read(self, section: ET.Element) -> list[Statement]:
        """Return the statements, in order. Raises PolicyError if one is not supported, or not in this section."""
        for tag in ONCE_A_SECTION:
            if len(list(section.iter(tag))) > 1:
                raise PolicyError(f"The policy has <{tag}> more than once in the section {self._section}.")
        if self._section == "backend" and [child.tag for child in section] != ["forward-request"]:
            raise PolicyError("The section backend must have <forward-request> and nothing else.")
        return self._statements(section)

    def _statements(self, parent: ET.Element) -> list[Statement]:
        return [self._statement(child) for child in parent if child.tag != "base" or not self._base(child)]

    def _base(self, element: ET.Element) -> bool:
        """Accept `<base>`: the scopes above contain only the forwarding, which this stand-in does itself."""
        attributes_of(element)
        children_of(element)
        return True

    def _statement(self, element: ET.Element) -> Statement:
        readers: dict[str, tuple[tuple[str, ...], Callable[[ET.Element], Statement]]] = {
            "validate-azure-ad-token": (("inbound",), self._validate_token),
            "cache-lookup-value": (SECTIONS, self._cache_lookup),
            "cache-store-value": (SECTIONS, self._cache_store),
            "cache-remove-value": (SECTIONS, self._cache_remove),
            "choose": (SECTIONS, self._choose),
            "send-request": (SECTIONS, self._send_request),
            "set-variable": (SECTIONS, self._set_variable),
            "set-header": (("inbound",), self._set_header),
            "return-response": (SECTIONS, self._return_response),
            "forward-request": (("backend",), self._forward),
        }
        sections, reader = readers.get(element.tag, ((), None))
        if reader is None or self._section not in sections:
            raise PolicyError(
                f"The stand-in of API Management does not support <{element.tag}> in the section {self._section}."
            )
        policy_id = element.attrib.pop("id", None)
        statement = reader(element)

        async def run(call: Call) -> None:
            try:
                await statement(call)
            except ExpressionError as error:
                raise self._failure(element.tag, policy_id, "ExpressionValueEvaluationFailure", str(error)) from error
            except NoResponseError as error:
                raise self._failure(element.tag, policy_id, error.reason, "No response came.") from error

        return run

    def _failure(self, source: str, policy_id: str | None, reason: str, message: str, status: int = 500) -> Failure:
        return Failure(status, LastError(source, reason, self._section, policy_id, message))

    # https://learn.microsoft.com/azure/api-management/validate-azure-ad-token-policy
    def _validate_token(self, element: ET.Element) -> Statement:
        given = attributes_of(element, "tenant-id", "header-name", "failed-validation-httpcode")
        check_value(element, "header-name", given["header-name"], "Authorization")
        clients, audiences = (
            [text_of(entry) for entry in entries_of(child, entry_tag)]
            for child, entry_tag in zip(
                children_of(element, "client-application-ids", "audiences"), ("application-id", "audience"), strict=True
            )
        )
        status = int(given["failed-validation-httpcode"])

        def refuse(reason: str, message: str) -> Failure:
            return self._failure(element.tag, None, reason, message, status)

        async def run(call: Call) -> None:
            scheme, _, token = _header(call.headers, "authorization").partition(" ")
            if scheme.lower() != "bearer" or not token:
                raise refuse("TokenNotPresent", "JWT not present.")
            try:
                claims = call.services.claims_of(token, tenant_id=given["tenant-id"], audiences=audiences)
            except jwt.InvalidTokenError as error:
                raise refuse("JwtInvalid", "The token is not valid. Access denied.") from error
            if claims.get("appid", claims.get("azp")) not in clients:
                raise refuse("TokenClaimValueNotAllowed", "The client application is not allowed. Access denied.")

        return run

    # https://learn.microsoft.com/azure/api-management/cache-lookup-value-policy
    def _cache_lookup(self, element: ET.Element) -> Statement:
        given = self._cache_attributes(element, "variable-name")

        async def run(call: Call) -> None:
            found = call.services.look_up(given["key"])
            if found is not None:
                call.variables[given["variable-name"]] = found

        return run

    # https://learn.microsoft.com/azure/api-management/cache-store-value-policy
    def _cache_store(self, element: ET.Element) -> Statement:
        given = self._cache_attributes(element, "value", "duration")
        value, duration = _value(given["value"], "string"), _value(given["duration"], "int")

        async def run(call: Call) -> None:
            call.services.store(given["key"], value(call), duration(call))

        return run

    # https://learn.microsoft.com/azure/api-management/cache-remove-value-policy
    def _cache_remove(self, element: ET.Element) -> Statement:
        given = self._cache_attributes(element)

        async def run(call: Call) -> None:
            call.services.remove(given["key"])

        return run

    def _cache_attributes(self, element: ET.Element, *more: str) -> Mapping[str, str]:
        given = attributes_of(element, "key", "caching-type", *more)
        check_value(element, "caching-type", given["caching-type"], "internal")
        children_of(element)
        return given

    # https://learn.microsoft.com/azure/api-management/choose-policy
    def _choose(self, element: ET.Element) -> Statement:
        attributes_of(element)
        branches = [
            (_value(attributes_of(when, "condition")["condition"], "bool"), self._statements(when))
            for when in entries_of(element, "when")
        ]

        async def run(call: Call) -> None:
            for condition, statements in branches:
                if condition(call):
                    await run_all(statements, call)
                    return

        return run

    # https://learn.microsoft.com/azure/api-management/set-variable-policy
    def _set_variable(self, element: ET.Element) -> Statement:
        given = attributes_of(element, "name", "value")
        children_of(element)
        value = _value(given["value"], "string")

        async def run(call: Call) -> None:
            call.variables[given["name"]] = value(call)

        return run

    # https://learn.microsoft.com/azure/api-management/set-header-policy
    def _set_header(self, element: ET.Element) -> Statement:
        name, value = _header_of(element)

        async def run(call: Call) -> None:
            call.headers = [entry for entry in call.headers if entry[0].lower() != name.lower()]
            call.headers.append((name, value(call)))

        return run

    # https://learn.microsoft.com/azure/api-management/return-response-policy
    def _return_response(self, element: ET.Element) -> Statement:
        attributes_of(element)
        found = children_by_tag(element, "set-status", "set-header", "set-body")
        (status,) = found["set-status"]
        code = int(attributes_of(status, "code", "reason")["code"])
        headers = [_header_of(header) for header in found["set-header"]]
        (body,) = [_value(text_of(body), "string") for body in found["set-body"]]

        async def run(call: Call) -> None:
            content = body(call).encode()
            raise Returned(response_of(code, [(name, value(call)) for name, value in headers], content))

        return run

    # https://learn.microsoft.com/azure/api-management/send-request-policy
    def _send_request(self, element: ET.Element) -> Statement:
        given = attributes_of(element, "mode", "response-variable-name", "timeout")
        check_value(element, "mode", given["mode"], "new")
        timeout_s = int(given["timeout"])
        found = children_by_tag(
            element, "set-url", "set-method", "set-header", "set-body", "authentication-managed-identity"
        )
        (url,) = [_value(text_of(child), "string") for child in found["set-url"]]
        (method,) = [text_of(child) for child in found["set-method"]]
        headers = [_header_of(child) for child in found["set-header"]]
        bodies = [_value(text_of(child), "string") for child in found["set-body"]]
        resources = [attributes_of(child, "resource")["resource"] for child in found["authentication-managed-identity"]]

        async def run(call: Call) -> None:
            own = [("Authorization", f"Bearer {call.services.identity_token(resource)}") for resource in resources]
            response, content = await fetch(
                method,
                url(call),
                [*((name, value(call)) for name, value in headers), *own],
                b"".join(body(call).encode() for body in bodies),
                timeout_s=timeout_s * call.services.timeout_scale,
            )
            call.variables[given["response-variable-name"]] = Response(
                response.status, response.headers, pieces(content), content
            )

        return run

    # https://learn.microsoft.com/azure/api-management/forward-request-policy
    def _forward(self, element: ET.Element) -> Statement:
        fixed = {"follow-redirects": "false", "buffer-response": "false", "fail-on-error-status-code": "false"}
        given = attributes_of(element, "timeout", "buffer-request-body", *fixed)
        for name, value in fixed.items():
            check_value(element, name, given[name], value)
        check_value(element, "buffer-request-body", given["buffer-request-body"], "true", "false")
        children_of(element)
        timeout_s = int(given["timeout"])

        async def run(call: Call) -> None:
            body = call.body
            if given["buffer-request-body"] == "true":
                body = pieces(*[piece async for piece in body])
            headers = [entry for entry in call.headers if entry[0].lower() not in HOP_BY_HOP]
            url = call.services.backend_url + call.target
            answer = await send(call.method, url, headers, body, timeout_s=timeout_s * call.services.timeout_scale)
            call.response = Response(answer.status, answer.headers, answer.body)

        return run


def _header(headers: Headers, name: str) -> str:
    return next((value for found, value in headers if found.lower() == name), "")


def _header_of(element: ET.Element) -> tuple[str, Value]:
    given = attributes_of(element, "name", "exists-action")
    check_value(element, "exists-action", given["exists-action"], "override")
    (value,) = children_of(element, "value")
    return given["name"], _value(text_of(value), "string")


def _value(text: str, kind: str) -> Value:
    """Read a literal or an expression of this type."""
    if text.startswith("@(") and text.endswith(")"):
        expression = compile_expression(text[2:-1])
        if expression.type != kind:
            raise PolicyError(f"The expression {text} is of the type {expression.type} where {kind} is expected.")
        return expression.evaluate
    if text.startswith("@"):
        raise PolicyError(f"The stand-in of API Management supports only expressions in @(...), not {text!r}.")
    literal: Any = int(text) if kind == "int" else text
    return lambda _: literal
