#!/bin/bash
# Owns `make setup`: brings what a build, the demo and (with the argument `tests`, `bench`, `prove` or `dist`) the tests,
# the benchmark, the proofs or the archive need.
# Every step says in one line what it did or that nothing was to do; what stays missing is listed at the end
# with the command that brings it, and fails the setup.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly RUST_WANTED=1.95 NODE_WANTED=20 NEXTEST=0.9.143
missing=()

say() { echo "setup: $*"; }
lacks() { missing+=("$1"); }
for_tests() { [ "$1" = tests ] || [ "$1" = prove ]; }
have() { command -v "$1" >/dev/null 2>&1; }

# Ubuntu's chromium and firefox are snaps behind a script or a link; a snap can use no profile of ours.
is_snap_shim() {
  local path
  path=$(readlink -f "$(command -v "$1")") || return 1
  case $path in
    */snap | /snap/*) return 0 ;;
  esac
  [ "$(head -c 2 "$path" | tr -d '\0')" = '#!' ] && grep -q '/snap/' "$path"
}

has_library() { # the linker's cache, not dpkg: libraries may come from elsewhere
  PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep "$1" >/dev/null
}

has_fonts() { [ -n "$(find /usr/share/fonts -name '*.[ot]tf' -print -quit 2>/dev/null)" ]; }

has_chromium() {
  local name
  for name in chromium chromium-browser; do
    if have "$name" && ! is_snap_shim "$name"; then return 0; fi
  done
  return 1
}

has_firefox() {
  local name
  for name in firefox-esr firefox; do
    if have "$name" && ! is_snap_shim "$name"; then return 0; fi
  done
  [ -x /usr/lib/firefox/firefox ]
}

# A driver of Vulkan's that computes on the CPU: Firefox's software adapter.
has_lavapipe() { ls /usr/share/vulkan/icd.d/lvp_icd*.json >/dev/null 2>&1; }

# Prints the Debian packages whose purpose nothing on this machine fulfils yet.
wanted_packages() {
  have cc || echo gcc
  [ -e /usr/include/stdio.h ] || echo libc6-dev
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  have python3 || echo python3
  python3 -c 'import pip' 2>/dev/null || echo python3-pip
  has_library libstdc++.so.6 || echo libstdc++6
  # What npm's Chromium links to and does not bring.
  has_library libnss3.so || echo libnss3
  has_library libnspr4.so || echo libnspr4
  has_library libexpat.so.1 || echo libexpat1
  has_fonts || echo fonts-dejavu-core
  if ! has_chromium && [ "$1" != ubuntu ]; then echo chromium; fi
  # Ubuntu's package of this name is a snap, and it has no firefox-esr.
  if ! has_firefox && [ "$1" != ubuntu ]; then echo firefox-esr; fi
  has_library libvulkan.so.1 || echo libvulkan1
  has_lavapipe || echo mesa-vulkan-drivers
  have WebKitWebDriver || echo webkit2gtk-driver
  # WebKitGTK has no headless mode.
  have Xvfb || echo xvfb
}

# The archive is packed in the tests too.
wanted_for_dist() {
  have patchelf || echo patchelf
  have strip || echo binutils
}

wanted_for_environments() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

# A browser on another host: its WebDriver server, and what makes the network between, which only root may make.
wanted_for_tests() {
  [ "$(id -u)" -eq 0 ] && [ "$1" != ubuntu ] || return 0
  have chromedriver || echo chromium-driver
  have ip || [ -x /sbin/ip ] || echo iproute2
}

report_shims() {
  local name
  for name in chromium chromium-browser firefox; do
    if have "$name" && is_snap_shim "$name"; then
      say "$(command -v "$name") only starts a snap, which cannot use our profiles: it is passed over"
    fi
  done
}

# Reads `root_by` and `install` of its caller.
apt_install() {
  # shellcheck disable=SC2086 # both are lists of words
  $root_by apt-get update -qq && $root_by env DEBIAN_FRONTEND=noninteractive $install -qq
}

# Without these weft works, with fewer lanes.
only_browsers() {
  local package
  for package in $1; do
    case $package in
      chromium | firefox-esr | libvulkan1 | mesa-vulkan-drivers | webkit2gtk-driver | xvfb) ;;
      *) return 1 ;;
    esac
  done
}

debian_packages() {
  local distribution packages install log root_by=""
  # shellcheck source=/dev/null
  distribution=$(. /etc/os-release 2>/dev/null && echo "${ID:-}") || true
  report_shims
  packages=$({
    wanted_packages "$distribution"
    case $1 in
      tests | prove) wanted_for_environments && wanted_for_dist ;;
      bench) wanted_for_environments ;;
      dist) wanted_for_dist ;;
    esac
    if for_tests "$1"; then wanted_for_tests "$distribution"; fi
  } | xargs)
  if [ -z "$packages" ]; then
    say "system packages are there"
    return
  fi
  install="apt-get install -y --no-install-recommends $packages"
  if [ "$(id -u)" -ne 0 ]; then root_by="sudo -n"; fi
  if ! have apt-get; then
    lacks "what Debian calls $packages: install it with this system's package tool"
  elif [ -n "$root_by" ] && ! sudo -n true 2>/dev/null; then
    if only_browsers "$packages"; then
      say "browsers are missing and the others are used instead; to bring them: sudo $install"
    else
      lacks "system packages: sudo apt-get update && sudo $install"
    fi
  else
    say "installing $packages"
    if log=$(apt_install 2>&1); then
      say "installed $packages"
    else
      echo "$log" >&2
      lacks "system packages: apt-get update && $install"
    fi
  fi
}

at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# One tool's line: its name, the version wanted, what it answered, and how to bring it.
check_tool() {
  local name=$1 wanted=$2 found=$3 bring=$4
  if [ -z "$found" ]; then
    lacks "$name $wanted or newer: $bring"
  elif ! at_least "$wanted" "$found"; then
    lacks "$name $wanted or newer (found $found): $bring"
  else
    say "$name $found is there"
  fi
}

toolchain() {
  local rustc cargo node
  rustc=$(rustc --version 2>/dev/null | cut -d ' ' -f 2) || true
  cargo=$(cargo --version 2>/dev/null | cut -d ' ' -f 2) || true
  node=$(node --version 2>/dev/null | tr -d v) || true
  check_tool rustc $RUST_WANTED "$rustc" "rustup toolchain install stable"
  check_tool cargo $RUST_WANTED "$cargo" "rustup toolchain install stable"
  check_tool node $NODE_WANTED "$node" "install Node.js $NODE_WANTED or newer together with npm"
  have npm || lacks "npm: apt-get install npm, or the one that comes with Node.js"
}

test_tools() {
  cargo fmt --version >/dev/null 2>&1 || lacks "rustfmt: rustup component add rustfmt"
  cargo clippy --version >/dev/null 2>&1 || lacks "clippy: rustup component add clippy"
  if cargo nextest --version >/dev/null 2>&1; then
    say "cargo-nextest is there"
  elif have cargo; then
    say "installing cargo-nextest $NEXTEST, which compiles for minutes, once"
    # Unoptimised: it only starts tests and waits for them, and compiles sooner so.
    cargo install --quiet --locked --debug cargo-nextest --version $NEXTEST ||
      lacks "cargo-nextest: cargo install --locked cargo-nextest --version $NEXTEST"
  fi
}

# What the gateway is measured beside; Debian's package would start it at once, which nobody wants here.
bench_server() {
  local root_by=""
  if [ -x /usr/sbin/nginx ] || [ -x /usr/bin/nginx ]; then
    say "nginx is there"
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then root_by="sudo -n"; fi
  if have apt-get && $root_by env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends nginx >/dev/null 2>&1; then
    say "installed nginx"
  else
    say "the bench goes without nginx; to bring it: apt-get install --no-install-recommends nginx"
  fi
}

has_torch() { python3 -I -c 'import torch' 2>/dev/null || /usr/bin/python3 -I -c 'import torch' 2>/dev/null; }

# What other converters are tried with: PyPI's PyTorch brings CUDA, gigabytes that nothing here uses.
system_torch() {
  local root_by=""
  if has_torch; then
    say "PyTorch is there"
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then root_by="sudo -n"; fi
  if have apt-get && $root_by apt-get update -qq && $root_by env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends python3-torch >/dev/null 2>&1; then
    say "installed PyTorch"
  else
    say "other converters go unproven without PyTorch; to bring it: apt-get install --no-install-recommends python3-torch"
  fi
}

# What npm and PyPI bring; each prints its own lines.
downloads() {
  local catalogues=""
  case $1 in
    tests | bench) catalogues=" fixtures/precision.toml" ;;
    prove) catalogues=" fixtures/precision.toml fixtures/sharding.toml" ;;
  esac
  if have node && have npm; then
    node .setup/artifacts.mjs native || lacks "native libraries: node .setup/artifacts.mjs native"
    node .setup/artifacts.mjs chromium || lacks "Chromium with WebNN: node .setup/artifacts.mjs chromium"
  fi
  if have python3; then
    python3 .setup/zig.py || lacks "the compiler of the page's kernels: python3 .setup/zig.py"
    # shellcheck disable=SC2086 # a list of words
    python3 .setup/models.py $catalogues || lacks "models: python3 .setup/models.py$catalogues"
    if for_tests "$1"; then
      python3 .setup/clients.py tests || lacks "clients for the tests: python3 .setup/clients.py tests"
    fi
    if [ "$1" = prove ] || [ "$1" = bench ]; then
      python3 .setup/openvino.py || say "suites go without OpenVINO; to bring it: python3 .setup/openvino.py"
    fi
    if [ "$1" = prove ]; then
      python3 .setup/clients.py torch || say "other converters go unproven; to bring them: python3 .setup/clients.py torch"
    elif [ "$1" = bench ]; then
      python3 .setup/clients.py bench || say "the bench goes without its peer; to bring it: python3 .setup/clients.py bench"
    fi
  fi
}

if [ "$(uname)" = Linux ]; then debian_packages "${1:-}"; fi
toolchain
if for_tests "${1:-}"; then test_tools; fi
if [ "${1:-}" = bench ]; then bench_server; fi
if [ "${1:-}" = prove ]; then system_torch; fi
downloads "${1:-}"

if [ ${#missing[@]} -gt 0 ]; then
  echo "setup: missing:" >&2
  printf '  %s\n' "${missing[@]}" >&2
  exit 1
fi
