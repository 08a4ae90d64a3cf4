"""What PostgreSQL reads at start: settings, who may connect, and which system user is which role."""

import os
from contextlib import suppress
from pathlib import Path

from bmad_mcp.embedded.binaries import Binaries
from bmad_mcp.embedded.data_home import DataHome
from bmad_mcp.embedded.endpoints import ADMIN_ROLE, APP_ROLE, OWNER_ROLE, PORT
from bmad_mcp.embedded.process_user import names_let_in
from bmad_mcp.errors import Unavailable

SETTINGS_FILE = "bmad-mcp.conf"
INCLUDE = f"include_if_exists = '{SETTINGS_FILE}'\n"
ROLES = (ADMIN_ROLE, OWNER_ROLE, APP_ROLE)


def write_server_files(data: Path, home: DataHome, binaries: Binaries, socket_folder: Path) -> None:
    """Write the three files and have the main configuration include ours; safe to repeat before every start."""
    folder = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(folder).st_uid != home.account.uid:
            raise Unavailable(
                f"{data} belongs to uid {os.fstat(folder).st_uid}, and PostgreSQL has to run as {home.account.uid}. "
                "Run the server as the folder's owner, or choose another BMAD_DATA_DIR."
            )
        with open(_opened(folder, "postgresql.conf", os.O_RDONLY), encoding="utf-8") as file:
            main = file.read()
        if INCLUDE not in main:
            _replace(folder, "postgresql.conf", f"{main.rstrip()}\n\n{INCLUDE}", home)
        _replace(folder, SETTINGS_FILE, _settings(binaries, socket_folder), home)
        _replace(folder, "pg_hba.conf", _who_may_connect(), home)
        _replace(folder, "pg_ident.conf", _who_is_who(names_let_in(home.account)), home)
    finally:
        os.close(folder)


def _settings(binaries: Binaries, socket_folder: Path) -> str:
    quoted_folder = '"' + str(socket_folder).replace('"', '""') + '"'
    settings = {
        "cluster_name": "bmad-mcp",
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": quoted_folder,
        "unix_socket_permissions": "0700",
        # Room for 19 server processes with a pool of 5 each.
        "max_connections": "100",
        "shared_buffers": "64MB",
        "max_wal_size": "512MB",
        "min_wal_size": "32MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Nobody who stops in the middle of a transaction holds row locks for ever. The server's own connections have a shorter
        # limit; this one is for people at psql.
        "idle_in_transaction_session_timeout": "60s",
        # Logout empties /dev/shm under a running server and containers keep it small; a file in the data folder stays.
        "dynamic_shared_memory_type": "mmap",
        "max_parallel_workers_per_gather": "0",
        "max_logical_replication_workers": "0",
        "jit": "off",
        # Errors go to the client, which logs them; here they would bring users' text into an unbounded file.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "log_checkpoints": "off",
        "log_line_prefix": "%m [%p] ",
    }
    if binaries.major >= 18:
        # The default keeps three more processes for input and output that so small a database never waits for.
        settings["io_method"] = "sync"
    lines = [f"{name} = {_quoted(value)}" for name, value in settings.items()]
    return "\n".join(["# Written by bmad-mcp before each start; use ALTER SYSTEM to override.", *lines, ""])


def _who_may_connect() -> str:
    roles = ",".join(ROLES)
    return (
        "# Written by bmad-mcp before each start.\n"
        f"local all {roles} peer map=own\n"
        "local all all reject\n"
        "host all all all reject\n"
    )


def _who_is_who(system_users: tuple[str, ...]) -> str:
    quoted = ['"' + name.replace('"', '""') + '"' for name in system_users]
    lines = [f"own {user} {role}" for user in quoted for role in ROLES]
    return "\n".join(["# Written by bmad-mcp before each start.", *lines, ""])


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n") + "'"


def _opened(folder: int, name: str, flags: int) -> int:
    # Relative to the opened folder and through no link: root may be writing into another user's folder.
    return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)


def _replace(folder: int, name: str, text: str, home: DataHome) -> None:
    unfinished = f"{name}.tmp"
    with suppress(FileNotFoundError):
        os.unlink(unfinished, dir_fd=folder)
    descriptor = _opened(folder, unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with open(descriptor, "w", encoding="utf-8") as file:
        if not home.account.is_current:
            os.fchown(descriptor, home.account.uid, home.account.gid)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    os.rename(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
