#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# List what <linux/kvm.h> defines, so that tests can tell if something is new to
# them.  Standard input is the preprocessed header, with its macros ("-E -dD").
#
# usage: uapi_list.sh exit_reasons|ioctls

case $1 in
exit_reasons)
	# Codes that only tell more about an exit aren't exit reasons.  One that
	# is forgotten here is a duplicate in exit_reason_str().
	awk '
	/^#define KVM_EXIT_[A-Z0-9_]+ +[0-9]+$/ {
		sub(/^KVM_EXIT_/, "", $2)
		if ($2 !~ /^(HYPERV_[A-Z]+|XEN_HCALL|IO_IN|IO_OUT)$/)
			print "KVM_EXIT_REASON(" $2 ")"
	}'
	;;
ioctls)
	# Leave out those whose argument is a type of another architecture.
	awk '
	/^struct [a-z0-9_]+ \{/ {
		defined[$2] = 1
	}
	/^#define KVM_[A-Z0-9_]+ +_IO[WR]*\(KVMIO,/ {
		name = $2
		type = $0
		if (!sub(/.*struct /, "", type))
			type = ""
		sub(/[^a-z0-9_].*/, "", type)
		types[name] = type
	}
	END {
		for (name in types)
			if (types[name] == "" || types[name] in defined)
				print "KVM_IOCTL(" name ")"
	}'
	;;
*)
	exit 1
	;;
esac | sort
