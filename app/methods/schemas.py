"""What a client learns of a method."""

from typing import Any, Self

from pydantic import BaseModel, Field

from unlearning.catalog.spec import Guarantee, MethodSpec


class MethodRead(BaseModel):
    """One installed method."""

    family: str = Field(description="Family of models it works on.")
    name: str = Field(description="Its name within the family.")
    title: str = Field(description="Its name for people.")
    summary: str = Field(description="What it does, in a sentence or two.")
    targets: list[str] = Field(description="Kinds of target it can forget.")
    guarantee: Guarantee = Field(description="What it promises of its result.")
    needs: list[str] = Field(description="What it must be given: forget_data, retained_data, statistics.")
    architectures: list[str] | None = Field(
        description="Architectures it works on; null for all of the family."
    )
    updates: bool = Field(description="Whether it also brings a model to newly added records.")
    fallback: bool = Field(description="Whether it is the last rung of every plan.")
    configuration: dict[str, Any] = Field(description="JSON Schema of its parameters, defaults included.")
    paper: str = Field(description="Where it comes from.")

    @classmethod
    def of(cls, spec: MethodSpec) -> Self:
        """Describe a method of the catalog."""
        return cls(
            family=spec.family,
            name=spec.name,
            title=spec.title,
            summary=spec.summary,
            targets=sorted(spec.targets),
            guarantee=spec.guarantee,
            needs=sorted(spec.needs),
            architectures=None if spec.architectures is None else sorted(spec.architectures),
            updates=spec.update is not None,
            fallback=spec.fallback,
            configuration=spec.config.model_json_schema(),
            paper=spec.paper,
        )


class MethodList(BaseModel):
    """The installed methods."""

    items: list[MethodRead] = Field(description="Ordered by family and name.")
