"""Values: frozen, equal by value, hashable; and every public callable refuses what is of the wrong kind or range."""

import copy
import importlib
import inspect
import io
import math
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import attrs
import numpy as np
import pytest
from PIL import Image

import pidsampler
from pidsampler import (
    Combination,
    CudaOptions,
    Finish,
    FlowODE,
    FlowSDE,
    PidSamplerError,
    SchedulerInfo,
    Size,
    Tiling,
    Upscaler,
    from_diffusers,
    get_scheduler,
    list_schedulers,
    sample,
    schedulers,
    start,
    timesteps,
    values,
)
from pidsampler.backends import get_backend
from pidsampler.bench import BenchPlan
from pidsampler.bench.timing import Effort
from pidsampler.denoiser import (
    AdaptiveProjectedGuidance,
    CFGZeroStar,
    Gaussian,
    GaussianMixture,
    Guided,
    Pair,
)
from pidsampler.export import compile
from pidsampler.image.blocks import Blocks
from pidsampler.image.pixels import to_tensor
from pidsampler.io.files import read_bytes
from pidsampler.io.pictures import Picture
from pidsampler.io.pictures import write as write_picture
from pidsampler.io.times import write_list
from pidsampler.jobs.run import outcomes
from pidsampler.learn import Learning, LinearSolver
from pidsampler.onnx.session import Tensor
from pidsampler.plugins import Registry
from pidsampler.schedulers import (
    ButcherTableau,
    ExponentialTableau,
    Midpoint,
    Restart,
    RungeKutta,
    TimesScheduler,
    UniPC,
)
from pidsampler.schedulers.base import Stage, x0
from pidsampler.schedulers.exact import Variable, phi
from pidsampler.schedulers.spec import Call, Spec
from pidsampler.schedulers.wrappers import Wrapped
from pidsampler.search import Search, refine
from pidsampler.search.problem import Problem
from pidsampler.study import ReportOptions, Study, Truth
from pidsampler.study.measures import Sample, get_measure
from pidsampler.study.run import estimate, run_study
from pidsampler.upscale.batch import File, Settings
from pidsampler.upscale.source import Source
from pidsampler.upscale.tiles import Grid, axis
from pidsampler.upscale.whole_sampler import WholeSampler
from pidsampler.values import field, number, shown

TIMES = [0.9, 0.6, 0.3, 0.0]
TABLE = FlowSDE(TIMES).table()
PICTURE = np.zeros((1, 3, 4, 4), np.float32)
LAW = Gaussian(0.0, 1.0)
DIFFUSERS = {"_class_name": "FlowMatchEulerDiscreteScheduler"}
SOURCE = Source({}, np.zeros((4, 4, 3), np.uint8))

# What no parameter takes, unless it says so.
WRONG = (None, "x", 1.5, True, math.nan, [1], object(), b"x")
BEYOND = (10**30, -(10**30), 10**5000)  # for whole numbers: no array is so large, and Python shows no such text


class Takes(NamedTuple):
    """A value that a parameter takes, and which of `WRONG` it takes too; all of them, where that is None."""

    value: object
    too: tuple[object, ...] | None = ()


def number_(value):
    """A number of a range that 1.5 is in."""
    return Takes(value, (1.5,))


def text(value):
    return Takes(value, ("x",))


def flag(value=False):
    return Takes(value, (True,))


def anything(value):
    """An array or a callable of any kind."""
    return Takes(value, None)


def numbers(value):
    return Takes(value, ([1],))


STEPS, TIMES_ = Takes(3), Takes(TIMES)


def as_npy(array):
    np.save(file := io.BytesIO(), array)
    return file.getvalue()


def print_nothing(*_):
    """A function of any arguments."""


RANGE = {"steps": STEPS, "t_max": Takes(0.9), "t_min": Takes(0.1)}
SHIFTED = {"steps": STEPS, "shift": number_(2.0)}
NETWORK = {"x": anything(PICTURE), "t": Takes(0.5), "out": anything(PICTURE.copy())}
STEP = {"t": Takes(0.9), "t_next": Takes(0.6)}
SUM = {"a": number_(0.5), "b": number_(0.5), "h": Takes({0: 0.5}), "noise": Takes([(1, 0.5)])}
SDE = {"timesteps": TIMES_, "eta": number_(0.5)}
CHURN = {"timesteps": TIMES_, **dict.fromkeys(("s_churn", "s_tmin", "s_tmax", "s_noise"), number_(1.0))}
# Schedulers without an option of their own.
IN_A_VARIABLE = ("ETDRK2", "ETDRK3", "ETDRK4", "Krogstad", "RES5S", "RES6S")
PLAIN = (
    *("BogackiShampine", "DormandPrince", "Heun", "Kutta3", "Midpoint", "RK38", "RK4", "Ralston", "Ralston4"),
    *("SSPRK3", "SSPRK4", "SSPRK43", "Tsit5"),
)
ETAS = {"timesteps": TIMES_, "eta": Takes(0.5)}
TABLEAU = ButcherTableau(((1 / 2,),), (0, 1))
PHIS, VARIABLE = ExponentialTableau((0.5,), ((),), b=(((2.0, 2, 1.0),),)), Takes("log-sigma")
SEEDED = {"seed": Takes(1), "draw": Takes(0), "shape": numbers((3, 4, 4))}

PAIRED = {
    "conditional": Takes(LAW),
    "unconditional": Takes(LAW),
    "scale": number_(2.0),
    "interval": Takes((0.1, 0.9)),
}

# Each public callable that has parameters: a call that works.
CALLS = {
    "Combination": SUM,
    "Row": {
        **SUM,
        **STEP,
        "p": number_(1.0),
        "q": number_(-0.9),
        "at": number_(0.8),
        "net": Takes(0),
        "clip": number_(1.0),
        "saves": Takes({0: Combination(a=1)}),
        "biased": flag(),
    },
    "StepTable": {"rows": Takes(TABLE.rows), "history": Takes({"made_by": "hand"})},
    "StepTable.with_rows": {"rows": Takes(TABLE.rows)},
    "table.check_prediction": {"prediction": Takes("x0")},
    "table.x0_weights": {"prediction": Takes("x0"), "t": Takes(0.5)},
    "table.Bias": dict.fromkeys(("mean", "noise", "total_mean", "total_noise"), number_(0.5)),
    "StepTable.predicting": {"prediction": Takes("x0")},
    "StepTable.clipped": {"clip": Takes(1.0, (None, 1.5))},
    "StepTable.to_json": {"indent": Takes(1)},
    "StepTable.from_json": {"text": Takes(TABLE.to_json())},
    "Size": {"scale": Takes(None, (1.5,)), "width": Takes(30), "height": Takes(20), "fit": flag()},
    "Size.parse": {"scale": Takes(None, (1.5,)), "size": Takes("30x20"), "fit": flag()},
    "Tiling": {"tile": Takes(512), "overlap": Takes(64), "max_memory": Takes(10**9), "encoder": flag()},
    "Tiling.parse": {"tile": Takes("512"), "overlap": Takes(64, (None,)), "max_memory": Takes("4G", (None,))},
    "Finish": {
        "color": Takes("match"),
        "color_strength": Takes(0.5),
        "size": Takes(Size(scale=2)),
        "despeckle": number_(16.0),
    },
    "Finish.method": {"source": Takes(SOURCE), "drifts": flag()},
    "Finish.described": {"source": Takes(SOURCE), "drifts": flag()},
    "CudaOptions": {
        "provider": Takes("cuda"),
        "tf32": flag(),
        "memory_limit": Takes(10**9),
        "cuda_graph": flag(),
        "one_at_a_time": flag(),
    },
    "FlowODE": {"timesteps": TIMES_},
    "FlowODE.ascending": {"t_min": Takes(0.001)},
    "FlowODE.with_spec": {"spec": Takes(Spec("flow-ode"))},
    "FlowODE.at_step": {"n": Takes(0)},
    "FlowSDE": {"timesteps": TIMES_, "eta": Takes(0.5), "last_eta": Takes(0.5)},
    "SchedulerInfo": {
        "name": text("mine"),
        "accuracy_order": Takes(1),
        "model_calls_per_step": Takes(1),
        "stochastic": flag(),
        "source": text("a paper"),
        "aliases": Takes(("other",)),
    },
    "from_diffusers": {
        "config": Takes(DIFFUSERS),
        "steps": STEPS,
        "mu": Takes(None),
        "tokens": Takes(None),
        "sigmas": Takes(None),
    },
    "timesteps.pid": {"steps": STEPS},
    "timesteps.subset": {"times": TIMES_, "steps": STEPS},
    "timesteps.uniform": {"steps": STEPS},
    "timesteps.custom": {"times": TIMES_, "partial": flag()},
    "timesteps.begin": {"times": TIMES_, "start": Takes(0.5)},
    "timesteps.shift": {"times": TIMES_, "shift": number_(2.0)},
    "timesteps.shifted": SHIFTED,
    "timesteps.flux": {"steps": STEPS, "mu": number_(1.0)},
    "timesteps.flux_mu": {"tokens": Takes(1024)},
    "timesteps.pid_shift": {"height": Takes(64), "width": Takes(64), "base": number_(4.0), "size": Takes(1024)},
    "timesteps.teacher": {"steps": STEPS, "shift": number_(6.0)},
    "timesteps.pid_one_step": {"steps": Takes(1)},
    "timesteps.karras": {**RANGE, "rho": number_(7.0)},
    "timesteps.polyexponential": {**RANGE, "rho": number_(7.0)},
    "timesteps.exponential": RANGE,
    "timesteps.log_snr": RANGE,
    "timesteps.resample": {"times": TIMES_, "steps": STEPS},
    "timesteps.cosine": {"steps": STEPS},
    "timesteps.linear_quadratic": {"steps": STEPS, "threshold": Takes(0.1)},
    "timesteps.kl_optimal": RANGE,
    "timesteps.simple": SHIFTED,
    "timesteps.sgm_uniform": SHIFTED,
    "timesteps.ddim_uniform": SHIFTED,
    "timesteps.beta": {**SHIFTED, "a": number_(0.6), "b": number_(0.6)},
    "timesteps.discrete": {**SHIFTED, "spacing": Takes("leading")},
    "timesteps.normal": SHIFTED,
    "timesteps.beta57": SHIFTED,
    "timesteps.smoothstep": SHIFTED,
    "timesteps.bong_tangent": {"steps": STEPS},
    "timesteps.ays": {**SHIFTED, "model": Takes("svd")},
    "timesteps.gits": SHIFTED,
    "timesteps.logit_normal": {"steps": STEPS, "mu": number_(0.5), "std": number_(1.0), "t_max": Takes(0.9999)},
    "timesteps.flux2": {"steps": STEPS, "tokens": Takes(1024)},
    "timesteps.flux2_mu": {"tokens": Takes(1024), "steps": STEPS},
    "timesteps.lcm": {**SHIFTED, "original_steps": Takes(50)},
    "noise.normal": {**SEEDED, "stream": Takes(0)},
    "noise.fill": {
        "out": anything(np.zeros(4, np.float32)),
        "seed": Takes(1),
        "draw": Takes(0),
        "stream": Takes(0),
        "start": Takes(0),
    },
    "noise.check_seeds": {"seed": numbers(7), "batch": Takes(1)},
    "noise.check_number": {"name": text("seed"), "value": Takes(1), "bits": Takes(8)},
    "noise.fixed": {"table": Takes(TABLE)},
    "noise.brownian": {"table": Takes(TABLE)},
    "noise.with_noise": {"table": Takes(TABLE), "noise": Takes("fixed")},
    "noise.torch.normal": SEEDED,
    "denoiser.as_denoiser": {"network": Takes(LAW)},
    "denoiser.network_of": {"denoiser": Takes(LAW), "net": Takes(0)},
    "denoiser.Pair": {"conditional": Takes(LAW), "unconditional": Takes(LAW)},
    "denoiser.Pair.predict": NETWORK,
    "denoiser.Guided": {
        "conditional": Takes(LAW),
        "unconditional": Takes(LAW),
        "scale": number_(2.0),
        "interval": Takes((0.1, 0.9)),
    },
    "denoiser.Guided.predict": NETWORK,
    "denoiser.RescaledGuidance": {**PAIRED, "rescale": number_(0.5)},
    "denoiser.CFGZeroStar": {**PAIRED, "zero_from": number_(0.9)},
    "denoiser.CFGZeroStar.predict": NETWORK,
    "denoiser.AdaptiveProjectedGuidance": {
        **PAIRED,
        "eta": number_(0.5),
        "norm": number_(2.0),
        "momentum": number_(-0.5),
        "prediction": Takes("x0"),
    },
    "denoiser.AdaptiveProjectedGuidance.predict": NETWORK,
    "denoiser.FrequencyDecoupledGuidance": {
        "conditional": Takes(LAW),
        "unconditional": Takes(LAW),
        "scales": numbers((2.0, 1.0)),
        "interval": Takes((0.1, 0.9)),
    },
    "denoiser.Gaussian": {"mean": number_(0.5), "std": number_(1.0)},
    "denoiser.Gaussian.predict": NETWORK,
    "denoiser.GaussianMixture": {"means": numbers([0]), "stds": numbers([1]), "weights": numbers([1])},
    "denoiser.GaussianMixture.predict": NETWORK,
    "table.combined": {"parts": Takes([(0.5, Combination(a=1))])},
    "table.as_table": {"table": Takes(TABLE)},
    "image.size.resolve": {"size": Takes(Size(scale=2), (None,)), "native": Takes((40, 40)), "native_scale": Takes(4)},
    "image.size.warn_if_stretched": {"height": Takes(20), "width": Takes(20), "native": Takes((40, 40))},
    "schedulers.base.TimesScheduler": {"timesteps": TIMES_},
    "schedulers.AdamsBashforth": {"timesteps": TIMES_, "order": Takes(3), "weights": Takes("equal")},
    "schedulers.ButcherTableau": {"a": Takes(((0.5,),)), "b": Takes((0, 1))},
    "schedulers.DEIS": {"timesteps": TIMES_, "order": Takes(3)},
    "schedulers.DPM2Ancestral": ETAS,
    "schedulers.DPMSolverPP2MCFGPP": {"timesteps": TIMES_, "scale": number_(2.0)},
    "schedulers.DPMSolverPP2SAncestral": ETAS,
    "schedulers.DPMSolverPP2SAncestralCFGPP": {**ETAS, "scale": number_(2.0)},
    "schedulers.EulerAncestralCFGPP": {**ETAS, "scale": number_(2.0)},
    "schedulers.EulerCFGPP": {"timesteps": TIMES_, "scale": number_(2.0)},
    "schedulers.GradientEstimationCFGPP": {
        "timesteps": TIMES_,
        "gamma": number_(2.0),
        "scale": number_(2.0),
    },
    "schedulers.RESAncestral": ETAS,
    "schedulers.RESAncestralCFGPP": {**ETAS, "scale": number_(2.0)},
    "schedulers.RESCFGPP": {"timesteps": TIMES_, "scale": number_(2.0)},
    "schedulers.SASolverPECE": {"timesteps": TIMES_, "order": Takes(2), "tau": number_(0.5)},
    "schedulers.STORK": {"timesteps": TIMES_, "order": Takes(4), "form": Takes("published")},
    "schedulers.DPMSolver2": {"timesteps": TIMES_, "r": Takes(0.5)},
    "schedulers.DPMSolver3": {"timesteps": TIMES_},
    "schedulers.DPMSolverPP2M": {"timesteps": TIMES_, "order": Takes(1), "variable": VARIABLE},
    "schedulers.DPMSolverPP2MSDE": {**SDE, "kind": Takes("heun"), "order": Takes(1)},
    "schedulers.DPMSolverPP2S": {"timesteps": TIMES_, "r": Takes(0.5)},
    "schedulers.DPMSolverPP3M": {"timesteps": TIMES_},
    "schedulers.DPMSolverPP3MSDE": SDE,
    "schedulers.DPMSolverPPSDE": {**SDE, "r": Takes(0.5)},
    "schedulers.ERSDE": {"timesteps": TIMES_, "order": Takes(3)},
    "schedulers.wrappers.Wrapped": {"scheduler": Takes(TABLE), "wrapper": Takes(Call("s_noise"))},
    "schedulers.wrappers.Wrapped.with_spec": {"spec": Takes(Spec("flow-ode"))},
    "schedulers.wrappers.wrapped": {"scheduler": Takes(TABLE), "wrappers": Takes([Call("s_noise")])},
    "schedulers.EDMEuler": CHURN,
    "schedulers.EDMHeun": CHURN,
    "schedulers.dcw": {"sampler": Takes(TABLE), "scale": number_(0.1)},
    "schedulers.decoupled": {"sampler": Takes(TABLE), "at": Takes([0.5] * len(TABLE))},
    "schedulers.detail": {
        **dict.fromkeys(("amount", "start", "end", "bias", "exponent"), number_(0.5)),
        "sampler": Takes(TABLE),
        "smooth": flag(),
    },
    "schedulers.epsilon_scaling": {
        **dict.fromkeys(("factor", "slope", "t_max"), number_(0.5)),
        "sampler": Takes(TABLE),
        "of": Takes("eps"),
    },
    "schedulers.inverted": {"sampler": Takes(FlowODE(TIMES)), "t_min": Takes(0.001)},
    "schedulers.lying": {"sampler": Takes(TABLE), **dict.fromkeys(("factor", "start", "end"), number_(0.5))},
    "schedulers.s_noise": {"sampler": Takes(TABLE), "factor": number_(1.1)},
    "schedulers.time_shift": {"sampler": Takes(TABLE), "by": number_(0.1), "cutoff": number_(0.5)},
    "schedulers.FlowAncestral": {"timesteps": TIMES_, "eta": Takes(0.5), "last_eta": Takes(0.5)},
    **{f"schedulers.{name}": {"timesteps": TIMES_, "variable": VARIABLE} for name in IN_A_VARIABLE},
    "schedulers.RES2S": {"timesteps": TIMES_, "variable": VARIABLE, "c2": Takes(0.5)},
    "schedulers.RES3S": {"timesteps": TIMES_, "variable": VARIABLE, "c2": Takes(0.5), "c3": Takes(0.9)},
    "schedulers.ExponentialTableau": {"c": numbers((0.5,)), "a": Takes(((),)), "b": Takes((((2.0, 2, 1.0),),))},
    "schedulers.ExponentialTableau.at": {"z": number_(-1.0)},
    "schedulers.ExponentialRungeKutta": {"timesteps": TIMES_, "variable": VARIABLE, "tableau": Takes(PHIS)},
    "schedulers.GaussLegendre2": {"timesteps": TIMES_, "iterations": Takes(2)},
    "schedulers.RadauIIA2": {"timesteps": TIMES_, "iterations": Takes(2)},
    "schedulers.GradientEstimation": {"timesteps": TIMES_, "gamma": number_(2.0)},
    **{f"schedulers.{name}": {"timesteps": TIMES_} for name in PLAIN},
    "schedulers.RES": {"timesteps": TIMES_, "order": Takes(3), "variable": VARIABLE},
    "schedulers.Restart": {"timesteps": TIMES_, "t_max": Takes(0.6), "t_min": Takes(0.3), "repeats": Takes(2)},
    "schedulers.RungeKutta": {"timesteps": TIMES_, "tableau": Takes(TABLEAU)},
    "schedulers.SASolver": {"timesteps": TIMES_, "order": Takes(2), "tau": number_(0.5)},
    "schedulers.SEEDS2": {**SDE, "r": Takes(0.5)},
    "schedulers.SEEDS3": SDE,
    "schedulers.UniPC": {"timesteps": TIMES_, "order": Takes(2), "b": Takes("bh1")},
    "schedulers.base.x0": {"t": Takes(0.5)},
    "schedulers.base.velocity": {"t": Takes(0.5)},
    "schedulers.base.eps": {"t": Takes(0.5)},
    "schedulers.base.euler": STEP,
    "schedulers.base.eta_field": {"high": number_(1.0)},
    "schedulers.base.one_eta": {"eta": number_(0.5)},
    "schedulers.base.ancestral_step": {**STEP, "split": Takes((0.6, 0.8)), "draw": Takes(1)},
    "schedulers.base.noise_split": {"strength": number_(1.0), "h": number_(1.0)},
    "schedulers.base.refusing_close_times": {"table": Takes(print_nothing)},
    "schedulers.base.row": {**STEP, "update": Takes(Combination(b=1)), "saves": Takes({0: Combination(a=1)})},
    "schedulers.base.Stage": {
        "t": Takes(0.5),
        "start": Takes(Combination(a=1)),
        "weights": numbers((1.0,)),
        "noise": Takes({1: 0.5}),
    },
    "schedulers.base.stage_rows": {
        "t": Takes(0.9),
        "stages": Takes([Stage(0.5, Combination(a=1), weights=(0.5,))]),
        "quantity": anything(x0),
    },
    "schedulers.adaptive.Reference": {
        "table": Takes(TABLE),
        "x": anything(PICTURE),
        "error": number_(0.5),
        "calls": Takes(1),
    },
    "schedulers.adaptive.solve": {
        "denoiser": Takes(LAW),
        "tolerance": number_(0.1),
        "x": Takes(None),
        "shape": Takes((1, 3, 4, 4)),
        "seed": numbers(0),
        "t_start": Takes(0.9),
        "t_end": Takes(0.5),
        "t_last": Takes(None),
        "prediction": Takes("velocity"),
    },
    "schedulers.exact.log_snr": {"t": Takes(0.5)},
    "schedulers.exact.log_snr_step": STEP,
    "schedulers.exact.time_of": {"lam": number_(0.5)},
    "schedulers.exact.Variable": {"name": Takes("log-sigma")},
    "schedulers.exact.Variable.step": STEP,
    "schedulers.exact.Variable.inside": {**STEP, "share": Takes(0.5)},
    "schedulers.exact.Variable.scale": {"t_next": Takes(0.5)},
    "schedulers.exact.phi": {"k": Takes(1), "z": number_(0.5)},
    "schedulers.exact.interpolation_weights": {"nodes": Takes([0.0, 1.0]), "moments": Takes([1.0, 0.5])},
}

# Of a run: made by `run` anew for each call.
CALLS |= {
    "sample": {
        "denoiser": Takes(LAW),
        "sampler": Takes("flow-sde"),
        "shape": Takes((1, 3, 4, 4)),
        "seed": numbers(0),
        "x": Takes(None),
        "backend": Takes("numpy"),
        "dtype": Takes("float32"),
        "noise": Takes("fixed"),
        "on_step": Takes(None),
    },
    "start": {
        "sampler": Takes("flow-sde"),
        "x": Takes(PICTURE),
        "seed": numbers(0),
        "noise": Takes("fixed"),
        "inplace": flag(),
        "backend": Takes("numpy"),
    },
    "get_scheduler": {"sampler": Takes("flow-sde"), "timesteps": Takes(TIMES)},
    "describe_scheduler": {"name": Takes("heun")},
    "describe_timesteps": {"name": Takes("karras")},
    "Run.advance": {"denoiser": Takes(LAW), "on_step": Takes(None)},
    "Run.branch": {"table": Takes(TABLE)},
    "Run.evaluate": {"denoiser": Takes(LAW), "t": Takes(0.5), "net": Takes(0)},
    "Run.finish": {"denoiser": Takes(LAW), "on_step": Takes(None)},
    "Run.predict_x0": {"m": Takes(PICTURE), "out": Takes(PICTURE.copy())},
    "Run.step": {"m": Takes(PICTURE), "copy": Takes(PICTURE.copy())},
}

UP = Upscaler.load("gaussian", "cpu")
PHOTO = np.zeros((4, 4, 3), np.uint8)
RESULT = UP(PHOTO)
SAMPLED = {
    "sampler": Takes("flow-sde"),
    "seed": Takes(0),
    "degrade_sigma": Takes(0.1),
    "noise": Takes("fixed"),
    "caption": Takes(None),
    "guidance": number_(1.0),
    "negative": Takes(None),
    "steps": Takes(None),
    "start": number_(0.5),
    "finish": Takes(Finish(), (None,)),
}
CALLS |= {
    "Upscaler.load": {
        "model": Takes("gaussian"),
        "device": Takes("cpu"),
        "options": Takes(CudaOptions()),
        "accept_license": flag(),
        "tiling": Takes(Tiling()),
    },
    "Upscaler.__call__": {**SAMPLED, "image": Takes(PHOTO), "on_step": Takes(None), "progress": Takes(None)},
    "Upscaler.record": {**SAMPLED, "source": Takes(SOURCE)},
    "Upscaler.bind": {
        "image": Takes(PHOTO),
        "seed": Takes(0),
        "degrade_sigma": Takes(0.1),
        "caption": Takes(None),
        "guidance": number_(1.0),
        "negative": Takes(None),
        "plan": Takes(None),
        "pair": flag(),
        "on_tile": Takes(None),
    },
    "Upscaler.output_size": {"source": Takes(SOURCE), "size": Takes(Size(scale=2))},
    "Upscaler.plan": {"source": Takes(SOURCE), "tensors": Takes(2)},
    "Upscaler.with_tiling": {"tiling": Takes(Tiling())},
    "Result.save": {"path": Takes("out.png", ("x",)), "overwrite": flag(True)},
}

# Of a whole sampler in one file.
with TemporaryDirectory() as _folder:
    WHOLE = WholeSampler(compile("gaussian", size=(16, 16), output=Path(_folder, "whole.onnx")), "cpu")
    WHOLE_FILE = WHOLE.path.read_bytes()
    assert WHOLE.sha256  # kept
TENSORS = {
    name: Takes([Tensor(name=port.name, dtype=np.dtype(port.type), shape=port.shape) for port in ports])
    for name, ports in (("inputs", WHOLE.whole.inputs), ("outputs", WHOLE.whole.outputs))
}
PORT = {"name": text("x"), "type": text("uint8"), "shape": numbers((1,)), "what": text("pixels")}
CALLS |= {
    "export.one_graph.compile": {
        "model": Takes("gaussian"),
        "sampler": Takes("heun"),
        "size": Takes((16, 16)),
        "output": Takes("made.onnx"),
        "noise": Takes("philox"),
        "output_type": Takes("float32"),
        "caption": Takes(None),
        "guidance": number_(1.0),
        "overwrite": flag(True),
    },
    "export.one_graph.sampled_size": {"model": Takes("gaussian"), "size": Takes((16, 16))},
    "export.one_graph.described": {"path": Takes("whole.onnx")},
    "onnx.whole.Port": PORT,
    "onnx.whole.Whole": {
        "record": Takes(WHOLE.whole.record),
        "table": Takes(TABLE),
        "inputs": Takes(WHOLE.whole.inputs),
        "outputs": Takes(WHOLE.whole.outputs),
        "scale": Takes(4),
        "vae_factor": Takes(8),
        "drifts": flag(),
        "domains": Takes(("com.microsoft",)),
    },
    "onnx.whole.Whole.at": {"height": Takes(4), "width": Takes(4)},
    "onnx.whole.Whole.from_metadata": {"metadata": Takes(WHOLE.whole.to_metadata())},
    "onnx.whole.read_whole": {
        "metadata": Takes(WHOLE.whole.to_metadata()),
        "path": anything("whole.onnx"),
        **TENSORS,
    },
    "onnx.whole.Whole.check_tensors": TENSORS,
    "upscale.whole_sampler.WholeSampler": {"path": Takes("whole.onnx"), "device": Takes("cpu")},
    "upscale.whole_sampler.WholeSampler.__call__": {
        "image": Takes(PHOTO),
        "sampler": Takes(None),
        "progress": Takes(None),
    },
    "upscale.whole_sampler.WholeSampler.output_size": {"source": Takes(SOURCE), "size": Takes(Size(scale=2))},
    "upscale.whole_sampler.WholeSampler.record": {"source": Takes(SOURCE), "sampler": Takes(None)},
    "upscale.whole_sampler.WholeSampler.with_tiling": {"tiling": Takes(Tiling())},
}

# Of a search, a study and its parts.
FLOWS = {"law": {"means": [0.0], "stds": [1.0], "shape": [3, 8, 8]}}
STUDY = Study(preset={"model": "law", "scheduler": "heun", "steps": 2}, flows=FLOWS, measures=["mean-error"])
PROBLEM = Problem.of_flow(GaussianMixture([0], [1], [1]), height=8, width=8)
SUBJECT = PROBLEM.subjects[0]
SEARCH = Search("heun", 2, measure="mmd", seeds=2, evaluations=0)
LEARNING = Learning(calls=1, seeds=2)
MEAN = get_measure("mean-error")
LATENT = np.zeros((1, 4, 8, 8), np.float32)
NUMPY = get_backend("numpy")
RUNS = {("a", 0): 1.0, ("a", 1): 2.0}
CALLED = {"path": text("new.txt"), "overwrite": flag(True)}
COMPARED = {
    "preset": Takes({"model": "law"}),
    "axes": Takes({"steps": [2, 4]}),
    "cells": Takes("grid"),
    "flows": Takes(FLOWS),
    "measures": Takes(["mean-error"]),
    "truth": Takes(Truth()),
    "report": Takes(ReportOptions()),
    "folder": text("."),
    "file": text("cells = 'grid'"),
}
WORK = {"study": Takes(STUDY), "folder": text("study"), "device": Takes("cpu"), "processes": Takes(1, (None,))}
PLAN = {
    "backend": Takes(NUMPY),
    "variants": Takes([]),
    "types": Takes([("float32", "float32")]),
    "sides": numbers([8]),
    "peers": Takes([]),
    "missing": Takes({"torch": "not here"}),
    "effort": Takes(Effort()),
    "upscale": flag(),
}
BLOCKS = Blocks(8, 8, scale=1, rows=1, columns=1)
REGISTRY = Registry("thing", "pidsampler.nothing")
REGISTRY.register(print_nothing, name="old")
REGISTRY.register(print_nothing, name="mine")
CELL = {"cell": Takes(STUDY.preset_cell)}
SAMPLED_BY = {"subject": Takes(SUBJECT), "seed": Takes(0), "on_call": Takes(print_nothing)}
SOLVED = {"etas": Takes([0.5, 0.5, 0.5]), "biases": Takes([[0.1, 0.1]] * 3), "paired": Takes(False)}
CALLS |= {
    "search.Search": {
        "sampler": Takes("heun"),
        "calls": Takes(2),
        "measure": Takes("mmd"),
        "seeds": Takes(2),
        "evaluations": Takes(1),
        "free_start": flag(),
    },
    "search.Search.run": {
        "problem": Takes(PROBLEM),
        "on_call": Takes(None),
        "on_best": Takes(None),
        "journal": Takes(None),
    },
    "search.Search.most_calls": {"problem": Takes(PROBLEM)},
    "search.Search.seconds": {"problem": Takes(PROBLEM)},
    "search.refine": {
        "times": TIMES_,
        "cost": Takes(len),
        "evaluations": Takes(2),
        "below": Takes(1.0),
    },
    "search.from_gaps": {"first": Takes(0.9), "gaps": numbers([0.5])},
    "learn.LinearSolver": {"times": TIMES_, "weights": Takes([[], [0.5], [0.5]]), **SOLVED},
    "learn.LinearSolver.update": {"i": Takes(0)},
    "learn.LinearSolver.with_numbers": {"times": Takes([0.9, 0.0], ()), "found": Takes([])},
    "learn.LinearSolver.with_etas": {"etas": Takes([0.5], ([1],))},
    "learn.Learning": {
        "calls": Takes(3),
        "timesteps": Takes(TIMES, (None,)),
        "history": Takes(2),
        "ridge": number_(0.1),
        "seeds": Takes(2),
        "evaluations": Takes(1),
        "free_start": Takes(False, (True, None)),
        "joint": Takes(0, (None,)),
        "most_amplified": number_(9.0),
        "target": Takes("dpmpp-2m@uniform:8"),
        "paired": Takes(False),
        "biased": flag(),
    },
    "learn.Learning.extent": {"problem": Takes(PROBLEM)},
    "learn.Learning.seconds": {"problem": Takes(PROBLEM)},
    "learn.Learning.run": {"problem": Takes(PROBLEM), "on_call": Takes(None), "journal": Takes(None)},
    "learn.matrix": {
        "tables": Takes({"a": "heun"}, ([1],)),
        "problems": Takes({"b": PROBLEM}, ([1],)),
        "seeds": Takes(2),
        "on_call": Takes(None),
    },
    "learn.fit": {
        "denoiser": Takes(LAW),
        "calls": Takes(1),
        "shape": numbers((3, 4, 4)),
        "seeds": Takes(2),
        "timesteps": Takes([0.9, 0.0], (None,)),
        "first": Takes(0.9),
    },
    "search.problem.Problem.of_flow": {
        "flow": Takes(GaussianMixture([0], [1], [1])),
        "height": Takes(8),
        "width": Takes(8),
    },
    "search.problem.Problem.of_model": {
        "model": Takes("gaussian"),
        "pictures": Takes([]),
        "device": Takes("cpu"),
        "reduce": flag(),
        "crop": Takes(None),
        "caption": Takes(None),
        "guidance": number_(1.0),
        "negative": Takes(None),
    },
    "search.problem.Problem.sampled": {
        **SAMPLED_BY,
        "table": Takes(TABLE),
        "converged": anything(None),
    },
    "search.problem.Problem.solve": SAMPLED_BY,
    "study.parts.Flow": {
        "law": Takes(GaussianMixture([0], [1], [1])),
        "shape": Takes((3, 8, 8)),
        "interval": Takes((1, 0)),
    },
    "study.parts.Flow.at": {"t": Takes(0.5)},
    "study.parts.Truth": {"converged": text("heun:8"), "reduce": flag(), "references": text("folder")},
    "study.parts.ReportOptions": {
        "title": text("a title"),
        "question": text("what?"),
        "pictures": Takes("all"),
        "album": number_(3.0),
    },
    "study.parts.Network": {
        "net": Takes(LAW),
        "shape": Takes((3, 8, 8)),
        "prediction": text("x0"),
        "name": Takes("net", (None, "x")),
    },
    "study.parts.flow_of": {"name": text("law"), "values": Takes(FLOWS["law"])},
    "study.plan.Plan": COMPARED,
    "study.plan.Plan.flow": CELL,
    "study.plan.Plan.images": CELL,
    "study.plan.Plan.model_path": CELL,
    "study.plan.Plan.named": {**CELL, "setting": text("model")},
    "study.plan.Plan.predicting": {**CELL, "table": Takes(TABLE)},
    "study.plan.Plan.runs": CELL,
    "study.plan.Plan.scheduler": CELL,
    "study.plan.Plan.source": CELL,
    "study.plan.Plan.table": CELL,
    "study.plan.as_text": {"value": anything(1)},
    "bench.BenchPlan": PLAN,
    "bench.measure": {
        "plan": Takes(BenchPlan(**{key: takes.value for key, takes in PLAN.items()})),
        "note": Takes(len),
    },
    "bench.steps": {
        "samplers": Takes(["flow-ode"]),
        "against": Takes(None),
        "model": Takes(None),
        "side": Takes(1024),
        "dtype": Takes("float32"),
        "rounds": Takes(6, (None,)),
        "backend": Takes("numpy"),
    },
    "study.statistics.describe": {"runs": Takes(RUNS)},
    "study.statistics.interval": {"runs": Takes(RUNS)},
    "study.statistics.difference": {"runs": Takes(RUNS), "base": Takes(RUNS)},
    "study.statistics.corrected": {"p": numbers([0.5])},
    "study.statistics.order": {"steps": numbers([2]), "errors": Takes([RUNS])},
    "plugins.Registry": {
        "kind": text("thing"),
        "group": text("a.group"),
        "names": Takes(print_nothing),
        "wrong": Takes(print_nothing),
        "beside": text("or a file"),
        "where": text("things()"),
    },
    "plugins.Registry.register": {"thing": Takes(print_nothing), "name": text("mine"), "aliases": Takes(())},
    "plugins.Registry.unregister": {"name": Takes("old")},
    "plugins.Registry.find": {"name": Takes("mine"), "others": anything(())},
    "plugins.Registry.knows": {"name": text("mine")},
    "plugins.split_file": {"text": text("a.py:b")},
    "plugins.load_from_file": {"path": Takes("mine.py"), "name": Takes("mine"), "kind": text("thing")},
    "image.color.match": {
        "x": Takes(np.zeros((1, 3, 8, 8), np.float32)),
        "source_rgb": Takes(PHOTO),
        "scale": Takes(2),
        "method": Takes("match"),
        "strength": Takes(0.5),
        "backend": Takes(NUMPY),
    },
    "image.color.check_method": {"method": Takes("match"), "strength": Takes(0.5)},
    "image.color.drift": {
        "source": anything(np.zeros((3, 1, 1))),
        "result": anything(np.zeros((3, 1, 1))),
        "blocks": anything(BLOCKS),
    },
    "image.color.cielab": {"rgb": anything(np.zeros(3))},
    "image.enlarge.enlarge": {"x": Takes(np.zeros((1, 3, 8, 8), np.float32)), "scale": Takes(2)},
    "image.lanczos.reduce": {
        "x": Takes(np.zeros((1, 3, 8, 8), np.float32)),
        "size": Takes((8, 8)),
        "new_size": Takes((4, 4)),
        "backend": Takes(NUMPY),
    },
    "image.hidden.spread": {"color": Takes(PHOTO[:, :, :3]), "alpha": Takes(PHOTO[:, :, 0])},
    "image.lanczos.taps": {"size": anything(8), "new_size": anything(4)},
    "image.pixels.to_tensor": {"image": Takes(PHOTO), "size": Takes((8, 8)), "backend": Takes(NUMPY)},
    "image.pixels.to_image": {
        "x": Takes(np.zeros((1, 3, 8, 8), np.float32)),
        "size": Takes((8, 8)),
        "despeckle": number_(16.0),
        "backend": Takes(NUMPY),
    },
    "study.file.read_study": {"path": Takes("study.toml")},
    "study.study.Study": COMPARED,
    "study.study.Study.run": {
        **{key: takes for key, takes in WORK.items() if key != "study"},
        "on_progress": Takes(None),
        "engine": Takes("local"),
    },
    "study.study.Study.estimate": {"folder": text("study"), "device": Takes("cpu"), "processes": Takes(1)},
    "study.results.Results": {"folder": text("study")},
    "study.results.load": {"folder": text("ended")},
    "study.run.run_study": {**WORK, "on_progress": Takes(None), "engine": Takes("local")},
    "study.run.estimate": {**WORK, "processes": Takes(1)},
    "study.measures.measure": {
        "unit": text("dB"),
        "better": Takes("higher"),
        "source": text("a paper"),
        "needs": Takes(("picture",)),
        "imports": Takes(("scipy",)),
    },
    "study.measures.get_measure": {"name": Takes("psnr")},
    "study.measures.Sample": dict.fromkeys(("x", "picture", "input", "reference", "converged", "flow"), Takes(None))
    | {"x": Takes(PICTURE)},
    "study.measures.Measure.applies": {"sample": Takes(Sample(PICTURE))},
    "study.measures.Measure.__call__": {"sample": Takes(Sample(PICTURE, flow=GaussianMixture([0], [1], [1])))},
}

# Files, tiles, folders and models.
FILE = File("cat.png", "out.png")
GRID = Grid(axis(8, 8, overlap=0), axis(8, 8, overlap=0))
CALLS |= {
    "io.times.read_list": {"path": Takes("times.txt")},
    "io.times.write_list": {**CALLED, "times": TIMES_, "comments": Takes(["a comment"])},
    "io.tables.read_table": {"path": Takes("table.json")},
    "io.tables.write_table": {**CALLED, "table": Takes(TABLE)},
    "io.latents.read": {"path": Takes("latent.npy")},
    "io.latents.is_latent": {"path": Takes("latent.npy")},
    "io.latents.is_float": {"dtype": Takes(np.dtype(np.float16))},
    "io.latents.batched": {"array": Takes(LATENT)},
    "io.captions.read": {"path": Takes("caption.npy")},
    "io.captions.checked": {"array": Takes(LATENT[0, 0])},
    "io.captions.check_fits": {"caption": Takes(LATENT[0, 0]), "dtype": Takes(np.dtype(np.float16))},
    "io.captions.check_shape": {
        "caption": Takes(LATENT[0, 0]),
        "shape": Takes(LATENT[0, 0].shape),
        "taker": text("tiny"),
    },
    "io.captions.described": {"caption": Takes(LATENT[0, 0], (None,))},
    "io.pictures.Picture": {
        "pixels": anything(PHOTO),
        "icc": anything(None),
        "dpi": anything(None),
        "cicp": anything(None),
    },
    "io.pictures.is_picture": {"path": Takes("cat.png")},
    "io.pictures.of_image": {"image": Takes(Image.fromarray(PHOTO))},
    "io.pictures.read": {"path": Takes("cat.png")},
    "io.pictures.check_output": {"path": Takes("out.png"), "overwrite": flag()},
    "io.pictures.check_fits": {"path": text("out.png"), "size": Takes((4, 4)), "alpha": flag(), "cicp": flag()},
    "io.pictures.write": {
        "path": Takes("out.png"),
        "picture": Takes(Picture(PHOTO)),
        "record": text("{}"),
        "overwrite": flag(True),
    },
    "io.pictures.holds_text": {"path": text("out.png")},
    "io.pictures.sidecar": {"path": text("out.png")},
    "io.pictures.to_image": {"picture": Takes(Picture(PHOTO))},
    "register": {"kind": Takes("noise"), "thing": Takes(None), "name": text("mine"), "aliases": Takes(("other",))},
    "read_record": {"path": Takes("cat.png")},
    "io.files.sha256": {"path": Takes("cat.png")},
    "io.pictures.enlarge_plane": {"plane": anything(PHOTO[:, :, 0]), "size": Takes((8, 8))},
    "io.atomic.place": {**CALLED, "write": Takes(print_nothing)},
    "io.atomic.remove_leftovers": {"folder": text(".")},
    "io.atomic.replace_folder": {"folder": text("filled"), "path": text("here")},
    "io.atomic.temporary_folder": {"path": text("out")},
    "io.atomic.temporary_path": {"path": text("out.png")},
    "io.atomic.real_path": {"path": text("out.png")},
    "io.atomic.unwritable": {"path": text("out.png"), "error": Takes(OSError("no"))},
    "io.files.read_bytes": {"path": Takes("times.txt"), "most": Takes(1000, (None,))},
    "io.files.read_text": {"path": Takes("times.txt"), "expected": text("times"), "most": Takes(1000)},
    "io.data.parse_json": {
        "text": text("[1]"),
        "expected": text("a list"),
        "most_values": Takes(9),
        "most_depth": Takes(9),
    },
    "io.data.parse_toml": {"text": text("a = 1"), "expected": text("a study"), "most_depth": Takes(9)},
    "io.data.read_json": {"path": Takes("table.json"), "expected": text("a table"), "most": Takes(1000)},
    "io.files.matching": {"pattern": text("*.txt")},
    "io.files.check_outputs": {"outputs": Takes(["out.png"]), "inputs": Takes(["times.txt"])},
    "io.safetensors.read_header": {"path": Takes("latent.safetensors")},
    "io.npy.read_npy": {"file": Takes(io.BytesIO(as_npy(LATENT)))},
    "io.npy.check_size": {"size": Takes(9)},
    "io.exif.orientation": {"image": anything(Image.fromarray(PHOTO))},
    "io.exif.is_on_its_side": {"image": anything(Image.fromarray(PHOTO))},
    "io.exif.profile": {"image": anything(Image.fromarray(PHOTO))},
    "io.whole.damage": {"path": Takes("cat.png")},
    "upscale.tiles.Tile": {"top": Takes(0), "left": Takes(0), "height": Takes(8), "width": Takes(8)},
    "upscale.tiles.Axis": {"length": Takes(8), "size": Takes(8), "starts": Takes((0,))},
    "upscale.tiles.Axis.reduced": {"factor": Takes(2)},
    "upscale.tiles.axis": {"length": Takes(16), "size": Takes(8), "overlap": Takes(2), "unit": Takes(2)},
    "upscale.tiles.Grid": {"rows": Takes(GRID.rows), "columns": Takes(GRID.columns)},
    "upscale.tiles.Grid.reduced": {"factor": Takes(2)},
    "upscale.tiles.Tiled": {
        "cut": Takes(print_nothing),
        "grid": Takes(GRID),
        "backend": Takes(NUMPY),
        "on_tile": Takes(None),
    },
    "upscale.tiles.encode_in_tiles": {
        "encode": Takes(lambda tile: np.zeros((1, 4, 8, 8), np.float32)),
        "image": Takes(np.zeros((1, 3, 8, 8), np.float32)),
        "grid": Takes(GRID),
        "factor": Takes(1),
        "channels": Takes(4),
        "backend": Takes(NUMPY),
        "on_tile": Takes(None),
    },
    "upscale.find.File": {"path": text("in.png"), "target": text("out.png"), "resume": flag()},
    "upscale.batch.Settings": {**SAMPLED, "sampler": text("flow-sde"), "noise": text("fixed"), "overwrite": flag()},
    "upscale.batch.Settings.of": {"given": Takes({"seed": 1}), "names": Takes(["seed"])},
    "upscale.batch.FileJob": {"files": Takes([FILE]), "settings": Takes(Settings()), "again": flag()},
    "upscale.batch.FileWorker": {"model": text("gaussian"), "device": Takes("cpu"), "tiling": Takes(Tiling())},
    "upscale.find.LeftOut": {"path": text("in"), "why": text("a link"), "failed": flag()},
    "upscale.find.find_files": {
        "inputs": Takes(["cat.png"]),
        "output": text("out"),
        "left_out": Takes(print_nothing, (None,)),
        "others": Takes(["times.txt"]),
    },
    "upscale.batch.upscale_files": {
        "up": Takes(UP),
        "files": Takes([FILE], ([1], "x", b"x")),
        "settings": Takes(Settings()),
        "progress": Takes(None),
    },
    "onnx.Model": {"path": Takes(UP.model.path), "backend": Takes(NUMPY), "options": Takes(CudaOptions())},
    "onnx.Model.load": {"model": Takes("gaussian"), "backend": Takes(NUMPY), "options": Takes(CudaOptions())},
    "onnx.Model.encode": {"image": Takes(np.zeros((1, 3, 8, 8), np.float32))},
    "onnx.Model.check_latent": {"latent": Takes(np.zeros((1, 192, 8, 8), np.float32))},
    "onnx.model_has_null_caption": {"model": text("gaussian")},
    "onnx.model_hashes": {"model": Takes("gaussian")},
    "onnx.model_tables": {"model": text("gaussian")},
    "onnx.check_model": {"model": text("gaussian")},
    "onnx.model_manifest": {"model": text("gaussian")},
    "jobs.run.outcomes": {
        "engine": Takes("local"),
        "make": Takes(print_nothing),
        "jobs": Takes([], ([1],)),
        "device": Takes("cpu"),
        "count": Takes(1, (None,)),
    },
}

# Made by others of ours only; or called for each tile or step; or in need of Ray; or what holds a file open.
LATER = {
    *("io.atomic.claim", "io.files.opened"),
    *("Result", "Run", "Upscaler", "learn.Extent", "learn.Fit", "learn.Tried", "search.Found", "search.Rival"),
    "schedulers.Restart.ascending",  # which always refuses
    *(
        "search.problem.FirstCallKept",
        "search.problem.FirstCallKept.predict",
        "search.problem.Problem",
        "search.problem.Solution",
    ),
    *("search.problem.Subject", "search.trials.Trials", "search.trials.Trials.cost", "search.trials.Trials.values"),
    *("search.problem.cheapest", "search.problem.step_errors", "study.measures.Measure", "study.plan.Cell"),
    *("study.run.Estimate", "study.run.Progress"),
    *("study.statistics.Interval", "study.statistics.Difference", "study.statistics.Order"),
    *("upscale.batch.FileJob.lost", "upscale.batch.FileOutcome", "upscale.batch.FileWorker.run"),
    *("upscale.tiles.Tiled.predict", "upscale.tiles.cut_latent", "onnx.Model.check_caption", "onnx.Model.denoiser"),
    "onnx.Model.denoisers",
    *("upscale.batch.upscale_on_cluster", "make_again", "Tiling.told", "StepTable.html", "io.pictures.write_png"),
    *("denoiser.TorchNetwork", "denoiser.TorchNetwork.predict"),  # without PyTorch there is none
    *("io.safetensors.Entry", "io.safetensors.Header"),
}

MODULES = (
    *("timesteps", "noise", "noise.torch", "denoiser", "table", "image.size", "interop"),
    *("schedulers.base", "schedulers.exact", "schedulers.adaptive", "schedulers", "search", "search.problem"),
    *("search.trials", "learn"),
    *("study.parts", "study.plan", "study.file", "study.run", "study.study", "study.results", "study.measures"),
    *(
        "io.times",
        "io.tables",
        "io.latents",
        "io.captions",
        "io.pictures",
        "io.atomic",
        "io.files",
        "io.whole",
        "io.data",
        "io.safetensors",
        "io.npy",
        "io.exif",
    ),
    *("upscale.tiles", "upscale.find", "upscale.batch", "onnx", "jobs.run"),
    *("bench", "study.statistics", "plugins", "image.color", "image.enlarge", "image.hidden"),
    *("image.lanczos", "image.pixels", "schedulers.wrappers"),
    *("export.one_graph", "onnx.whole", "upscale.whole_sampler"),
)
OBJECTS = {
    "Upscaler": UP,
    "upscale.whole_sampler.WholeSampler": WHOLE,
    "onnx.whole.Whole": WHOLE.whole,
    "search.Search": SEARCH,
    "learn.Learning": LEARNING,
    "learn.LinearSolver": LinearSolver([0.9, 0.0], [[]]),
    "search.problem.Problem": PROBLEM,
    "study.plan.Plan": STUDY,
    "study.study.Study": STUDY,
    "study.parts.Flow": STUDY.flow(STUDY.preset_cell),
    "study.measures.Measure": MEAN,
    "upscale.tiles.Axis": GRID.rows,
    "upscale.tiles.Grid": GRID,
    "onnx.Model": UP.model,
    "plugins.Registry": REGISTRY,
    "Result": RESULT,
    "StepTable": TABLE,
    "Finish": Finish(),
    "FlowODE": FlowODE(TIMES),
    "schedulers.wrappers.Wrapped": Wrapped(TABLE, Call("s_noise")),
    "schedulers.ExponentialTableau": PHIS,
    "schedulers.exact.Variable": Variable("log-sigma"),
    "denoiser.Guided": Guided(LAW, LAW, 2.0),
    "denoiser.CFGZeroStar": CFGZeroStar(LAW, LAW, scale=2.0),
    "denoiser.AdaptiveProjectedGuidance": AdaptiveProjectedGuidance(LAW, LAW, scale=2.0),
    "denoiser.Pair": Pair(LAW, LAW),
    "denoiser.Gaussian": LAW,
    "denoiser.GaussianMixture": GaussianMixture([0], [1], [1]),
}


def public():
    """Every public class, function and method that has parameters, each by the name where it is met first."""
    things = [(name, getattr(pidsampler, name)) for name in pidsampler.__all__]
    for module in (importlib.import_module(f"pidsampler.{name}") for name in MODULES):
        here = module.__name__.removeprefix("pidsampler.")
        things += [
            (f"{here}.{name}", thing)
            for name, thing in vars(module).items()
            if name[0] != "_" and of(thing, module.__name__)
        ]
    found, met = {}, set()
    for name, thing in things:
        if inspect.ismodule(thing) or (inspect.isclass(thing) and issubclass(thing, Exception)):
            continue
        members = [(name, thing, 0)]
        if inspect.isclass(thing):
            for key, member in inspect.getmembers(thing, inspect.isroutine):
                if of(member, "pidsampler") and (not key.startswith("_") or key == "__call__"):
                    members.append((f"{name}.{key}", member, int(inspect.isfunction(member))))
        for key, member, bound in members:
            inside = inspect.unwrap(getattr(member, "__func__", member))
            if inside not in met and len(inspect.signature(member).parameters) > bound:
                found[key] = member
            met.add(inside)
    return found


def of(thing, module):
    """Whether it is a class or function of a module of ours, and not only what others are to have."""
    home = getattr(thing, "__module__", None) or ""
    return callable(thing) and home.startswith(module) and not getattr(thing, "_is_protocol", False)


PUBLIC = public()


def test_the_sweep_is_complete():
    assert sorted(PUBLIC.keys() - LATER) == sorted(CALLS)
    assert PUBLIC.keys() >= LATER


def write_files():
    """The files that the calls above read."""
    write_list("times.txt", TIMES)
    Path("whole.onnx").write_bytes(WHOLE_FILE)
    write_picture("cat.png", Picture(PHOTO), record="{}")
    Path("mine.py").write_text("mine = 1")
    Path("filled").mkdir()
    header = b'{"latent":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    Path("latent.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    np.save("latent.npy", LATENT)
    np.save("caption.npy", LATENT[0, 0])
    Path("table.json").write_text(TABLE.to_json())
    Path("ended").mkdir()
    Path("ended", "study.sqlite").touch()
    Path("study.toml").write_text('preset.model = "law"\nflows.law = {means = [0], stds = [1]}')


@pytest.mark.parametrize("name", CALLS)
def test_every_parameter_refuses_what_is_wrong(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files()
    owner, _, method = name.rpartition(".")
    parameters, calls = inspect.signature(PUBLIC[name]).parameters, CALLS[name]
    valid = {key: takes.value for key, takes in calls.items()}

    def call(**arguments):
        made = OBJECTS.get(owner) if owner != "Run" else start(TABLE, PICTURE)
        return (PUBLIC[name] if made is None else getattr(made, method))(**arguments)

    call(**valid)
    for key, parameter in parameters.items():
        if key == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        assert key in calls, f"{key} is missing in the table"
        if calls[key].too is None:
            continue
        for wrong in (*WRONG, *BEYOND) if type(valid[key]) is int else WRONG:
            if shown(wrong) in map(shown, (*calls[key].too, parameter.default)):
                continue
            try:
                call(**{**valid, key: wrong})
            except PidSamplerError as error:
                if "\n" in str(error):
                    pytest.fail(f"{name}({key}={shown(wrong)}) raises {error!r}, of more than a line")
            except Exception as error:
                pytest.fail(f"{name}({key}={shown(wrong)}) raises {error!r}")
            else:
                pytest.fail(f"{name}({key}={shown(wrong)}) is accepted")


ENOUGH = 10**14 - 1  # a number that is no wrong one by its size, but takes for ever, or all memory


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Search("heun", ENOUGH), "calls=99999999999999 must be a whole number in 1..256"),
        (lambda: Search("heun", 4, seeds=ENOUGH), "seeds=99999999999999 must be a whole number in 1..1000000"),
        (lambda: Search("heun", 4, evaluations=ENOUGH), "evaluations=99999999999999 must be"),
        (lambda: Search("heun", 4, measure="mmd", seeds=20_000).run(PROBLEM), r"make \d{7} runs, expected at most"),
        (lambda: Learning(calls=4, seeds=ENOUGH), "seeds=99999999999999 must be a whole number in 1..1024"),
        (lambda: refine(TIMES, len, evaluations=ENOUGH), "evaluations=99999999999999 must be"),
        (lambda: run_study(STUDY, "s", processes=ENOUGH), "processes=99999999999999 must be a whole number in 1..4096"),
        (lambda: estimate(STUDY, "s", processes=ENOUGH), "processes=99999999999999 must be a whole number in 1..4096"),
        (lambda: outcomes("local", len, jobs=[], device="cpu", count=ENOUGH), "count=99999999999999 must be"),
        (lambda: Restart(TIMES, 0.6, t_min=0.3, repeats=ENOUGH), "makes 100000000000002 model calls, expected at most"),
        (lambda: timesteps.uniform(ENOUGH), "steps=99999999999999 must be"),
        (lambda: from_diffusers(DIFFUSERS, ENOUGH), "steps=99999999999999 must be"),
        (lambda: pidsampler.noise.check_seeds(1, ENOUGH), "batch=99999999999999 must be"),
        (lambda: pidsampler.noise.normal(1, 0, (ENOUGH,)), "is a shape of more than 2.40 elements"),
        (lambda: sample(LAW, "heun", shape=(1, ENOUGH)), "shape is .1, 99999999999999., expected"),
        (lambda: phi(ENOUGH, 2.0), "k=99999999999999 must be"),
        (lambda: TABLE.to_json(ENOUGH), "indent=99999999999999 must be"),
        (lambda: axis(ENOUGH, 8, overlap=0), "length=99999999999999 must be"),
        (lambda: axis(2**31 - 1, 8, overlap=7), "is 2147483640 tiles: pass larger tiles"),
        (lambda: read_bytes("x", most=ENOUGH), "most=99999999999999 must be"),
        (lambda: to_tensor(PHOTO, size=(ENOUGH, 8), backend=NUMPY), "height of size=99999999999999 must be"),
        (lambda: Problem.of_flow(GaussianMixture([0], [1], [1]), height=ENOUGH), "height=99999999999999 must be"),
        (lambda: Study(preset={"steps": 10**5000}), "the setting steps is a int too large to show"),
    ],
)
def test_what_nobody_waits_for_is_refused(call, message):
    with pytest.raises(PidSamplerError, match=message):
        call()


SCHEDULERS = [get_scheduler(f"{info.name}@uniform:6") for info in list_schedulers()]
VALUES = [
    *SCHEDULERS,
    FlowSDE(TIMES, 0.5, last_eta=0.2),
    RungeKutta(TIMES, Midpoint.tableau),
    Midpoint.tableau,
    FlowODE.info,
    TABLE,
    TABLE[0],
    Restart(TIMES).table(),
    Combination(a=1, h={0: 0.5}),
    Spec.parse("unipc(order=3,b=bh1)@karras(rho=5):12"),
    Size(width=30, fit=True),
    Tiling(512, max_memory=10**9),
    Finish("match", size=Size(scale=2)),
    CudaOptions(tf32=True),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen_and_equal_by_value(value):
    for twin in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert twin == value
        assert hash(twin) == hash(value)
        assert repr(twin) == repr(value)
        assert str(twin) == str(value)
        assert {value, twin} == {value}
    name = attrs.fields(type(value))[0].name
    for key in (name, "another"):
        with pytest.raises(AttributeError):
            setattr(value, key, getattr(value, name))
    with pytest.raises(AttributeError):
        delattr(value, name)


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda scheduler: scheduler.info.name)
def test_schedulers_cannot_be_changed(scheduler):
    table = scheduler.table()
    for twin in (scheduler, copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        with pytest.raises(ValueError, match="read-only"):
            twin.timesteps[0] = 0.95
        for name in ("timesteps", "spec", "table", *twin.options):
            with pytest.raises(AttributeError):
                setattr(twin, name, 7)
        assert twin.table() == table


def test_times_are_not_the_callers():
    times = np.array(TIMES)
    scheduler = FlowODE(times)
    times[0] = 0.95
    assert scheduler.timesteps.tolist() == TIMES


def test_schedulers_differ_by_class_times_and_options():
    one = FlowSDE(TIMES, eta=0.5)
    assert one == FlowSDE(np.array(TIMES, np.float64), eta=np.float64(0.5), last_eta=None)
    for other in (FlowSDE(TIMES), FlowSDE([0.9, 0.0], eta=0.5), FlowSDE(TIMES, eta=0.5, last_eta=0.5), FlowODE(TIMES)):
        assert one != other
    assert one != "FlowSDE"
    assert schedulers.FlowAncestral(TIMES, eta=0.5) != one


def test_a_spec_is_no_part_of_the_value():
    plain = FlowODE(timesteps.uniform(4))
    named = get_scheduler("euler@uniform:4")
    assert (str(named), repr(named)) == ("flow-ode@uniform:4", repr(plain))
    assert (named, hash(named)) == (plain, hash(plain))
    assert str(plain.with_spec(named.spec)) == str(named)
    assert plain.spec is None


@attrs.frozen
class Decorated(TimesScheduler):
    """With an option, as attrs declares it."""

    info = SchedulerInfo("decorated", 1, model_calls_per_step=1, stochastic=True, source="a test")

    strength: float = field(number, low=0, high=1, default=1.0)

    def table(self):
        return FlowSDE(self.timesteps, self.strength).table()


class Plain(TimesScheduler):
    """With an option, as version 0.1 declared it."""

    def __init__(self, timesteps, strength=1.0):
        super().__init__(timesteps)
        self.strength = 0.0
        self.strength = float(strength)

    def table(self):
        return FlowSDE(self.timesteps, self.strength).table()


class Derived(Plain):
    def __init__(self, timesteps):
        super().__init__(timesteps, 0.25)
        self.strength = 0.5


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: Decorated([0.9, 0], strength=0.5), "Decorated([0.9, 0.0], strength=0.5)"),
        (lambda: Plain([0.9, 0], 0.5), "Plain([0.9, 0.0], strength=0.5)"),
        (lambda: Derived([0.9, 0]), "Derived([0.9, 0.0])"),
    ],
)
def test_schedulers_of_ones_own(made, text):
    scheduler = made()
    assert repr(scheduler) == str(scheduler) == text
    assert scheduler.table() == FlowSDE([0.9, 0], 0.5).table()
    assert {scheduler, made(), pickle.loads(pickle.dumps(scheduler)), copy.copy(scheduler)} == {scheduler}
    for name in ("strength", "another"):
        with pytest.raises(AttributeError):
            setattr(scheduler, name, 0.1)
    with pytest.raises(PidSamplerError, match="list of numbers"):
        type(scheduler)("x")


def test_the_option_of_ones_own_is_checked():
    with pytest.raises(PidSamplerError, match=r"strength=2 must be a finite number in \[0, 1\]"):
        Decorated(TIMES, 2)


def test_a_study_is_not_the_callers_mappings():
    preset, axes, flows = {"model": "law", "seeds": [1]}, {"steps": [2, 4]}, {"law": {"means": [0.0], "stds": [1.0]}}
    study = Study(preset=preset, axes=axes, flows=flows)
    same = Study(preset=copy.deepcopy(preset), axes=copy.deepcopy(axes), flows=copy.deepcopy(flows))
    preset["seeds"].append(2)
    axes["steps"].append(8)
    flows["law"]["means"].append(1.0)
    assert study == same
    with pytest.raises(AttributeError):
        study.cells = "one-at-a-time"


def test_tables_hold_rows():
    assert list(TABLE) == list(TABLE.rows)
    assert (TABLE[0], TABLE[-1]) == (TABLE.rows[0], TABLE.rows[-1])
    assert TABLE[1:] == TABLE.rows[1:]
    with pytest.raises(IndexError):
        TABLE[len(TABLE)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (lambda: FlowSDE(TIMES, 0.5, 0.2), FlowSDE(TIMES, 0.5, last_eta=0.2), "pass last_eta of FlowSDE by keyword"),
        (lambda: UniPC(TIMES, 3, "bh1"), UniPC(TIMES, 3, b="bh1"), "pass b of UniPC"),
        (lambda: Tiling(96, 0, 10**9, True), Tiling(96, 0, max_memory=10**9, encoder=True), "pass max_memory, encoder"),
        (lambda: Size(None, 3, 4), Size(width=3, height=4), "pass height of Size"),
        (lambda: Finish("off", 1.0, None, 3.0), Finish("off", despeckle=3.0), "pass size, despeckle of Finish"),
        (lambda: CudaOptions("cuda", True, 9), CudaOptions(tf32=True, memory_limit=9), "pass memory_limit of CudaOpt"),
        (
            lambda: SchedulerInfo("a", 1, 1, False, "b"),
            SchedulerInfo("a", 1, model_calls_per_step=1, stochastic=False, source="b"),
            "pass model_calls_per_step, stochastic, source of SchedulerInfo",
        ),
        (lambda: Size.parse(None, "3x", True), Size(width=3, fit=True), "pass fit of Size.parse"),
    ],
)
def test_a_third_argument_by_position_works_with_a_warning(old, new, message):
    with pytest.warns(DeprecationWarning, match=message) as warned:
        assert old() == new
    assert warned[0].filename == __file__


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (values.whole, 10**400, "v=1000.*00\\.\\.\\. must be a whole number of at most 5"),
        (values.numbers, [10**400], "must be a finite number"),
        (values.number, np.ones((40, 40)), r"v=array\(\[\[1., 1., .*\.\.\. must be a finite number"),
        (values.items, np.array(3.0), r"v=array\(3\.\) must be a list of things"),
        (values.pairs, {0: 1}.items, "must be a list of pairs"),
        (values.pairs, [(0, 1, 2)], "must be a list of pairs"),
    ],
)
def test_messages_are_one_short_line(check, value, message):
    extra = {values.whole: {"high": 5}, values.items: {"words": "things"}}.get(check, {})
    with pytest.raises(PidSamplerError, match=message) as raised:
        check("v", value, **extra)
    assert len(str(raised.value)) < 300
    assert "\n" not in str(raised.value)
