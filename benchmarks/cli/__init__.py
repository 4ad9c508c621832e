"""The ``entroreg`` command."""
