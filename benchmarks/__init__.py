"""What is fast, against whom, in one run: `python -m benchmarks --help`.

::

    __main__     the order of a run: measure, remember the figures, write tables and plots
    cold_start   what indexing costs, and what the first drop pays
    warm_path    what the app costs beside the image work and the bare calls
    throughput   many drops through the host, beside a plain function
    memory       the most that the worker holds
    growth       whether a drop costs more where there are more iTwins or results
    drops        the pictures that are dropped
    stand_in     storage, platform and identity that answer at once, in a process of their own
    surroundings what the app finds around it when it runs inside a benchmark
    deluge       many drops through a whole local cloud, each awaited
    processes    what a process has used, as Linux tells it
    apps         what the host runs: the app with stopwatches, and its peer
    report       what a demand is, and how figures become tables
    plots        one picture per benchmark
    image        the image work alone
    simulation   the app past one machine
"""
