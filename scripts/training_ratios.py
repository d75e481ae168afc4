"""Medians of what scripts/bench-training.sh measured: FOLDER with NAME.ours and NAME.theirs, one JSON line a round."""
import json
import pathlib
import statistics
import sys

folder, threads = pathlib.Path(sys.argv[1]), sys.argv[2]


def rounds(path):
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if "accuracy" in line]


def main():
    print(f"\n{threads} threads, medians, images/s (podl trains and scores in turn with the peer)\n")
    print("| network | training: podl | peer | ratio (least to greatest) | scoring: podl | peer | ratio (least to greatest) |")
    print("|---|---:|---:|---|---:|---:|---|")
    for ours in sorted(folder.glob("*.ours")):
        pairs = list(zip(rounds(ours), rounds(ours.with_suffix(".theirs"))))
        cells = [ours.stem]
        for key in ("train_images_per_second", "evaluate_images_per_second"):
            left, right = ([pair[side][key] for pair in pairs] for side in (0, 1))
            ratios = sorted(a / b for a, b in zip(left, right))
            cells += [f"{statistics.median(left):,.0f}", f"{statistics.median(right):,.0f}"]
            cells += [f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"]
        print("| " + " | ".join(cells) + " |")


main()
