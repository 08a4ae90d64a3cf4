#!/bin/sh
# Makes the passwords, and the addresses that hold them, in the folder `secrets` beside this file. Keeps what is there.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets
cd secrets
keep() {
    # The folder is closed; the files are open, because containers read them as users of their own.
    [ -s "$1" ] || { cat > "$1"; chmod 444 "$1"; }
}
random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}
random | keep postgres_password
random | keep server_password
owner="$(cat postgres_password)"
server="$(cat server_password)"
echo "postgresql://bmad_server:$server@pgbouncer:6432/bmad" | keep bmad_database_url
echo "postgresql://bmad_server:$server@postgres:5432/bmad" | keep bmad_database_direct_url
echo "postgresql://postgres:$owner@postgres:5432/bmad" | keep owner_database_direct_url
echo "\"bmad_server\" \"$server\"" | keep pgbouncer_users
