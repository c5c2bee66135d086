#!/bin/sh
# Copies the folder of a server, or the spool of a node, while it runs: backup.sh STATE TARGET
# The database comes first and in one piece; what the folders have beyond it is removed at the start
# of a server from the copy. Each file of a job is written once and never changed.
set -eu
umask 077
state=$1 target=$2
[ -f "$state/jobs.sqlite" ] || { echo "$state: holds no jobs.sqlite" >&2; exit 2; }
[ ! -e "$target" ] || { echo "$target: is there already; name a new folder" >&2; exit 2; }
[ ! -e "$target.part" ] || { echo "$target.part: is left of a back-up that broke off; remove it" >&2; exit 2; }
mkdir -p "$target.part"
sqlite3 "$state/jobs.sqlite" ".timeout 60000" "VACUUM INTO '$target.part/jobs.sqlite'"
copy() {
    # A job may be removed while it is copied: then once more, and what still fails is an error.
    cp -a "$1" "$target.part/" || cp -a "$1" "$target.part/" || cp -a "$1" "$target.part/"
}
for name in jobs labels images dead-letter node.json audit.key; do
    [ ! -e "$state/$name" ] || copy "$state/$name"
done
if [ -d "$state/series" ]; then
    # Of a node; what is just arriving is sent again, and a series may be removed meanwhile.
    mkdir "$target.part/series"
    for series in "$state"/series/[0-9a-f]* "$state/series/.commitments"; do
        [ ! -d "$series" ] || cp -a "$series" "$target.part/series/" || [ ! -d "$series" ] ||
            cp -a "$series" "$target.part/series/"
    done
fi
for log in "$state"/audit.log*; do
    [ ! -e "$log" ] || copy "$log"
done
mv "$target.part" "$target"
