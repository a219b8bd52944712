"""What every section of params.yaml is: immutable, strict about types, without unknown keys."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
"""A part of file names and of the names of stages."""

Seed = Annotated[int, Field(ge=0, lt=2**63)]
"""What every generator of random numbers takes."""


class Section(BaseModel):
    """Base of all sections: immutable, strict about types, finite numbers, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_by_name=True, allow_inf_nan=False)

    def resolved(self) -> dict[str, Any]:
        """The section as plain values under the names of params.yaml (for manifests and fingerprints)."""
        return self.model_dump(mode="json", by_alias=True)
