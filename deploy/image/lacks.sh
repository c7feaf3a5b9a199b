#!/usr/bin/env bash
# Say which libraries a file asks for that the image does not have: lacks.sh ROOT FILE
root=$1 file=$2
readelf -d "$file" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | while read -r library; do
  find "$root/usr/lib" "$(dirname "$file")" "$root/opt/dsgitops" -name "$library" -print -quit 2>/dev/null \
    | grep -q . || echo "  ${file#"$root"}: $library"
done
