"""The policy document: how it is read into statements, and what each of them does to a call.

The elements, attributes and values below are those that the gateway's policy uses. Anything else is refused when the
document is read: https://learn.microsoft.com/azure/api-management/api-management-policies
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree import ElementTree as ET

import jwt

from local.api_management.expressions import ExpressionError, PolicyError, compile_expression
from local.api_management.http_client import Headers, NoResponseError, fetch, pieces, send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

SECTIONS = ("inbound", "backend", "outbound", "on-error")
# https://learn.microsoft.com/azure/api-management/cache-store-value-policy#usage-notes, and the pages beside it.
ONCE_A_SECTION = ("cache-lookup-value", "cache-store-value", "forward-request")
HOP_BY_HOP = frozenset({"connection", "keep-alive", "host", "expect", "te", "upgrade"})


class Services(Protocol):
    """What a gateway provides for its policy."""

    backend_url: str
    timeout_scale: float

    def claims_of(self, token: str, *, tenant_id: str, audiences: Sequence[str]) -> Mapping[str, Any]:
        """Return the claims of a token issued by Entra; raises jwt.InvalidTokenError."""

    def identity_token(self, resource: str) -> str:
        """Return a token of the gateway's own identity."""

    def look_up(self, key: str) -> str | None:
        """Return a cached value, or None."""

    def store(self, key: str, value: str, duration_s: int) -> None:
        """Put a value into the cache."""

    def remove(self, key: str) -> None:
        """Remove a value from the cache."""


@dataclass(frozen=True)
class LastError:
    """What `context.LastError` says about a failure."""

    source: str
    reason: str
    section: str
    policy_id: str | None
    message: str


@dataclass
class Response:
    """A response as expressions see it; `content` is None if it is streamed or has been read already."""

    status: int
    headers: Headers
    body: AsyncIterator[bytes]
    content: bytes | None = None

    def read(self, preserve: bool) -> bytes:  # noqa: FBT001 - as in expressions
        """Return the body, which is gone afterwards unless it is to be preserved."""
        if self.content is None:
            raise ExpressionError("The body is no longer there.")
        content = self.content
        if not preserve:
            self.content = None
        return content


@dataclass
class Call:
    """One request in progress: what expressions know as `context`, and its state."""

    services: Services
    method: str
    target: str
    headers: Headers
    body: AsyncIterator[bytes]
    variables: dict[str, Any] = field(default_factory=dict)
    response: Response | None = None
    last_error: LastError | None = None


class Returned(Exception):
    """`return-response` ends the call with this response."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class Failure(Exception):
    """A statement failed: the call continues in `on-error`, with this status unless that section sets another."""

    def __init__(self, status: int, error: LastError) -> None:
        super().__init__(error.message)
        self.status = status
        self.error = error


Statement = Callable[[Call], Awaitable[None]]
Value = Callable[[Call], Any]


class Policy:
    """The statements of a policy document. Raises PolicyError if it contains anything that is not supported."""

    def __init__(self, document: str, named_values: Mapping[str, str]) -> None:
        try:
            root = ET.fromstring(document)  # noqa: S314 - the project's own file
        except ET.ParseError as error:
            raise PolicyError(f"The policy is not well-formed XML: {error}.") from error
        _check_named_values(document, named_values)
        _fill_in(root, named_values)
        if root.tag != "policies" or tuple(child.tag for child in root) != SECTIONS:
            raise PolicyError(f"A policy for this stand-in must have the sections {', '.join(SECTIONS)}.")
        self._sections = {section.tag: _Reader(section.tag).read(section) for section in root}

    async def run(self, call: Call) -> Response:
        """Run a call through the sections."""
        try:
            try:
                for section in ("inbound", "backend", "outbound"):
                    await _run(self._sections[section], call)
            except Failure as failure:
                call.last_error = failure.error
                call.response = told(failure.status, failure.error.message)
                await _run(self._sections["on-error"], call)
        except Returned as returned:
            return returned.response
        assert call.response is not None  # noqa: S101 - forward-request is required
        return call.response


def told(status: int, message: str) -> Response:
    """Create a response of API Management itself."""
    content = json.dumps({"statusCode": status, "message": message}).encode()
    return _response(status, [("Content-Type", "application/json")], content)


def _response(status: int, headers: Headers, content: bytes) -> Response:
    return Response(status, [*headers, ("Content-Length", str(len(content)))], pieces(content), content)


async def _run(statements: Iterable[Statement], call: Call) -> None:
    for statement in statements:
        await statement(call)


def _check_named_values(document: str, named_values: Mapping[str, str]) -> None:
    """Check all named values in double braces, even in comments, which API Management may read."""
    for name in (rest.partition("}}")[0] for rest in document.split("{{")[1:]):
        if name not in named_values:
            raise PolicyError(f"The policy uses the named value {name!r}, which does not exist.")


def _fill_in(root: ET.Element, named_values: Mapping[str, str]) -> None:
    """Replace `{{names}}` by the named values."""

    def fill(text: str) -> str:
        for name, value in named_values.items():
            text = text.replace(f"{{{{{name}}}}}", value)
        return text

    for element in root.iter():
        element.text = fill(element.text or "")
        for name, text in element.attrib.items():
            element.set(name, fill(text))


class _Reader:
    """Reads the statements of one section."""

    def __init__(self, section: str) -> None:
        self._section = section

    def read(self, section: ET.Element) -> list[Statement]:
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
        _attributes(element)
        _children(element)
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
        given = _attributes(element, "tenant-id", "header-name", "failed-validation-httpcode")
        _only(element, "header-name", given["header-name"], "Authorization")
        clients, audiences = (
            [_text(entry) for entry in _entries(child, entry_tag)]
            for child, entry_tag in zip(
                _children(element, "client-application-ids", "audiences"), ("application-id", "audience"), strict=True
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
        given = _attributes(element, "key", "caching-type", *more)
        _only(element, "caching-type", given["caching-type"], "internal")
        _children(element)
        return given

    # https://learn.microsoft.com/azure/api-management/choose-policy
    def _choose(self, element: ET.Element) -> Statement:
        _attributes(element)
        branches = [
            (_value(_attributes(when, "condition")["condition"], "bool"), self._statements(when))
            for when in _entries(element, "when")
        ]

        async def run(call: Call) -> None:
            for condition, statements in branches:
                if condition(call):
                    await _run(statements, call)
                    return

        return run

    # https://learn.microsoft.com/azure/api-management/set-variable-policy
    def _set_variable(self, element: ET.Element) -> Statement:
        given = _attributes(element, "name", "value")
        _children(element)
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
        _attributes(element)
        found = _in_order(element, "set-status", "set-header", "set-body")
        (status,) = found["set-status"]
        code = int(_attributes(status, "code", "reason")["code"])
        headers = [_header_of(header) for header in found["set-header"]]
        (body,) = [_value(_text(body), "string") for body in found["set-body"]]

        async def run(call: Call) -> None:
            content = body(call).encode()
            raise Returned(_response(code, [(name, value(call)) for name, value in headers], content))

        return run

    # https://learn.microsoft.com/azure/api-management/send-request-policy
    def _send_request(self, element: ET.Element) -> Statement:
        given = _attributes(element, "mode", "response-variable-name", "timeout")
        _only(element, "mode", given["mode"], "new")
        timeout_s = int(given["timeout"])
        found = _in_order(element, "set-url", "set-method", "set-header", "set-body", "authentication-managed-identity")
        (url,) = [_value(_text(child), "string") for child in found["set-url"]]
        (method,) = [_text(child) for child in found["set-method"]]
        headers = [_header_of(child) for child in found["set-header"]]
        bodies = [_value(_text(child), "string") for child in found["set-body"]]
        resources = [_attributes(child, "resource")["resource"] for child in found["authentication-managed-identity"]]

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
        given = _attributes(element, "timeout", "buffer-request-body", *fixed)
        for name, value in fixed.items():
            _only(element, name, given[name], value)
        _only(element, "buffer-request-body", given["buffer-request-body"], "true", "false")
        _children(element)
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


def _attributes(element: ET.Element, *names: str) -> Mapping[str, str]:
    """Return the attributes, which must be exactly these."""
    if set(element.attrib) != set(names):
        odd = sorted(set(element.attrib) ^ set(names))
        raise PolicyError(
            f"The stand-in of API Management supports <{element.tag}> with the attributes "
            f"{', '.join(names) or 'none'}; here {', '.join(odd)} is missing or unexpected."
        )
    return element.attrib


def _only(element: ET.Element, name: str, found: str, *known: str) -> None:
    if found not in known:
        raise PolicyError(
            f"The stand-in of API Management supports {' and '.join(known)} for {name} of <{element.tag}>, "
            f"not {found!r}."
        )


def _children(element: ET.Element, *tags: str) -> list[ET.Element]:
    """Return the children, which must be exactly these, in this order."""
    found = [child.tag for child in element]
    if found != list(tags):
        raise PolicyError(
            f"The stand-in of API Management supports <{element.tag}> with {', '.join(tags) or 'nothing'} in it, "
            f"not with {', '.join(found) or 'nothing'}."
        )
    return list(element)


def _entries(element: ET.Element, tag: str) -> list[ET.Element]:
    """Return the children, of which there must be at least one, all with this tag."""
    return _children(element, *[tag] * max(len(element), 1))


def _in_order(element: ET.Element, *tags: str) -> dict[str, list[ET.Element]]:
    """Return the children by tag: any number of each, in this order, as the policies' documentation demands."""
    positions = [tags.index(child.tag) if child.tag in tags else -1 for child in element]
    if -1 in positions or positions != sorted(positions):
        raise PolicyError(
            f"The stand-in of API Management supports <{element.tag}> with {', '.join(tags)} in it, in this order, "
            f"not with {', '.join(child.tag for child in element)}."
        )
    return {tag: element.findall(tag) for tag in tags}


def _text(element: ET.Element) -> str:
    return (element.text or "").strip()


def _header(headers: Headers, name: str) -> str:
    return next((value for found, value in headers if found.lower() == name), "")


def _header_of(element: ET.Element) -> tuple[str, Value]:
    given = _attributes(element, "name", "exists-action")
    _only(element, "exists-action", given["exists-action"], "override")
    (value,) = _children(element, "value")
    return given["name"], _value(_text(value), "string")


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
