# A thin layer over CMake and pytest, so that nobody has to remember either.

BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
CMAKE_FLAGS ?=
PYTEST_FLAGS ?=
BENCH_FLAGS ?=
PYTHON = .venv/bin/python
MAKEFLAGS += --no-print-directory

FUZZ_SECONDS ?= 1800
SOAK_MINUTES ?= 30

.PHONY: all configure setup demo test python bench fuzz soak install clean format

all: configure
	cmake --build $(BUILD) -j $(JOBS)

configure:
	@cmake -S . -B $(BUILD) -DCMAKE_INSTALL_PREFIX="$(PREFIX)" $(CMAKE_FLAGS)

setup:
	@scripts/setup

demo: setup
	@$(MAKE) all
	@$(PYTHON) scripts/demo.py $(BUILD)/znn

test: setup
	@$(MAKE) all
	cmake --build $(BUILD) -j $(JOBS) --target unit_tests
	@status=0; \
	(cd $(BUILD) && ctest --output-on-failure --no-tests=error -j $(JOBS)) || status=1; \
	ZNN=$(abspath $(BUILD))/znn $(PYTHON) -m pytest tests $(PYTEST_FLAGS) || status=1; \
	{ $(MAKE) python && TMPDIR=$(abspath .cache)/tmp $(PYTHON) -m pytest python/tests $(PYTEST_FLAGS); } || status=1; \
	exit $$status

# The Python package, built and put into .venv. (Its own build folder is kept, so that only changes are compiled.)
python: setup
	CMAKE_ARGS="$(CMAKE_FLAGS)" $(PYTHON) -m pip install -q --disable-pip-version-check --no-deps \
		--no-build-isolation --force-reinstall --config-settings=build-dir=$(BUILD)/python .

bench: setup
	@$(MAKE) all
	@bench/setup
	.venv-bench/bin/python bench/run.py $(BUILD)/znn $(BENCH_FLAGS)

# A campaign for each target, of that much processor time.
fuzz:
	@scripts/fuzz $(FUZZ_SECONDS)

# Random models for so long; then kills at hundreds of random moments.
soak: setup
	@$(MAKE) all
	BUILD=$(BUILD) $(PYTHON) scripts/soak $(SOAK_MINUTES)
	ZNN=$(abspath $(BUILD))/znn ZNN_KILLS=600 $(PYTHON) -m pytest tests/test_crash.py -k "random or many"
	[ ! -x .venv-hf/bin/python ] || ZNN_KILLS=600 .venv-hf/bin/python -m pytest tests/test_crash.py -k hub

install: all
	DESTDIR="$(DESTDIR)" cmake --install $(BUILD)

clean:
	rm -rf $(BUILD)

format:
	clang-format -i include/*.h $$(find lib cli tests fuzz bench -name '*.[ch]')
