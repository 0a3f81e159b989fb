# SPDX-License-Identifier: BSD-3-Clause
# The front door. Meson does the work; this installs what it needs, and says what is to be run.

BUILD ?= build
PREFIX ?= /usr/local
# How long `make soak` lasts, in seconds.
SOAK_SECONDS ?= 1800
# How long each strategy of `make demo` lasts.
DEMO_SECONDS ?= 3

.PHONY: all deps demo demo-nested check check-nested bench figures figures-nested kernels judge model soak format check-format install clean help

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

help:
	@echo 'make               build the library, build/gpamap, build/hello, build/bench and the tests'
	@echo 'make demo          ten seconds of torture: a guest on memory that changes under it'
	@echo 'make demo-nested   the same on a genuine KVM, in a test bed: on any x86-64 machine'
	@echo 'make check         all tests, in several builds; the last line counts them'
	@echo 'make check-nested  the tests of KVM on other kernels and processors, emulated; for 20 minutes'
	@echo 'make bench         the benchmarks, as a table and as build/bench.json'
	@echo 'make figures       the same, and its results put into doc/performance.md'
	@echo 'make figures-nested  those of the test bed svm-6.12, likewise'
	@echo 'make kernels       what KVM does here and in the test beds, put into doc/kernels.md'
	@echo 'make judge         Linux boots while its memory map changes, in the test beds, put into doc/judge.md; for hours'
	@echo 'make model         the model of the gate: search all configurations, and find all mutants'
	@echo 'make soak          long random tests and torture: SOAK_SECONDS=$(SOAK_SECONDS)'
	@echo 'make format        let clang-format have its way; make check-format only looks'
	@echo 'make install       to PREFIX=$(PREFIX), under DESTDIR if it is given'
	@echo 'make deps          install what is missing (Debian, Ubuntu)'
	@echo 'make clean         remove all that was built'

deps:
	@sh scripts/install-deps

$(BUILD)/build.ninja: | deps
	@meson setup $(BUILD) --prefix=$(PREFIX)

demo: $(BUILD)/build.ninja
	@ninja -C $(BUILD) --quiet gpamap
	@$(BUILD)/gpamap torture --seconds $(DEMO_SECONDS)
	@if python3 scripts/check --needs-bed; then \
		echo 'This was the simulated VM. On a genuine KVM, emulated, in two minutes: make demo-nested'; fi

demo-nested: $(BUILD)/build.ninja
	@sh scripts/install-deps bed
	@ninja -C $(BUILD) --quiet gpamap
	@tests/beds/run --timeout 300 svm-newest $(BUILD)/gpamap torture --seconds $(DEMO_SECONDS)

check: deps
	@if python3 scripts/check --needs-bed; then sh scripts/install-deps bed; fi
	@python3 scripts/check

check-nested: all
	@sh scripts/install-deps nested
	@python3 scripts/check-nested $(BUILD)

bench: all
	@$(BUILD)/bench all --json $(BUILD)/bench.json

figures: bench
	@python3 scripts/figures $(BUILD)/bench.json doc/performance.md
	@python3 scripts/figures --at no-kvm $(BUILD)/bench.json doc/performance.md

figures-nested: all
	@sh scripts/install-deps nested
	@tests/beds/run --timeout 600 svm-6.12 $(BUILD)/bench quirk --json - > $(BUILD)/bench-svm-6.12.json
	@python3 scripts/figures --at svm-6.12 $(BUILD)/bench-svm-6.12.json doc/performance.md

kernels: all
	@sh scripts/install-deps nested
	@python3 scripts/kernels $(BUILD) doc/kernels.md

judge: all
	@sh scripts/install-deps nested
	@python3 scripts/judge $(BUILD)

model: deps
	@python3 model/run.py

soak: all
	@python3 scripts/soak $(BUILD) $(SOAK_SECONDS)

format: deps
	@python3 tests/house/format.py

check-format: deps
	@python3 tests/house/check.py format .

install: all
	@meson install -C $(BUILD) --no-rebuild

clean:
	@rm -rf $(BUILD) build-check tests/house/__pycache__ tests/beds/__pycache__ tests/judge/__pycache__ tests/torture/__pycache__ scripts/__pycache__
