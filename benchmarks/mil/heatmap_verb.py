"""The verb ``entroreg mil heatmap``: from a slide to the attention of a trained model over it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entroreg.benchmarks.errors import OK
from entroreg.benchmarks.mil.slide_verbs import Features


@dataclass(frozen=True)
class HeatMap:
    """Write the features of a slide, as mil features does, and draw the attention of a run's model over it.

    Features that are there already are used. OUT gets NAME.heatmap.png and, for QuPath, NAME.heatmap.geojson.

    Example: entroreg mil heatmap slide.svs --run runs/train/mil-abmil-aem/patches/seed-0
    """

    features: Features
    run: Path
    """Run folder of entroreg train mil, trained on features of the same network."""
    fold: int = 0
    """Fold of the run whose model looks at the slide."""

    def execute(self) -> int:
        """Extract, predict, draw; the last lines say where everything is."""
        from entroreg.benchmarks.cli.running import checkpoint_errors_as_user_errors
        from entroreg.benchmarks.mil.building import data_errors_as_user_errors

        with checkpoint_errors_as_user_errors(), data_errors_as_user_errors():
            found = self._drawn()
        if self.features.json:
            print(json.dumps(found))
            return OK
        for name, probability in found["probabilities"].items():
            print(f"{name:12} {probability:.3f}")
        for name in ("features", "picture", "geojson"):
            print(f"{name:12} {found[name]}")
        return OK

    def _drawn(self) -> dict[str, Any]:
        from entroreg.benchmarks.mil.evaluation import load_fold
        from entroreg.benchmarks.mil.heatmaps import draw_slide
        from entroreg.vision.mil.slides.extraction import feature_path

        loaded = load_fold(self.run, self.fold)  # before minutes of extraction
        path = feature_path(self.features.tiling.slide, self.features.tiling.out)
        if self.features.overwrite or not path.exists():
            self.features.extract()
        return draw_slide(path, loaded.model, loaded.dataset)
