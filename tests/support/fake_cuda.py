"""A stand-in for ONNX Runtime's CUDA sessions, over the stand-in for CuPy."""

import types

import onnxruntime


def entry(options, key):
    try:
        return options.get_run_config_entry(key)
    except Exception:  # onnxruntime's own, where there is none
        return None


class FakeCuda:
    """onnxruntime as if it had CUDA: sessions are the CPU's, since the stand-in's device memory is the host's."""

    def __init__(self, cupy, monkeypatch):
        self.asked, self.runs, self.recorded = [], [], {}
        self.on_host = set()  # tensors whose operators are said to run on the CPU
        real, fake = onnxruntime.InferenceSession, self

        class Binding:
            def __init__(self, session):
                self.real = real.io_binding(session)

                self.calls, self.session = {}, session

            def bind_input(self, name, where, device, *rest):
                assert (where, device) == ("cpu" if name in fake.on_host else "cuda", 0)
                self.calls[name] = ("bind_input", name, "cpu", 0, *rest)
                self.real.bind_input(name, "cpu", 0, *rest)

            def bind_output(self, name, where, *rest):
                assert where == ("cuda" if rest else "cpu")
                self.calls[name] = ("bind_output", name, "cpu", *rest)
                self.real.bind_output(name, "cpu", *rest)

            def frozen(self):
                recorded = real.io_binding(self.session)
                for method, *arguments in self.calls.values():
                    getattr(recorded, method)(*arguments)
                return recorded

            def get_outputs(self):
                return self.real.get_outputs()

        class Session(real):
            def __init__(self, path, options, providers, enable_fallback):
                assert not enable_fallback  # the real one would print on stdout and try the CPU
                self.provider = providers[0][0]
                if self.provider != "CPUExecutionProvider":
                    fake.asked.append(providers)
                super().__init__(path, options, providers=["CPUExecutionProvider"])

            def get_providers(self):
                return [self.provider, "CPUExecutionProvider"]

            def get_input_memory_infos(self):
                return [self._place(node.name) for node in self.get_inputs()]

            def get_output_memory_infos(self):
                return [self._place(node.name) for node in self.get_outputs()]

            def _place(self, name):
                return types.SimpleNamespace(name="Cpu" if name in fake.on_host else "Cuda")

            def io_binding(self):
                return super().io_binding() if self.provider == "CPUExecutionProvider" else Binding(self)

            def run_with_iobinding(self, binding, options):
                if not isinstance(binding, Binding):
                    return super().run_with_iobinding(binding, options)
                cupy.seen.append(("network", cupy.cuda.get_current_stream().ptr))
                fake.runs.append(options.get_run_config_entry("disable_synchronize_execution_providers"))
                graph = entry(options, "gpu_graph_id")
                if graph is not None:  # a replay ignores what is bound: it reads and writes where it was recorded
                    binding = fake.recorded.setdefault((self, graph), binding.frozen())
                return super().run_with_iobinding(getattr(binding, "real", binding))

        available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
        monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("Failed to load libx"), raising=False)
