"""Measures how fast `normalize_image` is, compared with its peers and with the bare cost of its decoders and encoders.

::

    __main__     the order of a run; `python -m benchmarks.image --help`
    jobs         what is measured, and which ratios are demanded
    inputs       the pictures: real photos if available, otherwise drawn ones
    worker       one engine in a process of its own, controlled line by line
    engines      how each engine written in Python processes a picture; sharp's is sharp.mjs
    rounds       interleaved rounds on one core, and their medians
    outputs      whether the output is legal, judged by another decoder
    corruption   harmful corruptions, and which engines accept them
    report       the tables in ../README.md
"""
