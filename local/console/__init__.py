"""A page on which to watch the local cloud and to simulate faults.

It sees what any user sees: blobs, results and the images on iTwins. Each module decides one thing::

    board      what the page shows, and which part of it is new
    observer   how what happens in the cloud gets onto the board
    faults     how the switches make the platform respond
    pictures   which pictures may be looked at, and how large
    guard      whose requests are served, and what a browser may do with the responses
    server     the routes, and the stream of changes
    static/    the page itself: HTML, CSS and JavaScript modules, as they are
"""

from local.console.server import open_console

__all__ = ["open_console"]
