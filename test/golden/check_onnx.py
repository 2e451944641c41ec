"""
Checks exported graphs by tools that are not ours: onnx.checker with shape inference on every .onnx file given or in a
folder given (Python's onnxruntime loads those with operators of ONNX Runtime's own instead), and, where a folder
holds the export of a golden checkpoint, its model.onnx in Python's onnxruntime against transformers' logits and caches,
all at once and a few tokens at a time. By hand, after a change of the exporter:

    rlp-ort export test/golden/checkpoints/tied-gqa --out OUT
    python test/golden/check_onnx.py OUT --golden tied-gqa
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

PORTABLE = "model.onnx"  # the graph that every runtime has to run
LOGITS = Path(__file__).parent / "logits"
TOLERANCE = 2e-5  # float32 in another order of sums; logits of the golden models are up to some 10


def check_graph(path: Path) -> bool:
    model = onnx.load(str(path), load_external_data=False)
    opsets = {imported.domain or "ai.onnx": imported.version for imported in model.opset_import}
    own = {node.op_type for node in model.graph.node if not onnx.defs.has(node.op_type, node.domain)}
    print(f"{path}: {len(model.graph.node)} nodes, opsets {opsets}")
    if own and path.name == PORTABLE:
        print(f"  FAILED: operators that are not of ONNX: {sorted(own)}")
        return False
    if own:
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        print(f"  loads in onnxruntime {onnxruntime.__version__}; not for onnx.checker, for it has {sorted(own)}")
        return True
    onnx.checker.check_model(str(path), full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    ranks = {value.name for value in inferred.graph.value_info if value.type.tensor_type.HasField("shape")}
    made = {name for node in model.graph.node for name in node.output if name}
    unknown = made - ranks - {output.name for output in model.graph.output}
    print(f"  onnx.checker: ok, {len(unknown)} values of unknown rank")
    return True


def run_cached(session: onnxruntime.InferenceSession, golden: dict[str, np.ndarray], width: int):
    """Logits [batch, sequence, vocab] from `width` tokens at a time, and the last caches by name."""
    batch, length = golden["input_ids"].shape
    past = {}
    for value in session.get_inputs():
        if value.name.startswith("past_key_values."):
            _, heads, _, head_dim = golden[value.name.replace("past_key_values", "present")].shape
            past[value.name] = np.zeros((batch, heads, 0, head_dim), np.float32)
    names = [output.name for output in session.get_outputs()]
    logits = []
    for start in range(0, length, width):
        feeds = dict(
            input_ids=golden["input_ids"][:, start : start + width],
            position_ids=golden["position_ids"][:, start : start + width],
            attention_mask=golden["attention_mask"][:, : start + width],
        )
        outputs = dict(zip(names, session.run(None, feeds | past)))
        logits.append(outputs.pop("logits"))
        past = {name.replace("present", "past_key_values"): value for name, value in outputs.items()}
    return np.concatenate(logits, axis=1), outputs


def check_logits(path: Path, name: str) -> bool:
    golden = load_file(LOGITS / f"{name}.safetensors")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    real = golden["attention_mask"].astype(bool)  # (batch, sequence)
    passed = True
    for width in (real.shape[1], 1, 5):
        logits, caches = run_cached(session, golden, width)
        differences = dict(logits=np.abs(logits - golden["logits"])[real].max())
        for cache, value in caches.items():
            by_token = np.abs(value - golden[cache]).transpose(0, 2, 1, 3)
            differences[cache] = by_token[real].max()
        worst = max(differences, key=differences.get)
        passed &= bool(differences[worst] <= TOLERANCE)
        verdict = "ok" if differences[worst] <= TOLERANCE else "FAILED"
        print(
            f"  {verdict}: logits/{name}, {width} token(s) a run: logits differ by {differences['logits']:.1e}, "
            f"at worst {worst} by {differences[worst]:.1e}"
        )
    return passed


def main() -> None:
    parser = argparse.ArgumentParser(description="Check exported ONNX graphs.")
    parser.add_argument("paths", nargs="+", type=Path, help=".onnx files, or folders to look for them in")
    parser.add_argument("--golden", metavar="NAME", help="the checkpoint a folder was exported from")
    arguments = parser.parse_args()
    passed = True
    for given in arguments.paths:
        graphs = sorted(given.rglob("*.onnx")) if given.is_dir() else [given]
        if not graphs:
            raise SystemExit(f"{given}: no .onnx file in it")
        for graph in graphs:
            passed &= check_graph(graph)
            if arguments.golden and graph.name == PORTABLE:
                passed &= check_logits(graph, arguments.golden)
    if not passed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
