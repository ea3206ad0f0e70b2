"""Measures speed against demands and peers, all in one run: `python -m benchmarks --help`.

::

    __main__     the order of a run: measure, store the figures, write tables and plots
    cold_start   the cost of indexing, and of the first drop
    warm_path    the app's cost in addition to the image work and the bare calls
    throughput   many drops through the host, compared with a plain function
    memory       the worker's peak memory
    growth       whether a drop costs more if there are more iTwins or results
    drops        the pictures that are dropped
    stand_in     storage, platform and identity that respond at once, in a process of their own
    surroundings the settings and the log of an app inside a benchmark
    deluge       many drops through a whole local cloud, each awaited
    processes    the CPU time and memory of processes, as Linux reports them
    apps         what the host runs: the app with stopwatches, and its peer
    report       demands, and tables of figures
    plots        one picture per benchmark
    image        the image work alone
    simulation   the app on more than one machine
"""
