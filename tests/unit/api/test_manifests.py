"""The generated manifests: structural, complete, and as they are committed."""

from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import BaseModel

from asyncflow.api.crds import manifests, task_definition, type_definition
from asyncflow.api.schema import UnknownKeyword, structural_schema

CRDS = Path(__file__).parents[3] / "crds"
DEFINITIONS = {"AsyncTask": task_definition(), "TaskType": type_definition()}


def properties(node: dict[str, Any], path: str = "") -> dict[str, dict[str, Any]]:
    """Return every named field below a schema, by its path."""
    found: dict[str, dict[str, Any]] = {}
    for name, sub in node.get("properties", {}).items():
        found[f"{path}.{name}"] = sub
        found |= properties(sub, f"{path}.{name}")
    if "items" in node:
        found |= properties(node["items"], f"{path}[]")
    return found


def schema_of(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = DEFINITIONS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


@pytest.mark.parametrize("name", sorted(manifests()))
def test_the_committed_file_is_what_the_models_say(name: str) -> None:
    assert (CRDS / name).read_text() == manifests()[name], "run `make manifests` and commit it"


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_every_field_is_explained(kind: str) -> None:
    bare = [
        path
        for path, node in properties(schema_of(kind)).items()
        if not node.get("description") and path != ".metadata"
    ]
    assert bare == []


@pytest.mark.parametrize("kind", sorted(DEFINITIONS))
def test_every_list_and_text_that_a_rule_reads_is_bounded(kind: str) -> None:
    unbounded = [
        path
        for path, node in properties(schema_of(kind)).items()
        if node.get("type") == "array" and "maxItems" not in node and path.startswith(".spec")
    ]
    assert unbounded == []


def test_a_stage_inherits_what_it_does_not_set() -> None:
    stage = properties(schema_of("TaskType"))[".spec.stages"]["items"]["properties"]
    assert "default" not in stage["deadlines"]
    assert "default" not in stage["retry"]
    assert properties(schema_of("TaskType"))[".spec.deadlines"]["default"] == {}


def test_what_a_schema_cannot_say_is_refused_by_name() -> None:
    class Odd(BaseModel):
        either: int | str

    with pytest.raises(UnknownKeyword, match=r"Odd\.either"):
        structural_schema(Odd)

    class Constant(BaseModel):
        only: Literal["a"]

    assert structural_schema(Constant)["properties"]["only"]["enum"] == ["a"]


def test_the_files_are_plain_yaml() -> None:
    for text in manifests().values():
        assert "&id" not in text
        assert all(document for document in yaml.safe_load_all(text))
