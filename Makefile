# One command for everything; `make help` lists them. Works in a fresh clone, and again at any time.
VENV ?= .venv
PYTHON ?= python3
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
FUZZ_SECONDS ?= 60
PYTEST_ARGS ?=
BENCH_ARGS ?=
# Instruction sets of the kernels: native (baseline and the best of this machine), all, or a list such as baseline;avx2.
# What is not given is native for `make setup` and all for `make dev` and what stands on it.
ISAS ?=

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BUILD := build/release
WHEELS := build/wheels
STAMPS := $(VENV)/.stamps
# user: what the README's commands need. dev: every instruction set, tests, linters; once there, `make setup` keeps it.
PROFILE := $(if $(wildcard $(STAMPS)/sdk-dev),dev,user)
export PATH := $(abspath $(VENV))/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NO_MKDOCS_2_WARNING := 1
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)

PIP := $(VENV)/bin/python -m pip --no-input
say = @printf '\033[1m== %s\033[0m\n' $(1)
TESTED := $(if $(filter dev,$(PROFILE)),ON,OFF)
DEFINES := CMAKE_BUILD_TYPE=Release MAMBASDK_WERROR=$(TESTED) MAMBASDK_TESTS=$(TESTED) MAMBASDK_BENCHMARKS=$(TESTED) \
  'MAMBASDK_ISAS=$(or $(strip $(ISAS)),$(if $(filter dev,$(PROFILE)),all,native))'
SDK_SOURCES := CMakeLists.txt pyproject.toml README.md LICENSE NOTICE \
  $(shell find cmake cpp python -type f -not -name '*_test.cpp' -not -name '*_bench.cpp' -not -path '*/__pycache__/*' \
    -not -path '*/.*')
PLUGINS := $(patsubst plugins/%/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
# What a plugin is built with, beside its own files.
PLUGIN_INTERFACE := cmake/MambasdkPlugin.cmake cmake/mambasdk-config.cmake.in $(wildcard cpp/include/mambasdk/*.h*) \
  $(wildcard cpp/include/mambasdk/*/*.h*)
plugin_sources = $(shell find plugins/$(1) -type f -not -path '*/__pycache__/*' -not -path '*/build/*' \
  -not -path '*.egg-info/*' -not -path '*/.*')

##@ Everyday
.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^##@/ {print "\n" substr($$0, 5)} /^[a-z -]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: ## .venv with the SDK and every plugin, for this machine's processor
	@$(MAKE) --no-print-directory -j2 $(STAMPS)/plugins # pip and the compiler side by side
	$(call say,"ready: $(VENV)/bin/mambasdk doctor")

.PHONY: dev
dev: ## the same for every instruction set, with what tests, linters and benchmarks need
	@$(MAKE) --no-print-directory -j2 PROFILE=dev $(STAMPS)/plugins

.PHONY: quickstart
quickstart: setup ## train a small Mamba language model on this machine and run it from C++
	$(VENV)/bin/python -m mambasdk_language.quickstart

.PHONY: test
test: dev ## build, install and run everything but the slow tests
	.ci/test -m "not slow" $(PYTEST_ARGS)

.PHONY: test-all
test-all: dev ## the slow tests too
	@.ci/system espeak-ng
	.ci/test $(PYTEST_ARGS)

.PHONY: lint
lint: $(STAMPS)/python-dev ## formatters, ruff, mypy
	ruff check .
	ruff format --check .
	gersemi --check CMakeLists.txt cmake $$(git ls-files '*/CMakeLists.txt')
	git ls-files '*.h' '*.hpp' '*.c' '*.cpp' '*.cu' | xargs clang-format --dry-run -Werror
	mypy

.PHONY: format
format: $(STAMPS)/python-dev ## rewrite the sources in the project's format
	ruff check --fix-only .
	ruff format .
	gersemi --in-place CMakeLists.txt cmake $$(git ls-files '*/CMakeLists.txt')
	git ls-files '*.h' '*.hpp' '*.c' '*.cpp' '*.cu' | xargs clang-format -i

.PHONY: docs
docs: dev $(STAMPS)/docs ## build the documentation into site/
	$(VENV)/bin/python docs/generate.py $(if $(wildcard build/pytest.xml),--tests build/pytest.xml)
	mkdocs build --strict --quiet
	$(call say,"site/index.html")

.PHONY: bench
bench: dev ## measure every kernel beside PyTorch and the machine's limits
	cmake --build $(BUILD)
	$(VENV)/bin/python benchmarks/run.py $(BENCH_ARGS)

##@ Deeper checks
.PHONY: golden-other
golden-other: setup ## the golden tests on a second set of other sizes, made from our own models
	rm -rf build/golden-other
	$(VENV)/bin/python tests/golden/write_other.py build/golden-other
	MAMBASDK_GOLDEN=$(abspath build/golden-other) $(VENV)/bin/python -m pytest -m "golden and not slow" $(PYTEST_ARGS)

.PHONY: test-torch
test-torch: dev ## the Python tests beside another torch: TORCH=2.15.0 (several GB, in build/torch-2.15.0)
	.ci/test-torch $(or $(TORCH),$(error TORCH is missing: make test-torch TORCH=2.15.0)) -m "not slow" $(PYTEST_ARGS)

.PHONY: test-python
test-python: dev ## what needs no torch, with another Python: PYTHON=python3.13 (wheel and environment in build/)
	.ci/test-python $(PYTHON) $(PYTEST_ARGS)

.PHONY: aarch64
aarch64: ## cross-compile the runtime for 64-bit ARM and run its C++ tests under qemu (10 minutes)
	@.ci/system cmake ninja nlohmann-json gtest aarch64 qemu
	cmake --preset $@
	cmake --build --preset $@ --target mambasdk_tests mambasdk_run
	ctest --preset $@ -j $(JOBS)

.PHONY: amx
amx: $(STAMPS)/python-dev ## the C++ tests of bfloat16 products on an emulated processor with AMX (docs/amx.md)
	cmake --preset runtime
	cmake --build --preset runtime --target mambasdk_tests
	$(VENV)/bin/python tests/amx/run.py build/runtime/tests/mambasdk_tests --gtest_filter='Isa.*:Ssd.*:Linear/*'

.PHONY: asan ubsan tsan
asan ubsan tsan: $(STAMPS)/clang ## the C++ tests under a sanitizer of clang (asan: with ubsan)
	cmake --preset $@
	cmake --build --preset $@ --target mambasdk_tests
	ctest --preset $@ -j $(JOBS)

.PHONY: abi-baseline
abi-baseline: dev ## write the interface of the ABI minor in work to tests/abi/baseline
	cmake --build $(BUILD) --target mambasdk
	minor=$$(awk '/define MAMBASDK_ABI_M(AJOR|INOR)/ {printf "%s%s", dot, $$3; dot = "."}' cpp/include/mambasdk/mambasdk.h); \
	  tests/abi/baseline/write.sh $(BUILD)/libmambasdk.so.1 > tests/abi/baseline/$$minor.abixml

.PHONY: fuzz
fuzz: $(STAMPS)/clang ## every fuzz target for FUZZ_SECONDS
	cmake -S tests/fuzz -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++
	cmake --build build/fuzz
	.ci/fuzz build/fuzz $(FUZZ_SECONDS)

.PHONY: tidy
tidy: dev ## clang-tidy over cpp/
	cmake -S . -B build/tidy -G Ninja -DMAMBASDK_UNITY=OFF # for the command of each file; nothing is built
	git ls-files 'cpp/*.cpp' | grep -v '\.isa\.cpp$$' | xargs -P $(JOBS) -n 1 clang-tidy --quiet -p build/tidy

.PHONY: wheels
wheels: dev ## release wheels of the core and of every plugin, in wheelhouse/
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
	rm -rf build dist wheelhouse site plugins/*/build $(addprefix $(STAMPS)/,library-* sdk-* wheel-* plugins)

# What the above stand on. A stamp is made anew when what it depends on changes.
.PRECIOUS: $(STAMPS)/system-% $(STAMPS)/python-% $(STAMPS)/library-% $(STAMPS)/sdk-%
TOOLS_user := cmake ninja g++ nlohmann-json jpeg zlib png
TOOLS_dev := $(TOOLS_user) gtest benchmark httplib abidw
GROUP_user := setup
GROUP_dev := dev

$(STAMPS)/system-%: .ci/system
	@.ci/system $(TOOLS_$*)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/python-%: pyproject.toml constraints.txt | $(STAMPS)/system-%
	$(call say,"Python packages into $(VENV)")
	@[ -x $(VENV)/bin/python ] || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet 'pip>=25.1'
	@command -v cmake >/dev/null || $(PIP) install --quiet 'cmake>=3.24'
	@command -v ninja >/dev/null || $(PIP) install --quiet ninja
	@$(PIP) install --quiet -c constraints.txt --group $(GROUP_$*)
	@touch $@

# The first time the runtime, which needs no Python, is compiled while pip fetches packages; the wheel takes its objects.
$(STAMPS)/library-%: | $(STAMPS)/system-%
	@outside() { type -aP $$1 | grep -qv '^$(abspath $(VENV))/'; }; \
	if [ ! -e $(BUILD)/CMakeCache.txt ] && outside cmake && outside ninja; then \
	  printf '\033[1m== compiling the runtime\033[0m\n'; \
	  cmake -S . -B $(BUILD) -G Ninja $(addprefix -D,$(DEFINES)) -DMAMBASDK_TORCH=OFF -DMAMBASDK_PYTHON=OFF >/dev/null; \
	  cmake --build $(BUILD) --target mambasdk mambasdk_run >$(BUILD)/library.log || { cat $(BUILD)/library.log; exit 1; }; fi
	@touch $@

$(STAMPS)/sdk-%: $(STAMPS)/python-% $(SDK_SOURCES) | $(STAMPS)/library-%
	$(call say,"building and installing mambasdk")
	@rm -f $(WHEELS)/mambasdk-*.whl
	@$(PIP) wheel . --quiet --no-deps --no-build-isolation -w $(WHEELS) -C build-dir=$(BUILD) \
	  $(addprefix -C cmake.define.,$(DEFINES)) -C cmake.define.MAMBASDK_PYTHON=ON
	@$(PIP) uninstall --quiet --yes mambasdk 2>/dev/null
	@$(PIP) install --quiet -c constraints.txt "$$(ls $(WHEELS)/mambasdk-*.whl)[torch,hub,plot]"
	@touch $@

define PLUGIN_RULE
$$(STAMPS)/wheel-$(1): $$(PLUGIN_INTERFACE) $$(call plugin_sources,$(1)) | $$(STAMPS)/sdk-$$(PROFILE)
	$$(call say,"building mambasdk-$(1)")
	@rm -rf $$(WHEELS)/mambasdk_$(1)-*.whl plugins/$(1)/build
	@$$(PIP) wheel ./plugins/$(1) --quiet --no-deps --no-build-isolation -w $$(WHEELS) \
	  $$(if $$(wildcard plugins/$(1)/CMakeLists.txt),-C build-dir=$$(abspath build/plugins/$(1)))
	@rm -rf plugins/$(1)/build
	@touch $$@
endef
$(foreach plugin,$(PLUGINS),$(eval $(call PLUGIN_RULE,$(plugin))))

$(STAMPS)/plugins: $(addprefix $(STAMPS)/wheel-,$(PLUGINS)) $(STAMPS)/sdk-$(PROFILE)
	$(call say,"installing the plugins")
	@$(PIP) uninstall --quiet --yes $(addprefix mambasdk-,$(PLUGINS)) 2>/dev/null
	@$(PIP) install --quiet -c constraints.txt $(PLUGINS:%=$(WHEELS)/mambasdk_%-*.whl)
	@touch $@

$(STAMPS)/clang: $(STAMPS)/python-dev
	@.ci/system clang
	@touch $@

$(STAMPS)/docs: $(STAMPS)/python-dev
	@$(PIP) install --quiet -c constraints.txt --group docs
	@touch $@
