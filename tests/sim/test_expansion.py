"""The command that measures expansion, and the search for curves."""

import json

import numpy as np
import pytest

from airnet_sdr.sim.experiments import expansion
from airnet_sdr.tests.command import run


def test_the_comparison(tmp_path):
    result = run(expansion.main, "--snr-db", "5", "15", "--pairs", "300", "--seeds", "2", "--out", tmp_path)
    assert (result.status, result.err) == (0, "") and "copies" in result.out
    rows = json.loads((tmp_path / "expansion.json").read_text())["rows"]
    assert len(rows) == 2 * len(expansion.USES)
    assert all(row["limit_db"] < row["chosen_db"] < row["copies_db"] + 0.5 for row in rows)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_search_finds_a_curve_that_beats_copies(dims):
    curve = expansion.from_logs(expansion.design_curve(dims, 12.0, None, num=150), dims)
    assert curve.dims == dims
    found = np.mean([expansion.curve_nmse_db(curve, 12.0, 1000, seed) for seed in (1, 2)])
    assert found < -10 * np.log10(1 + dims * 10**1.2) - 2
