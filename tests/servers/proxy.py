# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The s3cryptfs authors
"""A proxy before a store that delays, counts and damages requests (nginx with Lua; see proxy.conf)."""
import os
import shutil
import time
import urllib.parse
import urllib.request

from . import base

HERE = os.path.dirname(os.path.abspath(__file__))


class Proxy:
    def __init__(self, folder, upstream, latency_ms=0, tls=None):
        """tls: a folder with cert.pem and key.pem; a new certificate otherwise."""
        if not shutil.which("nginx") and not os.access("/usr/sbin/nginx", os.X_OK):
            raise base.Unavailable("nginx is not installed (Debian: nginx-light libnginx-mod-http-lua)")
        if not os.path.exists("/usr/lib/nginx/modules/ngx_http_lua_module.so"):
            raise base.Unavailable("nginx has no Lua module (Debian: libnginx-mod-http-lua)")
        os.makedirs(folder, exist_ok=True)
        if tls:
            os.symlink(os.path.abspath(tls), os.path.join(folder, "tls"))
        else:
            base.make_certificate(os.path.join(folder, "tls"))
        self.tls = os.path.join(folder, "tls")
        self.cert = os.path.join(self.tls, "cert.pem")
        self.port, self.tls_port = base.free_port(), base.free_port()
        with open(os.path.join(HERE, "proxy.conf")) as f:
            text = f.read().replace("@PORT@", str(self.port)).replace("@TLS_PORT@", str(self.tls_port))
        if os.geteuid() == 0:
            text = "user root;\n" + text
        with open(os.path.join(folder, "proxy.conf"), "w") as f:
            f.write(text)
        env = dict(os.environ, UPSTREAM=upstream, LATENCY_MS=str(latency_ms))
        self.process = base.start(["/usr/sbin/nginx", "-p", folder, "-e", "error.log", "-c", os.path.join(folder, "proxy.conf")],
                                  os.path.join(folder, "out.log"), env=env)
        base.wait_port(self.port, process=self.process)
        self.endpoint = "https://localhost:%d" % self.tls_port
        self.http_endpoint = "http://localhost:%d" % self.port

    def _ask(self, what):
        with urllib.request.urlopen("http://127.0.0.1:%d/__%s" % (self.port, what), timeout=10) as reply:
            return reply.read().decode()

    def reset(self):
        self._ask("reset")

    def counts(self):
        """Requests by kind and bytes since the last reset. The log phase comes after the reply: settle first."""
        time.sleep(0.1)
        return {k: int(v) for k, v in (line.split() for line in self._ask("count").splitlines())}

    def requests(self):
        """The last requests: kind, uri, range, status, bytes in, bytes out, seconds."""
        return self._ask("requests")

    def latency(self, ms):
        self._ask("latency?ms=%g" % ms)

    def fault(self, kind, **how):
        self._ask("fault?" + urllib.parse.urlencode(dict(how, kind=kind)))

    def stop(self):
        base.stop(self.process)
