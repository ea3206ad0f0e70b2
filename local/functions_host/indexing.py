"""Decides which functions an app has and which of them can run, once, when the host starts.

A function that cannot run is "in error": it is never triggered, while the others run.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import azure.functions as func
from azurefunctions.extensions.base import get_binding_registry

from local.functions_host.settings import DEFAULT_CONNECTION, blob_service, queue_service, resolve_settings
from local.serving import LocalCloudError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

BLOB_TRIGGER = "blobTrigger"
QUEUE_TRIGGER = "queueTrigger"
HTTP_TRIGGER = "httpTrigger"


class FunctionInError(Exception):
    """This function cannot run; the message is the host's."""


@dataclass(frozen=True)
class IndexedFunction:
    """A function that can run."""

    name: str
    call: Callable[..., Any]
    trigger: Mapping[str, Any] = field(repr=False)
    parameter_type: Any
    takes_context: bool
    folder: Path

    @property
    def id(self) -> str:
        """The id in trigger messages and in the webhook's address."""
        return f"Host.Functions.{self.name}"

    @property
    def kind(self) -> str:
        """The trigger's type, like `blobTrigger`."""
        return str(self.trigger["type"])

    @property
    def is_async(self) -> bool:
        """Whether it runs on the event loop instead of a thread."""
        return inspect.iscoroutinefunction(self.call)

    @property
    def connection(self) -> str:
        """The name of the setting with the trigger's storage account."""
        return str(self.trigger.get("connection") or DEFAULT_CONNECTION)


def load_functions(app_folder: Path) -> list[func.decorators.function_app.Function]:
    """Import `function_app` from `app_folder` and return what it declares."""
    if not (app_folder / "function_app.py").is_file():
        raise LocalCloudError(f"{app_folder} has no function_app.py.")
    sys.path.insert(0, str(app_folder))
    module = importlib.import_module("function_app")
    app = next((value for value in vars(module).values() if isinstance(value, func.FunctionApp)), None)
    if app is None:
        raise LocalCloudError(f"{module.__file__} has no azure.functions.FunctionApp.")
    return app.get_functions()


def index_function(
    function: func.decorators.function_app.Function, app_folder: Path, environment: Mapping[str, str]
) -> IndexedFunction:
    """Check a function as the host and the worker do; raises FunctionInError if it cannot run."""
    name = str(function.get_function_name())
    call = function.get_user_function()
    bindings = [json.loads(binding) for binding in function.get_raw_bindings()]
    triggers = [binding for binding in bindings if str(binding["type"]).endswith("Trigger")]
    if len(triggers) != 1:
        raise FunctionInError("A function must have exactly one trigger.")
    trigger = triggers[0]
    if trigger["type"] not in {BLOB_TRIGGER, QUEUE_TRIGGER, HTTP_TRIGGER}:
        raise FunctionInError(f"The embedded host does not support {trigger['type']}: use Azure Functions Core Tools.")
    others = [binding["type"] for binding in bindings if binding is not trigger and binding["type"] != "http"]
    if others:
        raise FunctionInError(
            f"The embedded host does not support the {others[0]} binding: use Azure Functions Core Tools."
        )
    parameters = dict(inspect.signature(call).parameters)
    takes_context = parameters.pop("context", None) is not None
    if set(parameters) != {trigger["name"]}:
        unbound = set(parameters) ^ {trigger["name"]}
        raise FunctionInError(f"cannot load the {name} function: no binding and parameter match for {sorted(unbound)}.")
    try:
        for key in ("path", "queueName", "route"):
            if trigger.get(key):
                trigger[key] = resolve_settings(trigger[key], environment)
        parameter_type = typing.get_type_hints(call).get(trigger["name"])
        indexed = IndexedFunction(name, call, trigger, parameter_type, takes_context, app_folder)
        _check_trigger(indexed)
    except LocalCloudError as error:
        raise FunctionInError(str(error)) from error
    return indexed


def _check_trigger(function: IndexedFunction) -> None:
    if function.kind == BLOB_TRIGGER:
        check_path(str(function.trigger["path"]))
        if function.trigger.get("source") != "EventGrid":
            raise FunctionInError("Flex Consumption has no polling blob trigger: set source=EventGrid.")
        if not get_binding_registry().check_supported_type(function.parameter_type):
            raise FunctionInError("The embedded host passes only SDK types: annotate it as blob.BlobClient.")
        blob_service(function.connection).close()
        queue_service(function.connection).close()
    if function.kind == QUEUE_TRIGGER:
        queue_service(function.connection).close()


def check_path(path: str) -> None:
    """Refuse what the extension refuses, with its messages (BlobPathSource.cs)."""
    container, slash, blob = path.partition("/")
    if (slash and not (container and blob)) or "\\" in container:
        raise FunctionInError(f"Invalid blob trigger path '{path}'. Paths must be in the format 'container/blob'.")
    if "{" in container:
        raise FunctionInError(f"Invalid blob trigger path '{path}'. Container paths cannot contain {{resolve}} tokens.")
