# One command for everything; `make help` lists them. Works in a fresh clone, and again at any time.
VENV ?= .venv
PYTHON ?= python3
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
FUZZ_SECONDS ?= 60
PYTEST_ARGS ?=
BENCH_ARGS ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BUILD := build/release
WHEELS := build/wheels
STAMPS := $(VENV)/.stamps
export PATH := $(abspath $(VENV))/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NO_MKDOCS_2_WARNING := 1
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)

PIP := $(VENV)/bin/python -m pip --no-input
say = @printf '\033[1m== %s\033[0m\n' $(1)
SDK_SOURCES := CMakeLists.txt pyproject.toml README.md LICENSE NOTICE \
  $(shell find cmake cpp python -type f -not -name '*_test.cpp' -not -name '*_bench.cpp' -not -path '*/__pycache__/*' \
    -not -path '*/.*')
PLUGINS := $(patsubst plugins/%/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
plugin_sources = $(shell find plugins/$(1) -type f -not -path '*/__pycache__/*' -not -path '*/build/*' \
  -not -path '*.egg-info/*' -not -path '*/.*')

##@ Everyday
.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^##@/ {print "\n" substr($$0, 5)} /^[a-z -]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: $(STAMPS)/sdk $(addprefix $(STAMPS)/plugin-,$(PLUGINS)) ## .venv with the SDK, every plugin and the test tools
	$(call say,"ready: $(VENV)/bin/mambasdk doctor")

.PHONY: quickstart
quickstart: setup ## train a small Mamba language model on this machine and run it from C++
	$(VENV)/bin/python -m mambasdk_language.quickstart

.PHONY: test
test: setup ## build, install and run everything but the slow tests
	.ci/test -m "not slow" $(PYTEST_ARGS)

.PHONY: test-all
test-all: setup ## the slow tests too
	@.ci/system espeak-ng
	.ci/test $(PYTEST_ARGS)

.PHONY: lint
lint: $(STAMPS)/tools ## formatters, ruff, mypy
	ruff check .
	ruff format --check .
	gersemi --check CMakeLists.txt cmake $$(git ls-files '*/CMakeLists.txt')
	git ls-files '*.h' '*.hpp' '*.c' '*.cpp' | xargs clang-format --dry-run -Werror
	mypy

.PHONY: format
format: $(STAMPS)/tools ## rewrite the sources in the project's format
	ruff check --fix-only .
	ruff format .
	gersemi --in-place CMakeLists.txt cmake $$(git ls-files '*/CMakeLists.txt')
	git ls-files '*.h' '*.hpp' '*.c' '*.cpp' | xargs clang-format -i

.PHONY: docs
docs: setup $(STAMPS)/docs ## build the documentation into site/
	$(VENV)/bin/python docs/generate.py $(if $(wildcard build/pytest.xml),--tests build/pytest.xml)
	mkdocs build --strict --quiet
	$(call say,"site/index.html")

.PHONY: bench
bench: setup ## measure every kernel beside PyTorch and the machine's limits
	cmake --build $(BUILD)
	$(VENV)/bin/python benchmarks/run.py $(BENCH_ARGS)

##@ Deeper checks
.PHONY: test-torch
test-torch: setup ## the Python tests beside another torch: TORCH=2.15.0 (several GB, in build/torch-2.15.0)
	.ci/test-torch $(or $(TORCH),$(error TORCH is missing: make test-torch TORCH=2.15.0)) -m "not slow" $(PYTEST_ARGS)

.PHONY: test-python
test-python: setup ## what needs no torch, with another Python: PYTHON=python3.13 (wheel and environment in build/)
	.ci/test-python $(PYTHON) $(PYTEST_ARGS)

.PHONY: aarch64
aarch64: ## cross-compile the runtime for 64-bit ARM and run its C++ tests under qemu (10 minutes)
	@.ci/system cmake ninja nlohmann-json gtest aarch64 qemu
	cmake --preset $@
	cmake --build --preset $@ --target mambasdk_tests mambasdk_run
	ctest --preset $@ -j $(JOBS)

.PHONY: amx
amx: $(STAMPS)/tools ## the C++ tests of bfloat16 products on an emulated processor with AMX (docs/amx.md)
	cmake --preset runtime
	cmake --build --preset runtime --target mambasdk_tests
	$(VENV)/bin/python tests/amx/run.py build/runtime/tests/mambasdk_tests --gtest_filter='Isa.*:Ssd.*'

.PHONY: asan ubsan tsan
asan ubsan tsan: $(STAMPS)/tools ## the C++ tests under a sanitizer
	cmake --preset $@
	cmake --build --preset $@ --target mambasdk_tests
	ctest --preset $@ -j $(JOBS)

.PHONY: abi-baseline
abi-baseline: $(STAMPS)/sdk ## write the interface of the ABI minor in work to tests/abi/baseline
	cmake --build $(BUILD) --target mambasdk
	minor=$$(awk '/define MAMBASDK_ABI_M(AJOR|INOR)/ {printf "%s%s", dot, $$3; dot = "."}' cpp/include/mambasdk/mambasdk.h); \
	  tests/abi/baseline/write.sh $(BUILD)/libmambasdk.so.1 > tests/abi/baseline/$$minor.abixml

.PHONY: fuzz
fuzz: $(STAMPS)/fuzz ## every fuzz target for FUZZ_SECONDS
	cmake -S tests/fuzz -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++
	cmake --build build/fuzz
	.ci/fuzz build/fuzz $(FUZZ_SECONDS)

.PHONY: tidy
tidy: $(STAMPS)/sdk ## clang-tidy over cpp/
	git ls-files 'cpp/*.cpp' | grep -v '\.isa\.cpp$$' | xargs -P $(JOBS) -n 1 clang-tidy --quiet -p $(BUILD)

.PHONY: wheels
wheels: setup ## release wheels of the core and of every plugin, in wheelhouse/
	rm -rf wheelhouse build/unrepaired
	$(PIP) wheel . --no-deps --no-build-isolation -w build/unrepaired -C build-dir=build/wheel
	auditwheel repair build/unrepaired/mambasdk-*.whl -w wheelhouse
	for plugin in $(PLUGINS); do $(PIP) wheel ./plugins/$$plugin --no-deps --no-build-isolation -w build/unrepaired; done
	for wheel in build/unrepaired/mambasdk_*.whl; do \
	  case $$wheel in *-none-any.whl) cp $$wheel wheelhouse/ ;; *) auditwheel repair $$wheel -w wheelhouse ;; esac; done
	ls -l wheelhouse
	MAMBASDK_WHEELS=$(abspath wheelhouse) $(VENV)/bin/python -m pytest -q tests/install/test_wheels.py

.PHONY: clean
clean: ## remove what was built, not .venv
	rm -rf build dist wheelhouse site plugins/*/build $(STAMPS)/sdk

# What the above stand on. A stamp is made anew when what it depends on changes.
$(STAMPS)/tools: pyproject.toml constraints.txt
	@.ci/system cmake ninja g++ nlohmann-json gtest benchmark httplib abidw jpeg zlib png
	$(call say,"Python tools into $(VENV)")
	@[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet 'pip>=25.1'
	@command -v cmake >/dev/null || $(PIP) install --quiet 'cmake>=3.24'
	@command -v ninja >/dev/null || $(PIP) install --quiet ninja
	@$(PIP) install --quiet -c constraints.txt --group dev
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/sdk: $(STAMPS)/tools $(SDK_SOURCES)
	$(call say,"building and installing mambasdk")
	@rm -f $(WHEELS)/mambasdk-*.whl
	@$(PIP) wheel . --quiet --no-deps --no-build-isolation -w $(WHEELS) -C build-dir=$(BUILD) \
	  -C cmake.define.MAMBASDK_TESTS=ON -C cmake.define.MAMBASDK_BENCHMARKS=ON \
	  -C cmake.define.MAMBASDK_WERROR=ON
	@$(PIP) install --quiet --no-deps --force-reinstall $(WHEELS)/mambasdk-*.whl
	@$(PIP) install --quiet -c constraints.txt "$$(ls $(WHEELS)/mambasdk-*.whl)[torch,hub,plot]"
	@touch $@

define PLUGIN_RULE
$$(STAMPS)/plugin-$(1): $$(STAMPS)/sdk $$(call plugin_sources,$(1))
	$$(call say,"installing mambasdk-$(1)")
	@rm -rf $$(WHEELS)/mambasdk_$(1)-*.whl plugins/$(1)/build
	@$$(PIP) wheel ./plugins/$(1) --quiet --no-deps --no-build-isolation -w $$(WHEELS) \
	  $$(if $$(wildcard plugins/$(1)/CMakeLists.txt),-C build-dir=$$(abspath build/plugins/$(1)))
	@$$(PIP) install --quiet --no-deps --force-reinstall $$(WHEELS)/mambasdk_$(1)-*.whl
	@$$(PIP) install --quiet -c constraints.txt $$(WHEELS)/mambasdk_$(1)-*.whl
	@rm -rf plugins/$(1)/build
	@touch $$@
endef
$(foreach plugin,$(PLUGINS),$(eval $(call PLUGIN_RULE,$(plugin))))

$(STAMPS)/fuzz: $(STAMPS)/tools
	@.ci/system clang
	@touch $@

$(STAMPS)/docs: $(STAMPS)/tools
	@$(PIP) install --quiet -c constraints.txt --group docs
	@touch $@
