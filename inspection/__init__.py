"""Somebody's ONNX file: what its states, axes and constants probably are, and proof of it.

`inspect` reads: model → graph facts → guesses → probes → findings → report. `add` writes those
findings as a repository entry and proves it with the server's own engine.
"""
