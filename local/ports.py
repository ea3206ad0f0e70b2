"""Where the parts of the cloud listen: on ports that stay the same from one run to the next, if they are free."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from local.serving import LOOPBACK, LocalCloudError, UsageError, listen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Ports:
    """One port for each part; 0 chooses a free one. Raises UsageError if two parts have the same one."""

    console: int = 0
    blob: int = 0
    queue: int = 0
    platform: int = 0
    identity: int = 0
    vault: int = 0
    host: int = 0

    def __post_init__(self) -> None:
        """Refuse a port that is given to two parts."""
        taken: dict[int, str] = {}
        for part, port in asdict(self).items():
            if port and port in taken:
                raise UsageError(
                    f"Port {port} is given to the {taken[port]} service and to the {part} service: choose another one."
                )
            taken[port] = part

    def check(self) -> None:
        """Raise LocalCloudError if one of them is in use, before anything is started."""
        for port in filter(None, asdict(self).values()):
            listen(port).close()


# Storage has Azurite's own ports, to which `UseDevelopmentStorage=true` refers; the host has that of Core Tools.
DEFAULT_PORTS = Ports(console=10010, blob=10000, queue=10001, platform=10011, identity=10012, vault=10013, host=7071)
PARTS = tuple(asdict(DEFAULT_PORTS))


@contextlib.contextmanager
def claim_ports(asked: Mapping[str, int | None]) -> Iterator[Ports]:
    """Yield the requested ports, and for every other part (None) its default, or 0 if that is in use.

    Raises UsageError if two parts were given the same port.
    """
    ports = Ports(**{part: port or 0 for part, port in asked.items()})
    with contextlib.ExitStack() as claims:
        for part, port in asdict(DEFAULT_PORTS).items():
            is_free = asked.get(part) is None and port not in asked.values()
            if is_free and claims.enter_context(_claim(port)):
                ports = replace(ports, **{part: port})
        yield ports


@contextlib.contextmanager
def _claim(port: int) -> Iterator[bool]:
    """Yield whether the port may be used until the block ends.

    A port is claimed by binding the UDP port with the same number: if two clouds start at once, neither listens yet.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as claim:
        try:
            claim.bind((LOOPBACK, port))
            listen(port).close()
        except (OSError, LocalCloudError):
            yield False
        else:
            yield True
