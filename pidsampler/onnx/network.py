"""The network behind IO binding, as a Denoiser."""

from __future__ import annotations

import numpy as np

from ..backends import Array, Backend
from .contract import CAPTION
from .session import Binding, Session, Tensor


class BoundNetwork:
    """The network's binding and the arrays that stay at their addresses, for one size of the latent.

    A CUDA graph reads and writes where it was recorded, whatever is bound later: so it has a set of its own, which
    every denoiser of that size fills anew.

    Args:
        session: The network's graph.
        backend: Owner of the arrays.
        conditions: What the network takes of a latent, by name: the latent itself, or a projection's features.
        graph: Number of the CUDA graph, or None.
    """

    def __init__(
        self, session: Session, backend: Backend, *, conditions: dict[str, Array], graph: int | None = None
    ) -> None:
        self._backend = backend
        self.graph = graph
        self.tensors = {tensor.name: tensor for tensor in session.inputs}
        self.output = session.outputs[0]
        self.binding: Binding = session.bind(graph)
        self.time, self.sigma = (self._scalar(name, session) for name in ("t", "degrade_sigma"))
        self.conditions = conditions
        self.binding.input("t", self.time)
        self.binding.input("degrade_sigma", self.sigma)
        self.caption: Array = None  # where the network takes one
        if (tensor := self.tensors.get(CAPTION)) is not None:
            shape = [n for n in tensor.shape[1:] if isinstance(n, int)]
            self.caption = backend.empty((1, *shape), tensor.dtype)
            self.binding.input(CAPTION, self.caption)
        for name, array in conditions.items():
            self.binding.input(name, array)
        self._staged: dict[str, Array] = {}

    def bindable(self, tensor: Tensor, array: Array) -> Array:
        """Return the array itself where it can be bound as it is, else a buffer for this tensor, made once."""
        if array.dtype == tensor.dtype and self.graph is None:
            return array
        if tensor.name not in self._staged or self._staged[tensor.name].shape != array.shape:
            self._staged[tensor.name] = self._backend.empty(array.shape, tensor.dtype)
        return self._staged[tensor.name]

    def _scalar(self, name: str, session: Session) -> Array:
        tensor = self.tensors[name]
        empty = np.empty if name in session.on_host else self._backend.empty
        return empty((1,) * len(tensor.shape), tensor.dtype)


class OnnxDenoiser:
    """The network behind IO binding: `predict` reads x and writes `out` where they lie.

    Given arrays of other types than `input_dtype` and `output_dtype`, it goes through buffers of its own, made once.
    The images of a batch pass one at a time, so that none depends on its neighbors. With a CUDA graph a model has one
    denoiser at a time for each size, or several of one latent (`told`): a later one takes over their arrays.

    Args:
        at: Binding, with its conditions filled.
        backend: Owner of its arrays.
        timescale: The network takes t*timescale.
        caption: Array that is copied to the binding's before each run; None leaves what is there.
    """

    def __init__(self, at: BoundNetwork, backend: Backend, *, timescale: float, caption: Array | None = None) -> None:
        self._at, self._backend, self._timescale, self._caption = at, backend, timescale, caption
        self._x, self._output = at.tensors["x"], at.output
        self.input_dtype, self.output_dtype = self._x.dtype, self._output.dtype

    def told(self, caption: Array | float) -> OnnxDenoiser:
        """Return a denoiser of the same latent with another caption; both can be called in turn.

        Args:
            caption: Embedding (tokens, width) on the device, or a number for all of it.
        """
        own = self._backend.empty(self._at.caption.shape, self._at.caption.dtype)
        own[...] = caption
        return OnnxDenoiser(self._at, self._backend, timescale=self._timescale, caption=own)

    @np.errstate(over="ignore")
    def predict(self, x: Array, t: float, out: Array) -> None:
        """Evaluate the network; see `Denoiser.predict`. What a half-precision graph cannot hold becomes infinity.

        Raises:
            PidSamplerError: onnxruntime refused the run.
        """
        at, time = self._at, t * self._timescale
        with self._backend.active():
            if self._caption is not None:
                at.caption[...] = self._caption
            at.time.fill(round(time) if at.time.dtype.kind == "i" else time)  # no upload: a number in a launch
            for b in range(len(x)):
                image, result = x[b : b + 1], out[b : b + 1]
                source, target = at.bindable(self._x, image), at.bindable(self._output, result)
                if source is not image:
                    source[...] = image
                at.binding.input("x", source)
                at.binding.output(self._output.name, target)
                at.binding.run()
                if target is not result:
                    result[...] = target
