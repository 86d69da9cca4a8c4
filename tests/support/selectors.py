"""Label and field selectors, as the API server reads them."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from asyncflow.kube.client import CORE_EVENTS, PODS, ApiError, Body, Resource

Matcher = Callable[[Body], bool]

EVERY_RESOURCE = ("metadata.name", "metadata.namespace")
SELECTABLE = {
    PODS: ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP"),
    CORE_EVENTS: (
        *(f"involvedObject.{field}" for field in ("kind", "namespace", "name", "uid", "apiVersion")),
        *("reason", "type", "source", "reportingComponent"),
    ),
}
"""Fields by which objects can be selected, beside those of every resource (``pkg/apis/core/v1``)."""

TERM = re.compile(r"(?P<not>!?)(?P<key>[\w./-]+)\s*(?:(?P<op>==?|!=)\s*(?P<value>[\w./-]*))?")


def matcher(resource: Resource, labels: str | None, fields: str | None) -> Matcher:
    """Return what tells whether an object of a resource matches both selectors.

    Of the set-based requirements of labels only the tests for a key (``key``, ``!key``) are known here.

    Raises:
        ApiError: the API server would not accept a selector (400).
    """
    return _matcher(resource, labels or "", fields or "")


@lru_cache
def _matcher(resource: Resource, labels: str, fields: str) -> Matcher:
    terms = [*map(_label_term, _terms(labels)), *(_field_term(resource, text) for text in _terms(fields))]
    return lambda body: all(matches(body) for matches in terms)


def _terms(selector: str) -> list[str]:
    return [text.strip() for text in selector.split(",") if text.strip()]


def _label_term(text: str) -> Matcher:
    term = TERM.fullmatch(text)
    if term is None or (term["not"] and term["op"]):
        raise ApiError(400, "BadRequest", f"unable to parse requirement: {text}")
    key, value = term["key"], term["value"]
    if term["op"] is None:
        there = not term["not"]
        return lambda body: (key in _labels(body)) is there
    if term["op"] == "!=":
        return lambda body: _labels(body).get(key) != value
    return lambda body: _labels(body).get(key) == value


def _field_term(resource: Resource, text: str) -> Matcher:
    term = TERM.fullmatch(text)
    if term is None or term["not"] or term["op"] is None:
        raise ApiError(400, "BadRequest", f"invalid selector: '{text}'; can't understand '{text}'")
    path, value, equal = term["key"], term["value"], term["op"] != "!="
    if path not in (*EVERY_RESOURCE, *SELECTABLE.get(resource, ())):
        raise ApiError(400, "BadRequest", f"field label not supported: {path}")
    keys = path.split(".")
    return lambda body: (_at(body, keys) == value) is equal


def _labels(body: Body) -> dict[str, str]:
    return body["metadata"].get("labels") or {}


def _at(body: Any, keys: list[str]) -> Any:
    """Return a field's value; an empty string where there is none, as the API server compares it."""
    for key in keys:
        body = body.get(key) or ""
        if body == "":
            return ""
    return body
