#!/bin/sh
# Run once by the postgres image, on an empty volume: the login that servers have, which owns nothing.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set password="$(cat /run/secrets/server_password)" <<'SQL'
CREATE ROLE bmad_server LOGIN PASSWORD :'password';
SQL
