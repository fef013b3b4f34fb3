#!/usr/bin/env python3
"""Judges modelferry by the programs that own the formats.

    python judge.py SUITE --modelferry BIN --work DIR [--full]

Prints one JSON line for each check and a summary; exits 1 if a check failed or none ran. Needs the packages of
requirements.txt beside this file, and no network but for the suites that `cargo xtask peers` runs with --full alone.
"""

import argparse
import importlib
import os
import sys
import warnings

SUITES = ("ggml", "gguf", "hf", "llama_quantize", "msgpack", "numpy", "old_torch", "onnx", "onnx_names", "onnx_weights", "pytorch",
          "safetensors", "torch", "transformers")


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--modelferry", required=True, help="the binary to judge")
    parser.add_argument("--work", required=True, help="a folder for temporary files; a subfolder of it is replaced")
    parser.add_argument("--full", action="store_true", help="more cases, more values, and files over 4 GiB")
    options = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1",
                      HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
    os.umask(0o022)
    warnings.simplefilter("ignore")

    from common import Judge

    judge = Judge(options.suite, options.modelferry, options.work, options.full)
    importlib.import_module(f"suite_{options.suite}").run(judge)
    sys.exit(judge.finish())


if __name__ == "__main__":
    main()
