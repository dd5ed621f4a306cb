"""These reports are what commands print, made up: long names, large numbers, and the words that must be there."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from codeq.activations.encoding import ActivationEncoding
from codeq.adopt.report import AdoptedWeight, AdoptReport
from codeq.channels.kernel_times import KernelTimes, Latency, LayerTimes
from codeq.compress.advice import BITS, Advice, AdvisedBits, AdvisedWeight
from codeq.cost import CostSummary, LayerCost
from codeq.figures.comparison import ParetoReport
from codeq.figures.groups import RunGroup
from codeq.quantizer.attach import AttachReport, AttachRow
from codeq.quantizer.signal import NetworkSignal
from codeq.run_log import Run
from export.metadata import StateMetadata
from export.onnx.details import OnnxDetails
from export.onnx.inspect import InspectedWeight, Inspection, Overhead
from export.onnx.materialize import Materialized
from export.onnx.saturation import Saturation
from export.parity.checks import CodesCheck, LayerKernel, OutputCheck, ReportedComparison, WeightCheck
from export.parity.differences import Difference, FileComparison
from export.parity.signal import LayerSignal, OutputSignal, Signal
from export.parity.verdict import Verdict
from export.report import ActivationReport, Report, WeightReport
from export.tflite.details import TfliteDetails
from export.tflite.inspect import InspectedTensor, TfliteInspection
from runtime_tests.agreement.parity import FileParity
from runtime_tests.agreement.runtimes_report import LayerPair, Pair, Row, RuntimesReport
from runtime_tests.bench.export_cost import ExportCost
from runtime_tests.bench.four_files import FourFilesReport
from runtime_tests.bench.kernel_times import LatencyCheck
from runtime_tests.bench.latency import BenchReport, BenchResult
from runtime_tests.bench.scaling import ExportGrowth, ScalingReport
from runtime_tests.bench.storage import StorageReport, StorageResult
from runtime_tests.bench.tflite_modes import MODES, Mode, ModesReport
from runtime_tests.bench.training_step import StepCost, StepReport
from runtime_tests.devices.kit import KitReport
from runtime_tests.devices.run import DeviceRow, DevicesReport
from runtime_tests.fuzz.run import Finding, FuzzReport
from runtime_tests.kills.run import CommandKills, Harm, KillReport
from runtime_tests.matrix.report import ZooReport
from runtime_tests.matrix.timing import ZooBench
from runtime_tests.matrix.zoo_file import ZooFile

LAYERS = ("0", "stem.conv", *(f"blocks.{number}.attention.projection" for number in (0, 11)))
NAMES = tuple(f"{layer}.weight" for layer in LAYERS)
FILES = ("model.onnx", "mobilenet_v2-quantize_static.onnx", "vision-transformer-int8.tflite")
VERSIONS = {"codeq": "0.2.0", "onnx": "1.23.2", "onnxruntime": "1.31.1", "onnxscript": "0.7.2", "torch": "2.13.0+cpu"}
KERNELS = ("QLinearGlobalAveragePool", "QGemm", "float", "QLinearConv")
REASON = "its table has no integer kernel in onnxruntime, which computes it in float between codes"


def devices(*, bad: bool) -> DevicesReport:
    how = "qemu-aarch64 7.2.22"
    rows = [
        DeviceRow("mobilenet_v2", "int8.onnx", "cortex-a53", how, "onnxruntime 1.31.1", 12, 12_345, 0, 6_789, 98),
        DeviceRow("mobilenet_v2", "int8.tflite", "cortex-a53", how, "LiteRT 2.3.0", 12, 12_345, 0),
        DeviceRow("tiny_vit", "int8.onnx", "cortex-a53", how, skipped=f"too slow in {how}"),
    ]
    if bad:
        rows.append(DeviceRow("mobilenet_v2", "int8.onnx", "cortex-a76", how, failure=f"{NAMES[-1]}: {REASON}"))
    return DevicesReport("arm", tuple(rows))


def kit() -> KitReport:
    names = ("probe.onnx", "probe.npz", "probe.py")
    command = "python -m runtime_tests.parity ckpt.pt int8.onnx --device-results probe-results.npz"
    return KitReport(
        Path(FILES[1]), *map(Path, names), codes=64, count=256, batches=342, sizes=(46_700_000, 12_345), command=command
    )


def verdict(kind: str) -> Verdict:
    outputs = tuple(
        OutputCheck("logits_per_image", setting, 3, 3.8e-06, 2.2e-04, 1.0, 12, ok=True, decides="," not in setting)
        for setting in ("disable_all", "enable_all", "enable_all, default options")
    )
    weights = tuple(WeightCheck(name, None, ok=True) for name in NAMES)
    if kind == "float":
        return Verdict("onnxruntime", "1.31.1", 64, weights, outputs)
    codes = tuple(
        CodesCheck(layer, setting, kernel, True, 737_280_123, 1_234, 1, 0.0, ok=True)
        for layer, kernel in zip(LAYERS, KERNELS, strict=True)
        for setting in ("disable_all", "basic", "enable_all")
    )
    kernels = tuple(
        LayerKernel(layer, "scaled_dot_product_attention", kernel, REASON if kernel == "float" else "")
        for layer, kernel in zip(LAYERS, KERNELS, strict=True)
    )
    signal = Signal(
        (OutputSignal("logits_per_image", 40.1, 0, 64),), tuple(LayerSignal(layer, 35.5) for layer in LAYERS[1:])
    )
    shifted = Difference("grid stem.conv: found scale 0.5, zero point 3, expected scale 0.25, zero point 3")
    packed = Difference(f"operator {LAYERS[-1]}/quantized: another order than expected", "strict")
    file = FileComparison(
        (*[shifted] * 5, packed), ("grids cannot be found again: they were given",), same_versions=False
    )
    reported = (ReportedComparison("the network with float activations", 0.78, 3),)
    return Verdict(
        "onnxruntime", "1.31.1", 64, weights, outputs, codes, kernels, reported=reported, signal=signal, file=file
    )


def exported(kind: str) -> Report[Any]:
    weights = tuple(
        WeightReport(name, (3072, 768, 3, 3), 4, 0.919, storage, "", 27_012, 3_212.0, 999_999_999, None, "Dequantize")
        for name, storage in zip(NAMES, ("dense", "sparse_initializer", "gaps 4 + 4-bit", "golomb 12"), strict=True)
    )
    details: Any = TfliteDetails({"DEQUANTIZE": 12, "FULLY_CONNECTED": 123, "CONV_2D": 1_234, "TRANSPOSE_CONV": 1})
    if kind == "float":
        floats = {"embedding.weight": 1_234_567}
        details = OnnxDetails(
            13, 7, "1.17", "auto", 2_012, 0, 24_012, 12_012, floats, "model.onnx.data", None, Saturation()
        )
    activations = None if kind == "float" else ActivationReport("mse", 14, 127, ())
    path = Path("exports/vision-transformer-packed-int8.onnx")
    left = NetworkSignal(64, dict(zip(NAMES, (19.4, 12.34, 7.08, 30.1), strict=True)), (11.1, 9.9))
    return Report(
        kind,
        path,
        5_484_412,
        1_313_512,
        weights,
        verdict(kind),
        7,
        details,
        {},
        activations,
        (REASON,),
        weight_signal=left,
    )


STATE = tuple(
    StateMetadata(name.replace("weight", "cache"), f"{name}_output", "float32", (16, 12, 4096, 64), -1234.5678)
    for name in NAMES
)


SHOWN_STATE = (*(text for tensor in STATE for text in (tensor.input, tensor.output)), "16x12x4096x64", "-1234.57")


def inspection() -> Inspection:
    weights = tuple(
        InspectedWeight(name, (3072, 768), 4, 0.919, 999_912, 99_912, 27_012, 3_212.0, storage, reason, None)
        for name, storage, reason in zip(
            NAMES,
            ("dense", "sparse_initializer", "gaps 4 + 4-bit", "shared"),
            ("next: 4-bit dense, +50.5%", "", "next: golomb 4 + 4-bit, -3.3%, but more to decode", f"as {NAMES[2]}"),
            strict=True,
        )
    )
    overhead = Overhead(2_012, 3_012, 4_112, 2_912)
    return Inspection(
        Path("a.onnx"),
        24_012,
        weights,
        {"e": 9},
        (NAMES[2],),
        overhead,
        13,
        8,
        "1.17",
        VERSIONS,
        14,
        None,
        REASON,
        STATE,
    )


def inspected_tflite() -> TfliteInspection:
    weights = tuple(InspectedTensor(name, (3, 3), 4, 0.9, 999_912, 27_012, 3_212.0, "int8") for name in NAMES)
    return TfliteInspection(Path("a"), 24_012, weights, (NAMES[2],), {"CONV_2D": 1_234}, VERSIONS, 14, None, "", STATE)


def runtimes() -> RuntimesReport:
    rows = tuple(
        Row(file, "onnxruntime", "1.31.1", "int8", REASON, accuracy=0.9861, max_abs_error=0.86, codes=1_400_000)
        for file in FILES
    )
    layers = {name: LayerPair(name, (KERNELS[0], "AVERAGE_POOL_2D"), 1_234_567, 1_234, 12) for name in LAYERS}
    pair = Pair(f"{FILES[1]} in onnxruntime", f"{FILES[2]} in LiteRT", layers, {12_345: f"{LAYERS[2]}: {KERNELS[0]}"})
    return RuntimesReport(359, 20, 0.9861, 1e-5, rows, (pair,))


def timed(path: str = FILES[0]) -> BenchResult:
    return BenchResult(path, "onnx", 46_712_345, 123.456, 100.12, 234.56, 12.34, 1_234.0, 912_345_678)


PROCESSOR = "onnxruntime 1.31.1, 12 threads, Some Processor With A Long Name (TM) @ 2.60GHz"


def kernel_times() -> KernelTimes:
    layer = LayerTimes((16, 12_345), (16, 98_765), ((0.1, 1.0), (10.0, 1_234.5678)), others=654.321)
    layers = {f"{name}.weight": layer for name in LAYERS}
    return KernelTimes(layers, 98_765.4321, 1.5, (), 16, "onnxruntime", "1.31.1", PROCESSOR, 12, 8)


def benched() -> BenchReport:
    versions = {"onnxruntime": "1.31.1", "LiteRT": "2.3.0", "OpenVINO": "2026.4.0"}
    return BenchReport(tuple(map(timed, FILES)), 12, 128, 2000, versions)


def storages() -> StorageReport:
    results = tuple(
        StorageResult(0.95, storage, 4_712_345.0, 1.04, 12.34, 1.023, 1, 1, timed())
        for storage in ("dense", "sparse", "packed", "smallest")
    )
    return StorageReport("mobilenet_v2", "float32", 1, results)  # type: ignore[arg-type]


def modes() -> ModesReport:
    return ModesReport("resnet18", 0.9, tuple(Mode(n, 1.2, verdict("int8").summary, timed()) for n in MODES), benched())


def zoo() -> ZooReport:
    files = tuple(
        ZooFile("mobilenet_v2", "int8", "onnx", "packed", 46_712_345, None, 99_912_345, 0.8, 64, 50, parity=parity)
        for parity in ("0 of 11,331,072 codes", "outputs within 3.0e-08")
    )
    refused = ZooFile("gru", "int8", "tflite", "litert", refused=REASON)
    timing = ZooBench("mobilenet_v2", 2000, timed(), timed(), (timed(), timed()))
    return ZooReport((*files, refused), (timing,), 12)


def training_step() -> StepReport:
    costs = tuple(StepCost(name, 1_234.5, 1.23, 912_345_678, 1.23) for name in ("float", "compiled", "eager", "plain"))
    return StepReport("mobilenet_v2", 128, 224, 15, 12, costs, costs)


def attached() -> AttachReport:
    rows = [
        AttachRow(name, "MultiheadAttention", (3072, 768, 3, 3), True, 4, "integer, limit 127", "", 19.46, decibels)
        for name, decibels in zip(NAMES, (22.0, -13.1, 200.0, None), strict=True)
    ]
    left = AttachRow("embedding.token.weight", "Embedding", (30522, 768), False, reason=REASON)
    return AttachReport((*rows, left), (f"{NAMES[2]}: {REASON}",), 25, (11.23, 7.5))


def costs() -> CostSummary:
    return CostSummary(tuple(LayerCost(name, (3072, 768, 3, 3), 32, 12_345, 1_814_073_344, 46_712.0) for name in NAMES))


def compared(folder: Path) -> ParetoReport:
    total = {"sparsity": 0.901, "mean_bits": 4.0, "relative_bops": 0.0146, "entropy_bytes": 46_712_345.0}
    result = {"test_accuracy": 0.9861, "cost": {"total": total}}
    names = ("resnet8", "resnet20-fashion-mnist-adamw-mixed-bits")
    groups = [RunGroup(name, tuple(Run(name, folder, {}, (), result) for _ in range(2))) for name in names]
    return ParetoReport(tuple(groups), {}, (folder / "pareto" / "a.png",))


COST = ExportCost(123.4, 912_345_678)


def adopted(steps_off: float) -> AdoptReport:
    weights = tuple(
        AdoptedWeight(name, (3072, 768, 3, 3), 8, "integer", "channel", steps_off, 0.919, 1_234_567.0) for name in NAMES
    )
    scales = {f"blocks.{number}.attention.projection": ActivationEncoding(0.5, 3) for number in range(12)}
    baked = tuple(f"blocks.{number}.norm.weight (LayerNorm)" for number in range(12))
    notes = ("no usable scale for blocks.0.attention.projection, blocks.1: 2 of 12 activations; calibrate all of them",)
    return AdoptReport("recovered", weights, {"embedding.token.weight": "excluded"}, baked, scales, notes)


def advised() -> Advice:
    at = tuple(AdvisedBits(bits, 5.1 * bits, 1.4 * bits, 0.181, 0.352) for bits in BITS)
    read = (3072, 27, 768, 9)
    weights = tuple(AdvisedWeight(name, (3072, n), n, 12.3, at) for name, n in zip(NAMES, read, strict=True))
    return Advice("channel", weights)


def fuzzed(*, bad: bool) -> FuzzReport:
    outcomes = {name: {"0": 12_345, "1": 1_234, "2": 98_765, "-": 1} for name in ("inspect", "materialize", "parity")}
    finding = Finding(99, "float32-packed.onnx", "order of nodes, deep metadata", "parity", "traceback: \x1b[2J" * 9)
    return FuzzReport("onnx", 7, 112_345, 1_234.5, outcomes, (finding,) if bad else ())


def killed(*, bad: bool) -> KillReport:
    rows = tuple(CommandKills(name, 1_234, 98_765, 12_345, 1_234, 12) for name in ("train --resume", "export tflite"))
    harm = Harm(99, "train --resume", "before change 1234", "net.jsonl: record 3 is epoch 4, expected \x1b[2J" * 9)
    return KillReport(7, 1_234.5, rows, (harm,) if bad else ())


REPORTS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "export": (
        lambda: exported("float"),
        (*NAMES, "3072x768x3x3", "27.0 kB", "3.2 kB", "8.41", "gaps 4 + 4-bit", "keep 11.1 dB, 9.9 dB"),
    ),
    "int8 export": (lambda: exported("int8"), (*LAYERS, *KERNELS, "scaled_dot_product_attention", "1234 CONV_2D")),
    "parity": (lambda: verdict("float"), ("logits_per_image", "3.8e-06", "2.2e-04", "12", "would hold")),
    "int8 parity": (lambda: verdict("int8"), (*LAYERS, *KERNELS, "737,280,123", "1234")),
    "parity with accuracy": (
        lambda: FileParity("onnx", Path(), Path(), (), verdict("int8"), {"pytorch": 0.98, "integer_reference": 0.97}),
        ("PyTorch 98.00%", "integer reference 97.00%"),
    ),
    "inspect": (
        inspection,
        (*NAMES, "999.9 kB", "27.0 kB", "3.2 kB", "8.41", *VERSIONS, *VERSIONS.values(), *SHOWN_STATE),
    ),
    "inspect tflite": (
        inspected_tflite,
        (*NAMES, "999.9 kB", "27.0 kB", "3.2 kB", *VERSIONS.values(), *SHOWN_STATE),
    ),
    "materialize": (lambda: Materialized(Path("exports/transformer-dense.onnx"), 9, 9, 12), ("12 weights decoded",)),
    "runtimes": (runtimes, (*FILES, *LAYERS, "98.61%", "8.6e-01", "0 of 1.4 M", "1,234,567", "12345", KERNELS[0])),
    "bench": (benched, (*FILES, "46.7 MB", "123.456 ms", "100.12 to 234.56", "12.34x", "1234 ms", "912.3 MB")),
    "kernel_times": (
        kernel_times,
        (
            "12345",
            "1234.568 ms",
            "654.321 ms",
            "all of it takes 98765.432 ms, a call alone 1.500 ms",
            "12 threads",
            "8 bits",
        ),
    ),
    "kernel_times --check": (
        lambda: LatencyCheck(Latency(1_234.5, 98_765.4, PROCESSOR), 1_200.1, 98_000.2, 2000),
        ("predicted", "measured", "+2.1% off", "2000 runs in turn"),
    ),
    "compare": (
        lambda: FourFilesReport("resnet18", 46_712_345, benched(), COST, COST),
        (*FILES, "123.4 s", "912.3 MB", "export_onnx, int8, parity included"),
    ),
    "devices": (lambda: devices(bad=False), ("mobilenet_v2", "12,345", "0 + 98", "not run", "ok")),
    "devices with failures": (lambda: devices(bad=True), ("FAILED", "mobilenet_v2 int8.onnx on cortex-a76: ")),
    "probe-file for microcontrollers": (
        lambda: replace(kit(), cpu="tflm"),
        ("there  CODEQ_CPU=tflm python3 probe.py",),
    ),
    "probe-file": (kit, ("64 tensors of codes", "46.7 MB", "256 inputs", "12.3 kB", "there", "--device-results")),
    "fuzz": (lambda: fuzzed(bad=False), ("12345", "98765", "0 findings")),
    "kills": (lambda: killed(bad=False), ("12345", "98765", "0 findings")),
    "kills with findings": (lambda: killed(bad=True), ("train --resume", r"\x1b", "1 finding")),
    "fuzz with findings": (lambda: fuzzed(bad=True), ("float32-packed.onnx", r"\x1b", "1 finding")),
    "scaling": (
        lambda: ScalingReport("packed", (ExportGrowth(1_234_567_890, 1_234.5, 98_712_345_678, 654_321_987, 6e8),)),
        ("1234.6 M", "1234.5 s", "98.7 GB", "80.0 B", "654.3 MB", "1.09"),
    ),
    "storage": (storages, ("95%", "smallest", "46.7 MB", "4.7 MB", "9.91", "1234 ms", "12.34x", "912.3 MB", "1.023")),
    "tflite_modes": (modes, (*MODES, "46.7 MB", "123.456 ms", "12.34x", "1234 ms", "912.3 MB", "OpenVINO 2026.4.0")),
    "training_step": (training_step, ("compiled", "1234.5 ms", "1234.50 ms", "912.3 MB", "512x512x3x3")),
    "zoo": (zoo, ("mobilenet_v2", "46.8%", "0 of 11,331,072 codes", "123.456", "64 / 50", "12 threads", "2000")),
    "adopt": (lambda: adopted(0.0), (*NAMES, "3072x768x3x3", "integer, per channel", "12 activations", "bit for bit")),
    "snapped": (lambda: adopted(0.5946), (*NAMES, "0.59 steps off", "blocks.11.norm.weight (LayerNorm)")),
    "advice": (
        advised,
        (*NAMES, "40.8/11.2", "10.2/2.8", "18%", "35%", "leave stem.conv, blocks.11.attention.projection"),
    ),
    "attach": (
        attached,
        (
            *NAMES,
            "embedding.token.weight",
            "MultiheadAttention",
            "3072x768x3x3",
            "30522x768",
            "19.5 dB",
            "-13.1 dB",
            "exact",
            "outputs keep 11.2 dB, 7.5 dB",
        ),
    ),
    "cost": (costs, (*NAMES, "1,814,073,344", "7,256,293,376", "46.7 kB", "3072x768x3x3")),
    "pareto": (
        lambda: compared(Path("runs")),
        ("resnet20-fashion-mnist-adamw-mixed-bits", "98.61% +- 0.00%", "90.1%", "1.46%", "46.7 MB"),
    ),
}
