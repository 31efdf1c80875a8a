"""The description: valid, complete, true (fuzzed), and readable offline."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from api.app import STATIC
from api.policy import Scope
from tests.api.conftest import Api

EXAMPLES = 8
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


async def test_the_description_is_valid_openapi_3_1(api: Api) -> None:
    document = (await api.http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


async def test_the_description_keeps_patterns_limits_examples_and_scopes(api: Api) -> None:
    document = (await api.http.get("/openapi.json")).json()
    hold = document["components"]["schemas"]["NewHoldBody"]
    assert hold["additionalProperties"] is False
    assert hold["properties"]["debit"]["pattern"].startswith("^(Assets|")
    assert hold["properties"]["amount"] == hold["properties"]["amount"] | {"minimum": 1, "maximum": 10**15}
    assert hold["properties"]["amount"]["examples"]
    scopes = document["components"]["securitySchemes"]["oauth"]["flows"]["clientCredentials"]["scopes"]
    assert set(scopes) == set(Scope)
    place = document["paths"]["/v1/holds"]["post"]
    assert place["security"] == [{"oauth": ["holds:write"]}]
    assert {"$ref": "#/components/parameters/IdempotencyKey"} in place["parameters"]
    assert {"201", "400", "401", "403", "404", "409", "413", "415", "422", "429"} <= set(place["responses"])


async def test_operation_ids_are_unique_and_every_operation_is_described(api: Api) -> None:
    document = (await api.http.get("/openapi.json")).json()
    operations = [o for path in document["paths"].values() for o in path.values()]
    assert len({o["operationId"] for o in operations}) == len(operations)
    assert all(o["summary"] and o["description"] and o["tags"] for o in operations)


async def test_the_docs_page_loads_from_here_alone_and_has_no_inline_script(api: Api) -> None:
    page = await api.http.get("/docs")
    assert page.status_code == 200
    assert not re.search(r"<script(?![^>]*\bsrc=)", page.text)
    assert not re.search(r"<style|\bstyle=|\bon\w+=", page.text)
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert address.startswith("/"), address
        assert (await api.http.get(address)).status_code == 200, address


def test_vendored_files_say_their_licence() -> None:
    for folder in (STATIC / "vendor").iterdir():
        if folder.is_dir():
            assert list(Path(folder).glob("LICENSE*")), folder


@pytest.mark.timeout(600)
async def test_no_answer_surprises_who_reads_the_description(api: Api) -> None:
    """Requests made up from the description, valid and not: no 5xx, and each answer is as described."""
    merchant = await api.merchant()
    await api.wallet(merchant, "c42", 10_000)
    tokens = [(await api.caller(who)).token for who in (merchant, None)]
    document = (await api.http.get("/openapi.json")).json()
    document["servers"] = [{"url": api.url}]
    api.deps.token_rate.__dict__["_burst"] = api.deps.rate.__dict__["_burst"] = 1e9
    for token in tokens:
        await asyncio.to_thread(fuzz, document, api.url, token)


def fuzz(document: dict[str, Any], url: str, token: str) -> None:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    failures: list[str] = []
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in GenerationMode:
            try:
                one_operation(operation, mode, token)
            except (AssertionError, BaseExceptionGroup) as error:
                failures.append(f"{operation.label} ({mode.value}): {error!r}")
    assert not failures, "\n\n".join(failures)


def one_operation(operation: Any, mode: GenerationMode, token: str) -> None:
    headers = {} if operation.path == "/oauth/token" else {"Authorization": f"Bearer {token}"}

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def run(case: Any) -> None:
        case.validate_response(case.call(headers=headers), checks=CHECKS)

    try:
        run()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # an operation without a value to get wrong
