# SPDX-License-Identifier: Apache-2.0
"""frida-hit PROGRAM ARGS...: runs hit-loop under frida's interceptor with empty callbacks in C, on what hit-loop calls probed_*.

With FRIDA_LEAVE=1 in the environment, on returns too. Needs the package "frida" (PyPI).
"""
import os
import sys
import threading

import frida

SCRIPT = """
const code = new CModule(`
#include <gum/guminterceptor.h>
void on_enter(GumInvocationContext *context) {}
void on_leave(GumInvocationContext *context) {}
`);
const callbacks = { onEnter: code.on_enter };
if (%s) callbacks.onLeave = code.on_leave;
const functions = Process.enumerateModules()[0].enumerateSymbols().filter(it => it.name.startsWith('probed_'));
for (const it of functions) Interceptor.attach(it.address, callbacks);
send(functions.length);
"""

ended = threading.Event()
pid = frida.spawn(sys.argv[1:], stdio="inherit")
session = frida.attach(pid)
session.on("detached", lambda *_: ended.set())
script = session.create_script(SCRIPT % ("true" if os.environ.get("FRIDA_LEAVE") else "false"))
script.on("message", lambda message, _: message.get("payload") != 13 and print(message, file=sys.stderr))
script.load()
frida.resume(pid)
ended.wait()
