# Two commands matter: "make quickstart" shows rkt at work, "make check" proves it. Both install what they need.

PREFIX ?= /usr
DESTDIR ?=
PYTHON := /usr/bin/python3
STAGE1 := build/stage1/stage1-host.aci build/stage1/stage1-fly.aci
SOURCES := $(shell find src/rkt -name '*.py')
STAGE1_SOURCES := $(shell find src/rkt/stage1 src/rkt/appc src/rkt/linux src/rkt/network -name '*.py') src/rkt/errors.py src/rkt/bundle.py src/rkt/__init__.py $(wildcard src/rkt/stage1/systemd/*)

# The machine's settings must not reach the build: pyc files are part of what is built.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH

.PHONY: help quickstart check lint fuzz stage1 bench install clean setup

help:
	@echo "make quickstart  build two real images from Debian packages and run them as a pod"
	@echo "make check       install what the tests need and run all of them"
	@echo "make fuzz        fuzz what reads images, pages and settings, a minute each (SECONDS=N)"
	@echo "make stage1      build the stage1 images below build/stage1"
	@echo "make bench       measure beside podman, crun, systemd-nspawn and bwrap; writes bench/RESULTS.md"
	@echo "make install     install below PREFIX (default /usr; DESTDIR is honoured)"

setup:
	@tools/setup run

stage1: $(STAGE1) build/rkt.bundle

# What bin/rkt imports, in one file; a module that is newer than that is imported from its own.
build/rkt.bundle: $(SOURCES) | setup
	@PYTHONPATH=src $(PYTHON) -c 'from rkt import bundle; bundle.write("$(CURDIR)/src/rkt", "$@", checked=True)'

build/stage1/stage1-%.aci: $(STAGE1_SOURCES) | setup
	@mkdir -p build/stage1
	@PYTHONPATH=src $(PYTHON) -m rkt.stage1.build --flavor=$* --output=$@

quickstart:
	@tools/setup quickstart
	@$(MAKE) --no-print-directory stage1
	@tools/quickstart

check:
	@tools/setup test
	@$(MAKE) --no-print-directory stage1
	@tools/check

lint:
	@tools/setup test
	@tools/check lint

SECONDS ?= 60
fuzz:
	@tools/setup test
	@tools/fuzz --seconds=$(SECONDS)

bench:
	@tools/setup bench
	@$(MAKE) --no-print-directory stage1
	@$(PYTHON) tests/bench/run.py

install: stage1
	@tools/install "$(DESTDIR)" "$(PREFIX)"

clean:
	rm -rf build
