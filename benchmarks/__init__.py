"""Benchmarks: suites, the runner, statistics and the ``entroreg`` command."""

if __name__ == "benchmarks":
    raise ImportError("import it as entroreg.benchmarks: a bare 'benchmarks' would exist twice")
