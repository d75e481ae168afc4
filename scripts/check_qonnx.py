"""Runs exported graphs with the public QONNX package and compares what they give with what podl's engine gave.

    check_qonnx.py [--samples FOLDER] MODEL...

MODEL.onnx is the exported graph, MODEL.images the bytes of the test images, MODEL.classes the engine's class of each, one
a line. The samples are random networks, of which all outputs are compared, not only the greatest. Exit status 0 only if
nothing differs.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.custom_op.general.intquant import int_quant
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.transformation.infer_datatypes import InferDataTypes
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.lower_convs_to_matmul import LowerConvsToMatMul
from qonnx.util.basic import get_by_name
from qonnx.util.cleanup import cleanup_model

BATCH = 250
HANDED_OVER = 3


def check(condition, text):
    if not condition:
        sys.exit(f"check_qonnx: {text}")


def read(path):
    """The graph as written, checked, and its metadata."""
    onnx.checker.check_model(str(path), full_check=False)
    model = ModelWrapper(str(path))
    shapes = [dim.dim_value for value in model.graph.value_info for dim in value.type.tensor_type.shape.dim]
    check(all(length > 0 for length in shapes), f"{path}: a shape is not static")
    metadata = {entry.key: entry.value for entry in model.model.metadata_props}
    return model, metadata


def images_of(path, metadata):
    """Images as the graph takes them."""
    shape = json.loads(metadata["podl.input_shape"])
    pixels = np.fromfile(path, dtype=np.uint8).reshape(-1, *shape)
    if metadata["podl.input"] != "values":
        return pixels.astype(np.float32)
    table = np.asarray(json.loads(metadata["podl.input_table"]), dtype=np.float32)
    channels = np.arange(shape[0])[None, :, None, None]
    return table[channels, pixels] / np.float32(1 << int(metadata["podl.input_frac_bits"]))


def run(model, images):
    """Outputs of all images, a row each; the graph must be of the batch size that divides them."""
    name, result = model.graph.input[0].name, model.graph.output[0].name
    batch = model.get_tensor_shape(name)[0]
    rows = [execute_onnx(model, {name: images[at : at + batch]})[result] for at in range(0, len(images), batch)]
    return np.concatenate([row.reshape(batch, -1) for row in rows])


def run_batched(model, images):
    """The cleaned-up graph over all images; the last batch is filled with zeros, whose outputs are dropped."""
    batch = min(BATCH, len(images))
    model = cleanup_model(model, override_inpsize=batch)
    filling = np.zeros((-len(images) % batch, *images.shape[1:]), dtype=np.float32)
    return run(model, np.concatenate([images, filling]))[: len(images)]


def has_even_pools(model):
    """The package's channels-last max-pool knows even pads only."""
    pads = [get_by_name(node.attribute, "pads").ints for node in model.get_nodes_by_op_type("MaxPool")]
    return all(list(pad[:2]) == list(pad[2:]) for pad in pads)


def has_wide_maps(model):
    """The package does not execute a lowered convolution whose kernel is longer than 1 along a map's axis of 1."""
    for node in model.get_nodes_by_op_type("Conv"):
        kernel = get_by_name(node.attribute, "kernel_shape").ints
        if any(side == 1 < length for side, length in zip(model.get_tensor_shape(node.input[0])[2:], kernel)):
            return False
    return True


def handed_over(model):
    """The graph after the transformations that FPGA tool chains begin with, for one image: biases by themselves, then
    either convolutions as matrix products or channels last."""
    clean = cleanup_model(model, extract_conv_bias=True)
    lowered = clean.transform(LowerConvsToMatMul()).transform(InferShapes())
    check(not lowered.get_nodes_by_op_type("Conv"), "a convolution was not lowered")
    # Types are only inferred: the package does not execute a padded Im2Col on scaled integers.
    lowered.transform(InferDataTypes(allow_scaledint_dtypes=True))
    forms = {"lowered": lowered} if has_wide_maps(clean) else {}
    if has_even_pools(clean):
        forms["channels last"] = clean.transform(ConvertToChannelsLastAndClean())
    return forms


def check_rounding():
    """ROUND of the installed package is half to even, as the engine rounds."""
    halves = np.asarray([0.5, 1.5, 2.5, 3.5, 100.5], dtype=np.float32)
    one, zero, bits = np.float32(1), np.float32(0), np.float32(4)
    found = int_quant(halves, one, zero, bits, signed=False, narrow=False, rounding_mode="ROUND")
    check(found.tolist() == [0, 2, 2, 4, 15], f"ROUND gives {found.tolist()}")


def check_model(path):
    """Classes of every image of a trained network. Returns how many differ."""
    start = time.monotonic()
    model, metadata = read(f"{path}.onnx")
    images = images_of(f"{path}.images", metadata)
    expected = np.loadtxt(f"{path}.classes", dtype=np.int64)
    check(len(images) == len(expected) > 0, f"{path}: {len(images)} images, {len(expected)} classes")
    outputs = run_batched(model, images)
    # The first of the greatest, as the engine has it.
    differ = int(np.count_nonzero(np.argmax(outputs, axis=1) != expected))
    kinds = len(np.unique(expected))
    forms = handed_over(read(f"{path}.onnx")[0])
    for form, other in forms.items():
        same = np.array_equal(run(other, images[:HANDED_OVER]), outputs[:HANDED_OVER])
        check(same, f"{path}: other outputs when {form}")
    name, seconds = Path(path).name, time.monotonic() - start
    exact = "exact" if metadata["podl.float32_exact"] == "true" else "not proven exact"
    print(f"{name}: {len(images)} images, {kinds} classes seen, {differ} differ; {seconds:.1f} s")
    print(f"    {metadata['podl.input']}, {exact}, same outputs when {' and when '.join(forms) or 'not transformed'}")
    check(kinds > 1, f"{name}: one class for all images proves nothing")
    return differ


def check_samples(folder):
    """All outputs of random networks. Those that floats may round are counted, but prove nothing."""
    paths = sorted(folder.glob("*.onnx"), key=lambda path: int(path.stem))
    check(paths, f"no samples in {folder}")
    counts, differ, rounded = {}, 0, 0
    for path in paths:
        model, metadata = read(path)
        expected = json.loads(path.with_suffix(".json").read_text())
        images = images_of(path.with_suffix(".images"), metadata)
        outputs = run_batched(model, images).astype(np.float64) * 2.0 ** expected["frac_bits"]
        is_same = np.array_equal(outputs, np.asarray(expected["logits"], dtype=np.float64))
        if metadata["podl.float32_exact"] == "true":
            counts[metadata["podl.input"]] = counts.get(metadata["podl.input"], 0) + 1
            if not is_same:
                print(f"sample {path.stem}: outputs differ")
                differ += 1
        else:
            rounded += not is_same
    proven = sum(counts.values())
    print(f"samples: {len(paths)} random networks, {proven} proven exact ({counts}), {differ} of them differ;")
    print(f"         of the other {len(paths) - proven}, floats rounded in {rounded}")
    check({"pixels_computed", "pixels_looked_up", "values"} <= counts.keys(), "not every form of input was tried")
    return differ


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=Path)
    parser.add_argument("models", nargs="*")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    check_rounding()
    differ = check_samples(args.samples) if args.samples else 0
    differ += sum(check_model(path) for path in args.models)
    check(differ == 0, f"{differ} results differ")
    print("check_qonnx: the public executor agrees with the engine")


if __name__ == "__main__":
    main()
