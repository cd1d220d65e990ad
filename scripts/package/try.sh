#!/usr/bin/env bash
# Tries the packages in out/packages on a bare Debian 12, made by debootstrap in a scratch folder: installs each as a user
# would, and runs the demo job and `calque quantize`. Usage, as root: scripts/package/try.sh [deb] [tar] [wheel]
# Needs debootstrap and a mirror. The bare system is kept in $CALQUE_BARE (default: /var/tmp/calque-bare) for the next time.
set -euo pipefail
cd "$(dirname "$0")/../.."
kinds=${*:-deb tar wheel}
packages=$PWD/out/packages
bare=${CALQUE_BARE:-/var/tmp/calque-bare}
scratch=$(mktemp -d)
trap 'umount -q "$scratch"/*/proc 2>/dev/null; rm -rf --one-file-system "$scratch"' EXIT

say() { printf '\n== %s\n' "$*"; }

if [ ! -d "$bare" ]; then
  say "debootstrap"
  debootstrap --variant=minbase bookworm "$bare.new" >/dev/null
  mv "$bare.new" "$bare"
fi

# Runs a command in the system `root`, as its user `somebody` where the first word is as_somebody.
within() {
  if [ "$1" = as_somebody ]; then
    shift
    chroot --userspec=1000:1000 "$root" /usr/bin/env -i PATH="$path" HOME=/home/somebody LC_ALL=C.UTF-8 "$@"
  else
    chroot "$root" /usr/bin/env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"
  fi
}

fresh_system() {  # name
  root=$scratch/$1
  path=/usr/local/bin:/usr/bin:/bin
  cp -a "$bare" "$root"
  mount -t proc proc "$root/proc"
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  rm -f "$root/etc/apt/sources.list"
  cp -a /etc/apt/. "$root/etc/apt/"  # this machine's mirror
  mkdir -p "$root/home/somebody/tests/models"
  cp -r configs calibration_data "$root/home/somebody/"
  cp -r tests/models/demo "$root/home/somebody/tests/models/"
  chown -R 1000:1000 "$root/home/somebody"
}

apt_install() {
  within apt-get update -qq
  within apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@" >/dev/null
}

use_it() {
  within as_somebody calque --version
  # The plug-in: a tokenizer of SentencePiece.
  cp -r tests/fixtures/tokenizers/sentencepiece_bpe "$root/home/somebody/"
  within as_somebody calque tokenize --tokenizer /home/somebody/sentencepiece_bpe --string "a calque"
  say "$1: calque quantize, calque run"
  within as_somebody bash -ec 'cd; time calque quantize tests/models/demo Q4_K_M --out results; time calque run configs/demo.yaml -q; ls -sh results out'
}

try_deb() {
  fresh_system deb
  cp "$packages"/calque_*.deb "$root/tmp/calque.deb"
  say "deb: apt-get install"
  apt_install /tmp/calque.deb
  # shellcheck disable=SC2016
  within dpkg-query -W -f '${Package} ${Version}: ${Installed-Size} KiB, depends on ${Depends}\n' calque
  use_it deb
  within apt-get purge -y -qq -o Dpkg::Use-Pty=0 calque >/dev/null
  if find "$root/usr" -path '*calque*' | grep .; then echo "left behind by purge"; exit 1; fi
}

try_tar() {
  fresh_system tar
  say "tar: unpacked in /opt, on a system without any library of its own"
  mkdir -p "$root/opt"
  tar -xf "$packages"/calque-*.tar.gz -C "$root/opt"
  path=/$(cd "$root" && echo opt/calque-*/bin):$path
  # shellcheck disable=SC2016
  within as_somebody bash -ec 'cd; du -sh /opt/calque-*; ldd "$(command -v calque)" >ldd.txt; ! grep "not found" ldd.txt'
  use_it tar
}

try_wheel() {
  fresh_system wheel
  cp "$packages"/calque-*.whl "$root/tmp/"
  apt_install python3-venv
  say "wheel: pip install in an empty virtual environment"
  within as_somebody bash -ec 'cd; python3 -m venv environment; environment/bin/pip install --no-index /tmp/calque-*.whl; du -sh environment'
  path=/home/somebody/environment/bin:$path
  within as_somebody python -m calque --version
  use_it wheel
}

for kind in $kinds; do "try_$kind"; done
