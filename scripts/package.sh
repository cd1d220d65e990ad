#!/usr/bin/env bash
# Makes packages in out/packages: scripts/package.sh deb|tar|wheel|all [options of cmake]
#   deb    calque, calque-torch and libcalque-dev for Debian 12
#   tar    one archive with all libraries, to be unpacked anywhere
#   wheel  for `pip install`: the same files, and a Python module of a few lines that starts the program
# scripts/package/README.md has more; scripts/package/try.sh tries the packages on bare systems.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-}
case $kind in deb | tar | wheel | all) shift ;; *) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;; esac

scripts/setup.sh
if ! command -v dpkg-shlibdeps >/dev/null; then
  echo "error: need dpkg-shlibdeps to find what the packages depend on: apt-get install dpkg-dev" >&2
  exit 2
fi
cmake --preset package "$@" >/dev/null
cmake --build --preset package
packages=$PWD/out/packages
mkdir -p "$packages"

pack() { (cd build/package && cpack -G "$1" >cpack.log) || { tail -20 build/package/cpack.log >&2; exit 1; }; }

make_wheel() {
  local stage=build/package/wheel
  rm -rf "$stage"
  for component in program libraries; do
    cmake --install build/package --prefix "$PWD/$stage" --component "$component" --strip >/dev/null
  done
  python3 scripts/package/wheel.py "$stage" "$packages"
}

case $kind in deb | all) pack DEB ;; esac
case $kind in tar | all) pack TGZ ;; esac
case $kind in wheel | all) make_wheel ;; esac
rm -rf "$packages/_CPack_Packages"
ls -sh "$packages"
