# The front door. Every target does its own set-up: `make demo` and `make test` each work as the first command on a fresh machine.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := build

PREFIX ?= /usr/local
DESTDIR ?=
BUILD ?= build

tools := $(patsubst bpf/%.bpf.c,dist/share/ubpf/tools/%.bpf.o,$(wildcard bpf/*.bpf.c))
demos := $(BUILD)/demo/leaky $(BUILD)/demo/leaky-omit-frame-pointer
benches := $(addprefix $(BUILD)/bench/,malloc-loop attach-target hit-loop throw-loop hit.bpf.o)

.PHONY: help deps build test test-vm demo bench bench-vm bench-vm-instructions vm-bench-programs torture torture-maps fuzz lint format install uninstall clean \
	swift-products build-static-stdlib bpf demos bench-programs dist-tree

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 30

deps: ## install the Debian packages that a build needs
	@scripts/deps build

build: deps swift-products dist-tree ## everything that ships, into dist/

swift-products: deps
	@scripts/build products

build-static-stdlib: deps ## the library with the static Swift standard library instead of Embedded Swift
	@scripts/build static-stdlib

dist-tree: bpf
	@rm -rf dist/share/ubpf/include dist/share/doc && mkdir -p dist/share/ubpf dist/share/doc/ubpf
	@cp -r bpf/include dist/share/ubpf/include
	@cp LICENSE NOTICE bpf/LICENSE.* dist/share/doc/ubpf/
	@mkdir -p dist/include dist/lib/pkgconfig
	@cp include/ubpf.h dist/include/
	@cp include/ubpf.pc dist/lib/pkgconfig/

bpf: $(tools) ## the BPF objects alone

dist/share/ubpf/tools/%.bpf.o: bpf/%.bpf.c $(shell find bpf/include -name '*.h') scripts/compile-bpf
	@scripts/compile-bpf $< $@

demos: $(demos)

# -O0 keeps every line where its source is; the other one is what distributions ship.
$(BUILD)/demo/leaky: demo/leaky.c
	@mkdir -p $(@D) && cc -g -O0 -Wall -Wextra -Werror $< -o $@ -pthread
$(BUILD)/demo/leaky-omit-frame-pointer: demo/leaky.c
	@mkdir -p $(@D) && cc -g -O2 -fomit-frame-pointer -Wall -Wextra -Werror $< -o $@ -pthread

bench-programs: $(benches) stack-bench map-bench

.PHONY: stack-bench map-bench
stack-bench map-bench:
	@swift build -c release --product $@ >/dev/null

$(BUILD)/bench/hit.bpf.o: Benchmarks/hit/hit.bpf.c scripts/compile-bpf
	@scripts/compile-bpf $< $@
$(BUILD)/bench/hit-loop: Benchmarks/hit/hit-loop.c
	@mkdir -p $(@D) && cc -O2 -Wall -Wextra -Werror $< -o $@ -pthread
$(BUILD)/bench/throw-loop: Benchmarks/hit/throw-loop.cc
	@mkdir -p $(@D) && c++ -O2 -Wall -Wextra -Werror $< -o $@
$(BUILD)/bench/%: Benchmarks/%.c
	@mkdir -p $(@D) && cc -O2 -Wall -Wextra -Werror $< -o $@

test: ## the whole suite, as the caller and, for root, as nobody too
	@scripts/test

test-vm: build ## programs in the kernel: here, and in Debian's 6.1 and 6.12 under QEMU (a few minutes)
	@scripts/test-vm

demo: build demos ## memleak on a program that leaks, then on real ones
	@scripts/deps demo
	@scripts/demo

vm_clang = $(shell . scripts/lib.sh && bpf_clang)
vm_libbpf = $(shell pkg-config --exists libbpf 2>/dev/null && echo -DHAVE_LIBBPF $$(pkg-config --cflags --libs libbpf))
vm_build := $(BUILD)/bench/vm
vm_sources := vm-bench.c subject.c measure.c compile.c report.c kernel.c

# The programs are compiled by one compiler for all: what differs is the back end.
vm-bench-programs: build
	@mkdir -p $(vm_build)
	@$(vm_clang) -target bpf -mcpu=v3 -O2 -fno-builtin -g -c Benchmarks/vm/programs.c -o $(vm_build)/programs.bpf.o
	@$(vm_clang) -target bpf -mcpu=v3 -O2 -fno-builtin -g -c Benchmarks/vm/kernel.bpf.c -o $(vm_build)/kernel.bpf.o
	@$(vm_clang) -O2 -fno-builtin -shared -fPIC -foptimization-record-file=$(vm_build)/vectors.yaml \
		-foptimization-record-passes='loop-vectorize|slp-vectorizer' Benchmarks/vm/programs.c -o $(vm_build)/programs.so
	@$(vm_clang) -O2 -fno-builtin -fno-vectorize -fno-slp-vectorize -shared -fPIC Benchmarks/vm/programs.c -o $(vm_build)/programs-scalar.so
	@PKG_CONFIG_PATH=dist/lib/pkgconfig cc -O2 -Wall -Wextra -Werror -DBUILD='"$(vm_build)"' $(addprefix Benchmarks/vm/,$(vm_sources)) \
		-o $(vm_build)/vm-bench $$(PKG_CONFIG_PATH=dist/lib/pkgconfig pkg-config --cflags --libs ubpf) -Wl,-rpath,$(CURDIR)/dist/lib -lm $(vm_libbpf)

bench-vm: vm-bench-programs ## the interpreter and the JIT beside native code and the kernel's JIT
	@$(vm_build)/vm-bench

bench-vm-instructions: vm-bench-programs ## machine instructions of compiled programs beside native code's
	@Benchmarks/vm/instructions

bench: build bench-programs ## our numbers beside heaptrack's and the kernel's
	@scripts/deps bench
	@scripts/bench

torture: build ## attach to real processes under load and leave them again, at full size (an hour)
	@scripts/deps test
	@scripts/torture

torture-maps: ## maps at full size: a million random operations on each type, 14,000 kills, ten million ring records (half an hour)
	@scripts/deps test
	@scripts/torture-maps

fuzz: build ## random programs on all engines and the verifier, and libFuzzer on what reads input, FUZZ_SECONDS (60) each
	@scripts/fuzz

lint: ## format and layout checks
	@scripts/lint

format: ## reformat the Swift sources
	@swift format -i --parallel -r Sources Tests Package.swift

install: build ## install below PREFIX (default /usr/local)
	@scripts/install "$(DESTDIR)$(PREFIX)"

uninstall:
	@scripts/install --remove "$(DESTDIR)$(PREFIX)"

clean: ## remove everything that was built
	@rm -rf dist $(BUILD) .build .build-embedded .build-static .build-fuzzer
