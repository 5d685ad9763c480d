#!/bin/sh
# Unpack a minimal Debian into DIR, from where this machine's apt gets its packages.
#   debian.sh DIR     root needed; installs debootstrap where it is missing, prints what it prints
set -eu
suite=bookworm
PATH=$PATH:/usr/sbin:/sbin
if ! command -v debootstrap >/dev/null 2>&1; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap
fi
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 2>/dev/null | awk -v s="$suite" '$2 == s { print $1; exit }')
exec debootstrap --variant=minbase "$suite" "$1" "${mirror:-http://deb.debian.org/debian}"
