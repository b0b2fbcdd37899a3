"""Pictures: the format of the suffix, every layer in its place, and nothing hidden."""

import dataclasses
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from airnet_sdr.dsp.errors import InputError
from airnet_sdr.rx import picture
from airnet_sdr.rx.config import OutputConfig
from airnet_sdr.rx.drawing import DPI, line_style, save_figure
from airnet_sdr.rx.receiver import Reception, receive
from airnet_sdr.sim.loopback import transmit
from airnet_sdr.tx.sender import make_burst


@pytest.fixture(scope="module")
def reception(model) -> Reception:
    burst = make_burst(model, snr_db=15, seed=1)
    return receive(transmit(burst, snr_db=15, seed=1), truth=str(model), evaluate="none")


def layers(num, without_error=()):
    return [
        {"name": f"blocks.{i // 4}.part{i % 4}.weight", "numel": 10, "copies": 1 + i % 2, "power_db": 0.5 * i,
         "nmse_db": None if i in without_error else -10.0 - i % 7}
        for i in range(num)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name, head", [("p.png", b"\x89PNG"), ("p.pdf", b"%PDF"), ("p.svg", b"<?xml"), ("P.SVG", b"<?xml")]
)
def test_the_suffix_says_the_format(reception, tmp_path, name, head):
    reception.draw(tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(head)


def test_a_png_has_150_dots_an_inch_or_more(tmp_path):
    save_figure(Figure(figsize=(2, 1)), tmp_path / "p.png")
    assert DPI >= 150 and Image.open(tmp_path / "p.png").size == (2 * DPI, DPI)


def test_another_suffix_is_refused_before_the_work():
    with pytest.raises(InputError, match="gif"):
        OutputConfig(picture="p.gif")


def test_the_title_names_network_and_channel(reception):
    report = {**reception.report, "run": {"channel": {"snr_db": 12.0, "echoes": [[1, 2, 3]], "cfo_hz": 500.0}}}
    assert picture.title_of(report).startswith("fashion, analog, over simulated air: snr 12 dB, 1 echoes, cfo 500 Hz\n")
    assert "over samples:in memory" in picture.title_of(reception.report)


def drawn_layers(rows):
    """The axes of the layers' panel, laid out as in the picture, and its renderer."""
    figure = Figure(figsize=(7, max(8.5, 1.6 + picture.ROW_HEIGHT * len(rows))), layout="constrained")
    axes = figure.subplots()
    picture.draw_layers(axes, rows)
    figure.draw_without_rendering()
    return axes, matplotlib.backends.backend_agg.FigureCanvasAgg(figure).get_renderer()


@pytest.mark.parametrize("num", [6, 62, 152])
def test_layers_are_readable_however_many(num):
    """No name lies over its neighbour's; every layer with an error has a bar."""
    rows = picture.layer_rows(layers(num, without_error=(1,)))
    assert len(rows) <= picture.MOST_ROWS and sum(row["numel"] for row in rows) == 10 * num
    axes, renderer = drawn_layers(rows)
    boxes = [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    assert all(above.y0 >= below.y1 - 1 for above, below in pairwise(boxes))
    widths = [bar.get_width() for bar in axes.patches]
    assert sum(width < 0 for width in widths) == sum(row["nmse_db"] is not None for row in rows)


def test_a_layer_without_error_does_not_empty_the_panel():
    axes, _ = drawn_layers(picture.layer_rows(layers(3, without_error=(0,))))
    assert [bar.get_width() for bar in axes.patches] == [0, -11, -12]
    assert [text.get_text() for text in axes.texts] == ["no error: constant "]


def test_rows_put_together_keep_weights_and_mean_error():
    (row,) = picture.layer_rows(layers(4), 1)
    assert row["name"] == "blocks.0" and row["copies"] == (1, 2) and row["power_db"] == (0, 1.5)
    assert row["nmse_db"] == pytest.approx(10 * np.log10(np.mean(10 ** (-np.arange(10, 14) / 10))))


def test_bars_end_at_100_percent(reception):
    for accuracy in (1.0, 0.3, 0.0):
        axes = Figure().subplots()
        picture.draw_quality(axes, {"accuracy": accuracy, "accuracy_sent": 1.0})
        assert axes.get_xlim() == (0, 100) and max(bar.get_width() for bar in axes.patches) <= 100


def test_metrics_take_the_place_of_accuracy():
    axes = Figure().subplots()
    picture.draw_quality(axes, {"metrics": {"rmse": 0.25}, "metrics_sent": {"rmse": 0.125}})
    (table,) = axes.tables
    assert [cell.get_text().get_text() for (row, _), cell in sorted(table.get_celld().items()) if row] == [
        "rmse", "0.125", "0.25",
    ]  # fmt: skip


def test_lines_that_coincide_are_all_seen():
    """Each later line is narrower than the one below it, and has another colour and marker."""
    styles = [line_style(i, 5) for i in range(5)]
    assert all(low["lw"] > high["lw"] and low["zorder"] < high["zorder"] for low, high in pairwise(styles))
    assert len({(style["color"], style["marker"]) for style in styles}) == 5


def test_strange_names_are_drawn_as_they_are(reception, tmp_path):
    strange = [{**layer, "name": f"a$b_{{{i}$"} for i, layer in enumerate(reception.report["layers"])]
    dataclasses.replace(reception, report={**reception.report, "model": "$x^$", "layers": strange}).draw(
        tmp_path / "p.svg"
    )
