"""Figures leave matplotlib as it was, for whoever imports them into a session of their own."""

import subprocess
import sys

import matplotlib
import numpy as np
import torch
from matplotlib import colors
from matplotlib import pyplot as plt

from probes.attention.figures import decay_figure, map_figure
from probes.capture.by_lag import attention_by_lag
from probes.figures import panels, save_figure, theme
from tests.builders import generator, random_dit


def test_a_figure_leaves_no_trace(tmp_path):
    found = attention_by_lag(random_dit(), [torch.randn(2, 6, 2, generator=generator())], 0.5)
    before, codes, numbers = dict(matplotlib.rcParams), dict(colors.get_named_colors_mapping()), plt.get_fignums()
    truth = np.exp(-np.arange(6) / 3)
    figures = (decay_figure(found, truth, "truth"), map_figure(found, np.eye(6), "truth"))
    assert plt.get_fignums() == numbers
    for figure in figures:
        save_figure(figure, tmp_path / "figure.png")
    assert dict(matplotlib.rcParams) == before and dict(colors.get_named_colors_mapping()) == codes
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_the_theme_holds_inside_alone():
    outside = matplotlib.rcParams["axes.titlesize"], matplotlib.rcParams["xtick.labelsize"]
    with theme():
        assert (matplotlib.rcParams["axes.titlesize"], matplotlib.rcParams["xtick.labelsize"]) != outside
    assert (matplotlib.rcParams["axes.titlesize"], matplotlib.rcParams["xtick.labelsize"]) == outside
    figure, axes = panels(2, 3, (4, 3), sharex=True)
    assert axes.shape == (2, 3) and tuple(figure.get_size_inches()) == (4, 3)


def test_importing_chooses_no_backend():
    code = "import matplotlib; matplotlib.use('svg'); import probes.attention.figures; print(matplotlib.get_backend())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().lower() == "svg", done.stderr
