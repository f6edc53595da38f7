"""What a graph says of the network that it was made of is data of strangers."""

import json

import onnx_ir as ir
import pytest

from pidsampler import PidSamplerError
from pidsampler.export.architecture import Architecture
from pidsampler.export.build import ARCHITECTURE, DTYPE
from pidsampler.export.recover import recovered
from pidsampler.onnx.contract import NETWORK

WRONG = [
    ("[" * 100, "more than 32 lists"),
    ("[1]", "must be a mapping of the sizes of a network"),
    ('{"hidden": NaN}', "it holds nan"),
    (json.dumps({"hidden": 10**400}), "it holds a whole number of 1329 bits"),
    ('{"width": 64}', "unknown size 'width'"),
    ('{"hidden": "64"}', "hidden='64' must be a whole number"),
    ('{"heads": 0}', "heads=0 must be a whole number in 1"),
    ('{"heads": true}', "heads=True must be a whole number"),
    ('{"depth": 1000000000}', r"depth=1000000000 must be a whole number in 0\.\.1000"),
    ('{"rope": ["ntk"]}', r"rope=\['ntk'\] must be a text"),
    ('{"replicate": 1}', "replicate=1 must be True or False"),
    ('{"interval": 0}', "interval=0 must be a whole number"),
    ('{"hidden": 64, "heads": 4, "depth": 1}', "has no weights s_embedder.proj.weight: a graph was changed"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message for _, message in WRONG])
def test_sizes_of_a_graph_are_checked(text, message, tmp_path):
    model = ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 17}, name="g"), ir_version=8)
    model.metadata_props.update({ARCHITECTURE: text, DTYPE: "float32"})
    ir.save(model, tmp_path / NETWORK)
    with pytest.raises(PidSamplerError, match=message):
        recovered(tmp_path)


def test_sizes_are_of_one_kind_in_python_too():
    for wrong in ({"hidden": 64.0}, {"patch": -16}, {"pixel_injection": None}, {"scale": 2**40}, {"residuals": "4"}):
        with pytest.raises(PidSamplerError, match=next(iter(wrong))):
            Architecture(**wrong)
    assert Architecture(residuals=0, pixel_depth=0).shapes()
