#!/bin/sh
# Unpack a minimal Debian into DIR, from where this machine's apt gets its packages.
#   debian.sh DIR     root and debootstrap needed; prints what debootstrap prints
set -eu
suite=bookworm
PATH=$PATH:/usr/sbin:/sbin
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 2>/dev/null | awk -v s="$suite" '$2 == s { print $1; exit }')
exec debootstrap --variant=minbase "$suite" "$1" "${mirror:-http://deb.debian.org/debian}"
