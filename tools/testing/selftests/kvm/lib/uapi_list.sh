#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# List what <linux/kvm.h> defines, so that tests can tell if something is new to
# them.  Standard input is the preprocessed header, with its macros ("-E -dD").
#
# usage: uapi_list.sh exit_reasons|ioctls

case $1 in
exit_reasons)
	# A code that tells more about an exit, e.g. KVM_EXIT_HYPERV_SYNIC, has
	# the exit's name in front of its own, and a number that is an exit
	# reason's as well.
	awk '
	/^#define KVM_EXIT_[A-Z0-9_]+ +[0-9]+$/ {
		sub(/^KVM_EXIT_/, "", $2)
		number[$2] = $3
		order[++nr] = $2
		used[$3]++
	}
	END {
		for (i = 1; i <= nr; i++) {
			name = order[i]
			prefix = name
			while (sub(/_[^_]*$/, "", prefix))
				if (prefix in number)
					break
			if (prefix != name && prefix in number && used[number[name]] > 1)
				continue
			if (number[name] in reason) {
				print "warning: KVM_EXIT_" name " and KVM_EXIT_" \
				      reason[number[name]] " are both " number[name] \
				      ", leave out the one that is no exit reason in" \
				      " lib/uapi_list.sh" > "/dev/stderr"
				continue
			}
			reason[number[name]] = name
			print "KVM_EXIT_REASON(" name ")"
		}
	}'
	;;
ioctls)
	# Leave out those whose argument is a type of another architecture.
	awk '
	/^(struct|union) [a-z0-9_]+ \{/ {
		defined[$2] = 1
	}
	/^#define KVM_[A-Z0-9_]+ +_IO[WR]*\(KVMIO,/ {
		name = $2
		type = $0
		if (!sub(/.*(struct|union) /, "", type))
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
