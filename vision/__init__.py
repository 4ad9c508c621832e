"""Vision; empty so far."""

if __name__ == "vision":
    raise ImportError("import it as entroreg.vision: a bare 'vision' would exist twice")
