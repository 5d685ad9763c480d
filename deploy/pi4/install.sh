#!/bin/sh
# Installs Daedalus as a systemd service: a user, directories, an environment from requirements.lock, the unit.
#   sudo deploy/pi4/install.sh [OPTION...]
#     --dry-run      say what would be done, change nothing
#     --uninstall    stop and remove the service and the program; data, configuration and user stay
#     --purge        with --uninstall: remove those too
#     --prefix DIR   where the program goes (default: /opt/daedalus)
#     --root DIR     install below DIR and leave the running system alone
#     --no-venv      leave the environment out: it is made elsewhere
# A second run changes nothing. A configuration that was changed is never overwritten: the new one is laid beside it.
# DAEDALUS_PYTHON chooses the interpreter (default: python3), DAEDALUS_SYSTEMD the version of systemd (default: asked).
set -eu
umask 022

here=$(CDPATH="" cd -- "$(dirname -- "$0")" && pwd -P)
source=$(CDPATH="" cd -- "$here/../.." && pwd -P)
python=${DAEDALUS_PYTHON:-python3}
user=daedalus
prefix=/opt/daedalus
root=
dry=0
uninstall=0
purge=0
venv=1
changes=0

die() { printf 'install: %s\n' "$1" >&2; exit "${2:-1}"; }
say() { printf '%s\n' "$*"; }

while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry=1 ;;
    --uninstall) uninstall=1 ;;
    --purge) purge=1 ;;
    --no-venv) venv=0 ;;
    --prefix | --root)
      [ $# -gt 1 ] || die "cannot read the options: $1 needs a directory" 2
      case $2 in /*) ;; *) die "cannot use $1 $2: must be absolute" 2 ;; esac
      case $2 in *[!A-Za-z0-9/._-]*) die "cannot use $1 $2: letters, digits and / . _ - only" 2 ;; esac
      if [ "$1" = --root ]; then root=${2%/}; else prefix=${2%/}; fi
      shift ;;
    --prefix=* | --root=*) option=${1%%=*} value=${1#*=}; shift; set -- "$option" "$value" "$@"; continue ;;
    -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "cannot read the options: unknown $1 (see --help)" 2 ;;
  esac
  shift
done
[ "$purge" = 0 ] || [ "$uninstall" = 1 ] || die "cannot purge: --purge goes with --uninstall" 2
case $prefix in
  "" | /bin | /boot* | /dev* | /etc* | /home | /lib* | /opt | /proc* | /root | /run* | /sbin | /srv | /sys* | /tmp | /usr | /usr/* | /var | *..*)
    case $prefix in /usr/local/?*) ;; *) die "cannot use --prefix $prefix/: it must be a directory of its own" 2 ;; esac ;;
esac
[ -z "$root" ] || [ -d "$root" ] || die "cannot install below $root: no such directory"
# The system is live when nothing is put elsewhere and systemd runs it.
live=0
[ -n "$root" ] || [ ! -d /run/systemd/system ] || live=1
[ -n "$root" ] || [ "$dry" = 1 ] || [ "$(id -u)" = 0 ] || die "cannot install: must be root (sudo), or --root DIR"

# --- steps: each looks first, and counts when there is something to do ---------------------------------------

todo() { # todo WORDS…: count a change and say it; false in a dry run
  changes=$((changes + 1))
  if [ "$dry" = 1 ]; then say "would $*"; return 1; fi
  say "$*"
}

put() { # put FILE MODE: make FILE what standard input is
  fresh=$(mktemp)
  cat >"$fresh"
  if ! cmp -s "$fresh" "$root$1" 2>/dev/null && todo "write $1"; then
    mkdir -p "$root${1%/*}"
    cp "$fresh" "$root$1.part"
    chmod "$2" "$root$1.part"
    mv "$root$1.part" "$root$1"
  fi
  rm -f "$fresh"
}

drop() { # drop PATH…: remove files and trees
  for path in "$@"; do
    if [ -e "$root$path" ] || [ -L "$root$path" ]; then
      if todo "remove $path"; then rm -rf -- "$root$path"; fi
    fi
  done
}

ids() { # ids: print uid:gid of our user in the system that is installed to, nothing when there is none
  sed -n "s/^$user:[^:]*:\([0-9]*\):\([0-9]*\):.*/\1:\2/p" "$root/etc/passwd" 2>/dev/null || :
}

own_dir() { # own_dir DIR MODE [OWNER]: a directory, with the mode it must have
  if [ ! -d "$root$1" ]; then
    if todo "make $1"; then mkdir -p "$root$1"; chmod "$2" "$root$1"; fi
  fi
  if [ -d "$root$1" ] && [ -n "${3:-}" ] && [ "$(id -u)" = 0 ] && [ "$(stat -c %u:%g "$root$1")" != "$3" ]; then
    if todo "give $1 to $user"; then chown "$3" "$root$1"; fi
  fi
}

systemd_version() {
  if [ -n "${DAEDALUS_SYSTEMD:-}" ]; then printf '%s\n' "$DAEDALUS_SYSTEMD"; return; fi
  tool=systemctl
  [ -z "$root" ] || tool=
  version=$( [ -z "$tool" ] || $tool --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
  printf '%s\n' "${version:-0}"
}

unit=/etc/systemd/system/daedalus.service
newer=/etc/systemd/system/daedalus.service.d/10-systemd-254.conf
journald=/etc/systemd/journald.conf.d/50-daedalus.conf
sysctl=/etc/sysctl.d/50-daedalus.conf
config=/etc/daedalus/supervisor.toml
shipped=$prefix/.supervisor.toml.cksum

# --- uninstall -----------------------------------------------------------------------------------------------

if [ "$uninstall" = 1 ]; then
  if [ "$live" = 1 ] && [ -e "$unit" ] && todo "stop and disable daedalus.service"; then
    systemctl disable --now daedalus.service >/dev/null 2>&1 || :
  fi
  drop "$unit" "$newer" "$journald" "$sysctl"
  [ ! -d "$root${newer%/*}" ] || [ "$dry" = 1 ] || rmdir "$root${newer%/*}" 2>/dev/null || :
  drop "$prefix/venv" "$prefix/releases" "$shipped"
  [ ! -d "$root$prefix" ] || [ "$dry" = 1 ] || rmdir "$root$prefix" 2>/dev/null || :
  if [ "$purge" = 1 ]; then
    drop /var/lib/daedalus /etc/daedalus
    if [ -n "$(ids)" ] && [ "$(id -u)" = 0 ] && todo "remove user $user"; then
      userdel ${root:+--root "$root"} "$user" 2>/dev/null || say "note: user $user could not be removed"
    fi
  else
    say "kept: /var/lib/daedalus, /etc/daedalus and user $user (--purge removes them)"
  fi
  if [ "$live" = 1 ] && [ "$dry" = 0 ]; then systemctl daemon-reload; fi
  say "$changes change(s)"
  exit 0
fi

# --- user and directories ------------------------------------------------------------------------------------

if [ ! -f "$root/etc/passwd" ]; then
  say "note: no $root/etc/passwd, so no user is made"
elif [ -z "$(ids)" ]; then
  if todo "make user $user"; then
    [ "$(id -u)" = 0 ] || die "cannot make user $user: must be root"
    useradd ${root:+--root "$root"} --system --user-group --no-create-home --home-dir /var/lib/daedalus \
      --shell /usr/sbin/nologin "$user" || die "cannot make user $user: see the words above"
  fi
fi
owner=$(ids)
own_dir /var/lib/daedalus 0750 "$owner"
own_dir /etc/daedalus 0750 "${owner:+0:${owner#*:}}"
own_dir "$prefix" 0755

# --- the environment: a new directory each time, and a link that changes hands at once -----------------------

fingerprint() {
  {
    "$python" -c 'import sys; print(sys.version, sys.base_prefix)'
    cat "$source/requirements.lock" "$source/pyproject.toml" "$source/setup.py"
    find "$source/daedalus" -type f ! -name '*.pyc' ! -name '*.c' ! -name '*.so' | LC_ALL=C sort | while read -r file; do
      printf '%s\n' "${file#"$source"}"
      cat "$file"
    done
  } | cksum | tr ' ' '-'
}

make_release() { # make_release NAME
  release=$prefix/releases/$1
  work=$(mktemp -d)
  trap 'rm -rf "$work" "$root$release.part"' EXIT
  rm -rf "$root$release.part"
  mkdir -p "$root$prefix/releases" "$work/source"
  cp -R "$source/daedalus" "$source/pyproject.toml" "$source/setup.py" "$source/README.md" "$source/LICENSE" "$work/source"
  find "$work/source" \( -name '*.so' -o -name '*.c' -o -name __pycache__ \) -prune -exec rm -rf {} +
  "$python" -m venv "$root$release.part" || die "cannot make an environment: install python3-venv (sudo apt install python3-venv)"
  pip="$root$release.part/bin/python -m pip --quiet --disable-pip-version-check --no-input"
  # The lock names every package with its checksum, the tools that compile the kernels included.
  $pip install --no-deps --require-hashes --only-binary :all: -r "$source/requirements.lock" ||
    die "cannot install what requirements.lock names: a 64-bit system and the package index are needed"
  $pip install --no-deps --no-build-isolation "$work/source" ||
    die "cannot build daedalus: install gcc and python3-dev (sudo apt install gcc python3-dev)"
  # Scripts go by the link, so that `daedalus-ctl reexec` finds the next release under the same name.
  for script in "$root$release.part"/bin/daedalus*; do
    { printf '#!%s\n' "$prefix/venv/bin/python"; sed 1d "$script"; } >"$script.new"
    chmod 0755 "$script.new"
    mv "$script.new" "$script"
  done
  mv "$root$release.part" "$root$release"
  rm -rf "$work"
  trap - EXIT
}

if [ "$venv" = 1 ]; then
  command -v "$python" >/dev/null 2>&1 || die "cannot find the interpreter $python: install python3 (3.11 or newer) or set DAEDALUS_PYTHON"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "cannot use $python: 3.11 or newer is needed"
  name=$(fingerprint)
  before=$(readlink "$root$prefix/venv" 2>/dev/null || :)
  if [ ! -d "$root$prefix/releases/$name" ]; then
    if todo "make the environment $prefix/releases/$name (takes minutes)"; then make_release "$name"; fi
  fi
  if [ "$before" != "releases/$name" ] && todo "point $prefix/venv at releases/$name"; then
    ln -s "releases/$name" "$root$prefix/venv.part"
    mv -T "$root$prefix/venv.part" "$root$prefix/venv"
  fi
  # The one before stays, to go back to and because it still runs until `reexec`; older ones go.
  for old in "$root$prefix"/releases/*; do
    case ${old##*/} in "$name" | "${before##*/}" | '*') ;; *) drop "${old#"$root"}" ;; esac
  done
fi

# --- configuration and system files --------------------------------------------------------------------------

sum() { cksum <"$1" | tr ' ' '-'; }

offered=$(sum "$source/supervisor.toml")
last=$(cat "$root$shipped" 2>/dev/null || :)
if [ ! -e "$root$config" ] || [ "$(sum "$root$config")" = "$last" ]; then
  put "$config" 0640 <"$source/supervisor.toml"
elif [ "$(sum "$root$config")" != "$offered" ] && [ "$last" != "$offered" ]; then
  put "$config.new" 0640 <"$source/supervisor.toml"
  say "kept: $config was changed; the new one is $config.new"
fi
if [ "$dry" = 0 ] && [ "$(id -u)" = 0 ] && [ -n "$owner" ] && [ -e "$root$config" ] && [ "$(stat -c %g "$root$config")" != "${owner#*:}" ]; then
  chown "0:${owner#*:}" "$root$config"
fi
# (put reads a file or a here-document, never a pipe: what runs in a pipe cannot count)
put "$shipped" 0644 <<END
$offered
END
put "$unit" 0644 <<END
$(sed "s#/opt/daedalus/#$prefix/#g" "$here/daedalus.service")
END
if [ "$(systemd_version)" -ge 254 ]; then
  put "$newer" 0644 <"$here/daedalus.service.d-254.conf"
else
  drop "$newer"
fi
before_journald=$changes
put "$journald" 0644 <"$here/journald.conf"
after_journald=$changes
put "$sysctl" 0644 <"$here/sysctl.conf"

# --- the running system --------------------------------------------------------------------------------------

if [ "$live" = 1 ] && [ "$changes" -gt 0 ] && [ "$dry" = 0 ]; then
  systemctl daemon-reload
  [ "$before_journald" = "$after_journald" ] || systemctl restart systemd-journald.service
  sysctl --quiet --load "$sysctl" || say "note: not every setting of $sysctl could be applied"
fi
if [ "$live" = 1 ] && ! systemctl is-enabled --quiet daedalus.service 2>/dev/null && todo "enable daedalus.service"; then
  systemctl enable --quiet daedalus.service
fi
if [ -z "$root" ] && [ -r /sys/fs/cgroup/cgroup.controllers ] && ! grep -qw memory /sys/fs/cgroup/cgroup.controllers; then
  line=/boot/firmware/cmdline.txt
  [ -e "$line" ] || line=/boot/cmdline.txt
  if [ -e "$line" ] && grep -q 'cgroup_enable=memory' "$line"; then
    say "note: the kernel has no memory control group although $line asks for it: reboot, or update the kernel"
  else
    say "note: the kernel has no memory control group, so memory limits are kept by sampling. To turn it on, append"
    say "      cgroup_enable=memory cgroup_memory=1    to the one line of $line, and reboot"
  fi
fi
say "$changes change(s)"
if [ "$dry" = 0 ] && [ -z "$root" ] && [ "$venv" = 1 ]; then
  say "next: edit $config, check it ($prefix/venv/bin/daedalus-supervisor check $config --strict), then"
  say "      sudo systemctl start daedalus      the first time"
  say "      sudo $prefix/venv/bin/daedalus-ctl --runtime /run/daedalus reexec      after an upgrade: no actor is stopped"
fi
