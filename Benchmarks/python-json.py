# python-json.py [ROUNDS]: allocates as programs do that read and write JSON and use regular expressions.
import json
import re
import sys

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 100
data = {"list": [{"k%d" % i: i, "s": "x" * i, "l": [1, 2, 3.5, None, True]} for i in range(200)]}
for _ in range(rounds):
    text = json.dumps(data)
    json.loads(text)
    re.sub(r"k(\d+)", lambda match: match.group(1) + "y", text)
