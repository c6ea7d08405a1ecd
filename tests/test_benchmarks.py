"""The benchmarks run: on tiny random models, where their figures say nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import kandinsky_oracle
import oracle
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.profiler_util import DeviceType, FunctionEvent

from dallecli.nets.prepacked import can_prepack

ROOT = Path(__file__).parents[1]
ADD = "at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3ul>"
COPY = "at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)::{lambda()#3}::operator()() const"
NORM = "at::native::(anonymous namespace)::GroupNormKernelImplInternal<c10::BFloat16>(at::Tensor const&)::{lambda()#1}"
NAMES = {
    "convolutions": [
        "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64_warpgroupsize1x1x1_g1"
        "_execute_segment_k_off_kernel__5x_cudnn",
        "sm80_xmma_fprop_implicit_gemm_indexed_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize256x64x32_stage3_cudnn",
        "sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x32_stage4_warpsize2x2x1_execute_kernel__5x_cudnn",
        "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816fprop_optimized_bf16_128x128_32x4_nhwc_align8>()",
        "void implicit_convolve_sgemm<float, float, 1024, 5, 5, 3, 3, 3, 1, false, false, true>(int, int)",
        "void cudnn::cnn::conv2d_grouped_direct_kernel<false, true, false, false>(float const*)",
        "mkldnn::_convolution_pointwise",
        "aten::mkldnn_convolution",
        "aten::_slow_conv2d_forward",
    ],
    "matrix products": [
        "nvjet_tst_128x256_64x4_2x1_v_bz_coopA_TNT",
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x64x64_execute_segment_k_off_kernel__5x_cublas",
        "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_tn",
        "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_32x32_64x1_tn_align8>()",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float>(__nv_bfloat16*)",
        "void gemvNSP_kernel<__nv_bfloat16, __nv_bfloat16, __nv_bfloat16, float, 1, 32, 4, 1024>()",
        "mkldnn::_linear_pointwise",
        "aten::addmm",
        "aten::mm",
        "aten::bmm",
    ],
    "attention": [
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64, 128, 128, 4, cutlass::bfloat16_t>>()",
        "fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel<cutlass::bfloat16_t>::Params)",
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_kernel0_0",
        "void (anonymous namespace)::softmax_warp_forward<c10::BFloat16, c10::BFloat16, float, 7, false, true>()",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
    ],
    "norms": [
        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float, false>(int)",
        "void at::native::(anonymous namespace)::RowwiseMomentsCUDAKernel<c10::BFloat16>(long, c10::BFloat16)",
        "void at::native::(anonymous namespace)::ComputeFusedParamsCUDAKernel<c10::BFloat16>(long, long, long)",
        f"void at::native::unrolled_elementwise_kernel<{NORM}>(int)",
        "aten::native_group_norm",
        "aten::native_layer_norm",
    ],
    "copies": [
        "void cudnn::engines_precompiled::nchwToNhwcKernel<__nv_bfloat16, __nv_bfloat16, float, false, true>()",
        "void cudnn::ops::nhwcToNchwKernel<__half, __half, float, false, true>()",
        f"void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<{COPY}>>(int)",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy_contig<OpaqueType<2u>, unsigned int, 4, 64, 64>()",
        "Memcpy HtoD (Pageable -> Device)",
        "Memset (Device)",
        "aten::copy_",
        "aten::cat",
    ],
    "elementwise and reductions": [
        f"void at::native::vectorized_elementwise_kernel<4, {ADD}>(int)",
        "void at::native::vectorized_elementwise_kernel<8, at::native::(anonymous namespace)::silu_kernel()>(int)",
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<bool, at::native::and_kernel_cuda>>()",
        "void at::native::(anonymous namespace)::upsample_nearest2d_nhwc_out_frame<c10::BFloat16>()",
        "triton_poi_fused_convolution_silu_3",
        "aten::add",
        "aten::silu_",
    ],
    "others": ["void at::native::(anonymous namespace)::a_kernel_of_tomorrow<float>()", "aten::empty", "aten::expand"],
}
"""Kernels of CUDA's libraries and operators of a CPU, by their kind."""


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import kernels

    return kernels


def run(script: str, *options: str) -> str:
    """What a benchmark prints."""
    command = [sys.executable, str(ROOT / "benchmarks" / script), *options]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_a_row_of_the_dials_that_is_not_there_is_refused_with_those_that_are() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "sampling.py"), "--rows=as it is,--prior-guidance 5"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no row is called '--prior-guidance 5': as it is, --fast, --best," in done.stderr


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in NAMES for name in NAMES[kind]])
def test_a_kernel_has_the_kind_that_its_name_says(kernels: ModuleType, kind: str, name: str) -> None:
    assert kernels.kind_of(name) == kind


def test_every_kind_has_names_in_small_letters(kernels: ModuleType) -> None:
    assert {kind for kind, _ in kernels.KINDS} | {kernels.OTHERS} == set(NAMES)
    assert all(part == part.lower() for _, fragments in kernels.KINDS for part in fragments)


@pytest.mark.parametrize(
    ("model", "stage", "steps"), [("starter", "prior", 25), ("karlo", "upsampler", 7), ("karlo", "text", 1)]
)
def test_a_stage_is_counted_as_often_as_a_run_calls_it(kernels: ModuleType, model: str, stage: str, steps: int) -> None:
    assert kernels.calls(model, stage) == steps


def test_a_device_is_busy_while_anything_runs_on_it(kernels: ModuleType) -> None:
    spans = [(5.0, 6.0), (0.0, 4.0), (1.0, 2.0), (3.0, 4.5), (6.0, 6.5)]
    rans = [kernels.Ran(name="a", start=start, end=end, seconds=end - start) for start, end in spans]
    assert kernels.busy_seconds(rans) == 6.0
    assert kernels.busy_seconds([]) == 0.0


def test_only_what_ran_on_the_device_counts_and_in_seconds(kernels: ModuleType) -> None:
    def event(name: str, device: Any, annotation: bool = False) -> FunctionEvent:
        times = {"start_us": 1e6, "end_us": 3e6}
        return FunctionEvent(id=1, name=name, thread=0, device_type=device, is_user_annotation=annotation, **times)

    gpu, cpu = DeviceType.CUDA, DeviceType.CPU
    events = [event("nvjet", gpu), event("aten::mm", cpu), event("cudaLaunchKernel", cpu), event("a span", gpu, True)]
    assert list(kernels.what_ran(events, on_cpu=False)) == [kernels.Ran(name="nvjet", start=1.0, end=3.0, seconds=2.0)]
    assert [ran.name for ran in kernels.what_ran(events, on_cpu=True)] == ["aten::mm", "cudaLaunchKernel"]


def test_seconds_and_launches_are_summed_by_name_the_longest_first(kernels: ModuleType) -> None:
    rans = [kernels.Ran(name=name, start=0.0, end=9.0, seconds=seconds) for name, seconds in (("a", 1), ("b", 3))]
    named = [(ran.name, ran) for ran in (*rans, rans[0])]
    found = kernels.totals(named)
    assert list(found.items()) == [("b", {"seconds": 3, "launches": 1}), ("a", {"seconds": 2, "launches": 2})]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["starter", "karlo", "kandinsky"])
def test_all_that_a_picture_takes_has_a_kind(tmp_path: Path, model: str) -> None:
    options = [f"--json={tmp_path / 'figures.json'}", "--dtype=fp32", "--batch=2"]
    if model == "karlo":
        options.append(f"--folder={oracle.write(tmp_path / model, oracle.SHAPES['karlo'])}")
    if model == "kandinsky":
        options.append(f"--folder={kandinsky_oracle.write(tmp_path / model)}")
    printed = run("kernels.py", model, *options)
    found = json.loads((tmp_path / "figures.json").read_text())[f"kernels {model} fp32 x 2"]
    assert set(found["kinds"]) == set(NAMES)
    total = sum(row["seconds"] for row in found["kinds"].values())
    assert found["profiled"] / 4 < total < found["profiled"]
    assert found["kinds"]["others"]["seconds"] < total / 4
    assert len(found["others"]) == 5
    assert found["tflop"] > 0
    assert found["busy"] is None
    assert all(f"launches: {name}\n" in printed for name in found["others"])
    assert str(tmp_path) not in json.dumps(found)


@pytest.mark.slow
def test_all_stages_and_whole_pictures_are_measured_on_both_sides(tmp_path: Path) -> None:
    folder = oracle.write(tmp_path / "karlo", oracle.SHAPES["karlo"])
    options = [f"--folder={folder}", "--rounds=2", "--steps=prior=3,upsampler=2", "--whole", "--warm=1"]
    printed = run("stages.py", "karlo", *options, f"--json={tmp_path / 'figures.json'}")
    found = json.loads((tmp_path / "figures.json").read_text())["karlo bf16"]
    assert list(found["stages"]) == ["text", "prior", "decoder", "upsampler"]
    assert {stage["calls"] for stage in found["stages"].values()} == {1, 25, 7}
    for stage in found["stages"].values():
        assert stage["tflop"] > 0
        for side in ("ours", "diffusers"):
            assert len(stage[side]["step"]) == 2
            assert min(stage[side]["step"]) > 0
            assert stage[side]["memory"] > 10**8
    for kind in ("whole", "warm"):
        assert set(found[kind]) >= {"ours", "diffusers"}
    assert "projected, 1 + 25 + 25 + 7 steps" in printed
    assert str(tmp_path) not in json.dumps(found)


@pytest.mark.long
def test_what_the_dials_save_is_measured_and_told(tmp_path: Path) -> None:
    printed = run("saving.py", "--dtype=fp32", "--rounds=2", "--only=starter", f"--json={tmp_path / 'figures.json'}")
    (network,) = json.loads((tmp_path / "figures.json").read_text())["saving fp32"]["networks"].values()
    assert {len(taken) for taken in network["seconds"].values()} == {2}
    assert network["runs"]["as it is"] == {"guided": 10}
    assert network["runs"]["--guidance-stop 0.5"] == {"guided": 5, "not guided": 5}
    assert network["runs"]["--reuse 2"] == {"guided": 5, "guided, uppermost level": 5}
    assert network["runs"]["--fast"] == {"guided": 5, "guided, uppermost level": 5}
    assert "starter, --fast: 10 steps, " in printed


multiplying_bytes = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="no arithmetic for 8-bit integers")


@multiplying_bytes
def test_a_convolution_of_integers_is_that_of_the_rounded_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from int8 import quantize

    layer = nn.Conv2d(64, 96, 3, padding=1).requires_grad_(False)
    step = layer.weight.abs().amax((1, 2, 3), keepdim=True) / 127
    weight = (layer.weight / step).round() * step
    x = torch.randn(2, 64, 12, 12) * torch.tensor([1.0, 50.0]).view(2, 1, 1, 1)
    steps = (x.amax((1, 2, 3), keepdim=True) - x.amin((1, 2, 3), keepdim=True)) / 253
    wanted = F.conv2d((x / steps).round() * steps, weight, layer.bias, padding=1)
    net = nn.Sequential(layer)
    quantize(net)
    # Where a number lies between two steps it may round the other way: few do, by one step.
    assert (net(x) - wanted).pow(2).mean((1, 2, 3)).sqrt().lt(2e-3 * wanted.pow(2).mean((1, 2, 3)).sqrt()).all()


@multiplying_bytes
def test_the_errors_of_integers_are_those_of_the_network_that_is_asked_for(tmp_path: Path) -> None:
    printed = run("int8.py", "--only=the starter's decoder", f"--json={tmp_path / 'figures.json'}")
    (network,) = json.loads((tmp_path / "figures.json").read_text())["int8"]["networks"].values()
    assert 0 < network["error"]["own"] < network["error"]["int8"] < 0.05
    assert f"int8 {network['error']['int8']:.4f}" in printed


@pytest.mark.slow
def test_every_lever_is_measured_without_and_with(tmp_path: Path) -> None:
    printed = run("levers.py", "--dtype=fp32", "--rounds=2", f"--json={tmp_path / 'figures.json'}")
    found = json.loads((tmp_path / "figures.json").read_text())["levers fp32"]
    assert len(found["levers"]) == (7 if can_prepack() else 5)
    for name, taken in found["levers"].items():
        assert f"| {name} |" in printed
        assert {side: len(taken[side]) for side in taken} == {"without": 2, "with": 2}
        assert min(*taken["without"], *taken["with"]) > 0


@pytest.mark.slow
def test_a_side_that_fails_ends_the_measuring_and_is_named(tmp_path: Path) -> None:
    folder = oracle.write(tmp_path / "karlo", oracle.SHAPES["karlo"])
    (folder / "prior" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(AssertionError, match="a side ended with 1 before its time"):
        run("stages.py", "karlo", f"--folder={folder}", "--only=prior")


@pytest.mark.long
def test_a_batch_on_workers_that_answer_at_once_is_painted_whole():
    # It fails by itself if a picture is missing.
    command = [sys.executable, str(ROOT / "benchmarks" / "scale.py"), "--lines", "64", "--side", "16"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "64 workers" in done.stdout
