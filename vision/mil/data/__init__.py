"""Bags made of real data sets, and the readers of MIL's own."""
