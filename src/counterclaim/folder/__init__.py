"""What is on disk: run folders, journals of unfinished work, kept replies. The only room that writes."""

from __future__ import annotations

from counterclaim.folder.cache import Replies, reply_key
from counterclaim.folder.journal import Journal
from counterclaim.folder.lock import LOCK_FILE, locked
from counterclaim.folder.paths import (
    cache_folder,
    keep_at_top,
    make_folder,
    put_in_place,
    remove_folder,
    whole_folder,
)
from counterclaim.folder.run import (
    DIGITS,
    Records,
    begin_run,
    check_free,
    clear_run,
    dump,
    dump_lines,
    finish_run,
    read_checks,
    read_lines,
    read_run,
    read_study,
    read_verdict,
    rounded,
    write_lines,
    write_new,
    write_outputs,
    write_run,
)

__all__ = [
    "DIGITS",
    "LOCK_FILE",
    "Journal",
    "Records",
    "Replies",
    "begin_run",
    "cache_folder",
    "check_free",
    "clear_run",
    "dump",
    "dump_lines",
    "finish_run",
    "keep_at_top",
    "locked",
    "make_folder",
    "put_in_place",
    "read_checks",
    "read_lines",
    "read_run",
    "read_study",
    "read_verdict",
    "remove_folder",
    "reply_key",
    "rounded",
    "whole_folder",
    "write_lines",
    "write_new",
    "write_outputs",
    "write_run",
]
