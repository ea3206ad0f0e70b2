"""What can be chosen: in both templates, their files of parameters, a pipeline and the page alike."""

from __future__ import annotations

import re
from typing import get_args

import pytest
import yaml

from shared.image.model import AspectPolicy
from tests.infra.deployed import README, TEMPLATES, outputs, parameters
from tools.infra import INFRA

PROJECT = INFRA.parent
AZURE = yaml.safe_load((PROJECT / "azure.yaml").read_text("utf-8"))
FILES = sorted(INFRA.rglob("*.bicepparam"))
VARIABLE = re.compile(r"readEnvironmentVariable\('(\w+)'(?:, '(.*?)')?\)")
# A hook sets it each time.
SET_BY_HOOKS = {"EXISTING_TAGS"}
# Who owns a group has it.
ABOUT_THE_GROUP = {"useExistingResourceGroup"}


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_parameter_is_described(template: str) -> None:
    """Nobody has to guess what it does."""
    assert [name for name, each in parameters(template).items() if not each.description.endswith(".")] == []


def test_both_templates_have_the_same_parameters_and_defaults() -> None:
    """The owner of a resource group can choose the same as the owner of a subscription."""
    of_subscription, of_group = map(parameters, TEMPLATES)
    assert of_group == {name: each for name, each in of_subscription.items() if name not in ABOUT_THE_GROUP}
    assert outputs("resources.bicep").keys() == outputs("main.bicep").keys()
    handed_on = re.findall(r"^    (\w+): (\w+)$", (INFRA / "main.bicep").read_text("utf-8"), re.MULTILINE)
    assert {name for name, value in handed_on if name == value} == of_group.keys()


def test_the_parameter_files_for_a_group_and_a_subscription_are_the_same() -> None:
    """There are two because each names its template; neither may lag behind."""
    for folder, of_subscription, of_group in (("", "main", "resources"), ("events/", "main", "subscriptions")):
        texts = [(INFRA / f"{folder}{name}.bicepparam").read_text("utf-8") for name in (of_subscription, of_group)]
        lines = [
            [line for line in text.splitlines() if not line.startswith(("using ", "// "))]
            for text in (re.sub(r"\nparam useExisting[\s\S]*?\n\n", "\n\n", texts[0]), texts[1])
        ]
        assert [line for line in lines[0] if line] == [line for line in lines[1] if line]


def test_an_unset_environment_variable_changes_nothing() -> None:
    """The parameter's own default is used instead."""
    text = (INFRA / "main.bicepparam").read_text("utf-8")
    given = dict(re.findall(r"^(?:param|var) (\w+) = (.+)$", text, re.MULTILINE))
    for name, parameter in parameters().items():
        found = VARIABLE.search(given.get(name, ""))
        if found and parameter.default is not None:
            shown = parameter.default.strip("'")
            assert found[2] == ("" if shown in ("[]", "''") else shown), name


def test_a_pipeline_passes_every_parameter_on() -> None:
    """Whatever `azd env set` can set locally can be set in the pipeline too."""
    names = {name for path in FILES for name, _ in VARIABLE.findall(path.read_text("utf-8"))} - SET_BY_HOOKS
    assert names - {"AZURE_ENV_NAME", "AZURE_LOCATION"} == set(AZURE["pipeline"]["variables"])
    workflow = (PROJECT / ".github" / "workflows" / "azure-dev.yml").read_text("utf-8")
    environment = yaml.safe_load(workflow)["jobs"]["deploy"]["env"]
    assert {name: environment.get(name) for name in names} == {name: f"${{{{ vars.{name} }}}}" for name in names}


def test_the_page_has_every_parameter_and_output() -> None:
    """`infra/README.md` says what can be set, by which variable, with its default and what it does."""
    found = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)? ?\| (.*?) \| (.*)", README, re.MULTILINE)
    rows = {name: rest for name, *rest in found}
    for name, parameter in parameters().items():
        _, default, said = rows[name]
        value = parameter.value
        shown = str(value).lower() if isinstance(value, bool) else value
        assert default == ("required" if value is None else f"`{shown}`" if value not in ("", [], {}) else "empty")
        assert said.startswith(parameter.description)
        assert all(f"`{choice}`" in said for choice in parameter.choices)
        assert parameter.most is None or f"{parameter.least} to {parameter.most}." in said
    variables = {name for path in FILES for name, _ in VARIABLE.findall(path.read_text("utf-8"))}
    assert {variable for variable, *_ in rows.values() if variable} == variables
    assert outputs().keys() <= set(re.findall(r"^\| `([A-Z_]+)` \|", README, re.MULTILINE))


def test_the_choices_of_a_parameter_are_those_of_the_setting() -> None:
    """The app knows each of them."""
    assert parameters()["aspectPolicy"].choices == list(get_args(AspectPolicy))


def test_no_login_is_the_default() -> None:
    """Each needs something that only the operator has, so a default would deploy something that cannot work."""
    assert parameters()["itwinLogin"].default is None


def test_every_region_accepts_the_default_maximum_of_instances() -> None:
    """Some refuse fewer than 40, and `azd up` has to work in all of them."""
    assert parameters()["maximumInstanceCount"].value >= 40


def test_no_output_and_no_default_is_a_secret() -> None:
    """Outputs and parameters are kept in the deployment's history, which many people can read."""
    secret = re.compile(r"key|secret|password|connectionstring|token", re.IGNORECASE)
    for template in TEMPLATES:
        assert [name for name, value in outputs(template).items() if secret.search(f"{name} {value}")] == []
        assert [name for name in parameters(template) if re.search(r"key|secret|password", name, re.IGNORECASE)] == []
