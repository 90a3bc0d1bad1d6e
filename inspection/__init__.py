"""Somebody's ONNX file: what its states, axes and constants probably are, and proof of it.

    reading → states (names, flow of data) and roles     guessed from the file alone
    trial → batch_axis, time_axis                        tried in plain ONNX Runtime
    findings                                             all of it in one object
    report, summary, placement                           `inspect` shows it
    adding: config → entry → proof                       `add` writes and proves it

`choices` is what somebody says instead of a guess. The proof runs the server's own engine.
"""
