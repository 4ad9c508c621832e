"""Attention to be looked at: over a slide as a picture and for QuPath, and over the digits of a bag."""

from entroreg.vision.mil.heatmaps.geojson import write_geojson
from entroreg.vision.mil.heatmaps.instances import plot_bag_attention
from entroreg.vision.mil.heatmaps.picture import plot_heatmaps
from entroreg.vision.mil.heatmaps.raster import Raster, attention_raster, infer_tile_size
from entroreg.vision.mil.heatmaps.values import over_uniform

__all__ = [
    "Raster",
    "attention_raster",
    "infer_tile_size",
    "over_uniform",
    "plot_bag_attention",
    "plot_heatmaps",
    "write_geojson",
]
