"""The verb ``entroreg mil``: slides for multiple instance learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from entroreg.benchmarks.mil.heatmap_verb import HeatMap
from entroreg.benchmarks.mil.slide_verbs import DrawTiles, Features


@dataclass(frozen=True)
class MILVerb:
    """Slides for multiple instance learning: see their tiles, write their features, draw a model's attention.

    Example: entroreg mil features slide.svs --out features
    """

    verb: (
        Annotated[Features, tyro.conf.subcommand("features")]
        | Annotated[DrawTiles, tyro.conf.subcommand("tiles")]
        | Annotated[HeatMap, tyro.conf.subcommand("heatmap")]
    )

    def execute(self) -> int:
        """Hand on to the sub-verb."""
        return self.verb.execute()
