#!/usr/bin/env bash
# Installs what calque needs from Debian's packages; does nothing when all of it is there.
set -euo pipefail

packages=(
  cmake ninja-build g++ pkg-config
  libtorch-dev libeigen3-dev libdnnl-dev libsleef-dev libtbb-dev
  libsentencepiece-dev libyaml-cpp-dev libgtest-dev libgmock-dev libbenchmark-dev
  nlohmann-json3-dev libcli11-dev libfmt-dev libpcre2-dev libutf8proc-dev
  libssl-dev libzstd-dev zlib1g-dev python3 python3-numpy python3-venv
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "error: need root or sudo to install: ${missing[*]}" >&2; exit 2; }
  sudo=(sudo)
fi
echo "Installing ${#missing[@]} packages: ${missing[*]}" >&2
"${sudo[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
