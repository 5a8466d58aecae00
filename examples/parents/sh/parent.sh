#!/bin/sh
# A parent of multi-fetch in POSIX shell. A shell cannot read MessagePack, so multi-fetch-unpack
# does: it verifies all content and says what became of it. `--into DIR` instead of its `--list`
# keeps the content, in files.
#
#   parent.sh <remote> <object>...     each is a line of its own: latest "latest size:5"
#                                      prints: <id> <digest, - or error code> <size>
#   parent.sh --decode < stream        prints one JSON line a frame
#
# Exit status: 0 all succeeded, 1 something failed, 2 usage, or what the worker ended with.
set -u

usage() {
    echo "usage: parent.sh <remote> <request line>... | parent.sh --decode" >&2
    exit 2
}

[ "${1-}" != --decode ] || exec multi-fetch-unpack --frames
[ $# -ge 2 ] || usage
remote=$1
shift
for line in "$@"; do
    case $line in
    # A newline would be a second request, and shift all ids; the others get no answer.
    *[[:cntrl:]]* | ' '* | '#'* | '!'* | '') usage ;;
    esac
done

# The lines of --list begin with these three keys.
id='^{"id":\(-\{0,1\}[0-9]*\)'
size='"size":\([0-9]*\),.*'
show="s/$id,\"digest\":\"\([^\"]*\)\",\"error\":null,$size/\1 \2 \3/p
s/$id,\"digest\":null,\"error\":null,$size/\1 - \2/p
s/$id,\"digest\":null,\"error\":\"\([^\"]*\)\",$size/\1 \2 \3/p"

# All parts of a pipeline run at the same time: writing never waits for reading. Its status is that
# of sed alone; the others' go around it through descriptor 3, which nobody inherits.
exec 4>&1
statuses=$(
    {
        printf '%s\n' "$@" |
            { multi-fetch --protocol-version 1 "$remote" 3>&- 4>&-; echo "worker=$?" >&3; } |
            { multi-fetch-unpack --list 3>&- 4>&-; echo "unpack=$?" >&3; } |
            sed -n "$show" 3>&- >&4
    } 3>&1
) || exit 1
worker=${statuses#*worker=} unpack=${statuses#*unpack=}
worker=${worker%%[!0-9]*} unpack=${unpack%%[!0-9]*}
# 141: the worker met a closed pipe, because multi-fetch-unpack had ended and knows why.
[ "$worker" = 0 ] || [ "$worker" = 141 ] || exit "$worker"
exit "$unpack"
