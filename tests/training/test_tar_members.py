"""Archives whose headers lie: each is a counted fault, in little memory and time."""

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dallecli.training.data import look
from dallecli.training.tar_members import BLOCK, HEADERS, BadTar, Member, members
from tests.training.conftest import few_bytes_and_seconds

END = bytes(2 * BLOCK)


def header(name: str, size: int = 0, kind: bytes = b"0", *, gnu: bool = True) -> bytes:
    """A header; sizes of 8 GB and more are written in base 256."""
    digits = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    block = bytearray(BLOCK)
    block[0:100] = name.encode()[:100].ljust(100, b"\0")
    block[100:108], block[124:136], block[156:157] = b"0000644\0", digits, kind
    block[257:265] = b"ustar  \0" if gnu else b"ustar\x0000"
    return signed(block)


def signed(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def sized(digits: bytes) -> bytes:
    """A header with a size written so."""
    block = bytearray(header("x.png"))
    block[124:136] = digits
    return signed(block)


def member(name: str, data: bytes = b"x", kind: bytes = b"0") -> bytes:
    return header(name, len(data), kind) + data + bytes(-len(data) % BLOCK)


def sample(key: str) -> bytes:
    return member(f"{key}.png", b"picture") + member(f"{key}.txt", b"caption")


def found(data: bytes) -> list[Member]:
    return list(members(io.BytesIO(data)))


def sparse() -> bytes:
    """A member whose map goes on for a thousand blocks."""
    block = bytearray(header("big.png", 512, b"S"))
    block[482] = 1
    maps = b"".join((bytes(504) + bytes([index < 999]) + bytes(7)) for index in range(1000))
    return signed(block) + maps + bytes(512)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "sparse headers": sparse,
    "POSIX sparse headers": lambda: member("x", b"22 GNU.sparse.major=1\n", b"x") + member("big.png"),
    "3000 long links": lambda: b"".join(member("././@LongLink", b"n\0", b"K") for _ in range(3000)) + member("l.png"),
    "3000 long names": lambda: b"".join(member("././@LongLink", b"n\0", b"L") for _ in range(3000)) + member("l.png"),
    "3000 POSIX headers": lambda: b"".join(member("x", b"9 a=b\n\n\n\n", b"x") for _ in range(3000)) + member("l.png"),
    "a name of a megabyte": lambda: member("././@LongLink", b"n" * 2**20, b"L") + member("l.png"),
    "a POSIX name of a megabyte": lambda: member("x", b"1000013 path=%s\n" % (b"n" * 1000000), b"x") + member("l.png"),
    "records that are none": lambda: member("x", b"99999 path=x\n", b"x") + member("l.png"),
    "a caption of two megabytes": lambda: member("c.png") + member("c.txt", b"word " * 500_000),
    "a caption of two megabytes in JSON": lambda: member("c.png") + member("c.json", b" " * 2**21),
}


@pytest.mark.parametrize("attack", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_member_is_one_counted_fault_and_the_samples_around_it_are_read(
    tmp_path: Path, attack: Callable[[], bytes]
) -> None:
    (tmp_path / "s.tar").write_bytes(sample("a") + attack() + sample("b") + END)
    with few_bytes_and_seconds():
        listing = look([tmp_path])
    assert [item.name for item in listing.items] == ["s.tar/a", "s.tar/b"]
    assert len(listing.faults) == 1, listing.faults


GIANT: dict[str, tuple[bytes, str]] = {
    "a name of 8 GB": (header("././@LongLink", 2**33, b"L"), "members that are no plain files"),
    "a link of 8 GB": (header("././@LongLink", 2**33, b"K"), "members that are no plain files"),
    "a POSIX header of 8 GB": (header("x", 2**33, b"x"), "members that are no plain files"),
    "a caption of 8 GB": (header("big.txt", 2**33), "with an unreadable caption"),
    "JSON of 8 GB": (header("big.json", 2**33), "with an unreadable caption"),
}


@pytest.mark.parametrize(("giant", "kind"), GIANT.values(), ids=GIANT)
def test_what_is_said_to_have_8_gb_and_has_them_is_one_counted_fault(tmp_path: Path, giant: bytes, kind: str) -> None:
    with (tmp_path / "s.tar").open("wb") as file:
        file.write(sample("a") + giant)
        file.seek(2**33, 1)  # a hole: it takes no space
        file.write(member("big.png") + sample("b") + END)
    with few_bytes_and_seconds():
        listing = look([tmp_path])
    assert [item.name for item in listing.items] == ["s.tar/a", "s.tar/b"]
    assert [fault.kind for fault in listing.faults] == [kind]


DAMAGED: dict[str, tuple[bytes, str]] = {
    "a size beyond the end": (header("x.png", 2**60), "x.png is cut short"),
    "a name beyond the end": (header("././@LongLink", 2**33, b"L"), "cut short"),
    "a size that is no number": (sized(b"99999999999\0"), "no number"),
    "a negative size": (sized(b"\xff" * 12), "no number"),
    "no checksum": (b"y" * BLOCK, "no header of a member"),
    "half a header": (b"\0" * 100, "cut short"),
    "no end": (b"", "cut short"),
    "a second archive": (END + sample("z") + END, "several archives in one file"),
}


@pytest.mark.parametrize(("rest", "why"), DAMAGED.values(), ids=DAMAGED)
def test_what_is_whole_before_the_damage_is_used_and_the_damage_is_named(tmp_path: Path, rest: bytes, why: str) -> None:
    (tmp_path / "s.tar").write_bytes(sample("a") + rest)
    with few_bytes_and_seconds():
        listing = look([tmp_path])
    assert [item.name for item in listing.items] == ["s.tar/a"]
    assert [(fault.name, fault.kind) for fault in listing.faults] == [("s.tar", "damaged shards")]
    assert why in listing.faults[0].why


@pytest.mark.parametrize(("magic", "program"), [(b"\x1f\x8b", "gunzip"), (b"BZh", "bunzip2"), (b"\xfd7zXZ\0", "unxz")])
def test_a_compressed_shard_says_what_to_do(tmp_path: Path, magic: bytes, program: str) -> None:
    (tmp_path / "s.tar").write_bytes(magic + bytes(2000))
    assert look([tmp_path]).faults[0].why == f"it is compressed: {program} it first"


@pytest.mark.slow  # as many headers as an archive may have
def test_an_archive_of_nothing_but_headers_has_an_end() -> None:
    one = header("f", 0, b"5")

    class Endless(io.RawIOBase):
        """The same header for a terabyte."""

        def seek(self, place: int, whence: int = 0) -> int:
            return 2**40 if whence == 2 else place

        def read(self, size: int = -1) -> bytes:
            return one

    with few_bytes_and_seconds(seconds=30), pytest.raises(BadTar, match=f"more than {HEADERS} headers"):
        list(members(Endless()))  # type: ignore[arg-type]


@given(st.binary(max_size=2000), st.integers(0, 6 * BLOCK))
@settings(max_examples=300, deadline=None)
def test_no_bytes_bring_anything_but_members_or_the_one_error(noise: bytes, place: int) -> None:
    data = bytearray(sample("a") + member("././@LongLink", b"name\0", b"L") + sample("b") + END)
    data[place : place + len(noise)] = noise
    try:
        for one in members(io.BytesIO(bytes(data))):
            assert one.other is not None or one.start + one.size <= len(data)
    except BadTar:
        pass


def whole(paths: Iterator[tarfile.TarInfo]) -> list[tuple[str, int, int]]:
    return [(info.name, info.offset_data, info.size) for info in paths if info.isfile()]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(st.lists(st.tuples(st.text("aß/ .x", min_size=1, max_size=90), st.integers(0, 3000)), max_size=6))
@settings(max_examples=50, deadline=None)
def test_members_lie_where_pythons_reader_finds_them(format: int, given_: list[tuple[str, int]]) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for name, size in given_:
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        known = whole(iter(archive))
    mine = [(one.name, one.start, one.size) for one in members(file)]
    assert [(place, size) for _, place, size in mine] == [(place, size) for _, place, size in known]


def test_a_size_in_base_256_is_read() -> None:
    assert found(sized(b"\x80" + (2).to_bytes(11, "big")) + b"ab" + bytes(BLOCK - 2) + END) == [
        Member("x.png", BLOCK, 2)
    ]
