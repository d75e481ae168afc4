"""CIFAR-10 averaged to 8x8, 6,000 images to train on and 2,500 to test, as IDX files for `--dataset idx:OUT`: small enough
for nine miners on two cores to search in (docs/study.md). Usage: small_cifar10.py FOLDER-OF-BIN-FILES OUT"""
import pathlib
import struct
import sys

SIDE, BLOCK, RECORD = 8, 4, 1 + 3 * 32 * 32


def images(path, count):
    data = path.read_bytes()
    for at in range(0, count * RECORD, RECORD):
        label, planes = data[at], data[at + 1 : at + RECORD]
        yield label, [planes[c * 1024 : (c + 1) * 1024] for c in range(3)]


def averaged(planes):
    block = [(y, x) for y in range(BLOCK) for x in range(BLOCK)]
    for y in range(SIDE):
        for x in range(SIDE):
            for plane in planes:
                yield sum(plane[(y * BLOCK + dy) * 32 + x * BLOCK + dx] for dy, dx in block) // len(block)


def write(out, name, records):
    labels = bytes(label for label, _ in records)
    pixels = bytes(value for _, planes in records for value in averaged(planes))
    dims = struct.pack(">4I", len(records), SIDE, SIDE, 3)
    (out / f"{name}-images-idx4-ubyte").write_bytes(b"\0\0\x08\x04" + dims + pixels)
    (out / f"{name}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + struct.pack(">I", len(records)) + labels)


def main():
    folder, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    write(out, "train", list(images(folder / "data_batch_1.bin", 6000)))
    write(out, "t10k", list(images(folder / "test_batch.bin", 2500)))


main()
