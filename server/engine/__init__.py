"""ONNX Runtime: graph surgery, the state arena, and runs on its rows.

`Engine` is what the driver uses. Data flow: devices → graph → session → arena → engine.
"""
