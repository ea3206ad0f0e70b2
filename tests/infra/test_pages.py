"""What the page promises: its costs add up."""

from __future__ import annotations

import re

from tests.infra.deployed import README


def test_the_costs_add_up() -> None:
    """Each product is what its factors make, and the sum is that of the rows."""
    table = README.partition("## What it costs")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    numbers = [[cell.rpartition("= ")[2].strip(" *|") for cell in cells[-2:]] for cells in rows]
    *parts, total = [[float(number) for number in row] for row in numbers]
    assert [round(sum(column), 2) for column in zip(*parts, strict=True)] == total
    for left, right in re.findall(r"\| ([\d(][\d,.() x-]+) = ([\d.]+)", table):
        product = 1.0
        for factor in left.split(" x "):
            terms = [float(term.replace(",", "")) for term in factor.strip("() ").split(" - ")]
            product *= terms[0] - sum(terms[1:])
        assert round(product, 2) == float(right), left
