"""The cloud is where it was yesterday, wherever that can be."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict

import pytest

from local.ports import DEFAULT_PORTS, PARTS, Ports, claim_ports
from local.processes import wait_until
from local.serving import LocalCloudError, UsageError, listen
from tests.deadlines import HANG_S
from tests.machine import free_port

# What `UseDevelopmentStorage=true` stands for in every SDK.
DEVELOPMENT_STORAGE = {"blob": 10000, "queue": 10001}


def nothing_asked() -> dict[str, int | None]:
    """Return the command line without any option."""
    return dict.fromkeys(PARTS)


def is_free(port: int) -> bool:
    """Whether this machine, which others may use too, has the port free."""
    try:
        listen(port).close()
    except LocalCloudError:
        return False
    return True


def test_every_part_has_a_default_port_of_its_own() -> None:
    """Those of storage are the ones that every SDK uses for the emulator."""
    ports = asdict(DEFAULT_PORTS)
    assert ports.items() >= DEVELOPMENT_STORAGE.items()
    assert all(ports.values())
    assert len(set(ports.values())) == len(ports)


def test_two_clouds_never_claim_the_same_port() -> None:
    """However closely they start: nobody listens yet, and still the second one takes free ports."""
    with claim_ports(nothing_asked()) as one, claim_ports(nothing_asked()) as other:
        shared = set(asdict(one).values()) & set(asdict(other).values())
        assert shared <= {0}


def test_a_port_in_use_is_not_claimed() -> None:
    """A free one is used instead."""
    with ExitStack() as users:
        for port in asdict(DEFAULT_PORTS).values():
            if is_free(port):
                users.enter_context(listen(port))
        with claim_ports(nothing_asked()) as ports:
            assert ports == Ports()


def test_a_claim_ends_with_its_block() -> None:
    """Then the next cloud can have the port."""
    with claim_ports(nothing_asked()) as first:
        claimed = {part for part in PARTS if getattr(first, part)}

    def are_claimed_again() -> bool:
        with claim_ports(nothing_asked()) as ports:
            return all(getattr(ports, part) for part in claimed)

    assert wait_until(are_claimed_again, timeout_s=HANG_S)  # others of this machine may have some for a moment


def test_requested_ports_are_used() -> None:
    """0 means a free port, and no other part gets a default that was requested."""
    asked = {**nothing_asked(), "console": 0, "host": free_port(), "platform": DEFAULT_PORTS.blob}
    with claim_ports(asked) as ports:
        assert (ports.console, ports.host, ports.platform) == (0, asked["host"], DEFAULT_PORTS.blob)
        assert ports.blob == 0


def test_one_port_for_two_parts_is_refused() -> None:
    """In either order."""
    with pytest.raises(UsageError, match=r"^Port 5000 is given to the blob service and to the queue service"):
        claim_ports({**nothing_asked(), "blob": 5000, "queue": 5000}).__enter__()
