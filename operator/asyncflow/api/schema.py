"""Converts a pydantic model to a structural schema.

The schema of a CRD is OpenAPI v3.0 without references and ``null``, and with a type for every field
(Kubernetes: "Specifying a structural schema"). pydantic generates JSON Schema 2020-12. This module translates
the keywords that the models use and rejects all others, so that none is dropped silently.
"""

from typing import Any

from pydantic import BaseModel

COPIED = {
    "type", "format", "description", "enum", "default", "pattern", "minimum", "maximum",
    "minLength", "maxLength", "minItems", "maxItems",
}  # fmt: skip
DROPPED = {"title", "$defs"}


class UnknownKeyword(ValueError):
    """The model uses a JSON Schema keyword that this module does not translate."""


def structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the structural schema of a model.

    Raises:
        UnknownKeyword: the model uses a keyword that has no equivalent in a structural schema.
    """
    source = model.model_json_schema(by_alias=True, mode="validation")
    return _translate(source, source.get("$defs", {}), model.__name__)


def _translate(node: dict[str, Any], defs: dict[str, Any], path: str) -> dict[str, Any]:
    node = _resolved(node, defs)
    if "anyOf" in node:
        return _translate(_without_null(node, path), defs, path)
    schema: dict[str, Any] = {}
    for keyword, value in node.items():
        if keyword in COPIED or keyword.startswith("x-kubernetes-"):
            schema[keyword] = value
        elif keyword == "properties":
            schema["properties"] = {
                name: _with_default(_translate(sub, defs, f"{path}.{name}"), optional="anyOf" in sub)
                for name, sub in value.items()
            }
        elif keyword == "items":
            schema["items"] = _translate(value, defs, f"{path}[]")
        elif keyword == "additionalProperties":
            if isinstance(value, dict):
                schema["additionalProperties"] = _translate(value, defs, f"{path}{{}}")
        elif keyword == "required":
            schema["required"] = sorted(value)
        elif keyword == "const":
            schema["enum"] = [value]
        elif keyword not in DROPPED:
            raise UnknownKeyword(f"{path}: a structural schema does not support the keyword {keyword}")
    return _normalized(schema)


def _resolved(node: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in node:
        return node
    target = defs[node["$ref"].rsplit("/", 1)[-1]]
    return {**target, **{k: v for k, v in node.items() if k != "$ref"}}


def _without_null(node: dict[str, Any], path: str) -> dict[str, Any]:
    options = [option for option in node["anyOf"] if option.get("type") != "null"]
    if len(options) != 1:
        raise UnknownKeyword(f"{path}: a structural schema does not support a field of several types")
    rest = {k: v for k, v in node.items() if k != "anyOf"}
    return {**options[0], **rest}


def _normalized(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "integer":
        schema.setdefault("format", "int64")
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.pop("default", None)
    if schema.get("default", ...) in (None, False, "", [], {}):
        del schema["default"]  # an absent field means the same, and stored objects stay small
    for name in schema.get("required", ()):
        schema["properties"][name].pop("default", None)
    return schema


def _with_default(schema: dict[str, Any], *, optional: bool) -> dict[str, Any]:
    """Add the default ``{}`` so that nested defaults apply to an absent object, unless it may be null."""
    if not optional and any("default" in sub for sub in schema.get("properties", {}).values()):
        return {**schema, "default": {}}
    return schema
