"""from_diffusers beyond its parity with stored runs (test_parity.py): reading, refusing, saying what is left out."""

import json
import math
import sys

import numpy as np
import pytest

from pidsampler import PidSamplerError, from_diffusers, timesteps
from pidsampler.schedulers import Heun, UniPC

EULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.42.1", "shift": 3.0}
DYNAMIC = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
UNIPC = {"_class_name": "UniPCMultistepScheduler", **FLOW}
DPM = {"_class_name": "DPMSolverMultistepScheduler", **FLOW}
LCM = {"_class_name": "FlowMatchLCMScheduler"}


def test_reads_a_file_or_its_folder(tmp_path):
    path = tmp_path / "scheduler_config.json"
    path.write_text(json.dumps({"_class_name": "FlowMatchHeunDiscreteScheduler", "shift": 2.0}))
    for config in (path, str(path), tmp_path, json.loads(path.read_text())):
        made = from_diffusers(config, 6)
        assert type(made) is Heun
        assert len(made.timesteps) == 7


def test_mu_from_tokens_is_fluxs():
    config = {**DYNAMIC, "base_shift": 0.5, "max_shift": 1.15}
    sigmas = timesteps.uniform(4)[:-1]
    by_tokens = from_diffusers(config, tokens=1024, sigmas=sigmas).timesteps
    assert by_tokens == pytest.approx(timesteps.flux(4, mu=timesteps.flux_mu(1024)), rel=1e-12)
    assert from_diffusers(config, mu=timesteps.flux_mu(1024), sigmas=sigmas).timesteps == pytest.approx(by_tokens)


def test_settings_without_effect_are_silent():
    # A warning would be an error here.
    betas = {"beta_start": 0.1, "beta_end": 0.2, "beta_schedule": "scaled_linear", "timestep_spacing": "trailing"}
    without = {"steps_offset": 1, "lower_order_final": True, "thresholding": False}
    made = from_diffusers({**UNIPC, **betas, **without}, 5)
    assert made.options == {"order": 2, "b": "bh2"}
    assert type(made) is UniPC


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**UNIPC, "thresholding": True}, "^UniPCMultistepScheduler: not honored are thresholding=True$"),
        ({**UNIPC, "disable_corrector": [0], "new_key": 3}, r"not honored are disable_corrector=\[0\], new_key=3$"),
        ({**UNIPC, "solver_order": 3}, r"lower_order_final=True \(the last step but one keeps order 3 here\)$"),
        (
            {**DPM, "solver_order": 3, "algorithm_type": "sde-dpmsolver++"},
            r"solver_order=3 \(k-diff",
        ),
        ({**EULER, "scale_factors": [1, 2]}, r"scale_factors=\[1, 2\]"),
        ({"_class_name": "FlowMatchHeunDiscreteScheduler", "use_karras_sigmas": True}, "use_karras_sigmas=True"),
    ],
)
def test_says_what_it_does_not_honor(config, message):
    with pytest.warns(UserWarning, match=message):
        from_diffusers(config, 8)


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ({}, {}, "unknown diffusers scheduler 'None': known are DPMSolverMultistepScheduler, "),
        ({"_class_name": "FlowMatchEulerScheduler"}, {}, "did you mean .*'FlowMatchEulerDiscreteScheduler'"),
        ({"_class_name": "UniPCMultistepScheduler"}, {}, "with use_flow_sigmas=False has no equivalent, only True"),
        ({**UNIPC, "prediction_type": "epsilon"}, {}, "prediction_type='epsilon' has no equivalent, only 'flow_pred"),
        ({**UNIPC, "solver_order": 4}, {}, "solver_order=4 has no equivalent, only 1 or 2 or 3"),
        ({**UNIPC, "use_karras_sigmas": True}, {}, "use_karras_sigmas=True has no equivalent, only False"),
        ({**UNIPC, "predict_x0": False}, {}, "predict_x0=False has no equivalent"),
        ({**DPM, "algorithm_type": "dpmsolver"}, {}, "algorithm_type='dpmsolver' has no equivalent"),
        ({**DPM, "final_sigmas_type": "sigma_min"}, {}, "final_sigmas_type='sigma_min' has no equivalent, only 'zero'"),
        ({**EULER, "invert_sigmas": True}, {}, "invert_sigmas=True has no equivalent"),
        ({**LCM, "scale_factors": [2]}, {}, r"scale_factors=\[2\] has no equivalent"),
        ({**EULER, "use_karras_sigmas": True, "use_beta_sigmas": True}, {}, "asks for karras and beta sigmas at once"),
        (EULER, {"steps": None}, "steps are missing: pass how many"),
        (EULER, {"steps": 0}, "steps=0 must be"),
        (EULER, {"steps": 3, "sigmas": [1.0, 0.5]}, "2 sigmas and steps=3 disagree"),
        (EULER, {"steps": None, "sigmas": [0.5, 1.0]}, "ascends"),
        (EULER, {"mu": 0.5}, "mu and tokens are for a config with use_dynamic_shifting"),
        (DYNAMIC, {}, "the config has use_dynamic_shifting: pass mu"),
        (DYNAMIC, {"mu": 0.5, "tokens": 256}, "pass mu"),
        ({**UNIPC, "use_dynamic_shifting": True}, {"tokens": 256}, r"pass mu \(or tokens, where it has a base_shift\)"),
        (DPM, {"steps": None, "sigmas": [0.9, 0.5]}, "takes no sigmas: pass steps"),
        ({**EULER, "shift": "3"}, {}, "shift='3' must be a finite number in"),
        ({**EULER, "_class_name": [1]}, {}, "unknown diffusers scheduler"),
        ({**EULER, 3: 4}, {}, "a key of config=3 must be a text"),
        ({**EULER, "num_train_timesteps": 0}, {}, "num_train_timesteps=0 must be a finite number in"),
        ({**EULER, "num_train_timesteps": True}, {}, "num_train_timesteps=True must"),
        ({**EULER, "shift": math.nan}, {}, "shift=nan must be"),
        ({**EULER, "shift": 10**400}, {}, "shift=1000.* must be"),
        ({**EULER, "shift": 10**5000}, {}, "shift=a int too large to show must be"),
        ({**EULER, "shift_terminal": "x"}, {}, "shift_terminal='x' must be a finite number in"),
        ({**EULER, "shift_terminal": 1}, {}, "shift_terminal=1 must be a finite number in"),
        ({**EULER, "shift_terminal": 0.1}, {"steps": 1}, "shift_terminal=0.1 needs a list that ends below 1"),
        ({**EULER, "use_karras_sigmas": "no"}, {}, "use_karras_sigmas='no' must be True or False"),
        ({**EULER, "time_shift_type": "cubic"}, {}, "unknown time_shift_type 'cubic'"),
        ({**DYNAMIC, "max_shift": 1e308}, {"tokens": 4096}, r"max_shift=1e\+308 must be a finite number in"),
        ({**DYNAMIC, "base_image_seq_len": 4096}, {"tokens": 16}, "max_image_seq_len are both 4096"),
        (
            {**DYNAMIC, "max_image_seq_len": 256.001},
            {"tokens": 10**6},
            "mu, of tokens and the config's line,=.* must be",
        ),
        (DYNAMIC, {"mu": -700}, "settings make no list of times: timestep inf"),
        ("no/such.json", {}, "cannot read no/such.json: No such file or directory"),
    ],
)
def test_refuses(config, options, message):
    with pytest.raises(PidSamplerError, match=message):
        from_diffusers(config, **{"steps": 8, **options})


@pytest.mark.parametrize(
    ("content", "message"), [("{", "not a scheduler's config in JSON: "), ("[1]", "holds list, expected a scheduler")]
)
def test_refuses_files(tmp_path, content, message):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(PidSamplerError, match=message):
        from_diffusers(tmp_path / "c.json", 8)


def test_one_step_of_each():
    for config in (EULER, {**EULER, "use_karras_sigmas": True}, LCM, UNIPC, DPM):
        made = from_diffusers(config, 1)
        assert len(made.timesteps) == 2
        assert np.isfinite(made.timesteps).all()


def test_beta_sigmas_without_scipy_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(PidSamplerError, match=r"scipy is not installed: pip install 'pidsampler\[beta\]'"):
        from_diffusers({**EULER, "use_beta_sigmas": True}, 8)
