"""Every route, called with what its schema allows, and with what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror_rt.serving import Library, ServeConfig
from tests.serving import build, in_thread

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    kb = build(tiny_bundle, tmp_path_factory.mktemp("schema") / "things")
    library = Library({"things": kb}, {"tiny": tiny_bundle})
    with in_thread(library, ServeConfig(port=0, log_requests=False)) as found:
        yield found
    library.close()


def test_no_request_makes_it_fail(address: str) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="needs Python 3.11")
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    checks = [
        not_a_server_error, status_code_conformance, content_type_conformance,
        response_schema_conformance,
    ]  # fmt: skip
    operations, faults = 0, []
    for found in schema.get_all_operations():
        operation = found.ok()
        operations += 1

        @given(case=operation.as_strategy())
        @settings(max_examples=25, suppress_health_check=list(HealthCheck),
                  database=None, derandomize=True)  # fmt: skip
        def ask(case: Any) -> None:  # noqa: ANN401
            case.call_and_validate(checks=checks)

        try:
            ask()
        except Exception as error:
            faults.append(f"{operation.label}: {error}")
    assert operations >= 20
    assert not faults, "\n\n".join(faults)
