"""The attention maps of a model while it runs, and their reduction by lag.

An instrument that the questions use, without a command of its own.
"""
