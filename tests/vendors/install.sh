#!/usr/bin/env bash
# Install other people's tools into a folder of their own, with a program in FOLDER/bin for each: install.sh FOLDER PYTHON
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$2
rm -rf "$1"
mkdir -p "$1/bin" "$1/debian"
cd "$1"
folder=$PWD

for tools in az generators; do
	"$python" -m venv "$tools"
	"$tools/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/$tools.txt"
done
cp "$here/package.json" "$here/package-lock.json" .
npm ci --loglevel=error
chmod +x node_modules/@azure-tools/azcopy-linux/dist/bin/azcopy_linux_amd64

# What no registry has is the system's own, or Debian's, unpacked here without being installed.
packages=()
command -v rclone >/dev/null || packages+=(rclone)
command -v jq >/dev/null || packages+=(jq libjq1 libonig5)
PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep libsecret-1.so.0 >/dev/null || packages+=(libsecret-1-0) # azcopy needs it
if [ "${#packages[@]}" -gt 0 ]; then
	command -v apt-get >/dev/null || { echo "Please install ${packages[*]}." >&2; exit 1; }
	(cd debian && apt-get download -qq "${packages[@]}" && for file in *.deb; do dpkg -x "$file" .; done)
fi
libraries=$(find "$folder/debian" -type d -path '*/usr/lib/*-linux-gnu' | head -n 1)

# What installers write may not start from a folder with a space in its name.
provide() {
	[ ! -e "$folder/$2" ] || printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" %s "$@"\n' "$libraries" "$folder/$2" "${3:-}" >"bin/$1"
}
provide az az/bin/python "-m azure.cli"
provide azcopy node_modules/@azure-tools/azcopy-linux/dist/bin/azcopy_linux_amd64
provide datamodel-codegen generators/bin/python "-m datamodel_code_generator"
provide generators-python generators/bin/python
provide jq debian/usr/bin/jq
provide json2ts node_modules/.bin/json2ts
provide quicktype node_modules/.bin/quicktype
provide rclone debian/usr/bin/rclone
provide tsc node_modules/.bin/tsc
chmod +x bin/*
touch ready
