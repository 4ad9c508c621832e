from __future__ import annotations

import sys
from pathlib import Path

# pytest imports the tests without their folder: what several of them share is found by this.
sys.path.insert(0, str(Path(__file__).parent))
