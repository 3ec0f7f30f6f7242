"""Torch-free: how data files become interactions: `options.json` beside them, and what a data set keeps of it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import DatasetError

OPTIONS_NAME = "options.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GivenHoldout(_Part):
    """Each row says for itself, in a column `split`; a row that says nothing is learned."""

    rule: Literal["given"] = "given"


class FilesHoldout(_Part):
    """Some files are held out whole, as where a benchmark comes as a training and a test file."""

    rule: Literal["files"] = "files"
    files: tuple[str, ...] = Field(min_length=1, description="Names of the files whose rows are held out.")


class PerUserHoldout(_Part):
    """Of every user's interactions about the same share, chosen by a hash of the interaction's id.

    Each interaction's own id decides. So it stays where it is whatever is added or removed around it, and a data set
    from which somebody was deleted is split as if that person had never been in it.
    """

    rule: Literal["per_user"] = "per_user"
    share: float = Field(0.2, gt=0, lt=1, description="About this share is held out.")


class TemporalHoldout(_Part):
    """Everything from one point in time on, whoever's it is."""

    rule: Literal["temporal"] = "temporal"
    share: float = Field(
        0.2, gt=0, lt=1, description="The latest share of all interactions, where no cutoff is given."
    )
    cutoff: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Interactions at this time or later are held out. Null: found from the share at registration.",
    )


Holdout = Annotated[
    GivenHoldout | FilesHoldout | PerUserHoldout | TemporalHoldout, Field(discriminator="rule")
]


class Options(_Part):
    """How files are read. Without `options.json` the defaults hold."""

    rating_range: tuple[float, float] = Field(
        (0.5, 5.0),
        description="Least and greatest rating there can be; a rating outside is refused. MovieLens's by default.",
    )
    least_rating: float | None = Field(
        None,
        allow_inf_nan=False,
        description="A lower rating is no interaction, and its row is left out. Null: every rating is one.",
    )
    duplicates: Literal["refuse", "first"] = Field(
        "refuse",
        description="What happens to a user and item named again: the data is refused, or the first row stands.",
    )
    held_out: Holdout | None = Field(
        None,
        description="Which interactions no model learns. Null: as the column `split` says if there is one, else per user.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.rating_range
        if not -1e9 <= low < high <= 1e9:  # noqa: PLR2004 - finite and far from where float64 would round
            raise ValueError("rating_range must be the least and the greatest rating, within ±1e9")
        if self.least_rating is not None and not low <= self.least_rating <= high:
            raise ValueError("least_rating must be within rating_range")
        return self

    @classmethod
    def read(cls, value: Mapping[str, Any], source: str) -> Self:
        """Read options from JSON values.

        Raises:
            DatasetError: A field is unknown or wrong; the message names the source and the first fault.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"])) or "it"
            raise DatasetError(f"{source} is wrong: {where}: {fault['msg']}.") from None


class InteractionSchema(Options):
    """What all snapshots of one data set share: how it was read, decided in full."""

    held_out: Holdout = GivenHoldout()
    timestamps: bool = Field(description="Whether every interaction has a time, or none.")

    def to_json(self) -> dict[str, Any]:
        """Return the schema as JSON values."""
        return self.model_dump(mode="json")
