"""Bicep files read by a real grammar, for tests that hold their names against the code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

if TYPE_CHECKING:
    from collections.abc import Iterator

INFRA = Path(__file__).parent.parent / "infra"
FILES = sorted(INFRA.rglob("*.bicep"))
PARAMETER_FILES = sorted(INFRA.rglob("*.bicepparam"))

_parser = Parser(Language(tree_sitter_bicep.language()))


@dataclass(frozen=True)
class Expression:
    """What is not a literal, as it is written."""

    text: str


@dataclass(frozen=True)
class Declaration:
    """A parameter, variable, output, resource or module: its name, the node of its value, and its decorators."""

    kind: str
    name: str
    node: Node
    decorators: dict[str, Any]

    @property
    def value(self) -> Any:
        """The literal that it stands for; of a parameter, its default, None where it has none."""
        children = [child for child in self.node.named_children if child.type not in {"identifier", "type"}]
        return evaluate(children[-1]) if children else None

    @property
    def reference(self) -> str:
        """A resource's type and version, or a module's path."""
        return str(evaluate(next(child for child in self.node.named_children if child.type == "string")))

    @property
    def body(self) -> dict[str, Any]:
        """The object that describes a resource or module, whatever loop or condition it stands in."""
        return next(evaluate(node) for node in walk(self.node) if node.type == "object")


class Document:
    """One file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text("utf-8")
        # The grammar has no parameter files; there, a parameter is written like a variable here.
        text = re.sub(r"^param (\w+) =", r"var \1 =", self.text, flags=re.MULTILINE)
        self.root = _parser.parse((text if path.suffix == ".bicepparam" else self.text).encode()).root_node

    @property
    def name(self) -> str:
        """The path below `infra/`."""
        return self.path.relative_to(INFRA).as_posix()

    @property
    def errors(self) -> list[str]:
        """What the grammar does not know, as line and text."""
        wrong = [node for node in walk(self.root) if node.is_error or node.is_missing]
        return [f"{self.path.name}:{node.start_point.row + 1}: {_text(node)[:60]}" for node in wrong]

    def all(self, kind: str) -> dict[str, Declaration]:
        """Return the declarations of a kind: parameter, variable, output, resource or module."""
        return {declared.name: declared for declared in self._declarations if declared.kind == kind}

    def uses(self, name: str) -> int:
        """Count how often a name is used besides where it is declared."""
        return sum(node.type == "identifier" and _text(node) == name for node in walk(self.root)) - 1

    @cached_property
    def names(self) -> set[str]:
        """All names that an expression may use: declared, imported, and of loops, lambdas and parameters."""
        declared = {declared.name for declared in self._declarations if declared.kind != "output"}
        return declared | {_text(node) for node in walk(self.root) if _names_something(node)}

    @property
    def functions(self) -> set[str]:
        """The functions and decorators that are called."""
        return {_text(node.named_children[0]) for node in walk(self.root) if node.type == "call_expression"}

    def used_by(self, node: Node) -> set[str]:
        """Return the names that stand in expressions at and below a node, without the functions of the language."""
        return {_text(found) for found in walk(node) if found.type == "identifier" and _is_used(found)}

    @cached_property
    def _declarations(self) -> list[Declaration]:
        found, decorators = [], {}
        for node in walk(self.root):
            if node.type == "decorators":
                decorators = dict(
                    map(_decorator, (child for child in node.named_children if child.type == "decorator"))
                )
            elif node.type.endswith("_declaration"):
                name = next(_text(child) for child in node.named_children if child.type == "identifier")
                found.append(Declaration(node.type.removesuffix("_declaration"), name, node, decorators))
                decorators = {}
        return found


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all below it, as they stand in the text."""
    yield node
    for child in node.children:
        yield from walk(child)


def evaluate(node: Node) -> Any:
    """Return the Python value of a literal, with an Expression for each part that is none."""
    children = [child for child in node.named_children if child.type != "comment"]
    match node.type:
        case "string" if not any(child.type == "interpolation" for child in children):
            return _text(node)[1:-1].replace("\\'", "'")
        case "number":
            return int(_text(node))
        case "boolean":
            return _text(node) == "true"
        case "array":
            return [evaluate(child) for child in children]
        case "object":
            # A resource within a resource is a property without a value to the grammar.
            return dict(_property(child) for child in children if len(child.named_children) > 1)
    return Expression(_text(node))


def _names_something(node: Node) -> bool:
    """Tell the names that imports, functions, loops and lambdas bring."""
    parent = node.parent
    if parent is None or node.type not in {"identifier", "loop_variable", "loop_enumerator"}:
        return False
    if node.type != "identifier" or parent.type in {"import_functionality", "parameter"}:
        return True
    if parent.type == "for_statement":
        return node == parent.named_children[0]
    above = parent.parent
    return above is not None and above.type == "lambda_expression" and parent == above.named_children[0]


def _is_used(node: Node) -> bool:
    """Tell names in expressions from names of properties, functions, nested resources and declarations."""
    parent = node.parent
    if parent is None or parent.type.endswith("_declaration"):
        return parent is not None and node != parent.named_children[0]
    is_first = node == parent.named_children[0]
    match parent.type:
        case "object_property" | "call_expression" | "user_defined_function":
            return not is_first
        case "resource_expression":
            return is_first
    return True


def _property(node: Node) -> tuple[str, Any]:
    key, value = (child for child in node.named_children if child.type != "comment")
    return (str(evaluate(key)) if key.type == "string" else _text(key)), evaluate(value)


def _decorator(node: Node) -> tuple[str, Any]:
    call = next(child for child in walk(node) if child.type == "call_expression")
    name, arguments = call.named_children[0], call.named_children[-1]
    return _text(name), next((evaluate(child) for child in arguments.named_children), None)


def _text(node: Node) -> str:
    return (node.text or b"").decode()
