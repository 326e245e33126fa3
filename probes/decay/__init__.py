"""How a profile decays with lag: fits, intervals, and which kernel family it is."""
