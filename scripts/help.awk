# SPDX-License-Identifier: GPL-2.0-only
#
# help.awk Makefile -: "make help" at 80 columns: the targets with their "##", then
# "NAME|VALUE|TEXT" of the variables.

function show(head, text,    n, i, word, line)
{
	sub(/ +$/, "", head)
	line = length(head) < INDENT ? sprintf("%-" INDENT "s", head) : head "\n" sprintf("%" INDENT "s", "")
	n = split(text, word, " ")
	for (i = 1; i <= n; i++) {
		if (length(line) - (index(line, "\n") ? index(line, "\n") : 0) + length(word[i]) > 80) {
			sub(/ +$/, "", line)
			print line
			line = sprintf("%" INDENT "s", "")
		}
		line = line word[i] " "
	}
	sub(/ +$/, "", line)
	print line
}

BEGIN { INDENT = 23 }
FILENAME == ARGV[1] {
	if (sub(/^## /, ""))
		print "\n" $0 ":"
	else if (match($0, /^[a-z-]+:.*## /))
		show("  make " substr($0, 1, index($0, ":") - 1), substr($0, RLENGTH + 1))
	next
}
FNR == 1 {
	print "\nVariables, with their value now:"
	INDENT = 32
}
{
	split($0, part, "|")
	show(sprintf("  %-14s %s ", part[1], part[2]), part[3])
}
