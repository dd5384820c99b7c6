# SPDX-License-Identifier: GPL-2.0-only
#
# KVM vCPU reset: get the base kernel, put the series on it, build it with its
# selftests for riscv, arm64 and x86, boot and test it, mail it.
# "make help" lists what can be done; README.md explains it.

MAKEFLAGS += --no-builtin-rules --no-print-directory
# What is given on the command line is ours, not kbuild's (VERSION, BUILD, ...).
MAKEOVERRIDES =
SHELL := /bin/bash
.SUFFIXES:
.DEFAULT_GOAL := all

# Every symbol of Kconfig: what the command line or the environment says, then
# .config, then the defaults of Kconfig as scripts/defconfig has them.
include $(firstword $(wildcard .config) scripts/defconfig)

setting = $(subst ",,$(CONFIG_$(1)))
ARCHES := riscv arm64 x86
ARCH_RISCV    ?= $(or $(call setting,ARCH_RISCV),n)
ARCH_ARM64    ?= $(or $(call setting,ARCH_ARM64),n)
ARCH_X86      ?= $(or $(call setting,ARCH_X86),n)
CC_CLANG      ?= $(or $(call setting,CC_CLANG),n)
LLVM          ?= $(or $(call setting,LLVM),$(if $(filter y,$(CC_CLANG)),-19))
CCACHE        ?= $(or $(call setting,CCACHE),n)
JOBS          ?= $(call setting,JOBS)
PROFILE       ?= $(call setting,PROFILE)
TESTS         ?= $(call setting,TESTS)
NR_CPUS       ?= $(call setting,NR_CPUS)
MEMORY        ?= $(call setting,MEMORY)
TIMEOUT_SCALE ?= $(call setting,TIMEOUT_SCALE)
BOOT_TIMEOUT  ?= $(call setting,BOOT_TIMEOUT)

# Not part of the matrix.
ARCH     ?= $(strip $(if $(filter y,$(ARCH_RISCV)),riscv) \
	$(if $(filter y,$(ARCH_ARM64)),arm64) $(if $(filter y,$(ARCH_X86)),x86))
KERNEL   ?=
BUILD    ?= $(CURDIR)/build
CACHE    ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kvm-vcpu-reset
ON       ?= series
VARIANT  ?=
BUSYBOX  ?=
QEMU     ?=
BRANCH   ?= kvm-vcpu-reset
TOPIC    ?=
TRAILERS ?=
VERSION  ?= 1
SINCE    ?=
FORCE    ?= 0
SKIP     ?=
OTHERS   ?= loongarch mips powerpc s390
LANES    ?=
CHECKERS ?=
AFTER    ?=
RANGE    ?=
SHORT    ?= 0
ROWS     ?=
CHECK_QEMU ?= y
COUNT    ?=
SEED     ?=
N        ?=
VMM_QEMU_DIR ?=
GUEST_KERNEL ?=
SETUP    ?= install
WAIT     ?= 0
DIRS     ?=
MATRIX   ?=
VARIANTS ?=
KINDS    ?=
ORIGIN   ?= kvm_vcpu_reset
V        ?= 0

# Aliases that people type.
override ARCH := $(patsubst x86_64,x86,$(patsubst aarch64,arm64,$(patsubst riscv64,riscv,$(ARCH))))

fail = $(shell [ ! -d '$(BUILD)' ] || echo 2 >'$(BUILD)/status')$(error $(1). Next: $(2))
ifneq ($(filter-out $(ARCHES),$(ARCH)),)
$(call fail,ARCH=$(filter-out $(ARCHES),$(ARCH)) is not one of: $(ARCHES),make ARCH="riscv x86")
endif
ifeq ($(ARCH),)
$(call fail,no architecture is chosen,make ARCH=riscv or make menuconfig)
endif
PROFILES := debug rt vmx
ifneq ($(filter-out $(PROFILES),$(PROFILE)),)
$(call fail,PROFILE=$(PROFILE) is not one of: $(PROFILES) (or empty),make check PROFILE=debug)
endif
# The same kernel as without a profile, in Bochs.
ifeq ($(PROFILE),vmx)
ifeq ($(filter x86,$(ARCH)),)
$(call fail,PROFILE=vmx is for x86 and ARCH is $(ARCH),make check ARCH=x86 PROFILE=vmx)
endif
override ARCH := x86
endif
ifneq ($(filter-out series base,$(ON)),)
$(call fail,ON=$(ON) is neither series nor base,make check ON=base)
endif
ifneq ($(filter-out y n,$(CCACHE)),)
$(call fail,CCACHE=$(CCACHE) is neither y nor n,make CCACHE=n)
endif
ifneq ($(filter-out y n,$(CHECK_QEMU)),)
$(call fail,CHECK_QEMU=$(CHECK_QEMU) is neither y nor n,make check CHECK_QEMU=n)
endif
define positive
ifneq ($$(shell [ "$$($(1))" -ge $(2) ] 2>/dev/null && echo ok),ok)
$$(call fail,$(1)=$$($(1)) is not a number of $(2) or more,make help)
endif
endef
$(eval $(call positive,JOBS,0))
$(foreach v,NR_CPUS MEMORY TIMEOUT_SCALE BOOT_TIMEOUT,$(eval $(call positive,$(v),1)))

override JOBS := $(if $(filter 0,$(JOBS)),$(shell nproc),$(JOBS))
# One topic has a tree and build output of its own, next to those of the series.
TREE := $(BUILD)/$(if $(TOPIC),topic,linux)
SUFFIX := $(if $(TOPIC),-topic)$(addprefix -,$(filter-out vmx,$(PROFILE)))$(if $(LLVM),-clang)
RUNNER := tools/testing/selftests/kvm/qemu

export BUILD CACHE TREE KERNEL ARCH ON VARIANT PROFILE TESTS NR_CPUS MEMORY TIMEOUT_SCALE
export N SEED VARIANTS KINDS DIRS MATRIX ORIGIN ONLY QUICK EXPLAINED SIDES SKIP OTHERS LANES AFTER BOOT_TIMEOUT
export BUSYBOX QEMU BRANCH TOPIC TRAILERS VERSION SINCE FORCE SETUP V LLVM JOBS SUFFIX RUNNER SHORT ROWS COUNT
export VMM_QEMU_DIR GUEST_KERNEL WAIT
export USE_CCACHE := $(CCACHE)

# kbuild takes no path with spaces; only the build directory must be without.
no_spaces = $(if $(word 2,$(BUILD)),$(call fail,kbuild cannot build in "$(BUILD)": spaces,make BUILD=/a/path/without/spaces))

locked := +@$(no_spaces)scripts/locked.sh
build_goals := $(addprefix _build-,$(ARCH))
# All that there is to "make check", without a choice of part of it?
ifeq ($(ON)$(TESTS)$(SUFFIX)$(VARIANT)$(PROFILE),series)
whole := y
endif
with_qemu := $(and $(whole),$(filter y,$(CHECK_QEMU)))
guest_goals := $(if $(with_qemu),$(addprefix _guest-,$(ARCH)))

## Main job
all: ## install the tools, get the base, apply the series, build kernels and tests
	$(locked) $(MAKE) _all
check: ## all of that, then boot each architecture and run its tests (ON=base: on the base)
	$(locked) $(MAKE) _check

check-full: ## every lane: profiles, variants, clang, VMX, base against series, each commit, checkers
	$(locked) $(MAKE) _check-full

_all: setup _tree
	+@$(MAKE) -j$(JOBS) $(build_goals) $(guest_goals)
	@scripts/check.sh summary
_check: setup _tree
	+@$(MAKE) -j$(JOBS) _scripts $(build_goals) $(guest_goals)
	@longer=0; [ '$(whole)' != y ] || scripts/bench/guard.sh $(ARCH) || longer=1; \
	WITH_QEMU=$(with_qemu) scripts/check.sh run && { [ $$longer = 0 ] || \
		{ echo 1 >'$(BUILD)/status'; echo "error: a hot path is longer, see above (scripts/bench/guard.sh)" >&2; exit 1; }; }
# They depend on nothing but what git would commit and the tree's list of tests:
# once for each state.
_scripts:
	@state=$$({ git ls-files -co --exclude-standard; echo '$(TREE)/tools/testing/selftests/kvm/Makefile.kvm'; } | LC_ALL=C sort | xargs -d '\n' sha256sum 2>/dev/null | sha256sum); \
	[ "$$state" != "$$(cat '$(BUILD)/log/scripts-passed' 2>/dev/null)" ] || \
		{ echo "  tests of the scripts               passed before, nothing changed"; exit 0; }; \
	TAIL=60 scripts/step.sh "tests of the scripts" "make test-scripts" \
		sh -c 'scripts/test/run && scripts/test/mutants' && \
		echo "$$state" >'$(BUILD)/log/scripts-passed'
_check-full:
	@scripts/lanes/full.sh check
	@FULL=1 scripts/setup.sh $(ARCH)
	+@$(MAKE) _tree
	+@scripts/lanes/full.sh
_lane: _tree
	+@$(MAKE) -j$(JOBS) $(build_goals)
	@scripts/check.sh run

## One step
setup: ## check that every tool is there; as root, install what is missing (FULL=1: for check-full too)
	@scripts/setup.sh $(ARCH)
base: ## get Linux and check it
	@$(no_spaces)scripts/locked.sh scripts/base.sh >/dev/null
tree: ## make or update the git tree with one commit per patch
	$(locked) $(MAKE) _tree
_tree:
	@scripts/series.py tree
build: ## build kernels and selftests
	$(locked) $(MAKE) setup _tree
	$(locked) $(MAKE) -j$(JOBS) $(build_goals)
$(build_goals): _build-%:
	+@STEP_LOGS='$(BUILD)/$*$(SUFFIX)/logs' scripts/step.sh "$* $(ON)$(SUFFIX): kernel, selftests" \
		"make build ARCH=$*$(addprefix $() PROFILE=,$(PROFILE))$(addprefix $() LLVM=,$(LLVM)) ON=$(ON) V=1" scripts/check.sh build $*
$(addprefix _guest-,$(ARCHES)): _guest-%:
	@scripts/lanes/qemu.sh has $* || scripts/step.sh "$*: Debian's QEMU" "make check CHECK_QEMU=n" scripts/lanes/qemu.sh get $*
qemu: ## build QEMU with the patches of patches/qemu-*, for hosts with KVM of ARCH
	$(locked) $(MAKE) _qemu
_qemu:
	@VMM=1 scripts/setup.sh $(ARCH)
	@scripts/qemu.sh tree
	+@for arch in $(ARCH); do scripts/step.sh "$$arch: QEMU" "make qemu ARCH=$$arch V=1" scripts/qemu.sh build $$arch || exit; done
rerun: ## boot and test what was built last
	@$(no_spaces)scripts/locked.sh scripts/check.sh run
test-scripts: ## test the scripts of this repository, without a kernel
	@scripts/test/run
	@scripts/test/mutants
shell: ## a shell in the virtual machine of one ARCH; leave it with "exit" or Ctrl-A X
	@scripts/check.sh shell
debug: ## the same with debug info and a stub for gdb; prints the line for gdb (WAIT=1: waits for it)
	@GDB=1 scripts/setup.sh $(ARCH)
	@scripts/check.sh debug
lanes: ## print the lanes of check-full as jobs for more than one machine, in JSON
	@scripts/lanes/full.sh list
merge-results: ## join the results of several machines (DIRS=) in KTAP, JUnit XML and KCIDB JSON
	@scripts/lanes/results.py merge $(DIRS)
report: ## one page with the results of the last runs: build/report.html
	@scripts/report/report.py

## One lane of check-full
checkers: ## sparse, checkpatch, coccicheck, kernel-doc, W=1, htmldocs: what is new against the base
	@$(no_spaces)scripts/locked.sh scripts/lanes/checkers.sh $(CHECKERS)
others: ## compile KVM of loongarch, mips, powerpc and s390
	@$(no_spaces)scripts/locked.sh scripts/lanes/others.sh
topics: ## each topic on what it needs: it applies, its commits build and pass, its reproducers fail without it
	@$(no_spaces)scripts/locked.sh scripts/lanes/topics.sh $(TOPIC)
stable: ## put what is marked for stable on stable kernels, build and boot these
	@$(no_spaces)scripts/locked.sh scripts/lanes/stable.sh $(VERSIONS)
commits: ## build, boot and test every commit of the series by itself
	@$(no_spaces)scripts/locked.sh scripts/lanes/commits.sh $(RANGE)
table: ## every KVM selftest on the base and on the series, side by side
	@$(no_spaces)scripts/locked.sh scripts/lanes/table.sh
check-qemu: ## an unmodified QEMU with KVM and its guests, base against series (SHORT=1: a few rows, on ON)
	@$(no_spaces)scripts/locked.sh scripts/lanes/qemu.sh $(if $(filter 1,$(SHORT)),short)
mutants: ## break each statement, condition and lock of the reset path: a test has to fail (ONLY=regex)
	@$(no_spaces)scripts/locked.sh scripts/lanes/mutants.sh
coverage: ## which lines of the series no test reaches, and why (VARIANTS= picks hosts)
	@$(no_spaces)scripts/locked.sh scripts/lanes/coverage.sh
stress: ## a million resets on each ARCH, with everything else at the same time (N=, SEED=)
	@$(no_spaces)scripts/locked.sh scripts/lanes/stress.sh
lanes-selftest: ## deliberate violations that the lanes must catch
	@$(no_spaces)scripts/locked.sh scripts/lanes/selftest.sh
fresh: ## make, make check, the base and test-scripts in a bare Debian 12, as root
	@$(no_spaces)scripts/locked.sh scripts/fresh.sh

## Benchmark
bench: ## base against series in instructions: tables, CSV and plots in build/bench/
	$(locked) $(MAKE) _bench
_bench:
	@BENCH=1 scripts/setup.sh $(ARCH)
	+@$(MAKE) _tree
	+@ON=series $(MAKE) -j$(JOBS) $(build_goals)
	+@ON=base $(MAKE) -j$(JOBS) $(build_goals)
	@scripts/bench/bench.sh $(ARCH)

## The series
refresh: ## write the commits of the tree back to patches/ and the added files
	@scripts/locked.sh scripts/series.py refresh
apply: ## put the series on a new BRANCH of your own git tree KERNEL
	@KERNEL= scripts/locked.sh scripts/series.py apply '$(KERNEL)'
mbox: ## write the mails, one directory per topic, with cover letter, To and Cc (VERSION=2 adds a range-diff)
	@scripts/locked.sh scripts/series.py mbox

## Configuration (.config; none is needed)
CONFIGS := menuconfig nconfig defconfig olddefconfig savedefconfig
menuconfig: ## choose architectures, compiler, profile, sizes
defconfig: ## back to the defaults
$(CONFIGS):
	$(locked) $(MAKE) _tree
	@mkdir -p '$(BUILD)/kconfig'
	+@[ $@ != defconfig ] || rm -f .config
	+@$(MAKE) -s -C '$(TREE)' O='$(BUILD)/kconfig' ARCH=x86 KBUILD_KCONFIG='$(CURDIR)/Kconfig' \
		KCONFIG_CONFIG='$(CURDIR)/.config' $(if $(filter defconfig,$@),alldefconfig,$@)

## Names for scripts (make -s)
tree-path: ## the composed git tree
	@echo '$(TREE)'
base-path: ## the unmodified base, checked out
	@scripts/check.sh base-path
image-path: ## the kernel image of one ARCH (ON=base: of the base)
	@scripts/check.sh image-path
kselftest-path: ## the installed selftests of one ARCH
	@scripts/check.sh kselftest-path

## Cleaning
clean: ## remove what was built; the tree and results stay
	+@scripts/locked.sh $(MAKE) _clean
_clean:
	@scripts/fresh.sh clean
	@rm -rf '$(BUILD)'/{riscv,arm64,x86}* '$(BUILD)'/{linux,base,topic,needs}/out-* '$(BUILD)'/{commits,mutants,coverage,stable}{,-riscv,-arm64,-x86} \
		'$(BUILD)'/violations{,-debug,-rt,-vmx,-fresh} '$(BUILD)'/htmldocs-{base,series} \
		'$(BUILD)'/qemu/{riscv,arm64,x86}{,-plain} '$(BUILD)'/qemu/obj-* \
		'$(BUILD)'/{others,checkers,check-qemu*,bench,bench-tree,log,kconfig,mbox}
	@[ ! -e '$(TREE)/.git' ] || git -C '$(TREE)' worktree prune
distclean: ## remove build/ and .config; the cache stays
	+@scripts/locked.sh $(MAKE) _distclean
_distclean:
	@scripts/series.py saved || [ '$(FORCE)' = 1 ]
	@scripts/qemu.sh saved || [ '$(FORCE)' = 1 ]
	@scripts/fresh.sh clean
	@rm -rf '$(BUILD)' .config

help: ## this text
	@printf '%s|%s|%s\n' $(foreach v,$(help_vars),'$(v)' '$($(v))' $(help_$(v))) | awk -f scripts/help.awk Makefile -
	@printf '\nmake itself exits with 0 or 2; the status that README.md lists is in\n%s\n' '$(BUILD)/status'

help_vars := ARCH PROFILE LLVM CCACHE JOBS TESTS SKIP SIDES LANES CHECKERS AFTER RANGE OTHERS ONLY QUICK \
	EXPLAINED ON VARIANT QEMU NR_CPUS MEMORY TIMEOUT_SCALE BOOT_TIMEOUT KERNEL BUILD CACHE BRANCH TOPIC TRAILERS \
	VERSION SINCE FORCE BUSYBOX SETUP DIRS MATRIX ORIGIN VARIANTS KINDS N SEED CHECK_QEMU SHORT ROWS COUNT VMM_QEMU_DIR \
	GUEST_KERNEL WAIT V
help_ARCH          := 'one or more of riscv arm64 x86'
help_PROFILE       := 'debug, rt, vmx (x86 on kvm_intel in Bochs) or empty'
help_LLVM          := 'suffix of clang, such as -19; empty: gcc'
help_CCACHE        := 'y or n'
help_JOBS          := 'parallel compile jobs'
help_TESTS         := 'names or patterns; empty: patches/v7.3/tests; all: every KVM selftest'
help_SKIP          := 'tests to leave out'
help_LANES         := 'lanes of check-full to run, such as "debug clang-x86 table"; empty: all'
help_CHECKERS      := 'some of: checkpatch maintainers kerneldoc w1 sparse coccicheck docs; empty: all'
help_AFTER         := 'make checkers: look only at what commits after this one touch; empty: all'
help_RANGE         := 'commits for make commits; empty: all'
help_OTHERS        := 'for which make commits compiles KVM in addition to ARCH; empty: none'
help_SIDES         := 'base or series, for make table and check-qemu: series keeps the results of the base; empty: both'
help_ONLY          := 'regex on ARCH FILE:FUNCTION: STATEMENT for make mutants; empty: all'
help_QUICK         := '1: make mutants leaves out what takes long, make topics all but the last commit of each topic'
help_EXPLAINED     := '1: make mutants also tries what has an explanation'
help_CHECK_QEMU    := 'n: make check without the guests of QEMU'
help_SHORT         := '1: make check-qemu does only a few rows, on ON, and boots the kernel under test as the guest too'
help_ROWS          := 'patterns of rows of make check-qemu, such as "reset_* boot_2"; empty: all'
help_COUNT         := 'make check-qemu: most repetitions that one row does'
help_VMM_QEMU_DIR  := 'make check-qemu: root directory with another usr/bin/qemu-system-*; empty: Debian'"'"'s QEMU'
help_GUEST_KERNEL  := 'make check-qemu: image of the guest; empty: the series with scripts/lanes/qemu/guest.config'
help_ON            := 'series, or base: the same tests on the unmodified kernel'
help_VARIANT       := 'arm64: vhe nvhe nofwb nested; riscv: aia emulated noaia; x86: default shadow; empty: the first'
help_QEMU          := 'QEMU binary; empty: qemu-system-* of that ARCH'
help_NR_CPUS       := 'CPUs of the virtual machine'
help_MEMORY        := 'MiB of the virtual machine'
help_TIMEOUT_SCALE := 'factor for the timeouts of the tests'
help_BOOT_TIMEOUT  := 'seconds that a boot may take'
help_KERNEL        := 'where the base is: a git tree, an unpacked tree or a tarball; make apply: your git tree'
help_BUILD         := 'build directory'
help_CACHE         := 'downloads and ccache; shared by all checkouts'
help_BRANCH        := 'branch that make apply creates'
help_TOPIC         := 'one topic: make tree, check and apply take it and what it needs; make mbox: its mails'
help_TRAILERS      := 'trailers that the sender adds to each mailed patch, one a line'
help_VERSION       := 'version of the mailed series'
help_SINCE         := 'commit of this repository that the last version was sent from (default: the tag sent/TOPIC/vN)'
help_FORCE         := '1: overwrite the other side when tree and files both changed'
help_BUSYBOX       := 'static busybox of that ARCH, for make shell; empty: Debian'"'"'s is fetched'
help_SETUP         := 'install, or check: install nothing'
help_DIRS          := 'for make merge-results: copies of build/lanes; empty: build/lanes'
help_MATRIX        := 'for make merge-results: what make lanes has printed; empty: all lanes of ARCH'
help_ORIGIN        := 'name of the submitter in KCIDB'
help_VARIANTS      := 'for make coverage, such as "aia vmx"; empty: all of ARCH'
help_KINDS         := 'kinds of mutants: statements conditions locks; empty: all'
help_N             := 'resets in make stress; empty: 1000000'
help_SEED          := 'seed of make stress (empty: the time) and make check-qemu (empty: 1)'
help_WAIT          := '1: make debug holds the machine at its first instruction until gdb continues it'
help_V             := '1: show commands and their output'

.PHONY: lanes merge-results report coverage checkers others topics stable commits table mutants stress lanes-selftest fresh check-qemu
.PHONY: all check setup base tree build rerun test-scripts shell debug refresh apply mbox $(CONFIGS)
.PHONY: tree-path base-path image-path kselftest-path clean distclean help
.PHONY: qemu _qemu
.PHONY: check-full _all _scripts _check _check-full _lane _tree _clean _distclean $(build_goals)
