"""Checks `infra/` with the Bicep compiler, and predicts what will be deployed.

    python -m tools.infra check    # reports what is wrong or out of date
    python -m tools.infra write    # formats the files and writes infra/snapshots

A snapshot has every resource of an environment, with all loops, conditions and functions evaluated; values that only
Azure knows stay as `[reference(...)]`. One snapshot is complete, the others are differences from it (RFC 7396), so that
a review shows the effect of a change and of an option.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INFRA = Path(__file__).parent.parent / "infra"
SNAPSHOTS = INFRA / "snapshots"
FULL = "client-credentials"

SUBSCRIPTION = "/subscriptions/00000000-0000-4000-8000-000000000002"
ITWIN = "b3bd3a79-c5b4-41f5-ba5f-6d8c338d788a"
# Existing resources are in a subscription of their own.
HUB_GROUP = "/subscriptions/00000000-0000-4000-8000-000000000003/resourceGroups/rg-hub"
HUB = f"{HUB_GROUP}/providers"
COMMON = {
    "AZURE_ENV_NAME": "prod",
    "AZURE_LOCATION": "westeurope",
    "ITWIN_IDS": f"{ITWIN},{ITWIN.upper()}",
    "ITWIN_LOGIN": "client-credentials",
    "ITWIN_CLIENT_ID": "service-app",
    "OPERATOR_PRINCIPAL_ID": "11111111-1111-4111-8111-111111111111",
    "ALERT_EMAIL": "operator@example.com",
}
GATEWAY = {"ITWIN_LOGIN": "gateway", "GATEWAY_APPLICATION_ID": "22222222-2222-4222-8222-222222222222"}


@dataclass(frozen=True)
class Environment:
    """An environment whose snapshot is stored as the difference from another one, with other `settings`."""

    differs_from: str
    settings: dict[str, str]


ENVIRONMENTS = {
    FULL: Environment(FULL, {}),
    "managed-identity": Environment(
        FULL,
        {
            "ITWIN_LOGIN": "managed-identity",
            "ITWIN_TOKEN_SCOPE": "api://gateway/.default",
            "ITWIN_API_URL": "https://gateway.example.com",
        },
    ),
    "gateway": Environment(FULL, GATEWAY),
    "switches": Environment(
        FULL,
        {"ALWAYS_READY_INSTANCES": "1", "DELETE_LOCKS": "true", "MALWARE_SCANNING": "true", "ZONE_REDUNDANT": "true"},
    ),
    "existing": Environment(
        FULL,
        {
            "ACTION_GROUP_ID": f"{HUB}/Microsoft.Insights/actionGroups/on-call",
            "EVENT_TOPIC_NAME": "made-by-defender",
            "KEY_VAULT_ID": f"{HUB}/Microsoft.KeyVault/vaults/kv-hub",
            "LOG_ANALYTICS_WORKSPACE_ID": f"{HUB}/Microsoft.OperationalInsights/workspaces/log-hub",
            "RESOURCE_NAMES": '{"plan": "plan-drops", "hostAccount": "STHostDrops"}',
            "RESOURCE_TAGS": '{"cost-center": "4711"}',
            "USE_EXISTING_RESOURCE_GROUP": "true",
        },
    ),
    "private": Environment(
        FULL, {"PRIVATE_NETWORKING": "true", "OPERATOR_ADDRESS_RANGES": "203.0.113.7/32,198.51.100.0/24"}
    ),
    "private-gateway": Environment("private", GATEWAY),
    "private-existing": Environment(
        "private",
        {
            "APP_SUBNET_ID": f"{HUB}/Microsoft.Network/virtualNetworks/hub/subnets/drops-app",
            "ENDPOINT_SUBNET_ID": f"{HUB}/Microsoft.Network/virtualNetworks/hub/subnets/drops-endpoints",
            "PRIVATE_DNS_ZONES": HUB_GROUP,
        },
    ),
    # For a deployer who may neither assign roles nor create what a policy creates.
    "private-governed": Environment(
        "private-existing",
        {
            "ASSIGN_ROLES": "false",
            "DIAGNOSTIC_SETTINGS": "policy",
            "MALWARE_SCANNING": "true",
            "PRIVATE_DNS_ZONES": "policy",
        },
    ),
}


class CompilerFailedError(Exception):
    """The compiler failed; the message is its output."""


class Bicep:
    """The compiler, run without environment variables other than those of the environment to be deployed."""

    def __init__(self, program: str) -> None:
        self._program = program

    @classmethod
    def find(cls) -> Bicep | None:
        """Return the compiler on the PATH, or the one installed by `az bicep install`."""
        program = shutil.which("bicep") or shutil.which("bicep", path=str(Path.home() / ".azure" / "bin"))
        return cls(program) if program else None

    def run(
        self, *arguments: str, environ: Mapping[str, str] | None = None, folder: Path = INFRA
    ) -> subprocess.CompletedProcess[str]:
        """Run it once; its exit code reports only errors, its standard error warnings as well."""
        system = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ}
        return subprocess.run(  # noqa: S603  # the program is the one that was found
            [self._program, *arguments],
            env={**system, **(environ or {})},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def diagnostics(self, folder: Path = INFRA) -> list[str]:
        """Return the messages of compiler and linter about all templates and parameter files in a folder."""
        runs = [self.run("lint", "--no-restore", "--pattern", "**/*.bicep", folder=folder)]
        runs += [self.parameters(file) for file in sorted(folder.rglob("*.bicepparam"))]
        said = [line for done in runs for line in (done.stderr + done.stdout).splitlines()]
        return list(dict.fromkeys(line for line in said if re.search(r" : (Error|Warning|Info) ", line)))

    def parameters(self, file: Path, environ: Mapping[str, str] = COMMON) -> subprocess.CompletedProcess[str]:
        """Evaluate a parameter file with these environment variables."""
        return self.run("build-params", "--no-restore", "--stdout", str(file), environ=environ)

    def formatted(self) -> dict[Path, str]:
        """Return every file as the formatter writes it."""
        with _copy() as copy:
            _said(self.run("format", "--pattern", "**/*.bicep*", folder=copy))
            return {file: (copy / file.relative_to(INFRA)).read_text("utf-8") for file in files()}

    def compiled(self, file: Path) -> dict[str, Any]:
        """Return a template as it is sent to Azure."""
        template: dict[str, Any] = json.loads(_said(self.run("build", "--no-restore", "--stdout", str(file))))
        return template

    def snapshot(
        self, parameters: str, environ: Mapping[str, str], *, group: str | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the resources that a parameter file below `infra/` creates, by their IDs."""
        arguments = ["--tenant-id", "00000000-0000-4000-8000-000000000001", "--location", environ["AZURE_LOCATION"]]
        arguments += ["--subscription-id", SUBSCRIPTION.rpartition("/")[2], "--deployment-name", "deployment"]
        arguments += ["--resource-group", group] if group else []
        with _copy() as copy:  # the compiler writes its output beside the file
            file = copy / parameters
            _said(self.run("snapshot", str(file), "--mode", "overwrite", *arguments, environ=environ))
            found = json.loads(file.with_suffix(".snapshot.json").read_bytes())
        if found["diagnostics"]:
            raise CompilerFailedError(json.dumps(found["diagnostics"], indent=2))
        resources = {resource["id"]: _keyed_by_name(resource) for resource in found["predictedResources"]}
        if len(resources) < len(found["predictedResources"]):
            raise CompilerFailedError("A resource is deployed twice, which Azure refuses.")
        return resources


def files() -> list[Path]:
    """Return the Bicep files of `infra/`."""
    return sorted([*INFRA.rglob("*.bicep"), *INFRA.rglob("*.bicepparam")])


def settings_of(name: str) -> dict[str, str]:
    """Return the environment variables of an environment."""
    environment = ENVIRONMENTS[name]
    return {**(COMMON if name == FULL else settings_of(environment.differs_from)), **environment.settings}


def predicted(bicep: Bicep, name: str) -> dict[str, Any]:
    """Return all resources of an environment: those of the app, and the event subscriptions deployed after the code."""
    app, events = (bicep.snapshot(f"{layer}main.bicepparam", settings_of(name)) for layer in ("", "events/"))
    return dict(sorted({**app, **events}.items()))


def kept(name: str) -> dict[str, Any]:
    """Return the resources of an environment from its snapshot in `infra/snapshots`."""
    document: dict[str, Any] = json.loads((SNAPSHOTS / f"{name}.json").read_bytes())
    return document if name == FULL else patch(kept(ENVIRONMENTS[name].differs_from), document)


def difference(before: Any, after: Any) -> Any:
    """Return the merge patch (RFC 7396) that turns one into the other; neither contains null."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return after
    changed = {
        name: difference(before.get(name), after[name])
        for name in sorted(after)
        if name not in before or before[name] != after[name]
    }
    return {**dict.fromkeys(sorted(before.keys() - after.keys())), **changed}


def patch(before: Any, changes: Any) -> Any:
    """Apply a merge patch (RFC 7396)."""
    if not isinstance(changes, dict):
        return changes
    patched = dict(before) if isinstance(before, dict) else {}
    for name, value in changes.items():
        if value is None:
            patched.pop(name, None)
        else:
            patched[name] = patch(patched.get(name), value)
    return patched


def text_of(document: Any) -> str:
    """Return a snapshot, or a difference, as its file's content."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def check(bicep: Bicep) -> list[str]:
    """Return what is wrong: the compiler's messages, and the files that `write` would change."""
    return bicep.diagnostics() or [
        f"{path.relative_to(INFRA.parent)} is not up to date: run python -m tools.infra write."
        for path, text in _written(bicep).items()
        if not path.exists() or path.read_text("utf-8") != text
    ]


def write(bicep: Bicep) -> list[str]:
    """Format the files, and write the snapshots. Returns the errors that prevent this."""
    problems = bicep.diagnostics()
    if not problems:
        for path, text in _written(bicep).items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
    return problems


def _written(bicep: Bicep) -> dict[Path, str]:
    snapshots = {name: predicted(bicep, name) for name in ENVIRONMENTS}
    return bicep.formatted() | {
        SNAPSHOTS / f"{name}.json": text_of(
            resources if name == FULL else difference(snapshots[ENVIRONMENTS[name].differs_from], resources)
        )
        for name, resources in snapshots.items()
    }


@contextlib.contextmanager
def _copy() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copytree(INFRA, Path(folder) / "infra"))


def _keyed_by_name(value: Any) -> Any:
    """Turn lists of named items into objects, so that a difference is about the items; drop null values."""
    if isinstance(value, dict):
        return {name: _keyed_by_name(part) for name, part in value.items() if part is not None}
    if not isinstance(value, list):
        return value
    names = [part.get("name") if isinstance(part, dict) else None for part in value]
    if names and all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
        return {
            name: _keyed_by_name({key: inner for key, inner in part.items() if key != "name"})
            for name, part in zip(names, value, strict=True)
        }
    return [_keyed_by_name(part) for part in value]


def _said(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise CompilerFailedError(done.stderr or done.stdout)
    return done.stdout


def main() -> int:
    """Check or write, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tools.infra", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("check", "write"))
    action = parser.parse_args().action
    bicep = Bicep.find()
    if bicep is None:
        sys.stderr.write("The Bicep compiler was not found: put bicep on the PATH, or run az bicep install.\n")
        return 1
    try:
        problems = check(bicep) if action == "check" else write(bicep)
    except CompilerFailedError as error:
        problems = [str(error)]
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
