"""The app past one machine: its own decision code, a thousand instances and a million drops in simulated time.

::

    __main__   the order of a run
    scenarios  what is tried
    report     tables, plot and demands
    run        one scenario: the world put together, and what is counted in it
    instances  processes that take messages, crash and come again
    services   storage and platform as a process sees them
    loop       simulated time

What is real: `process_drop` and `bury_drop` with all that they decide, results' `may_replace`, the ledger's `Entry`,
`RetryQueue` and its messages, `ITwinPlatform.upload_image` and `decipher_response`, and one `Throttle` per process.
What is simulated: time, storage, the platform, the image work, and the Functions host.
"""
