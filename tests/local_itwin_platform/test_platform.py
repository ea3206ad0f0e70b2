"""The stand-in as a library."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local.itwin_platform import ITwinPlatform
from tests.local_itwin_platform.client import Client, picture


def test_many_concurrent_clients_are_all_served(client: Client) -> None:
    """Each iTwin ends with its own image."""
    colours = {client.platform.add_itwin(): f"#{shade:02x}0000" for shade in range(0, 256, 8)}
    with ThreadPoolExecutor(16) as pool:
        answers = pool.map(lambda itwin: client.put(itwin, picture(colour=colours[itwin])), colours)
        assert [answer.status_code for answer in answers] == [201] * len(colours)
    for itwin, colour in colours.items():
        assert client.platform.image(itwin) == (picture(colour=colour), "image/png")


def test_a_wrong_itwin_id_is_refused_by_the_library() -> None:
    """A container name that is not a GUID cannot become an iTwin."""
    with pytest.raises(ValueError, match="GUID"):
        ITwinPlatform().add_itwin("my-project")


def test_an_itwin_can_be_added_again(client: Client, itwin: str) -> None:
    """It keeps its image."""
    client.put(itwin, picture())
    assert client.platform.add_itwin(itwin.upper(), display_name="Renamed") == itwin
    (known,) = client.platform.itwins()
    assert known.properties["displayName"] == "Renamed"
    assert client.platform.image(itwin) == (picture(), "image/png")


def test_the_platform_shares_no_code_with_the_app() -> None:
    """A stand-in that used the app's code would confirm its mistakes."""
    code = "import sys, local.itwin_platform; sys.exit(any(name.split('.')[0] == 'shared' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
