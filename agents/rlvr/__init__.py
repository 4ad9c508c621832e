"""Reinforcement learning with verifiable rewards: a character transformer that learns to add."""
