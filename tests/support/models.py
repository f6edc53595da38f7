"""Small model folders whose answer is known: the network's x0 is the latent's first three channels, enlarged."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}


def _save(path, nodes, inputs, outputs, constants, external=False):
    def infos(tensors):
        return [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in tensors.items()]

    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, path.stem, infos(inputs), infos(outputs), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = {"save_as_external_data": True, "location": path.name + ".data", "size_threshold": 0} if external else {}
    onnx.save(model, path, **options)


def write_encoder(
    path, kind="float32", size=None, channels=4, factor=8, latent_kind=None, gain=1.0, symbolic=False, batch=1
):
    """image -> latent: the block means of R, G, B, and R again up to `channels`, times gain."""
    height, width = size or ("h", "w")
    small = [n // factor if size else f"latent_{n}" for n in (height, width)]
    pick = helper.make_node("Gather", ["means", "channels"], ["picked"], axis=1)
    nodes = [
        helper.make_node("Cast", ["picture"], ["image32"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["image32"], ["means"], kernel_shape=[factor] * 2, strides=[factor] * 2),
        pick,
        helper.make_node("Mul", ["picked", "gain"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["z"], to=TYPES[latent_kind or kind]),
    ]
    constants = {"channels": np.arange(channels) % 3, "gain": np.float32(gain)}
    shape = [batch, "c" if symbolic else channels, *small]
    inputs, outputs = {"picture": (TYPES[kind], [batch, 3, height, width])}, {"z": (TYPES[latent_kind or kind], shape)}
    _save(path, nodes, inputs, outputs, constants)


def write_network(
    path,
    kind="float32",
    size=None,
    channels=4,
    factor=8,
    scale=4,
    external=False,
    scalar_shape=(1,),
    t_kind=None,
    add=0.0,
    rename=(),
    output_scale=None,
    prediction="velocity",
    symbolic=False,
):
    """velocity = (x - (mu + degrade_sigma + add)) / (t/1000), so that x0 is mu + degrade_sigma + add at every t."""
    height, width = size or ("h", "w")
    large = [n * scale if size else f"out_{n}" for n in (height, width)]
    small = [n // factor if size else f"latent_{n}" for n in (height, width)]
    t_type = TensorProto.INT64 if t_kind == "int64" else TYPES[t_kind or kind]
    times = float((output_scale or scale) * factor)
    cast = [
        helper.make_node("Cast", [name], [f"{name}_32"], to=TensorProto.FLOAT)
        for name in ("x", "t", "lq_latent", "degrade_sigma")
    ]
    answer = {
        "velocity": [
            helper.make_node("Sub", ["x_32", "x0"], ["difference"]),
            helper.make_node("Div", ["t_32", "thousand"], ["time"]),
            helper.make_node("Div", ["difference", "time"], ["v"]),
        ],
        "x0": [helper.make_node("Identity", ["x0"], ["v"])],
    }[prediction]
    nodes = [
        *cast,
        # Shape inference reads it, so it cannot be external data.
        helper.make_node("Constant", [], ["times"], value_floats=[1.0, 1.0, times, times]),
        helper.make_node("Gather", ["lq_latent_32", "rgb"], ["colors"], axis=1),
        helper.make_node("Resize", ["colors", "", "times"], ["mu"], mode="nearest"),
        helper.make_node("Add", ["mu", "degrade_sigma_32"], ["shifted"]),
        helper.make_node("Add", ["shifted", "add"], ["x0"]),
        *answer,
        helper.make_node("Cast", ["v"], ["v_pred"], to=TYPES[kind]),
    ]
    constants = {
        "rgb": np.arange(3),
        "thousand": np.float32(1000),
        "add": np.full((1, 3, 1, 1), add, np.float32),
    }
    inputs = {
        "x": (TYPES[kind], [1, 3, *large]),
        "t": (t_type, list(scalar_shape)),
        "lq_latent": (TYPES[kind], [1, "c" if symbolic else channels, *small]),
        "degrade_sigma": (TYPES[kind], list(scalar_shape)),
    }
    _save(path, nodes, inputs, {"v_pred": (TYPES[kind], [1, 3, *large])}, constants, external)
    for old, new in rename:
        model = onnx.load(path)
        for value in [*model.graph.input, *model.graph.output]:
            value.name = new if value.name == old else value.name
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]
        onnx.save(model, path)


def write_model(folder, manifest=None, encoder=None, **options):
    """Write a whole folder; `encoder` holds options that differ for the encoder, and `manifest` its JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = {k: v for k, v in options.items() if k in ("kind", "size", "channels", "factor", "symbolic")}
    write_encoder(folder / "vae_encoder.onnx", **{**shared, **(encoder or {})})
    write_network(folder / "pid_upscaler.onnx", **options)
    if manifest is not None:
        (folder / "pidsampler.json").write_text(json.dumps(manifest))
    return folder


def _projecting(kind, gain, times):
    """lq_latent -> lq_0, its colors as tokens (1, h*w, 3), and lq_pixel, a quarter of them enlarged (1, H, W, 3)."""
    nodes = [
        helper.make_node("Cast", ["lq_latent"], ["z"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["z", "rgb"], ["picked"], axis=1),
        helper.make_node("Mul", ["picked", "gain"], ["colors"]),
        helper.make_node("Transpose", ["colors"], ["colors_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Constant", [], ["flat"], value_ints=[1, -1, 3]),  # as in write_network: not external data
        helper.make_node("Reshape", ["colors_last", "flat"], ["tokens_32"]),
        helper.make_node("Cast", ["tokens_32"], ["lq_0"], to=TYPES[kind]),
        helper.make_node("Constant", [], ["enlarge"], value_floats=[1.0, 1.0, times, times]),
        helper.make_node("Resize", ["colors", "", "enlarge"], ["large"], mode="nearest"),
        helper.make_node("Transpose", ["large"], ["large_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Mul", ["large_last", "quarter"], ["pixel_32"]),
        helper.make_node("Cast", ["pixel_32"], ["lq_pixel"], to=TYPES[kind]),
    ]
    constants = {"rgb": np.arange(3), "gain": np.float32(gain), "quarter": np.float32(0.25)}
    return nodes, constants


def _from_features(kind, times):
    """velocity = (x - (mu + degrade_sigma)) / (t/1000); mu is three quarters of lq_0, enlarged, plus lq_pixel."""
    nodes = [
        *(
            helper.make_node("Cast", [name], [f"{name}_seen"], to=TensorProto.FLOAT)
            for name in ("x", "t", "degrade_sigma", "lq_0", "lq_pixel")
        ),
        *(helper.make_node("Constant", [], [f"int_{n}"], value_ints=[n]) for n in (1, 3, times)),
        helper.make_node("Shape", ["x"], ["size"], start=2, end=4),
        helper.make_node("Div", ["size", f"int_{times}"], ["grid"]),
        helper.make_node("Concat", ["int_1", "grid", "int_3"], ["grid_shape"], axis=0),
        helper.make_node("Reshape", ["lq_0_seen", "grid_shape"], ["map_last"]),
        helper.make_node("Transpose", ["map_last"], ["map"], perm=[0, 3, 1, 2]),
        helper.make_node("Constant", [], ["factors"], value_floats=[1.0, 1.0, float(times), float(times)]),
        helper.make_node("Resize", ["map", "", "factors"], ["large_map"], mode="nearest"),
        helper.make_node("Mul", ["large_map", "rest"], ["most"]),
        helper.make_node("Transpose", ["lq_pixel_seen"], ["pixel"], perm=[0, 3, 1, 2]),
        helper.make_node("Add", ["most", "pixel"], ["mu"]),
        helper.make_node("Add", ["mu", "degrade_sigma_seen"], ["x0"]),
        helper.make_node("Sub", ["x_seen", "x0"], ["difference"]),
        helper.make_node("Div", ["t_seen", "thousand"], ["time"]),
        helper.make_node("Div", ["difference", "time"], ["v"]),
        helper.make_node("Cast", ["v"], ["v_pred"], to=TYPES[kind]),
    ]
    return nodes, {"rest": np.float32(0.75), "thousand": np.float32(1000)}


def write_split_model(
    folder,
    kind="float32",
    size=None,
    network_size=None,
    channels=4,
    factor=8,
    scale=4,
    external=False,
    gain=1.0,
    whole=False,
    encoder_channels=None,
    latent_kind=None,
):
    """Write a folder whose projection is a graph of its own; or with `whole` the same function with none.

    `size` is the image's for which the projection is made and, unless `network_size` is given, the other graphs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made_for = size if network_size is None else network_size or None
    times = factor * scale
    large = [n * scale for n in made_for] if made_for else ["out_h", "out_w"]
    small = [n // factor for n in size] if size else ["latent_h", "latent_w"]
    tokens = small[0] * small[1] if size else "tokens"
    pixels = [n * scale for n in size] if size else ["pixel_h", "pixel_w"]
    latent = {"lq_latent": (TYPES[kind], [1, channels, *small])}
    features = {"lq_0": (TYPES[kind], [1, tokens, 3]), "lq_pixel": (TYPES[kind], [1, *pixels, 3])}
    own = {"x": (TYPES[kind], [1, 3, *large]), "t": (TYPES[kind], [1]), "degrade_sigma": (TYPES[kind], [1])}
    velocity = {"v_pred": (TYPES[kind], [1, 3, *large])}
    first, first_constants = _projecting(kind, gain, float(times))
    last, last_constants = _from_features(kind, times)
    write_encoder(folder / "vae_encoder.onnx", kind, made_for, encoder_channels or channels, factor, latent_kind)
    network, projection = folder / "pid_upscaler.onnx", folder / "lq_projection.onnx"
    if whole:
        _save(network, [*first, *last], own | latent, velocity, first_constants | last_constants, external)
    else:
        _save(projection, first, latent, features, first_constants, external)
        _save(network, last, own | features, velocity, last_constants, external)
    return folder
