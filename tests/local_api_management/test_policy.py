"""What the stand-in does not know of a policy it refuses when it reads it, with the place; it never passes it over."""

from __future__ import annotations

import pytest

from local.api_management import deployed_policy
from local.api_management.expressions import PolicyError
from local.api_management.policy import Policy
from tests.local_api_management.client import NAMED_VALUES

ALL_NAMED_VALUES = {**NAMED_VALUES, "itwin-secret-url": "http://v/secrets/s", "itwin-token-url": "http://t"}
CHANGES = {
    "another element": (
        "<base />",
        '<rate-limit calls="1" renewal-period="1" />',
        "<rate-limit> in the section inbound",
    ),
    "an element in a section where it is not allowed": (
        "<base />\n        <choose>",
        '<set-header name="a" exists-action="override"><value>b</value></set-header><choose>',
        "<set-header> in the section outbound",
    ),
    "a mode": ('mode="new"', 'mode="copy"', "mode of <send-request>, not 'copy'"),
    "another attribute": ('mode="new"', 'mode="new" ignore-error="true"', "ignore-error is missing or unexpected"),
    "a missing attribute": (
        ' failed-validation-httpcode="401"',
        "",
        "failed-validation-httpcode is missing or unexpected",
    ),
    "another cache": ('caching-type="internal"', 'caching-type="external"', "caching-type of <cache-lookup-value>"),
    "redirects": ('follow-redirects="false"', 'follow-redirects="true"', "follow-redirects of <forward-request>"),
    "another header for the token": ('header-name="Authorization"', 'header-name="X-Token"', "header-name of"),
    "an appended header": ('exists-action="override"', 'exists-action="append"', "exists-action of <set-header>"),
    "an otherwise": ("</when>", "</when><otherwise />", "<choose> with when, when in it, not with when, otherwise"),
    "children in another order": (
        "<set-method>GET</set-method>",
        "<set-method>GET</set-method><set-url>x</set-url>",
        "in this order, not with set-url, set-method, set-url",
    ),
    "no audience": ("<audiences>", "<audiences /><audiences>", "<validate-azure-ad-token> with"),
    "a cache that is written twice": (
        "<cache-remove-value",
        '<cache-store-value key="k" value="v" duration="1" caching-type="internal" />' * 2 + "<cache-remove-value",
        "<cache-store-value> more than once in the section outbound",
    ),
    "a second forwarding": ("<backend>", "<backend><base />", "<forward-request> and nothing else"),
    "another section": ("<inbound>", "<more /><inbound>", "the sections inbound, backend, outbound, on-error"),
    "a named value that is not there": (
        "{{itwin-token-url}}",
        "{{nobody}}",
        "the named value 'nobody', which does not exist",
    ),
    "double braces in a comment": ("<!-- As", "<!-- {{...}} as", "the named value '...', which does not exist"),
    "statements in an expression": (
        "<set-url>{{",
        "<set-url>@{return 1;}{{",
        "only expressions in @(...), not '@{",
    ),
    "XML that is none": ("</policies>", "", "not well-formed XML"),
    # Expressions
    "another property": ("context.Response.StatusCode", "context.Response.StatusReason", "IResponse.StatusReason"),
    "another method": ('["access_token"].ToString()', '["access_token"].Trim()', "JToken.Trim with ()"),
    "another class": ("Uri.EscapeDataString", "Convert.ToBase64String", "Convert.ToBase64String with (string)"),
    "another operator": ("StatusCode == 401", "StatusCode / 401", "cannot read '/ 401'"),
    "a comparison that C# does not have": ("StatusCode == 401", "StatusCode == &quot;401&quot;", "int == string"),
    "an argument of another type": ("Math.Max(1, ", 'Math.Max("1", ', "Math.Max with (string, int)"),
    "an unknown option": (
        "preserveContent: true",
        "asynchronous: true",
        "IMessageBody.As<JObject> with (asynchronous)",
    ),
    "an object where a text is wanted": ('@("Bearer " + (string)context', '@("Bearer " + context', "string + object"),
    "a text where a condition is wanted": (
        "@(context.Response.StatusCode == 401)",
        "@(&quot;yes&quot;)",
        "of the type string where",
    ),
    "an expression that ends early": ("StatusCode == 401)", "StatusCode ==)", "does not support an end here"),
    "an expression that goes on": (
        "StatusCode == 401)",
        "StatusCode == 401 1)",
        "does not support 1, in the expression",
    ),
    "a parenthesis that stays open": ('("Bearer "', '(("Bearer "', "does not support an end here"),
}


@pytest.mark.parametrize(("old", "new", "message"), CHANGES.values(), ids=CHANGES)
def test_an_unsupported_policy_is_refused_when_it_is_parsed(old: str, new: str, message: str) -> None:
    """Each of these is one change to the deployed policy."""
    assert old in deployed_policy()
    with pytest.raises(PolicyError) as raised:
        Policy(deployed_policy().replace(old, new, 1), ALL_NAMED_VALUES)
    assert message in str(raised.value)


def test_the_deployed_policy_is_supported() -> None:
    """All of it."""
    Policy(deployed_policy(), ALL_NAMED_VALUES)
