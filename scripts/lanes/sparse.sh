#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only
#
# sparse.sh ARGUMENT...: sparse 0.6.4, the last that was released, as CHECK= of
# kbuild. It knows neither __typeof_unqual__, without which kbuild refuses to
# call it, nor the -march= of riscv.

args=()
for arg; do
	[[ $arg == -march=* ]] || args+=("$arg")
done
exec sparse -D__typeof_unqual__=__typeof__ "${args[@]}"
