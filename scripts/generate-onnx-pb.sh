#!/usr/bin/env bash
# Regenerates src/export/onnx_pb.ts from src/export/onnx.proto; both tools come from the npm registry.
set -euo pipefail
cd "$(dirname "$0")/../src/export"
npx --yes -p @bufbuild/buf@1.57.0 -p @bufbuild/protoc-gen-es@2.17.0 -p typescript@5.9 -- \
  buf generate . --path onnx.proto --template '{"version":"v2","plugins":[{"local":"protoc-gen-es","out":".","opt":["target=ts","import_extension=ts"]}]}'
