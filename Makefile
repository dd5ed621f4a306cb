# make demo   train, export, prove: the whole product in one go
# make quick  lint, types and the fastest tests of every part: under a minute
# make test   format, lint, types and the tests that CI runs on every push: five to nine minutes
# make full   format, lint, types and every test there is
# make fuzz   damaged and crafted files of every format to the commands that read them, MINUTES=15 in all
# make bench  latency, memory and export cost next to onnxruntime's own quantization; a training step next to float
# make training  accuracy against cost, the paper's recipe and ours
# make zoo    every network of the registry in every mode and storage, parity held, timed next to quantize_static
# make litert  every kind of .tflite file of every network: bytes, latency, parity
# make storage  bytes against the entropy bound, load time and memory of every storage
# make arm    int8 files on emulated Cortex-A53, A72, A76 and i8mm;  make x86  on levels below this processor's;  make mcu  in TFLite Micro: docs/devices.md
# make browser  int8 files in Node and in headless Chromium, and the page of examples/browser in it
# All set up .venv first; the times are those of two cores without that. tests/plugins/tiers.py says which test runs where.
# make site   the documentation as a site, in site/: links and names are held, or it fails
# make lock   the lock files of CI anew;  make sbom  what a release depends on, as a CycloneDX file
# On Linux without a GPU, TORCH_INDEX=https://download.pytorch.org/whl/cpu saves gigabytes: torch alone comes from there.
# LOCKED=1 installs the files of .ci/lock*.txt and no others (Linux on x86-64, CPython 3.11).

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
DEMO := demo

.DEFAULT_GOAL := demo
.PHONY: demo quick test full check lint format fuzz site arm x86 mcu browser fashion-mnist bench zoo litert storage training lock sbom clean

# An index for torch and not one more for all packages: a name that is free on either could be taken there by a stranger.
TORCH_FROM = $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))

$(READY): pyproject.toml constraints.txt
	@echo "setting up .venv (a minute or two)" >&2
	$(PYTHON) -m venv .venv
ifdef LOCKED
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps $(TORCH_FROM) --requirement .ci/lock-torch.txt
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement .ci/lock.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
else
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --no-deps $(TORCH_FROM) '$(shell grep ^torch== constraints.txt)')
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,tflite,test]'
endif
	@touch $@

# One thread: images of 8 x 8 pixels leave a second one nothing to do, and it would slow a busy machine down.
demo: $(READY)
	@mkdir -p $(DEMO)
	$(BIN)/python -m codeq.train --model resnet8 --data digits --bits 4 --threads 1 -o $(DEMO)/ckpt.pt --force
	$(BIN)/python -m export.onnx $(DEMO)/ckpt.pt -o $(DEMO)/model.onnx --force
	$(BIN)/python -m runtime_tests.parity $(DEMO)/ckpt.pt $(DEMO)/model.onnx --data digits --count 359
	$(BIN)/python -m export.onnx $(DEMO)/ckpt.pt -o $(DEMO)/int8.onnx --activations int8 --force
	$(BIN)/python -m runtime_tests.parity $(DEMO)/ckpt.pt $(DEMO)/int8.onnx --data digits --count 359
	$(BIN)/python -m export.onnx $(DEMO)/ckpt.pt -o $(DEMO)/packed.onnx --storage packed --force
	$(BIN)/python -m runtime_tests.parity $(DEMO)/ckpt.pt $(DEMO)/packed.onnx --data digits --count 359
	$(BIN)/python -m export.inspect $(DEMO)/packed.onnx
	$(BIN)/python -m export.tflite $(DEMO)/ckpt.pt -o $(DEMO)/model.tflite --force
	$(BIN)/python -m runtime_tests.parity $(DEMO)/ckpt.pt $(DEMO)/model.tflite --data digits --count 359
	$(BIN)/python -m export.tflite $(DEMO)/ckpt.pt -o $(DEMO)/int8.tflite --activations int8 --force
	$(BIN)/python -m runtime_tests.parity $(DEMO)/ckpt.pt $(DEMO)/int8.tflite --data digits --count 359
	$(BIN)/python -m runtime_tests.runtimes $(DEMO)/ckpt.pt $(DEMO)/model.onnx $(DEMO)/model.tflite \
	    $(DEMO)/int8.onnx $(DEMO)/int8.tflite --data digits
	$(BIN)/python -m runtime_tests.bench $(DEMO)/model.onnx $(DEMO)/packed.onnx $(DEMO)/int8.onnx $(DEMO)/model.tflite \
	    $(DEMO)/int8.tflite --batch 32

# Contiguous tests go to one process, so that a module's fixtures are made once; who is done early takes from the other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

quick: lint
	$(PYTEST) --tier quick

test: check
	$(PYTEST)

full: check site
	$(PYTEST) --tier full

# Files of three formats, changed at random, for so many minutes in all; what is found is kept in demo/found.
MINUTES ?= 15
SEED ?= $(shell date +%s)
fuzz: $(READY)
	@mkdir -p $(DEMO)
	@for kind in onnx tflite checkpoint; do OMP_NUM_THREADS=1 $(BIN)/python -m runtime_tests.fuzz $$kind --seed $(SEED) \
	    --minutes $$(awk 'BEGIN { print $(MINUTES) / 3 }') --keep $(DEMO)/found/$$kind || failed=1; done; exit $${failed:-0}

check: lint
	$(BIN)/ruff format --check .

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The demo at full size: about 25 minutes on 2 cores. FASHION_MNIST is a folder with the four IDX files.
FASHION_MNIST ?= /usr/share/datasets/fashion-mnist
fashion-mnist: $(READY)
	@mkdir -p $(DEMO)
	$(BIN)/python -m codeq.train --model resnet20 --data idx:$(FASHION_MNIST) --bits 4 --epochs 5 --batch-size 64 \
	    --optimizer adamw --lr 3e-3 --warmup-fraction 0 --lambda-dz 0.05 -o $(DEMO)/resnet20.pt --json $(DEMO)/resnet20-train.json --force
	$(BIN)/python -m export.onnx $(DEMO)/resnet20.pt -o $(DEMO)/resnet20.onnx --json $(DEMO)/resnet20-export.json --force
	$(BIN)/python -m runtime_tests.parity $(DEMO)/resnet20.pt $(DEMO)/resnet20.onnx \
	    --data idx:$(FASHION_MNIST) --count 1000 --json $(DEMO)/resnet20-parity.json --force

	$(BIN)/python -m export.onnx $(DEMO)/resnet20.pt -o $(DEMO)/resnet20-int8.onnx --activations int8 \
	    --json $(DEMO)/resnet20-int8-export.json --force
	$(BIN)/python -m runtime_tests.parity $(DEMO)/resnet20.pt $(DEMO)/resnet20-int8.onnx \
	    --data idx:$(FASHION_MNIST) --count 300 --json $(DEMO)/resnet20-int8-parity.json --force

# float32, weight-only, int8 and onnxruntime's own quantize_static of the same networks, side by side: about 10 minutes.
bench: $(READY)
	@mkdir -p $(DEMO)
	$(BIN)/python -m runtime_tests.compare resnet18 --folder $(DEMO) --json $(DEMO)/bench-resnet18.json --force
	$(BIN)/python -m runtime_tests.compare resnet20 --folder $(DEMO) --json $(DEMO)/bench-resnet20.json --force
	$(BIN)/python -m runtime_tests.training_step --json $(DEMO)/training-step.json --force

# All networks at full size, 88 files: about 25 minutes.
zoo: $(READY)
	@mkdir -p $(DEMO)
	$(BIN)/python -m runtime_tests.zoo --bench --json $(DEMO)/zoo.json --force

# About 10 minutes.
litert: $(READY)
	@mkdir -p $(DEMO)/litert
	cd $(DEMO)/litert && PATH=$(CURDIR)/$(BIN):$$PATH bash $(CURDIR)/docs/results/2026-11-25-litert/modes.sh

# Emulators and packages stay in .devices: 250 MB of arm, 600 MB of x86.
arm x86 mcu: $(READY)
	@mkdir -p $(DEMO)
	$(BIN)/python -m runtime_tests.devices $@ --threads 1 --json $(DEMO)/devices-$@.json --force

# npm's packages stay with the example, Chromium in .devices unless it is installed: 760 MB.
PAGE := examples/browser
FILES := $(PAGE)/files
browser: $(READY)
	@mkdir -p $(DEMO) $(FILES)
	$(BIN)/python -m runtime_tests.devices browser --threads 1 --json $(DEMO)/devices-browser.json --force
	[ -e $(DEMO)/ckpt.pt ] || $(BIN)/python -m codeq.train --model resnet8 --data digits --bits 4 --threads 1 -o $(DEMO)/ckpt.pt
	$(BIN)/python -m export.onnx $(DEMO)/ckpt.pt -o $(FILES)/int8.onnx --activations int8 --force
	$(BIN)/python -m export.tflite $(DEMO)/ckpt.pt -o $(FILES)/int8.tflite --activations int8 --batch 1 --force
	$(BIN)/python -m runtime_tests.probe_file $(DEMO)/ckpt.pt $(FILES)/int8.onnx -o $(FILES)/probe-onnx.onnx --expect wasm --force
	$(BIN)/python -m runtime_tests.probe_file $(DEMO)/ckpt.pt $(FILES)/int8.tflite -o $(FILES)/probe-tflite.tflite --expect wasm --force
	CHROMIUM=$$(command -v chromium-headless-shell || command -v chromium || echo $(CURDIR)/.devices/chromium.sh) \
	    node $(PAGE)/check_page.mjs $(DEMO)/browser.png

# The table of training recipes: about 40 minutes for ResNet-8 on one core, as long again for ResNet-20.
training: $(READY)
	PATH=$(CURDIR)/$(BIN):$$PATH OUT=$(DEMO)/training bash docs/results/2026-11-25-training/resnet8.sh
	PATH=$(CURDIR)/$(BIN):$$PATH OUT=$(DEMO)/training bash docs/results/2026-11-25-training/resnet20.sh
	PATH=$(CURDIR)/$(BIN):$$PATH OUT=$(DEMO)/training bash docs/results/2026-11-25-training/budgets.sh
	$(BIN)/python -m codeq.pareto $(DEMO)/training -o $(DEMO)/training/figures --force

# Bytes, session creation, memory and latency of every storage; export time and memory up to 200 million parameters:
# about 12 minutes.
storage: $(READY)
	@mkdir -p $(DEMO)
	$(BIN)/python -m runtime_tests.storage resnet18 --json $(DEMO)/storage-float32.json --force
	$(BIN)/python -m runtime_tests.storage resnet18 --activations int8 --json $(DEMO)/storage-int8.json --force
	$(BIN)/python -m runtime_tests.scaling --json $(DEMO)/scaling.json --force

lock: $(READY)
	$(BIN)/python -m pip install --dry-run --ignore-installed --quiet --report - --constraint constraints.txt \
	    '.[demo,tflite,test]' | $(BIN)/python .ci/lock.py

# The tool has dependencies of its own, which are none of a release's.
SBOM := .venv-sbom/bin
sbom:
	@mkdir -p $(DEMO)
	$(PYTHON) -m venv .venv-sbom
	$(PYTHON) -m venv .venv-release
	$(SBOM)/python -m pip install --quiet cyclonedx-bom==7.5.0
	.venv-release/bin/python -m pip install --quiet --constraint constraints.txt '.[tflite]'
	$(SBOM)/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible \
	    --output-file $(DEMO)/sbom.json .venv-release/bin/python
	rm -rf .venv-sbom .venv-release

# It reads the code and does not import it; its tool has an environment of its own.
SITE := .venv-site/bin
site:
	[ -x $(SITE)/mkdocs ] || { $(PYTHON) -m venv .venv-site && \
	    $(SITE)/python -m pip install --quiet mkdocs-material==9.8.2 'mkdocstrings[python]==1.0.8' ruff; }
	NO_MKDOCS_2_WARNING=1 $(SITE)/mkdocs build --strict

clean:
	rm -rf .venv $(DEMO) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
