"""How a profile decays with lag: fits, intervals, and which kernel family it is.

An instrument that the questions use, without a command of its own.
"""
