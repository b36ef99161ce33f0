"""``kmm corpus clean-text`` as a person calls it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path

from kmm_jax.corpus.text import Cleaner
from kmm_jax.corpus.text.stream import LONGEST_LINE, clean_lines

COMMAND = [sys.executable, "-m", "kmm_jax", "corpus", "clean-text"]


def run(data: bytes, *options: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *options], input=data, capture_output=True, check=False, timeout=60
    )


def test_a_line_out_for_a_line_in_whatever_it_holds() -> None:
    lines = [
        "문의 010-1234-5678".encode(),
        "흰 셔츠\r".encode(),
        b"\xff\xfe\x80",
        b"",
        b"a" * 3_000_000,
        b"1" * 200_000,
        b"010-1234-5678 " * 100_000,
        b"a@" * 100_000,
        "끝".encode(),
    ]
    started = time.monotonic()
    result = run(b"\n".join(lines), "--mask", "personal")
    assert time.monotonic() - started < 30
    assert result.returncode == 0, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == len(lines)
    assert found[0] == {
        "text": "문의 ***",
        "decision": "mask",
        "reasons": ["phone"],
        "spans": [[3, 16, "phone"]],
    }
    assert found[1]["text"] == "흰 셔츠" and found[-1]["text"] == "끝"


def test_a_pipe_is_answered_before_it_is_closed() -> None:
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin and process.stdout
    process.stdin.write("안녕하세요\n".encode())
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["decision"] == "keep"
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    process.stdout.close()


def test_a_reader_that_stops_is_no_error() -> None:
    process = subprocess.Popen(
        COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    try:
        process.stdin.write("안녕하세요\n".encode() * 50_000)
        process.stdin.close()
    except BrokenPipeError:
        pass
    assert process.stderr.read() == b""
    assert process.wait(timeout=30) == 0


def test_mistakes_exit_with_2_and_say_what_to_do(tmp_path: Path) -> None:
    for options, word in (
        (("--mask", "phon"), b"phone"),
        (("--mask", "symbols"), b"symbols"),
        (("--profanity-list", str(tmp_path / "none.txt")), b"none.txt"),
        (("--symbol-share", "2"), b"symbol_share"),
    ):
        result = run(b"", *options)
        assert result.returncode == 2
        assert word in result.stderr and b"Traceback" not in result.stderr


def test_long_lines_cost_bounded_memory() -> None:
    sink = io.StringIO()
    line = "가" * LONGEST_LINE + "\n다음\n"
    assert clean_lines(io.BytesIO(line.encode()), sink, Cleaner()) == 2
    assert json.loads(sink.getvalue().splitlines()[1])["text"] == "다음"
