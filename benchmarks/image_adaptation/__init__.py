"""Classifiers adapted online to streams of corrupted images."""
