"""Products on a CPU: oneDNN computes float32's only where it is faster and keeps float32; the speed of
bfloat16; and the processor's name."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cpt import cpu

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
X86 = """processor	: 0
vendor_id	: GenuineIntel
cpu family	: 6
model		: 143
model name	: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags		: fpu avx avx2 avx512f avx512_bf16 amx_bf16 amx_tile
vmx flags	: vnmi

processor	: 1
model name	: another
"""
ARM = """processor	: 0
BogoMIPS	: 2000.00
Features	: fp asimd sve bf16 i8mm
CPU implementer	: 0x41
CPU architecture: 8
CPU part	: 0xd4f
"""


def set_processor(monkeypatch, vendor: str, capability: str) -> None:
    cpuinfo = SimpleNamespace(read_text=lambda: f"vendor_id\t: {vendor}\n")
    monkeypatch.setattr(cpu, "CPUINFO", cpuinfo)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"


@pytest.mark.parametrize(
    ("vendor", "capability"), [("GenuineIntel", "AVX512"), ("AuthenticAMD", "AVX2"), ("", "DEFAULT")]
)
def test_other_processors_are_left_to_pytorch(monkeypatch, vendor, capability):
    set_processor(monkeypatch, vendor, capability)
    assert not cpu.set_up_products()
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"


def test_a_processor_that_would_round_the_factors_is_left_to_pytorch(monkeypatch):
    set_processor(monkeypatch, "AuthenticAMD", "AVX512")
    monkeypatch.setattr(cpu, "products_are_exact", lambda: False)
    assert not cpu.set_up_products()
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"


def test_products_in_bfloat16_are_noticed():
    assert cpu.products_are_exact()
    with torch.autocast("cpu", torch.bfloat16):
        assert not cpu.products_are_exact()


def test_products_are_those_of_float32_on_this_processor():
    cpu.set_up_products()
    left, right = (torch.randn(300, 300, generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    # Half a unit in the last place of each of 300 terms, at worst; bfloat16's would be 65,536 times as large.
    limit = 300 * 2.0**-24 * (left.abs().double() @ right.abs().double())
    assert ((left @ right - left.double() @ right.double()).abs() <= limit).all()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            X86,
            "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz, cpu family 6, model 143, "
            "avx2, avx512f, avx512_bf16, amx_bf16",
        ),
        (ARM, "CPU implementer 0x41, CPU part 0xd4f, sve, bf16, i8mm"),
        ("", "riscv64"),
    ],
)
def test_a_processor_has_a_name_that_distinguishes_it_from_faster_ones(monkeypatch, text, name):
    monkeypatch.setattr(cpu, "CPUINFO", SimpleNamespace(read_text=lambda: text))
    monkeypatch.setattr(cpu.platform, "machine", lambda: "riscv64")
    assert cpu.processor() == name


def test_gain_of_bfloat16_is_that_of_a_models_products_whatever_else_runs(monkeypatch):
    timed = []

    def seconds(rows, weight):
        autocast = torch.is_autocast_enabled("cpu")
        assert nn.functional.linear(rows, weight).dtype == (torch.bfloat16 if autocast else torch.float32)
        timed.append((autocast, tuple(weight.shape)))
        disturbed = 5.0 if timed.count(timed[-1]) == 2 else 0.0
        return (1.0 if autocast else 3.0) * weight.numel() + disturbed * weight.numel()

    monkeypatch.setattr(cpu, "_product_seconds", seconds)
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 8), nn.Linear(8, 4), nn.Linear(4, 9_000, bias=False))
    assert cpu.bfloat16_gain(model) == 3.0
    assert {shape for _, shape in timed} == {(4, 8), (8, 4), (cpu.TIMED_SIZE, 4)}
    assert len(timed) == 2 * 3 * cpu.REPEATS
    assert cpu.bfloat16_gain(nn.Embedding(8, 4)) == 0.0  # nothing to gain


def test_gain_of_bfloat16_is_measured_here():
    assert 0.01 < cpu.bfloat16_gain(nn.Linear(256, 256)) < 100


def test_freed_memory_is_used_again():
    """In a separate process: page faults of 20 tensors of 50 MB, 12,208 pages each, and of 20 more."""
    code = """
import resource, torch
from cpt.cpu import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(12_500_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_freed_memory()
faults()
print(faults())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=SCRIPTS)
    given_back, kept = map(int, done.stdout.split())
    assert kept < 2 * 12_208 < 10 * 12_208 < given_back


def test_a_glibc_with_a_limit_gets_its_largest_value(monkeypatch):
    calls = []

    def mallopt(parameter: int, value: int) -> int:
        calls.append((parameter, value))
        return int(parameter != cpu.M_MMAP_THRESHOLD or value <= 32 * 2**20)

    monkeypatch.setattr(cpu.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    cpu.keep_freed_memory()
    assert calls[-1] == (cpu.M_MMAP_THRESHOLD, 32 * 2**20)


def test_other_c_libraries_keep_their_ways(monkeypatch):
    monkeypatch.setattr(cpu.ctypes, "CDLL", lambda name: SimpleNamespace())
    cpu.keep_freed_memory()
    cpu.give_back_memory()
