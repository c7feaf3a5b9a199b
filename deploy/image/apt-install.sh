#!/usr/bin/env bash
# Install Debian packages where that can be: apt-install.sh PACKAGE...; who needs them tells what is missing.
set -euo pipefail
if [ $# -eq 0 ] || [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get --quiet=2 update >/dev/null
apt-get --quiet=2 install --yes --no-install-recommends "$@" >/dev/null
