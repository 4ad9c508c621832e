"""Slides to feature files: tissue, tiles, and the frozen network that embeds them."""
