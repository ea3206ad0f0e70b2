"""How fast `normalize_image` is, beside the least that its decoders and encoders cost and beside its peers.

::

    __main__     the order of a run; `python -m benchmarks.image --help`
    jobs         what is measured, and which ratios are demanded
    inputs       the pictures: real photos where there are any, else drawn ones
    worker       one engine in a process of its own, asked line by line
    engines      what each engine written in Python does with a picture; sharp's is sharp.mjs
    rounds       interleaved rounds on one core, and what a median is
    outputs      whether what came out is legal, judged by another decoder
    corruption   harmful corruptions, and who accepts them
    report       the tables in ../README.md
"""
