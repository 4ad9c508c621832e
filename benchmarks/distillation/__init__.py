"""Robust training and distillation as runs: options, folders, the suite's report."""
