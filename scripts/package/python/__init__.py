"""calque quantizes language models. It is a program, not a module: run `calque` or `python -m calque`."""
import os
import sysconfig


def find_program():
    """The path of the program that was installed with this module."""
    folders = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", f"{os.name}_user"),
               os.path.join(os.path.dirname(os.path.dirname(__file__)), "bin")]  # the last: pip install --target
    for folder in folders:
        program = os.path.join(folder, "calque")
        if os.path.isfile(program):
            return program
    raise FileNotFoundError(f"calque is in none of {', '.join(folders)}; install the package again")
