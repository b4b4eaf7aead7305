"""The keys that every data source takes beside its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

Classes = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class SourceKeys(BaseModel):
    """Which images of a data source take part."""

    classes: Classes | None = Field(
        default=None,
        description="labels of the images that take part, such as `[0, 1, 2]`; `null` for all",
    )
    validation_classes: Classes | None = Field(
        default=None,
        description="labels of the images that validate, such as `[9]`; `null` takes those of `classes`",
    )
    search_holdout: int | None = Field(
        default=None,
        gt=0,
        description="how many images of the training set, chosen by a fixed seed, take the place of the "
        "validation set and are not trained on; `null` for none. For choices that the validation set must "
        "not see",
    )
