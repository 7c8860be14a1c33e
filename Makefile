# Everything that is made stays in .build and target. The work of each lane is a script in tests/lanes.
#
#   make demo    bindings of libm, libc, zlib and sqlite3 with and without hotcall: same results, other times
#   make test    every test, on every Python version that can be had
#   make bench   the benchmarks
#   make clients programs over real bindings with and without hotcall: same results, shares of calls, times
#   make lint    formatting, lints, documentation, types
#   make docs    the guide and the reference, in .build/docs
#   make package what is published: crates, wheel, source distribution, types, dependencies
#   make long    the tests again, random ones for a long time, and on a debug build of CPython

LANES := tests/lanes
LANE := $(LANES)/lane.sh
EACH := $(LANES)/pythons.sh
BUILD := $(or $(HOTCALL_BUILD),.build)
DEMO_PYTHON := $(or $(PYTHON_VERSION),3.11)

.PHONY: demo test bench clients lint docs package long clean wheel start test-rust test-python test-suite test-denied test-instructions test-chroot
.NOTPARALLEL:

test: start test-rust test-python test-suite test-denied test-instructions test-chroot
	@$(LANES)/summary.sh

# Forgets the times of earlier runs.
start:
	@mkdir -p $(BUILD)/logs && : > $(BUILD)/logs/times

test-rust:
	@$(LANE) rust $(LANES)/rust.sh

wheel:
	@$(LANE) wheel $(LANES)/wheel.sh

test-python: wheel
	@$(LANE) python $(EACH) $(LANES)/pytest.sh

test-suite: wheel
	@$(LANE) suite $(EACH) $(LANES)/suite.sh

# Each way to deny memory with one of the two layouts of objects: what the kernel denies has nothing to do with the version.
test-denied: wheel
	@HOTCALL_PYTHONS="$(or $(HOTCALL_PYTHONS),3.11)" HOTCALL_DENY=mdwe $(LANE) denied-mdwe $(EACH) $(LANES)/denied.sh
	@HOTCALL_PYTHONS="$(or $(HOTCALL_PYTHONS),3.13)" HOTCALL_DENY=seccomp $(LANE) denied-seccomp $(EACH) $(LANES)/denied.sh

# The versions that there are records of.
test-instructions: export HOTCALL_PYTHONS := $(or $(HOTCALL_PYTHONS),3.11 3.13)
test-instructions: wheel
	@$(LANE) instructions $(EACH) $(LANES)/instructions.sh

test-chroot: wheel
	@$(LANE) chroot $(LANES)/chroot.sh

lint:
	@$(LANE) lint $(LANES)/lint.sh

docs: wheel
	@$(LANE) docs $(LANES)/docs.sh

package: wheel
	@$(LANE) package $(LANES)/package.sh

# The long lane: more rounds and longer races, and a larger budget for random tests in Rust.
long: export HOTCALL_LONG = 1
long: export HOTCALL_LANE_SECONDS = 7200
long: export ARBTEST_BUDGET_MS = 60000
long: export HOTCALL_FUZZ_MS = 60000
long: test

demo: wheel
	@HOTCALL_PYTHONS=$(DEMO_PYTHON) $(EACH) true
	@$(BUILD)/venv-$(DEMO_PYTHON)/bin/python -B python/demo

clients: wheel
	@$(LANE) clients $(LANES)/clients.sh

bench: wheel
	@$(LANE) bench $(LANES)/bench.sh
	@HOTCALL_BENCH=1 $(LANE) bench-chroot $(LANES)/chroot.sh

clean:
	rm -rf --one-file-system $(BUILD) target
