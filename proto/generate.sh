#!/usr/bin/env bash
# Generates the Python stubs with the oldest grpcio-tools that the project supports, so that every
# newer runtime can load them. `proto/generate.sh --check` only tells whether they are up to date.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv-proto
if [ ! -x $venv/bin/protoc-gen-mypy ]; then
  "${PYTHON:-python3}" -m venv $venv
  $venv/bin/pip install --quiet "grpcio-tools==1.72.2" "mypy-protobuf==3.7.0" "protobuf==6.30.2" "setuptools<81"
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
PATH="$PWD/$venv/bin:$PATH" python -m grpc_tools.protoc -I proto \
  --python_out="$out" --grpc_python_out="$out" --mypy_out="$out" --mypy_grpc_out="$out" \
  proto/inference/*.proto proto/rnnserve/v1/*.proto 2>&1 | grep -v '^Writing mypy' || true

# protoc writes absolute imports; the Open Inference stubs live inside the server
sed -i -E 's/^from inference import /from server.stubs.inference import /; s/^import inference\./import server.stubs.inference./; s/([^.a-z_])inference\.(model_config|grpc_service)_pb2/\1server.stubs.inference.\2_pb2/g' \
  "$out"/inference/*

places=(inference:server/stubs/inference rnnserve/v1:client/rnnserve/v1)
for place in "${places[@]}"; do
  from=$out/${place%%:*} to=${place##*:}
  touch "$from/__init__.py"
  if [ "${1:-}" = --check ]; then
    diff -r --exclude=__pycache__ "$from" "$to" || { echo "the stubs in $to are out of date: run 'make proto'" >&2; exit 1; }
  else
    mkdir -p "$to"
    cp "$from"/* "$to"/
  fi
done
