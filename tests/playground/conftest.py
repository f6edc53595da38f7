import _thread
import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode, urlsplit

import pytest
from paths import REPOSITORY
from PIL import Image

PLAYGROUND = REPOSITORY / "docs" / "playground"
PATIENCE = 120  # seconds, for a machine that does much else


@pytest.fixture(scope="session", name="playground")
def _playground(load_script):
    """The build's script."""
    return load_script(PLAYGROUND / "build.py")


@pytest.fixture(scope="session", name="site")
def _site(playground, tmp_path_factory):
    """The page's folder, with what npm fetched before."""
    if not playground.RUNTIME.is_dir():
        pytest.skip("ONNX Runtime's files for browsers are not there: run npm ci in docs/playground")
    folder = tmp_path_factory.mktemp("playground")
    playground.build(folder)
    return folder


@pytest.fixture(scope="session", name="node")
def _node():
    return shutil.which("node") or pytest.skip("no Node.js on this machine")


class Files(SimpleHTTPRequestHandler):
    def __init__(self, *args, isolating, missing, **options):
        self.isolating, self.missing = isolating, missing
        super().__init__(*args, **options)

    def send_head(self):
        return self.send_error(404) if self.path == self.missing else super().send_head()

    def end_headers(self):
        if self.isolating:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    def process_request(self, *request):
        # a thread that coverage does not trace: two that begin to be traced at once fail, in Python 3.11
        _thread.start_new_thread(self.process_request_thread, request)

    def handle_error(self, *where):
        if not isinstance(sys.exception(), ConnectionError):  # the browser may leave before it has all
            super().handle_error(*where)


@pytest.fixture(scope="module", name="serve")
def _serve(site, repository):
    """Serve the page's folder, with photos: returns the server's address. A path can be missing."""
    photo = Image.open(repository / "examples" / "chameleon.jpg").convert("RGB").crop((64, 64, 192, 192))
    photo.save(site / "photo.png")
    photo.crop((40, 40, 104, 104)).save(site / "half.png")
    photo.crop((0, 0, 29, 22)).save(site / "small.png")
    photo.crop((0, 30, 128, 54)).resize((144, 27)).save(site / "wide.png")
    servers = []

    def serve(*, isolating=True, missing=None):
        handler = partial(Files, directory=site, isolating=isolating, missing=missing)
        server = Server(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module", name="origin")
def _origin(serve):
    return serve()


@pytest.fixture(name="visit")
def _visit(browser, origin):
    """Open the page; at the end nothing went wrong but what was expected, and no request left its origin."""
    contexts, troubles = [], []

    def visit(origin=origin, *, options=None, init="", expected=None, **parameters):
        context = browser.new_context(**options or {})
        context.add_init_script(init)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", lambda message: message.text == expected or troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))

        def inside(url):
            return urlsplit(url).scheme in ("blob", "data") or url.startswith(origin)

        context.on("request", lambda request: inside(request.url) or troubles.append(request.url))
        context.route(lambda url: not inside(url), lambda route: route.abort())
        page.goto(f"{origin}?{urlencode(parameters)}" if parameters else origin)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert troubles == []
