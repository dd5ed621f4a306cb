"""Run the CIFAR-10 comparison on one GPU: `gpu.py first`, then `gpu.py runs`, in the folder of the project.

`first` unpacks the images, checks that the operator computes the same on GPU and CPU, trains the float network and
times a step of every run, all runs at once. `runs` trains them side by side, each for as many epochs as fit; called
again it goes on where they were stopped. Work is in $WORK (default .gpu), which holds cifar10-jpeg.tar.xz and
resnet20_cifar10_float.pt at the start; results go to $OUT.
"""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np

BEGAN = time.monotonic()
WORK = Path(os.environ.get("WORK", ".gpu"))
OUT = Path(os.environ.get("OUT", "gpu-results"))
SECONDS = float(os.environ.get("SECONDS_AT_MOST", "540"))
DEVICE = os.environ.get("DEVICE", "cuda")
FLOAT_EPOCHS = os.environ.get("FLOAT_EPOCHS", "12")
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
TWIN = ("--init", str(WORK / "float.pt"))
ONLY = os.environ.get("ONLY", "").split()
TAUGHT = (*TWIN, "--teacher", str(WORK / "float.pt"))
RUNS = {
    "float-s0": ("--bits", "32", *TWIN),
    "float-s1": ("--bits", "32", *TWIN, "--seed", "1"),
    "4bit-2.36-s0": ("--bits", "4", "--bops", "0.0236", *TAUGHT),
    "4bit-2.36-s1": ("--bits", "4", "--bops", "0.0236", *TAUGHT, "--seed", "1"),
    "mixed-2.1-s0": ("--bits", "mixed", "--bops", "0.021", *TAUGHT),
    "mixed-2.1-s1": ("--bits", "mixed", "--bops", "0.021", *TAUGHT, "--seed", "1"),
    "4bit-2.95": ("--bits", "4", "--bops", "0.0295", *TAUGHT),
    "4bit-1.5": ("--bits", "4", "--bops", "0.015", *TAUGHT),
    "mixed-2.61": ("--bits", "mixed", "--bops", "0.0261", *TAUGHT),
    "mixed-1.5": ("--bits", "mixed", "--bops", "0.015", *TAUGHT),
    "4bit-2.36-channel": ("--bits", "4", "--bops", "0.0236", "--granularity", "channel", *TAUGHT),
    "mixed-2.1-channel": ("--bits", "mixed", "--bops", "0.021", "--granularity", "channel", *TAUGHT),
    "4bit-2.36-int8": ("--bits", "4", "--bops", "0.0236", "--activations", "int8", *TAUGHT),
    "4bit-2.36-lr0.1": ("--bits", "4", "--bops", "0.0236", *TAUGHT, "--lr", "0.1"),
    "paper-4bit": ("--recipe", "paper", "--bits", "4", *TAUGHT),
    "paper-mixed": ("--recipe", "paper", "--bits", "mixed", *TAUGHT),
}

if ONLY:
    RUNS = {name: options for name, options in RUNS.items() if name in ONLY}


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGAN:5.1f} s] {text}", flush=True)


def command(name: str, *options: str) -> list[str]:
    lr = () if "--lr" in options else ("--lr", "0.05")
    files = ("-o", str(WORK / f"{name}.pt"), "--log", str(WORK / f"{name}.jsonl"), "--force", "--threads", "1")
    data = ("--model", "resnet20", "--data", f"cifar10:{WORK / 'cifar'}", "--batch-size", "128")
    return [sys.executable, "-m", "codeq.train", *data, "--device", DEVICE, "--compile", "off", *files, *options, *lr]


def decode(member: tuple[str, bytes]) -> tuple[str, np.ndarray]:
    from PIL import Image

    split, label, _ = member[0].split("/")
    pixels = np.asarray(Image.open(io.BytesIO(member[1])).convert("RGB")).transpose(2, 0, 1)
    return split, np.concatenate([[CLASSES.index(label)], pixels.ravel()]).astype(np.uint8)


def unpack() -> None:
    """Write the binary version, in the same order of images every time."""
    folder = WORK / "cifar"
    if (folder / "test_batch.bin").exists():
        return
    rows: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    with tarfile.open(WORK / "cifar10-jpeg.tar.xz") as archive, Pool() as pool:
        members = ((m.name, archive.extractfile(m).read()) for m in archive if m.name.endswith(".jpg"))
        for split, row in pool.imap(decode, members, chunksize=500):
            rows[split].append(row)
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(0)
    train, test = (order.permutation(np.stack(rows[split])) for split in ("train", "test"))
    for number, part in enumerate(np.split(train, 5), 1):
        part.tofile(folder / f"data_batch_{number}.bin")
    test.tofile(folder / "test_batch.bin")


def check_operator() -> None:
    """Compare values, codes and gradients of the operator on the device with those on the CPU."""
    import torch

    from codeq.quantizer.dead_zone import DeadZoneQuantizer

    torch.manual_seed(0)
    worst, differing, count = 0.0, 0, 0
    for granularity in ("tensor", "channel"):
        for bits in (2, 3, 4, 8, None):
            for theta in (0.4, 1.0, 3.0):
                weight = torch.randn(64, 64, 3, 3)
                results = []
                for device in ("cpu", DEVICE):
                    quantizer = DeadZoneQuantizer(bits, theta_init=theta, granularity=granularity)
                    quantizer.expect(weight)
                    quantizer.to(device)
                    w = weight.to(device).requires_grad_()
                    value = quantizer(w)
                    (value * torch.linspace(-1, 1, value.numel(), device=device).reshape(value.shape)).sum().backward()
                    encoding = quantizer.encode(w)
                    results.append((value.detach().cpu(), encoding.codes.cpu(), quantizer.theta_dz.grad.cpu()))
                (value, codes, gradient), (value2, codes2, gradient2) = results
                differing += int((value != value2).sum() + (codes != codes2).sum())
                count += value.numel()
                worst = max(worst, float((gradient - gradient2).abs() / (gradient.abs() + 1e-3)))
    say(f"operator: {differing} of {count:,} values or codes differ from the CPU; gradient of theta {worst:.1e}")


def start(name: str, line: list[str]) -> tuple[str, subprocess.Popen[bytes]]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return name, subprocess.Popen(
        line, stdout=(WORK / f"{name}.txt").open("ab"), stderr=subprocess.STDOUT, env=environment
    )


def is_complete(name: str) -> bool:
    log = WORK / f"{name}.jsonl"
    return log.exists() and '"result"' in log.read_text()


def first() -> None:
    unpack()
    import torch

    name = torch.cuda.get_device_name() if DEVICE == "cuda" else DEVICE
    say(f"unpacked; {name}, torch {torch.__version__}, {os.cpu_count()} cores")
    try:
        check_operator()
    except Exception as error:
        say(f"operator: {type(error).__name__}: {error}")
    init = ("--init", str(WORK / "resnet20_cifar10_float.pt"), "--bits", "32", "--lr", "0.02")
    subprocess.run(command("float", *init, "--epochs", FLOAT_EPOCHS), check=False)
    say("float network")
    tried = [start(f"dry-{name}", [*command(name, *options), "--dry-run"]) for name, options in RUNS.items()]
    seconds = []
    for name, process in tried:
        status = process.wait()
        text = (WORK / f"{name}.txt").read_text()
        found = re.search(r"a step +(\d+) ms", text)
        say(f"{name}: status {status} {found.group(0) if found else text.strip().splitlines()[-3:]}")
        if found:
            seconds.append(int(found.group(1)) / 1000)
    (WORK / "seconds.json").write_text(json.dumps(seconds))
    for name in ("float.pt", "float.jsonl", "seconds.json"):
        if (WORK / name).exists():
            (OUT / name).write_bytes((WORK / name).read_bytes())
    say("done")


def runs(epochs: str) -> None:
    deadline = BEGAN + SECONDS
    processes = []
    for name, options in RUNS.items():
        if is_complete(name):
            continue
        line = command(name, *options, "--epochs", epochs)
        if (WORK / f"{name}.pt").exists():
            line = [
                *line[:3],
                "--resume",
                str(WORK / f"{name}.pt"),
                "--device",
                DEVICE,
                "--compile",
                "off",
                "--threads",
                "1",
            ]
        processes.append(start(name, line))
    while time.monotonic() < deadline and any(process.poll() is None for _, process in processes):
        time.sleep(1)
    for name, process in processes:
        if process.poll() is None:
            process.terminate()
            process.wait(10)
        lines = (WORK / f"{name}.txt").read_text(errors="replace").strip().splitlines()
        say(f"{name}: status {process.returncode} {lines[-1][-150:] if lines else ''}")
    names = list(RUNS)
    for part in range(4):
        with tarfile.open(OUT / f"runs{part}.tar.gz", "w:gz") as archive:
            for name in names[part::4]:
                for suffix in (".pt", ".jsonl", ".txt"):
                    if (WORK / f"{name}{suffix}").exists():
                        archive.add(WORK / f"{name}{suffix}", f"{name}{suffix}")
    say("done")


OUT.mkdir(parents=True, exist_ok=True)
first() if sys.argv[1] == "first" else runs(sys.argv[2])
