"""`caraway validate`: every mistake of a spicepod at once."""

import argparse
import sys


def validate(options: argparse.Namespace) -> int:
    from caraway.cli.output import console, print_json
    from caraway.config.report import report

    found = report(options.path, options.set_runtime)
    if options.json:
        print_json(found.as_json())
    elif found.problems:
        console(stderr=True).print(found.text, style="red" if sys.stderr.isatty() else "")
    else:
        console().print(found.text)
    return found.exit_code
