#!/usr/bin/env bash
# usage: benchmarks/peers/wheels.sh PEER OUT   (PEER: ms-swift | trl | unsloth | llama-factory | bitsandbytes)
# Makes OUT/site.tar.xz: the packages that a GPU machine without a network lacks to run a peer at its fastest. That machine has Python 3.12,
# torch 2.11 (CUDA 13), transformers 5.17, accelerate 1.15, numpy, pandas and pyarrow; another one wants other pins. Install there:
#   mkdir SITE && python3 -m tarfile -e OUT/site.tar.xz SITE && python3 -m benchmarks.train --peer PEER=SITE
# bitsandbytes is no peer: it is what --quant_method bnb of this repository needs (PYTHONPATH=SITE).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); peer=$1; mkdir -p "$2"; out=$(cd "$2" && pwd)
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; mkdir "$tmp/site" "$tmp/built"

platforms=(); for tag in _2_28 _2_27 _2_24 _2_17 2014 1; do platforms+=(--platform "manylinux${tag}_x86_64"); done
get() { python3 -m pip install -q --no-deps --no-compile --only-binary=:all: --python-version 3.12 --implementation cp "${platforms[@]}" \
  --target "$tmp/site" --upgrade "$@" 2>&1 | { grep -v WARNING || true; } >&2; }
build() { python3 -m pip wheel -q --no-deps -w "$tmp/built" "$@" 2>&1 | { grep -v WARNING || true; } >&2; }

hugging_face="peft==0.20.0 datasets==4.8.4 dill==0.4.1 multiprocess==0.70.19 xxhash==4.1.0"
trl="trl==0.29.1 liger-kernel==0.8.5 rich==15.0.0 Pygments==2.21.0 markdown-it-py==4.3.0 mdurl==0.1.2 einops==0.8.2 typer==0.29.2
  shellingham==1.5.4 click==8.5.1"
web="aiohttp==3.14.5 aiohappyeyeballs aiosignal frozenlist multidict yarl propcache attrs fastapi starlette annotated-doc annotated-types
  pydantic==2.14.4 pydantic_core==2.50.5 typing-inspection openai==3.57.0 jiter httpx httpcore httpx2 httpcore2 truststore opentelemetry-api
  sniffio anyio h11 uvicorn zstandard importlib-metadata zipp"
ms_swift="ms-swift==4.6.0 addict==2.4.0 attrdict==2.0.1 binpacking==2.0.1 cpm-kernels==1.0.11 dacite==1.9.2 json-repair matplotlib contourpy
  cycler kiwisolver pyparsing modelscope==1.40.2 modelscope-hub nltk joblib rouge==1.0.1 simplejson sortedcontainers tensorboard absl-py
  Markdown Werkzeug jmespath lazy-importer pycryptodome aliyun-python-sdk-core aliyun-python-sdk-kms psutil cloudpickle defusedxml
  python-dateutil six tzdata   cryptography cffi pycparser"
unsloth="unsloth==2026.10.9 unsloth_zoo==2026.10.9 bitsandbytes==0.50.2 tyro==1.0.17 cut_cross_entropy==25.1.1 hf_transfer==0.1.9
  msgspec==0.22.0 nest-asyncio typeguard==4.6.1 docstring-parser==0.18.0 torchao==0.18.0 json5 structlog"
llama_factory="llamafactory==0.9.5 transformers==5.6.0 tokenizers==0.22.2 accelerate==1.11.0 peft==0.18.1 trl==0.24.0 datasets==4.0.0
  fsspec==2025.3.0 dill==0.3.8 multiprocess==0.70.16 xxhash==4.1.0 liger-kernel==0.8.5 einops==0.8.2 tyro==0.8.14 shtab typeguard==4.6.1
  docstring-parser==0.18.0 rich==15.0.0 Pygments==2.21.0 markdown-it-py==4.3.0 mdurl==0.1.2 omegaconf termcolor sse-starlette fastapi
  starlette annotated-doc annotated-types pydantic==2.14.4 pydantic_core==2.50.5 typing-inspection uvicorn anyio sniffio h11"

# shellcheck disable=SC2086  # lists of words
case $peer in
  bitsandbytes) get bitsandbytes==0.50.2 ;;
  trl) get $hugging_face $trl ;;
  unsloth) get $hugging_face $trl $unsloth ;;
  ms-swift) get $hugging_face $trl $web $ms_swift; build oss2==2.19.1 transformers-stream-generator==0.0.5 ;;
  llama-factory) get $llama_factory; build antlr4-python3-runtime==4.9.3 fire ;;
  *) echo "unknown peer $peer" >&2; exit 2 ;;
esac
if [ "$peer" != bitsandbytes ]; then build "$here/flash_attn_standin"; fi
if compgen -G "$tmp/built/*.whl" >/dev/null; then python3 -m pip install -q --no-deps --no-compile --no-index --target "$tmp/site" "$tmp"/built/*.whl 2>/dev/null; fi

# what training on that machine does not need: kernels for other CUDA versions, commands, the web studio of Unsloth
find "$tmp/site/bitsandbytes" -name '*.so' ! -name '*cuda130*' ! -name '*cpu*' -delete 2>/dev/null || true
rm -rf "$tmp/site/bin" "$tmp/site/studio"
XZ_OPT="-6 -T2" tar cJf "$out/site.tar.xz" -C "$tmp/site" .
du -sh "$tmp/site" "$out/site.tar.xz"
