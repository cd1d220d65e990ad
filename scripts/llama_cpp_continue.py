#!/usr/bin/env python3
"""Loads GGUF files in llama.cpp and continues a prompt greedily: does the file work where it will be used?

    pip install llama-cpp-python
    scripts/llama_cpp_continue.py out/demo-Q4_K_M.gguf out/demo-Q2_K.gguf --prompt "It was a"

Prints each file's ids of the prompt and its continuation. Not part of the tests: llama-cpp-python compiles for minutes.
"""
import argparse

from llama_cpp import Llama


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--prompt", default="It was a")
    parser.add_argument("--tokens", type=int, default=24)
    options = parser.parse_args()
    for file in options.files:
        model = Llama(file, n_ctx=512, verbose=False)
        answer = model(options.prompt, max_tokens=options.tokens, temperature=0)
        print(f"{file}: {model.tokenize(options.prompt.encode())} {options.prompt}{answer['choices'][0]['text']!r}", flush=True)


if __name__ == "__main__":
    main()
