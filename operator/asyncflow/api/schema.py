"""From a pydantic model to a structural schema.

A CRD's schema is OpenAPI v3.0 without references, without ``null`` and with a type everywhere (Kubernetes:
"Specifying a structural schema"). pydantic speaks JSON Schema 2020-12; this module translates what the models
use and refuses what it does not know, so that nothing is lost silently.
"""

from typing import Any

from pydantic import BaseModel

KEPT = {
    "type", "format", "description", "enum", "default", "pattern", "minimum", "maximum",
    "minLength", "maxLength", "minItems", "maxItems",
}  # fmt: skip
DROPPED = {"title", "$defs"}


class UnknownKeyword(ValueError):
    """The model uses a keyword of JSON Schema that has no translation here."""


def structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the structural schema of a model.

    Raises:
        UnknownKeyword: the model uses what a structural schema can't say.
    """
    source = model.model_json_schema(by_alias=True, mode="validation")
    return _translate(source, source.get("$defs", {}), model.__name__)


def _translate(node: dict[str, Any], defs: dict[str, Any], path: str) -> dict[str, Any]:
    node = _resolved(node, defs)
    if "anyOf" in node:
        return _translate(_without_null(node, path), defs, path)
    made: dict[str, Any] = {}
    for keyword, value in node.items():
        if keyword in KEPT or keyword.startswith("x-kubernetes-"):
            made[keyword] = value
        elif keyword == "properties":
            made["properties"] = {
                name: _with_default(_translate(sub, defs, f"{path}.{name}"), optional="anyOf" in sub)
                for name, sub in value.items()
            }
        elif keyword == "items":
            made["items"] = _translate(value, defs, f"{path}[]")
        elif keyword == "additionalProperties":
            if isinstance(value, dict):
                made["additionalProperties"] = _translate(value, defs, f"{path}{{}}")
        elif keyword == "required":
            made["required"] = sorted(value)
        elif keyword == "const":
            made["enum"] = [value]
        elif keyword not in DROPPED:
            raise UnknownKeyword(f"{path}: {keyword} has no place in a structural schema")
    return _finished(made)


def _resolved(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    target = defs[node["$ref"].rsplit("/", 1)[-1]]
    return {**target, **{k: v for k, v in node.items() if k != "$ref"}}


def _without_null(node: dict[str, Any], path: str) -> dict[str, Any]:
    options = [option for option in node["anyOf"] if option.get("type") != "null"]
    if len(options) != 1:
        raise UnknownKeyword(f"{path}: a field of several types has no place in a structural schema")
    rest = {k: v for k, v in node.items() if k != "anyOf"}
    return {**options[0], **rest}


def _finished(made: dict[str, Any]) -> dict[str, Any]:
    if made.get("type") == "integer":
        made.setdefault("format", "int64")
    if made.get("x-kubernetes-preserve-unknown-fields"):
        made.pop("default", None)
    if made.get("default", ...) in (None, False, "", [], {}):
        del made["default"]  # an absent field means the same, and objects stay as small as they were written
    for name in made.get("required", ()):
        made["properties"][name].pop("default", None)
    return made


def _with_default(part: dict[str, Any], *, optional: bool) -> dict[str, Any]:
    """Let the defaults inside a part apply, and show, where it is all left out; unless that has a meaning."""
    if not optional and any("default" in sub for sub in part.get("properties", {}).values()):
        return {**part, "default": {}}
    return part
