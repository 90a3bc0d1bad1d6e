"""Model directory → validated spec.

`scan` finds the models, `load` reads one. spec.py is what the rest of the server sees.
"""
