"""Types of JSON bodies. Validation stops at the first fault of a list.

Otherwise a body of 4 MB could have millions of faults, which need gigabytes of memory.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SkipValidation, model_validator
from pydantic_core import PydanticCustomError

__all__ = ["Body", "ExactBody", "Filters", "Inputs", "Texts"]

Texts = Annotated[list[str], Field(fail_fast=True)]
_Ids = Annotated[list[int], Field(fail_fast=True)]
Inputs = str | Texts | _Ids | Annotated[list[_Ids], Field(fail_fast=True)]
"""Texts; or token ids, which are refused with a reason."""


def _checked(filters: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
    for field, values in filters.items():
        texts = values if isinstance(values, list) else [values]
        if not all(isinstance(text, str) for text in texts):
            raise PydanticCustomError(
                "filter", "{field} must be a text or a list of texts", {"field": repr(field[:100])}
            )
    return filters


Filters = Annotated[
    dict[str, Annotated[str | list[str], SkipValidation]], AfterValidator(_checked)
]  # fmt: skip
"""The allowed values of each field."""


class Body(BaseModel):
    """A body whose numbers are numbers: no text, no true or false. Unknown fields are ignored."""

    model_config = ConfigDict(strict=True)


class ExactBody(Body):
    """A body without unknown fields."""

    # Not extra="forbid": every unknown field would be a fault of its own.
    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": False})

    @model_validator(mode="after")
    def _no_unknown_field(self) -> ExactBody:
        for name in self.model_extra or ():
            raise PydanticCustomError(
                "extra_forbidden", "There is no field {name}", {"name": repr(name[:100])}
            )
        return self
