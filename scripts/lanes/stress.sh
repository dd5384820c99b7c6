#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# stress.sh: vcpu_reset_storm with N resets (1,000,000) on each architecture of
# ARCH, from SEED on (the time), and vcpu_hostile_test with a thousandth of that.
# What fails prints the seed that it began with, which replays it.
#
# VARIANT=, PROFILE= and the like are those of make check. A host that is to tell
# what hangs in it needs CPUs that don't: NR_CPUS=4.

. "$(dirname -- "$0")/../common.sh"

ARCH=${ARCH:-riscv arm64 x86}
N=${N:-1000000}
SEED=${SEED:-$(date +%s)}

[[ $N =~ ^[1-9][0-9]*$ ]] || die "N=$N is not a whole number above 0" "make stress N=10000"
[[ $SEED =~ ^[1-9][0-9]*$ && $SEED -le 2147483647 ]] ||
	die "SEED=$SEED is not a whole number from 1 to 2147483647" "make stress SEED=1"
known_arches "$ARCH"

say "$N resets on each of: $ARCH"
say "again: make stress N=$N SEED=$SEED"
export KSELFTEST_VCPU_RESET_STORM_ARGS="-n $N -s $SEED"
export KSELFTEST_VCPU_HOSTILE_TEST_ARGS="-n $((N / 1000 + 100)) -s $SEED"
# Seconds: ten resets a second is what a busy machine has been seen to do.
export TIMEOUT=$((N / 10 + 600))
# What make check has found stays where it is.
export RESULTS=$BUILD/stress
record "$RESULTS/stress.run" "resets: $N" "seed: $SEED" "arch: $ARCH" "profile: ${PROFILE:-}" "variant: ${VARIANT:-}"
status=0
make -C "$TOP" --no-print-directory _lane ON=series ARCH="$ARCH" \
	TESTS="vcpu_hostile_test vcpu_reset_storm" || status=$?
recorded "$RESULTS/stress.run"
exit "$status"
