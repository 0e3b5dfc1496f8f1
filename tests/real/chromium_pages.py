"""chromium_pages.py DIRECTORY: serves its page.html on a port of its own, which it prints, and a picture
that comes only when the page has asked for /done: until then the page counts as loading."""

import functools
import http.server
import sys
import threading

done = threading.Event()


class Pages(http.server.SimpleHTTPRequestHandler):
    """A page and its picture; one browser at a time."""

    def do_GET(self):
        if self.path == "/page.html":
            done.clear()
            super().do_GET()
            return
        if self.path == "/done":
            done.set()
        elif self.path == "/wait":
            done.wait(100)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Pages, directory=sys.argv[1]))
print(server.server_address[1], flush=True)
server.serve_forever()
