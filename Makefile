# One word for each thing that people do with this tree; CMake presets and scripts/ do the work.
.PHONY: help build cuda install package demo test-environment test test-aarch64 bench check sanitize tsan fuzz clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

JOBS ?= $(shell nproc)
# Where `make install` puts things; DESTDIR goes before it.
PREFIX ?= /usr/local
# How long `make fuzz` runs each target.
FUZZ_SECONDS ?= 60
# What `make check` takes as the state before the change.
BASE ?=
# Whose tests `make sanitize` and `make tsan` build and run, e.g. MODULES="core io"; empty: all.
MODULES ?=

help:
	@echo 'make build     the program, build/release/tritllm (installs the Debian packages it needs, as root or by sudo)'
	@echo 'make cuda      the same with the CUDA backend, build/cuda/tritllm (installs the CUDA compiler where there is none)'
	@echo 'make install   the program, its manual page, shell completions and the C library below PREFIX (default: /usr/local)'
	@echo 'make package   a tar and a .deb with one static program that runs on any Linux, in build/release/package/'
	@echo 'make demo      quantises a small real model with every recipe and prints size, quality and speed'
	@echo 'make test      builds everything and runs all tests, C++ and Python'
	@echo 'make test-aarch64  builds the tests of the lower modules for AArch64 and runs them under QEMU'
	@echo 'make bench     runs the micro-benchmarks'
	@echo 'make check     format, lint and layering, clang-tidy on what changed since BASE (default: the merge base with main)'
	@echo 'make sanitize  runs all tests, or those of MODULES, under the address and undefined-behaviour sanitizers'
	@echo 'make tsan      runs all tests, or those of MODULES, under the thread sanitizer'
	@echo 'make fuzz      runs each fuzz target for FUZZ_SECONDS (default: 60)'
	@echo 'make clean     removes build/; the Python environment .venv/ and demo/ stay'

build:
	scripts/install_dependencies build
	cmake --preset release
	cmake --build --preset release --target tritllm -j $(JOBS)

install: build
	cmake --build --preset release --target tritllm_library -j $(JOBS)
	cmake --install build/release --prefix $(PREFIX)

package: build
	cmake --build --preset release --target tritllm_static -j $(JOBS)
	cpack --config build/release/CPackConfig.cmake

cuda:
	scripts/install_dependencies build cuda
	cmake --preset cuda
	cmake --build --preset cuda --target tritllm -j $(JOBS)

demo: build
	scripts/install_dependencies demo
	scripts/demo

test-environment:
	scripts/install_dependencies build test
	scripts/python_environment test
	scripts/get_demo_model

test: test-environment
	scripts/run_tests release $(JOBS)

test-aarch64:
	scripts/install_dependencies aarch64
	scripts/test_aarch64 $(JOBS)

bench:
	scripts/install_dependencies build
	cmake --preset release
	cmake --build --preset release --target bench/all -j $(JOBS)
	scripts/bench

check:
	scripts/install_dependencies build test check
	scripts/check $(BASE)

sanitize: test-environment
	scripts/run_tests dev $(JOBS) $(MODULES)

tsan: test-environment
	scripts/run_tests tsan $(JOBS) $(MODULES)

fuzz:
	scripts/install_dependencies build check
	cmake --preset fuzz
	cmake --build --preset fuzz --target fuzz/all -j $(JOBS)
	scripts/fuzz $(FUZZ_SECONDS)

clean:
	rm -rf build
