"""What the alerts and the workbook ask of the logs: valid for Kusto's own parser, and true of the app's real lines."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_plus

import pytest

from local.cloud import LocalCloud
from local.itwin_platform import ScriptedResponse
from local.processes import PROJECT, wait_until
from local.samples import building_site, encode
from shared.drop import HOUSEKEEPING_FOLDERS, HOUSEKEEPING_NAMES, Drop
from shared.errors import NeedsOperator
from shared.preflight.storage import PROBE_CONTAINER
from tests.deadlines import HANG_S
from tests.infra.deployed import CONTRACT, EVERYWHERE, app_settings, log_alerts, parameters, the
from tools.infra import FULL, INFRA

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMN = re.compile(r"(\w+) = to\w+\(line\.([\w.]+)\)")
OUTCOMES = (INFRA / "queries" / "outcomes.kql").read_text("utf-8")
WRITES = (INFRA / "queries" / "writes.kql").read_text("utf-8")
TABLES = {"outcomes", "traces", "writes"}  # which queries begin with
QUERIES = {path.stem: path.read_text("utf-8") for path in (INFRA / "queries").glob("*.kql") if path.stem not in TABLES}
# The tables that are asked, with the columns that are documented:
# https://learn.microsoft.com/azure/azure-monitor/app/data-model-complete and
# https://learn.microsoft.com/azure/azure-monitor/reference/tables/storagebloblogs
SCHEMAS = {
    "insights": {
        "traces": {
            "timestamp": "datetime",
            "message": "string",
            "severityLevel": "int",
            "itemType": "string",
            "customDimensions": "dynamic",
            "operation_Name": "string",
            "operation_Id": "string",
            "cloud_RoleName": "string",
            "cloud_RoleInstance": "string",
        },
    },
    "workspace": {
        "AppTraces": {
            "TimeGenerated": "datetime",
            "Message": "string",
            "SeverityLevel": "int",
            "_ResourceId": "string",
            "Properties": "dynamic",
            "OperationName": "string",
            "OperationId": "string",
            "AppRoleName": "string",
            "AppRoleInstance": "string",
        },
        "StorageBlobLogs": {
            "TimeGenerated": "datetime",
            "AccountName": "string",
            "Category": "string",
            "ObjectKey": "string",
            "OperationName": "string",
            "RequestBodySize": "long",
            "RequestHeaderSize": "long",
            "StatusCode": "string",
            "StatusText": "string",
            "Uri": "string",
            "UserAgentHeader": "string",
        },
    },
}
PHOTO = encode(building_site(320, 240), "JPEG")
# The platform's words are its own; no query may rest on them.
NOT_FOUND = json.dumps({"error": {"code": "iTwinNotFound", "message": "As it pleases."}}).encode()
OWN_ERROR = json.dumps({"error": {"code": "Odd", "message": "As it pleases."}}).encode()


def deployed_queries(environment: str = FULL) -> list[dict[str, str]]:
    """Return every query as it is deployed, with what it is asked of."""
    found = []
    for name, alert in log_alerts(environment).items():
        (criterion,) = alert["criteria"]["allOf"]
        (scope,) = alert["scopes"]
        kind = "insights" if "/Microsoft.Insights/components/" in scope else "workspace"
        found.append({"name": name, "scope": kind, "text": criterion["query"]})
    workbook = json.loads(the("Microsoft.Insights/workbooks", environment)["properties"]["serializedData"])
    for item in workbook["items"]:
        if item["type"] == 3:
            # The page puts what was chosen in the place of its parameters.
            text = (
                re.sub(r"\{\w+:grain\}", "1h", item["content"]["query"]).replace("{Blob}", "a").replace("{ITwin}", "")
            )
            found.append({"name": item["name"], "scope": "insights", "text": text})
    return found


def parsed(queries: list[dict[str, str]]) -> list[str]:
    """Return what Kusto's own parser says of queries."""
    program = ["node", str(PROJECT / "tests" / "infra" / "kusto.cjs")]
    given = json.dumps({"schemas": SCHEMAS, "queries": queries})
    done = subprocess.run(program, input=given, capture_output=True, text=True, check=True, cwd=PROJECT)
    said: list[str] = json.loads(done.stdout)
    return said


def test_kustos_own_parser_accepts_every_query() -> None:
    """Each as deployed, against the tables that it queries."""
    queries = [query for environment in EVERYWHERE for query in deployed_queries(environment)]
    distinct = list({query["text"]: query for query in queries}.values())
    assert len(distinct) >= len(QUERIES)
    assert parsed(distinct) == []


def test_the_parser_finds_an_unknown_column() -> None:
    """In each query: this proves that the parser checks them."""
    queries = deployed_queries()
    broken = {
        "tiemstamp": [f"{query['text'].rstrip()}\n| where tiemstamp > ago(1h)" for query in queries],
        "mesage": [re.sub(r"\b[mM]essage\b(?! =)", "mesage", query["text"]) for query in queries],
    }
    said = parsed(
        [
            {**query, "name": f"{query['name']} with {column}", "text": text}
            for column, texts in broken.items()
            for query, text in zip(queries, texts, strict=True)
        ]
    )
    for column in broken:
        for query in queries:
            name = f"{query['name']} with {column}"
            assert any(sentence.startswith(f"{name}:") and f"'{column}'" in sentence for sentence in said), name


def test_every_query_is_deployed() -> None:
    """No rule has an empty query, and no query is forgotten."""
    texts = "\n".join(query["text"] for query in deployed_queries())
    for name, text in QUERIES.items():
        begin = next(line for line in text.splitlines() if line and not line.startswith(("//", "outcomes")))
        assert re.sub(r"\{\w+.*|OVERDUE_AFTER.*", "", begin).strip() in texts, name
    alerts = {name.removeprefix("alert-") for name in QUERIES if name.startswith("alert-")}
    assert set(log_alerts()) == alerts


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_a_shared_workspace_is_queried_for_this_environment_only(environment: str) -> None:
    """Other environments log there too: their drops would be overdue here as well, or hide one that is overdue here."""
    (overdue,) = (query["text"] for query in deployed_queries(environment) if query["scope"] == "workspace")
    insights = the("Microsoft.Insights/components", environment)["id"]
    (drops,) = re.findall(r"'(\w+)', environment", app_settings(environment)["DropStorage__blobServiceUri"])
    assert re.findall(r'AppTraces\n\| where _ResourceId =~ "(.*)"', overdue) == [insights]
    assert re.findall(r'StorageBlobLogs\n\| where AccountName =~ "(.*)"', overdue) == [drops]


@pytest.mark.parametrize("environment", EVERYWHERE)
def test_no_placeholder_is_left_in_a_deployed_query(environment: str) -> None:
    """Each stands for a name or a time in the files, and is replaced in the deployment."""
    for query in deployed_queries(environment):
        assert re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", query["text"]) == [], query["name"]


def test_the_overdue_alert_looks_back_further_than_it_waits() -> None:
    """Otherwise it could never fire."""
    longest = parameters()["overdueAfterMinutes"].most
    assert longest is not None
    days = re.fullmatch(r"P(\d)D", log_alerts()["overdue"]["overrideQueryTimeRange"])
    assert days
    assert int(days[1]) * 24 * 60 >= 2 * longest


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    """Run drops through the whole cloud and return what the app logged of them, one object for each attempt."""
    printed: list[str] = []
    quick = {"RETRY_MIN_DELAY_S": "1", "RETRY_MAX_DELAY_S": "1", "RETRY_HORIZON_S": "2", "RETRY_NOT_FOUND_S": "1"}
    with LocalCloud(app_settings=quick, on_line=printed.append) as cloud:

        def meets(name: str, content: bytes, *answers: ScriptedResponse) -> None:
            cloud.platform.script(answers)
            cloud.result(cloud.drop(cloud.itwin(), name, content))

        meets("uploaded.jpg", PHOTO)
        meets("rejected.jpg", b"no image")
        meets("unauthorized.jpg", PHOTO, ScriptedResponse(status=401, times=2))
        meets("forbidden.jpg", PHOTO, ScriptedResponse(status=403, body=OWN_ERROR))
        meets("unavailable.jpg", PHOTO, ScriptedResponse(status=503, times=100))
        meets("unknown.jpg", PHOTO, ScriptedResponse(status=404, body=NOT_FOUND, times=100))
        meets("throttled.jpg", PHOTO, ScriptedResponse(status=429, body=OWN_ERROR, times=100))
        ended = re.compile(r'"blob": "throttled.jpg".*"status": "(?!retrying)')
        assert wait_until(lambda: any(ended.search(line) for line in printed), timeout_s=HANG_S)
    found = [line[line.index('{"itwin": ') :] for line in printed if '{"itwin": ' in line]
    return [json.loads(line) for line in found]


def column(line: Mapping[str, Any], path: str) -> Any:
    """Look a field up as Kusto does."""
    value: Any = line
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def row(line: Mapping[str, Any]) -> dict[str, Any]:
    """Make of one line what `outcomes.kql` makes of it."""
    return {name: column(line, path) for name, path in COLUMN.findall(OUTCOMES)}


def selects(query: str, line: Mapping[str, Any]) -> bool:
    """Evaluate the conditions of a query that are about single lines."""
    conditions = re.findall(r"^\| where (.+?);?$", query, re.MULTILINE)
    return all(any(_holds(part, row(line)) for part in condition.split(" or ")) for condition in conditions)


def _holds(condition: str, values: Mapping[str, Any]) -> bool:
    match = re.fullmatch(r'(\w+) (==|!=|contains|in) \(?("[^)]*"|"[^"]*")\)?', condition)
    assert match, condition
    name, operator, operand = match.groups()
    actual, expected = str(values[name] or ""), re.findall(r'"([^"]*)"', operand)
    holds = {"==": actual in expected, "in": actual in expected, "!=": actual not in expected}
    return holds.get(operator, expected[0].lower() in actual.lower())


def test_the_apps_log_lines_are_recognized(lines: list[dict[str, Any]]) -> None:
    """They begin as the query expects, and the preflight's do not."""
    prefix = re.search(r"startswith '(.*)'", OUTCOMES)
    assert prefix
    assert lines
    assert all(json.dumps(line).startswith(prefix[1]) for line in lines)
    assert all(selects(OUTCOMES.replace(prefix[0], "").replace("| where message \n", ""), line) for line in lines)
    assert not selects('| where itwin != "preflight";', {"itwin": PROBE_CONTAINER})


def test_the_queries_read_every_field_of_the_lines_and_no_other(lines: list[dict[str, Any]]) -> None:
    """A field renamed in the code is noticed here and not in an emergency."""
    paths = {path for _, path in COLUMN.findall(OUTCOMES)}
    logged = {key for line in lines for key in line if key != "timingsS"}
    timings = {f"timingsS.{key}" for line in lines for key in line["timingsS"]}
    assert paths == logged | timings


@pytest.mark.parametrize(
    ("alert", "blobs"),
    [
        ("failed", {"unavailable.jpg", "throttled.jpg"}),
        ("refused", {"unauthorized.jpg", "forbidden.jpg"}),
        ("throttled", {"throttled.jpg"}),
        ("unknown-itwins", {"unknown.jpg"}),
    ],
)
def test_alerts_select_exactly_the_lines_they_are_about(
    lines: list[dict[str, Any]], alert: str, blobs: set[str]
) -> None:
    """The app's real lines raise the right alert, and lines of other drops do not."""
    assert {line["blob"] for line in lines if selects(QUERIES[f"alert-{alert}"], line)} == blobs


def test_the_alert_about_refusals_covers_every_error_that_an_operator_can_fix() -> None:
    """An error that is added to that group raises the alert as well."""
    (named,) = re.findall(r"error in \((.*)\)", QUERIES["alert-refused"])
    assert re.findall(r'"(\w+)"', named) == sorted(error.code for error in NeedsOperator.__subclasses__())


def test_the_log_line_of_a_waiting_drop_has_what_the_overdue_alert_needs(lines: list[dict[str, Any]]) -> None:
    """The first attempt is numbered 1, and the last line of a finished drop does not say that it is waiting."""
    of_drop = [row(line) for line in lines if line["blob"] == "unavailable.jpg"]
    assert of_drop[0]["status"] == "retrying"
    assert of_drop[0]["attempts"] == 1
    assert of_drop[0]["nextAttemptAt"]
    assert of_drop[-1]["status"] == "failed"


def in_writes(pattern: str) -> str:
    """Return the one part of `writes.kql` that a regular expression finds."""
    (found,) = re.findall(pattern, WRITES)
    return str(found)


def test_the_overdue_alert_matches_storages_log_with_the_apps(lines: list[dict[str, Any]]) -> None:
    """Both name a blob in the same way, so a line that is missing is really missing."""
    parts = in_writes(r"parse trim\('\"', ObjectKey\) with (.*)").replace(" key", " blob").split()
    key = "".join(part.strip('"') if '"' in part else ".*?" if part == "*" else f"(?P<{part}>.*?)" for part in parts)
    joined = in_writes(r"by (.*);").split(", ")
    assert f"join kind=fullouter writes on {', '.join(joined)}\n" in QUERIES["alert-overdue"]
    for line in lines:
        parsed_key = re.fullmatch(key, f"/stdrops/{line['itwin']}/{line['blob']}")
        assert parsed_key
        assert parsed_key.groupdict() == {name: row(line)[name] for name in joined}
        assert re.search(in_writes(r'itwin matches regex @"(.*)"'), parsed_key["itwin"])


def named(name: str) -> str:
    """Return what `nameOf` makes of a name."""
    (function,) = re.findall(r"let nameOf = \(name: string\) \{ (.*) \};", WRITES)
    assert function == "url_decode(url_decode(name))"
    return unquote_plus(unquote_plus(name))


@pytest.mark.parametrize(
    "name",
    ["a b.jpg", "ä/ö.jpg", "a+b.jpg", "a%20b.jpg", "50%.jpg", "a&b.jpg", "日本/写真.png", "a%2Fb.jpg"],
)
def test_the_overdue_alert_understands_escaped_names(name: str) -> None:
    """As it is, or percent-encoded as in a URL in either case: none of these drops is overdue."""
    in_log = [name, quote(name), quote(name, safe=""), quote(name).lower()]
    assert {named(each) for each in in_log} == {named(name)}
    assert "| extend blob = nameOf(key)\n" in WRITES
    assert "outcomes\n| extend blob = nameOf(blob)\n" in QUERIES["alert-overdue"]


@pytest.mark.parametrize("container", ["results", "ledger", "preflight", "B3BD3A79-C5B4-41F5-BA5F-6D8C338D788A", "a-b"])
def test_the_overdue_alert_leaves_other_containers_out(container: str) -> None:
    """Writes elsewhere are not drops, or have a line of another kind."""
    assert not re.search(in_writes(r'itwin matches regex @"(.*)"'), container)


@pytest.mark.parametrize(
    "name",
    [
        *(name.replace("*", "x") for name in HOUSEKEEPING_NAMES),
        *(f"a/{folder}/b/c.jpg" for folder in HOUSEKEEPING_FOLDERS),
        *("site.part", "a/site.PARTIAL", "site.part07", ".tmp", "a/Thumbs.db", "a/~$plan.docx", "~$a/plan.jpg"),
        *("party.png", "site.partner", "thumbs.db.png", "desktop.ini/a.jpg", "a.tmp.jpg", "tmp", "a.part.jpg"),
        "a@eadir/b.jpg",
    ],
)
def test_the_overdue_alert_expects_no_line_for_ignored_names(name: str) -> None:
    """An ignored name gets no line; every other one must."""
    ignored = re.search(in_writes(r'not\(blob matches regex @"(.*)"\)'), name)
    assert bool(ignored) == Drop("b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a", name).is_housekeeping()


@pytest.mark.parametrize(
    ("operation", "counts"),
    [(api, True) for api in CONTRACT["events"]["apis"] if api not in {"FlushWithClose", "SftpCommit"}]
    + [("FlushFile", True), ("RenamePathFile", True), ("CreatePathFile", False), ("AppendFile", False)]
    + [("PutBlobFromURL", True), ("CopyBlobSource", False), ("PutBlock", False), ("LeaseBlob", False)],
)
def test_the_overdue_alert_knows_every_operation_that_writes_a_blob(operation: str, *, counts: bool) -> None:
    """All that raise events, and those through the endpoint dfs, which raise none in this kind of account."""
    begins = re.findall(r'OperationName startswith "(\w+)"', WRITES)
    is_one = operation.startswith(tuple(begins)) or operation in re.findall(r'OperationName == "(\w+)"', WRITES)
    assert (is_one and operation not in re.findall(r'OperationName != "(\w+)" and', WRITES)) == counts


def test_the_query_on_storages_log_is_sent_to_the_workspace() -> None:
    """The other alerts query Application Insights, whose tables have different names."""
    assert [query["name"] for query in deployed_queries() if query["scope"] == "workspace"] == ["overdue"]
