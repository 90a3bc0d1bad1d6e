#!/usr/bin/env bash
# Installs the server, without torch, into a virtual environment of its own.
#
#   deploy/install.sh PREFIX [EXTRAS]
#
# EXTRAS is `server` (the default: the CPU, or the CUDA and cuDNN that the system brings) or
# `server,cuda` (CUDA and cuDNN as wheels, about 2 GB). The Dockerfile calls this and nothing else,
# so whoever installs without a container gets the same. PYTHON names the interpreter.
set -euo pipefail
prefix=${1:?usage: deploy/install.sh PREFIX [EXTRAS]}
extras=${2:-server}
here=$(cd "$(dirname "$0")/.." && pwd)

"${PYTHON:-python3}" -m venv "$prefix"
"$prefix/bin/python" -m pip install --disable-pip-version-check \
  --constraint "$here/constraints.txt" "$here[$extras]"

# Started from elsewhere, so that what counts is what was installed and not the sources here.
cd /
"$prefix/bin/python" - <<'PYTHON'
import importlib.util
import sys

import server.app

if importlib.util.find_spec("torch") is not None:
    sys.exit("torch has been installed: something that the server needs now depends on it")
PYTHON
