#!/usr/bin/env bash
# Lay out the image's file system: rootfs.sh DIR (in the build stage, while apt's lists are there).
set -euo pipefail
here=$(dirname "$(realpath "$0")")
root=$1

mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{dev,proc,sys,etc,tmp,var/lib/dpkg/status.d,var/cache/dsgitops}
for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
chmod 1777 "$root/tmp"
chown 65532:65532 "$root/var/cache/dsgitops"

# ---- Debian's packages, without their scripts; their licences stay
debs=$(mktemp -d)
chown _apt "$debs"
listed=$(grep -v '^#' "$here/packages.txt")
mapfile -t names < <(cut -d ' ' -f 1 <<< "$listed")
(cd "$debs" && apt-get download --quiet=2 "${names[@]}")
while read -r name files; do
  deb=$(echo "$debs/${name}"_*.deb)
  # shellcheck disable=SC2086  # several paths, or none: then all
  dpkg-deb --fsys-tarfile "$deb" | tar --extract --directory "$root" --keep-directory-symlink \
    --exclude-from "$here/left-out.txt" $files
  # Scanners find the versions here, as in any image without dpkg
  dpkg-deb --field "$deb" > "$root/var/lib/dpkg/status.d/$name"
done <<< "$listed"
rm -rf "$debs"
# git's own commands are one program; so are its transports
find "$root/usr/lib/git-core" -type f ! -name git ! -name git-remote-http -delete
find "$root/usr/lib/git-core" -xtype l -delete
ln -sf ../lib/git-core/git "$root/usr/bin/git"
ln -sf dash "$root/usr/bin/sh"
ln -s python3.11 "$root/usr/bin/python3"
ldconfig -r "$root"

# ---- the agent and the libraries that it uses
mkdir -p "$root/opt"
cp -a /opt/dsgitops "$root/opt/"
packages=$root/opt/dsgitops/lib/python3.11/site-packages
# Of the client its transport, credentials and configuration are used, with raw JSON: its calls, its
# models, and all of it once more for asyncio, are 75 MB; colours for 500 languages are 4
rm -rf "$packages"/kubernetes/{aio,client/api}
find "$packages/kubernetes/client/models" -name '[a-z]*.py' -delete
find "$packages"/pygments/{lexers,styles,formatters} -name '[a-z]*.py' \
  ! -path '*/lexers/python.py' ! -path '*/lexers/special.py' -delete # tracebacks are shown in these
rm -rf "$packages/pydantic/v1" # its predecessor, for those who still call it
# Of the messengers the services; neither pictures nor the words of its own command
rm -rf "$packages"/apprise/{assets,i18n,cli.py}
find "$packages" -type d \( -name tests -o -name testing \) -prune -exec rm -rf {} +
find "$packages" -name '*.so' -exec strip --strip-unneeded {} +
# Compiled here: the root is read-only. What the agent never imports stays as source
python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash -s "$root" -p / \
  -x '/sentry_sdk/integrations/' \
  "$root/usr/lib/python3.11" "$packages"

# ---- a user with a name (ssh insists), names by DNS, certificates as Debian trusts them
printf '%s\n' 'root:x:0:0:root:/root:/usr/sbin/nologin' \
  'dsgitops:x:65532:65532:dsgitops:/tmp:/usr/sbin/nologin' > "$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'dsgitops:x:65532:' > "$root/etc/group"
printf '%s\n' 'hosts: files dns' 'passwd: files' 'group: files' > "$root/etc/nsswitch.conf"
mkdir -p "$root/etc/ssl/certs"
cat "$root"/usr/share/ca-certificates/mozilla/*.crt > "$root/etc/ssl/certs/ca-certificates.crt"

# ---- nothing may lack a library
lacking=$(find "$root" -type f \( -name '*.so*' -o -perm /111 \) -print0 \
  | xargs -0 -n 1 "$here/lacks.sh" "$root")
if [ -n "$lacking" ]; then
  printf 'libraries are missing (packages.txt):\n%s\n' "$lacking" >&2
  exit 1
fi
