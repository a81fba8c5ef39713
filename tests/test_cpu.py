"""Float32 products on a CPU: by oneDNN only where that is faster, and only if they stay float32."""

from types import SimpleNamespace

import pytest
import torch

from cpt import cpu


def on(monkeypatch, vendor: str, capability: str) -> None:
    cpuinfo = SimpleNamespace(read_text=lambda: f"vendor_id\t: {vendor}\n")
    monkeypatch.setattr(cpu, "CPUINFO", cpuinfo)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    torch.backends.mkldnn.matmul.fp32_precision = "ieee"


@pytest.mark.parametrize(
    ("vendor", "capability"), [("GenuineIntel", "AVX512"), ("AuthenticAMD", "AVX2"), ("", "DEFAULT")]
)
def test_other_processors_are_left_to_pytorch(monkeypatch, vendor, capability):
    on(monkeypatch, vendor, capability)
    assert not cpu.set_up_products()
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"


def test_a_processor_that_would_round_the_factors_is_left_to_pytorch(monkeypatch):
    on(monkeypatch, "AuthenticAMD", "AVX512")
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
