#!/usr/bin/env python3
"""Checks that every error code of the sources has its row in src/core/error_table.cpp, that every row is used,
and that the row's exit code is that of the ErrorKind it is thrown with. Prints each fault; exits 1 if there is one."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "src/core/error_table.cpp"
EXIT_CODES = {"kInternal": 1, "kConfig": 2, "kInput": 3, "kResource": 4, "kNumerical": 5, "kVerification": 6}


def rows():
    return [(code, int(exit_code)) for code, exit_code in re.findall(r'\{"(E\d{3})", (\d+),', TABLE.read_text())]


def faults():
    explained = dict(rows())
    codes = [code for code, _ in rows()]
    if any(code >= after for code, after in zip(codes, codes[1:])):
        yield f"{TABLE.name}: rows are not in ascending order, or two have one code"
    used = set()
    for folder in ("include/calque", "src"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in (".h", ".cpp", ".cu") or path.name.startswith("error_table"):
                continue
            where = path.relative_to(ROOT).as_posix()
            text = path.read_text()
            for code in sorted(set(re.findall(r'"(E\d{3})"', text))):
                used.add(code)
                if code not in explained:
                    yield f"{where}: {code} has no row in {TABLE.relative_to(ROOT)}"
            for kind, code in set(re.findall(r'ErrorKind::(k\w+),\s*"(E\d{3})"', text)):
                if explained.get(code, EXIT_CODES[kind]) != EXIT_CODES[kind]:
                    yield f"{where}: {code} is thrown as {kind}, its row says exit code {explained[code]}"
    for code in explained:
        if code not in used:
            yield f"{TABLE.relative_to(ROOT)}: nothing uses {code}"


def main():
    found = list(faults())
    print("\n".join(found) or f"{len(rows())} codes are explained")
    return 1 if found else 0


sys.exit(main())
