"""Examples of each command, which its help shows; a test parses them all."""

EXAMPLES = {
    "upscale": (
        "pidsampler upscale photo.jpg -o large.png",
        "pidsampler upscale photos -o results/ --scheduler dpmpp-2m@karras:8 --seed 7",
        "pidsampler upscale photo.jpg -o again.png --like large.png",
        "pidsampler upscale - -o - < photo.jpg > large.png",
        "pidsampler upscale photo.jpg -o out.png --scheduler my.py:heun@uniform:8 --json",
    ),
    "table": (
        "pidsampler table heun@uniform:8",
        "pidsampler table my.py:heun --timesteps @list.txt",
        "pidsampler table 'unipc(order=3)@karras(rho=5):12' --json",
    ),
    "inspect": (
        "pidsampler inspect tiny --verify",
        "pidsampler inspect large.png",
        "pidsampler inspect large.png --json",
        "pidsampler inspect sampler.onnx",
    ),
    "export": ("pidsampler export --backbone sdxl --type 2kto4k --random-weights 0 --reduced -o folder",),
    "compile": (
        "pidsampler compile tiny --size 512x512 -o sampler.onnx",
        "pidsampler compile tiny --scheduler heun@uniform:8 --size 512x512 --noise philox -o sampler.onnx",
    ),
    "study": ("pidsampler study study.toml -o results --dry-run", "pidsampler study study.toml -o results"),
    "search": ("pidsampler search a.jpg b.jpg c.jpg -o list.txt --scheduler heun --calls 6",),
    "learn": ("pidsampler learn a.jpg b.jpg c.jpg -o table.json --calls 6",),
    "bench": (
        "pidsampler bench --quick",
        "pidsampler bench my.py:mine@uniform:8 --against dpmpp-2m@uniform:8 --model tiny",
        "pidsampler bench --variants 'flow-sde*' --sizes 1024 -o rows.csv",
        "pidsampler bench --variants 'flow-sde*' --sizes 1024 --compare rows.csv",
    ),
    "doctor": ("pidsampler doctor", "pidsampler doctor --device cuda"),
    "models": ("pidsampler models",),
    "schedulers": ("pidsampler schedulers", "pidsampler schedulers 'DPM++ 2M'"),
    "timesteps": ("pidsampler timesteps", "pidsampler timesteps karras --json"),
}
