"""Trainings that are killed again and again, and what a checkpoint costs."""
