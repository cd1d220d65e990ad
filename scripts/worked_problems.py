#!/usr/bin/env python3
"""Worked problems in mathematics, for the calibration texts. Every number is computed, so every solution is right.

Each function of PROBLEMS takes a random generator and returns one problem with its solution. They differ in subject, notation (plain
text, LaTeX, code-like lines) and way of telling, as texts of mathematics do.
"""

import math
import random
from fractions import Fraction

NAMES = ["Amina", "Bruno", "Chen", "Dalia", "Edgar", "Farida", "Goro", "Helene", "Iwan", "Joana", "Kofi", "Lena", "Mateo",
         "Noor", "Olga", "Pavel", "Quentin", "Rosa", "Sven", "Tariq", "Uma", "Vera", "Wanda", "Yusuf", "Zoe"]
GOODS = ["apples", "notebooks", "candles", "tiles", "stamps", "pencils", "eggs", "tickets", "bricks", "lamps", "oranges"]


def signed(value, symbol="", first=False):
    """A term of a sum: '+ 3x', '- x', or '3x' at its beginning."""
    if value == 0:
        return ""
    size = abs(value)
    body = symbol if size == 1 and symbol else f"{size}{symbol}"
    if first:
        return ("-" if value < 0 else "") + body
    return f" {'-' if value < 0 else '+'} {body}"


def polynomial(coefficients, variable="x", power="^"):
    """From the highest power down."""
    text = ""
    degree = len(coefficients) - 1
    for i, c in enumerate(coefficients):
        n = degree - i
        symbol = "" if n == 0 else variable if n == 1 else f"{variable}{power}{n}" if n < 10 else f"{variable}{power}{{{n}}}"
        text += signed(c, symbol, first=not text)
    return text or "0"


def shopping(r):
    a, b = r.sample(NAMES, 2)
    what, count, price, discount = r.choice(GOODS), r.randint(4, 30), r.randint(2, 19), r.choice([5, 10, 15, 20, 25, 30])
    total = count * price
    off = Fraction(total * discount, 100)
    paid, note = total - off, r.choice([500, 1000])
    return (f"Problem. {a} buys {count} {what} at {price} coins each. The shop takes {discount} % off the whole bill, and {a} pays with "
            f"a note of {note} coins, half of which belongs to {b}. How many coins does {a} get back, and how much of the change is {b}'s "
            f"if both want to have paid the same?\n\nSolution. The {what} cost {count} * {price} = {total} coins. The discount is "
            f"{discount}/100 * {total} = {float(off):g} coins, so {a} pays {total} - {float(off):g} = {float(paid):g} coins and gets "
            f"{note} - {float(paid):g} = {float(note - paid):g} coins back. Each has put in {note // 2} coins and should have paid "
            f"{float(paid):g} / 2 = {float(paid / 2):g} coins, so {b} receives {note // 2} - {float(paid / 2):g} = "
            f"{float(note // 2 - paid / 2):g} coins, which is half of the change, as it must be.")


def linear_equation(r):
    x, a, b, c = r.randint(-12, 12), r.randint(2, 9), r.randint(-20, 20), r.randint(-9, 9)
    while c == a or c == 0:
        c = r.randint(-9, 9)
    d = a * x + b - c * x
    left, right = polynomial([a, b]), polynomial([c, d])
    return (f"Solve {left} = {right}.\n\nStep 1. Bring the terms with x to the left: {polynomial([a - c, b])} = {d}.\n"
            f"Step 2. Bring the constant to the right: {polynomial([a - c, 0])} = {d - b}.\n"
            f"Step 3. Divide by {a - c}: x = {x}.\n\nCheck: the left side is {a} * ({x}) {'-' if b < 0 else '+'} {abs(b)} = {a * x + b}, and "
            f"the right side is {c} * ({x}) {'-' if d < 0 else '+'} {abs(d)} = {c * x + d}. They agree.")


def quadratic(r):
    p, q, a = r.randint(-9, 9), r.randint(-9, 9), r.choice([1, 1, 2, 3])
    b, c = -a * (p + q), a * p * q
    disc = b * b - 4 * a * c
    roots = f"x_1 = x_2 = {p}" if p == q else f"x_1 = {max(p, q)}, \\quad x_2 = {min(p, q)}"
    return (f"\\begin{{exercise}}\nFind all real solutions of ${polynomial([a, b, c])} = 0$.\n\\end{{exercise}}\n\n\\begin{{solution}}\n"
            f"Here $a = {a}$, $b = {b}$ and $c = {c}$, so the discriminant is\n\\[\n  D = b^2 - 4ac = {b * b} - 4 \\cdot {a} \\cdot ({c}) = "
            f"{disc} = {math.isqrt(disc)}^2.\n\\]\nBy the quadratic formula\n\\[\n  x = \\frac{{-b \\pm \\sqrt{{D}}}}{{2a}} = "
            f"\\frac{{{-b} \\pm {math.isqrt(disc)}}}{{{2 * a}}},\n  \\qquad\\text{{hence}}\\qquad {roots}.\n\\]\nBy Vieta the sum of the roots is "
            f"$-b/a = {-b // a}$ and their product $c/a = {c // a}$, which confirms the result.\n\\end{{solution}}")


def euclid(r):
    g = r.randint(2, 30)
    a, b = g * r.randint(20, 90), g * r.randint(5, 60)
    a, b = max(a, b), min(a, b)
    lines, x, y = [], a, b
    s, t, u, v = 1, 0, 0, 1
    while y:
        k = x // y
        lines.append(f"  {x} = {k} * {y} + {x - k * y}")
        x, y, s, t, u, v = y, x - k * y, t, s - k * t, v, u - k * v
    return (f"Q: What is the greatest common divisor of {a} and {b}, and how is it a combination of the two?\n\nA: Divide with remainder until "
            "nothing is left:\n" + "\n".join(lines) +
            f"\nThe last remainder that is not zero is {x}, so gcd({a}, {b}) = {x}. Going back through the lines gives\n  {x} = ({s}) * {a} + "
            f"({u}) * {b}.\nThe least common multiple follows: lcm = {a} * {b} / {x} = {a * b // x}.")


def derivative(r):
    c = [r.choice([-4, -3, -2, -1, 1, 2, 3, 5]) * (1 if i == 0 else r.randint(0, 3)) for i in range(r.randint(4, 5))]
    n = len(c) - 1
    d = [k * (n - i) for i, k in enumerate(c[:-1])]
    x = r.randint(-3, 3)
    value = sum(k * x ** (n - i) for i, k in enumerate(c))
    slope = sum(k * x ** (n - 1 - i) for i, k in enumerate(d))
    return (f"Let $f(x) = {polynomial(c)}$. Compute $f'(x)$ and the tangent to the graph of $f$ at $x_0 = {x}$.\n\nThe power rule "
            f"$(x^n)' = n x^{{n-1}}$, applied to each term, gives\n$$ f'(x) = {polynomial(d)}. $$\nAt the given point $f({x}) = {value}$ and "
            f"$f'({x}) = {slope}$. The tangent is $y = f(x_0) + f'(x_0)(x - x_0)$, that is,\n$$ y = {value} + ({slope})(x - ({x})) = "
            f"{polynomial([slope, value - slope * x])}. $$")


def integral(r):
    c = [r.randint(1, 5) * (3 - i) for i in range(3)]
    a, b = sorted(r.sample(range(-3, 6), 2))
    anti = [c[0] // 3, Fraction(c[1], 2), c[2], 0]
    at = lambda x: anti[0] * x ** 3 + anti[1] * x ** 2 + anti[2] * x
    first = polynomial([anti[0]] + [0, 0, 0])
    return (f"\\textbf{{A definite integral.}} We want\n\\[ I = \\int_{{{a}}}^{{{b}}} \\left({polynomial(c)}\\right) dx. \\]\nAn antiderivative is "
            f"$F(x) = {first} + {anti[1]} x^2 + {anti[2]} x$, since its derivative is the integrand. By the fundamental theorem\n"
            f"\\[ I = F({b}) - F({a}) = {at(b)} - \\left({at(a)}\\right) = {at(b) - at(a)}. \\]")


def fractions_sum(r):
    a, b, c = (Fraction(r.randint(1, 11), r.randint(2, 12)) for _ in range(3))
    common = math.lcm(a.denominator, b.denominator)
    na, nb = a.numerator * common // a.denominator, b.numerator * common // b.denominator
    return (f"Compute ({a} + {b}) * {c}.\n\nThe denominators {a.denominator} and {b.denominator} have the least common multiple {common}.\n"
            f"{a} + {b} = {na}/{common} + {nb}/{common} = {na + nb}/{common}" +
            (f" = {a + b}" if (a + b).denominator != common else "") + f".\nThen ({a + b}) * ({c}) = "
            f"{(a + b).numerator * c.numerator}/{(a + b).denominator * c.denominator} = {(a + b) * c}.\nAs a decimal number this is about "
            f"{float((a + b) * c):.4f}.")


def modular_power(r):
    base, exponent, m = r.randint(2, 30), r.randint(20, 400), r.choice([7, 11, 13, 17, 19, 23, 29, 31, 37, 101])
    lines, square, result, e, step = [], base % m, 1, exponent, 0
    while e:
        if e & 1:
            result = result * square % m
        lines.append(f"  bit {step}: {e & 1}   {base}^{2 ** step} = {square} (mod {m})   product so far: {result}")
        square, e, step = square * square % m, e >> 1, step + 1
    return (f"Find {base}^{exponent} mod {m} by repeated squaring.\n\nThe exponent in binary is {exponent:b}. Read its bits from the right; "
            "square at each step, and multiply where the bit is 1:\n" + "\n".join(lines) + f"\nSo {base}^{exponent} leaves the remainder "
            f"{result} on division by {m}. With Fermat's little theorem the exponent may first be reduced modulo {m - 1}, to "
            f"{exponent % (m - 1)}, because {m} is prime" + (".  The result is the same." if base % m else ", but here the base is divisible by it."))


def triangle(r):
    m, n = r.randint(2, 9), r.randint(1, 8)
    while n >= m:
        n = r.randint(1, 8)
    k = r.randint(1, 3)
    a, b, c = k * (m * m - n * n), 2 * k * m * n, k * (m * m + n * n)
    height = Fraction(a * b, c)
    return (f"A right triangle has legs of {a} cm and {b} cm. Find its hypotenuse, its area, its perimeter and the height on the hypotenuse.\n\n"
            f"By the theorem of Pythagoras c^2 = {a}^2 + {b}^2 = {a * a} + {b * b} = {c * c}, so c = {c} cm. The area is half the product of the "
            f"legs, {a} * {b} / 2 = {a * b / 2:g} cm^2, and the perimeter {a} + {b} + {c} = {a + b + c} cm. The area is also c * h / 2; hence "
            f"h = {a} * {b} / {c} = {height} cm, about {float(height):.2f} cm. The angle opposite the leg of {a} cm is arctan({a}/{b}), about "
            f"{math.degrees(math.atan2(a, b)):.1f} degrees.")


def dice(r):
    n = r.randint(2, 3)
    target = r.randint(n + 1, 6 * n - 1)
    ways = sum(1 for i in range(6 ** n) if sum(i // 6 ** j % 6 + 1 for j in range(n)) == target)
    p = Fraction(ways, 6 ** n)
    return (f"{['Two', 'Three'][n - 2]} fair dice are thrown. What is the probability that the sum is {target}?\n\nThere are 6^{n} = {6 ** n} "
            f"outcomes, all equally likely. Counting those with sum {target} gives {ways}. The probability is {ways}/{6 ** n} = {p}, about "
            f"{100 * float(p):.2f} %. In {6 ** n * 10} throws one expects it {ways * 10} times; the standard deviation of that number is "
            f"sqrt(n p (1 - p)) = {math.sqrt(6 ** n * 10 * float(p) * (1 - float(p))):.2f}.")


def committee(r):
    w, m, k = r.randint(4, 9), r.randint(4, 9), r.randint(3, 4)
    j = r.randint(1, k - 1)
    ways = math.comb(w, j) * math.comb(m, k - j)
    total = math.comb(w + m, k)
    return (f"From {w} red and {m} blue balls, {k} are drawn without putting any back. How likely are exactly {j} red ones?\n\nThere are "
            f"\\binom{{{w + m}}}{{{k}}} = {total} ways to draw {k} of {w + m} balls. For exactly {j} red balls choose {j} of {w} and {k - j} of "
            f"{m}:\n  \\binom{{{w}}}{{{j}}} \\binom{{{m}}}{{{k - j}}} = {math.comb(w, j)} * {math.comb(m, k - j)} = {ways}.\nThe probability is "
            f"{ways} / {total} = {Fraction(ways, total)}, about {ways / total:.4f}.")


def matrix(r):
    a, b, c, d = (r.randint(-6, 6) for _ in range(4))
    while a * d == b * c:
        a, d = r.randint(-6, 6), r.randint(-6, 6)
        b, c = r.randint(-6, 6), r.randint(-6, 6)
    det, x, y = a * d - b * c, r.randint(-5, 5), r.randint(-5, 5)
    return ("Let\n\\[ A = \\begin{pmatrix} %d & %d \\\\ %d & %d \\end{pmatrix}, \\qquad v = \\begin{pmatrix} %d \\\\ %d \\end{pmatrix}. \\]\n"
            % (a, b, c, d, a * x + b * y, c * x + d * y) +
            f"Solve $A u = v$.\n\nThe determinant is $\\det A = ({a})({d}) - ({b})({c}) = {det} \\neq 0$, so $A$ is invertible and\n" +
            "\\[ A^{-1} = \\frac{1}{%d} \\begin{pmatrix} %d & %d \\\\ %d & %d \\end{pmatrix}. \\]\n" % (det, d, -b, -c, a) +
            "Therefore $u = A^{-1} v = \\begin{pmatrix} %d \\\\ %d \\end{pmatrix}$. " % (x, y) +
            f"The characteristic polynomial of $A$ is $\\lambda^2 {signed(-(a + d), chr(92) + 'lambda').strip() or '+ 0'} {signed(det).strip()}$; its "
            f"trace is ${a + d}$.")


def bases(r):
    n, base = r.randint(50, 5000), r.choice([2, 3, 5, 7, 8, 16])
    lines, digits, x = [], [], n
    while x:
        lines.append(f"{x:6} / {base:2} = {x // base:6}   remainder {x % base}")
        digits.append("0123456789abcdef"[x % base])
        x //= base
    text = "".join(reversed(digits))
    back = " + ".join(f"{int(d, 16)}*{base}^{len(text) - 1 - i}" for i, d in enumerate(text) if d != "0")
    return (f"Write {n} in base {base}.\n\n" + "\n".join(lines) + f"\n\nReading the remainders upwards: {n} = ({text})_{base}.\nCheck: {back} = {n}.")


def progression(r):
    a, d, n, q = r.randint(1, 20), r.randint(2, 11), r.randint(10, 60), r.choice([2, 3])
    last, m = a + (n - 1) * d, r.randint(5, 9)
    return (f"(a) Sum the first {n} terms of {a}, {a + d}, {a + 2 * d}, ...  (b) Sum the first {m} terms of {a}, {a * q}, {a * q * q}, ...\n\n"
            f"(a) The difference is {d}, so the last term is {a} + {n - 1} * {d} = {last}. Pair the first with the last: the sum is "
            f"{n} * ({a} + {last}) / 2 = {n * (a + last) // 2}.\n(b) The quotient is {q}. If S is the sum, then {q}S - S is the first term that is "
            f"left out minus the first term, {a * q ** m} - {a}; so S = {a * q ** m - a} / {q - 1} = {(a * q ** m - a) // (q - 1)}.")


def statistics(r):
    data = [r.randint(1, 40) for _ in range(r.randint(6, 9))]
    n, total = len(data), sum(data)
    mean = Fraction(total, n)
    squares = sum((Fraction(x) - mean) ** 2 for x in data)
    ordered = sorted(data)
    median = ordered[n // 2] if n % 2 else Fraction(ordered[n // 2 - 1] + ordered[n // 2], 2)
    return (f"{r.choice(NAMES)} measured {', '.join(map(str, data))}. Give mean, median, variance and standard deviation.\n\nSum: {total}; number "
            f"of values: {n}; mean: {total}/{n} = {float(mean):.3f}.\nIn order: {', '.join(map(str, ordered))}; median: {float(median):g}.\nThe "
            f"squared deviations from the mean add up to {float(squares):.3f}. The variance of the sample is {float(squares):.3f} / {n - 1} = "
            f"{float(squares) / (n - 1):.3f}, its root, the standard deviation, {math.sqrt(float(squares) / (n - 1)):.3f}, and the standard error "
            f"of the mean {math.sqrt(float(squares) / (n - 1) / n):.3f}.")


def interest(r):
    capital, rate, years = 100 * r.randint(5, 90), r.choice([2, 3, 4, 5, 6]), r.randint(3, 15)
    end = capital * (1 + rate / 100) ** years
    return (f"{r.choice(NAMES)} puts {capital} euros into an account that pays {rate} % a year. How much is there after {years} years, and when has the "
            f"money doubled?\n\nEach year multiplies the amount by {1 + rate / 100:.2f}. After {years} years it is {capital} * "
            f"{1 + rate / 100:.2f}^{years} = {end:.2f} euros; simple interest would give {capital * (1 + rate * years / 100):.2f}. It doubles when "
            f"{1 + rate / 100:.2f}^t = 2, so t = ln 2 / ln {1 + rate / 100:.2f} = {math.log(2) / math.log(1 + rate / 100):.1f} years. (The rule of 70 "
            f"says {70 / rate:.1f}.)")


def factors(r):
    n = math.prod(r.choice([2, 2, 3, 3, 5, 7, 11, 13]) for _ in range(r.randint(4, 6)))
    powers, x, p, lines = {}, n, 2, []
    while x > 1:
        while x % p == 0:
            lines.append(f"{x} = {p} * {x // p}")
            powers[p] = powers.get(p, 0) + 1
            x //= p
        p += 1
    product = " * ".join(f"{q}^{e}" if e > 1 else str(q) for q, e in powers.items())
    count = math.prod(e + 1 for e in powers.values())
    phi = math.prod((q - 1) * q ** (e - 1) for q, e in powers.items())
    return (f"Factor {n} into primes; how many divisors does it have?\n\n" + "\n".join(lines) + f"\n\nHence {n} = {product}. A divisor takes each "
            f"prime with an exponent from 0 to that in the factorization, so there are {' * '.join(str(e + 1) for e in powers.values())} = {count} "
            f"of them. Euler's function is phi({n}) = {phi}.")


def train(r):
    u, v, t = r.randint(40, 90), r.randint(50, 120), r.randint(2, 6)
    distance = (u + v) * t
    return (f"Two trains leave towns that are {distance} km apart at the same time and run towards each other, one at {u} km/h and the other at "
            f"{v} km/h. A bird flies at 150 km/h from one to the other and back until they meet. Where do they meet, and how far does the bird "
            f"fly?\n\nLet's think step by step. The distance between the trains shrinks by {u} + {v} = {u + v} km in each hour. So they meet after "
            f"{distance} / {u + v} = {t} hours. By then the first has run {u} * {t} = {u * t} km and the second {v} * {t} = {v * t} km; together "
            f"that is {distance} km, as it should be. The bird needs no series: it flies for {t} hours, and 150 * {t} = {150 * t} km.")


def inequality(r):
    a, b = r.randint(2, 9), r.randint(-15, 15)
    c = r.randint(-30, 30)
    edge = Fraction(c - b, -a)
    return (f"For which real $x$ is ${polynomial([-a, b])} \\le {c}$?\n\nSubtract ${b}$ on both sides: $-{a}x \\le {c - b}$. Division by the negative "
            f"number $-{a}$ turns the sign around: $x \\ge {edge}$. The set of solutions is $\\left[{edge}, \\infty\\right)$. To test it, take "
            f"$x = {math.ceil(edge)}$: the left side is ${-a * math.ceil(edge) + b}$, which is indeed at most ${c}$; and "
            f"$x = {math.ceil(edge) - 1 if math.ceil(edge) == edge else math.floor(edge)}$ gives "
            f"${-a * (math.ceil(edge) - 1 if math.ceil(edge) == edge else math.floor(edge)) + b}$, which is not.")


PROOFS = [
    "Theorem. The square root of 2 is irrational.\n\nProof. Suppose sqrt(2) = p/q with integers p, q that have no common factor. Squaring gives "
    "p^2 = 2 q^2, so p^2 is even, and then p is even, because the square of an odd number is odd. Write p = 2r. Then 4 r^2 = 2 q^2, so "
    "q^2 = 2 r^2, and q is even as well. But then p and q have the common factor 2, against the assumption. QED.\n\nRemark. The same argument works "
    "for every prime in place of 2: if a prime divides p^2, it divides p.",
    "Theorem (Euclid). There are infinitely many primes.\n\nProof. Let p_1, ..., p_n be any finite list of primes, and let N = p_1 p_2 ... p_n + 1. "
    "Some prime p divides N, because N > 1. If p were in the list, it would divide both N and the product, hence also their difference 1, which is "
    "impossible. So no finite list contains all primes. QED.\n\nNote what the proof does not say: N itself need not be prime. For example "
    "2*3*5*7*11*13 + 1 = 30031 = 59 * 509.",
    "\\begin{theorem}\nFor every natural number $n$ we have $1 + 2 + \\dots + n = \\frac{n(n+1)}{2}$.\n\\end{theorem}\n\n\\begin{proof}\nBy induction on "
    "$n$. For $n = 1$ both sides are $1$. Assume the formula for some $n$. Then\n\\begin{align*}\n  1 + 2 + \\dots + n + (n+1)\n    &= \\frac{n(n+1)}{2} + "
    "(n+1) \\\\\n    &= \\frac{n(n+1) + 2(n+1)}{2} = \\frac{(n+1)(n+2)}{2},\n\\end{align*}\nwhich is the formula for $n+1$.\n\\end{proof}",
    "\\begin{lemma}[AM-GM for two numbers]\nFor $a, b \\ge 0$ we have $\\sqrt{ab} \\le \\frac{a+b}{2}$, with equality exactly if $a = b$.\n\\end{lemma}\n\n"
    "\\begin{proof}\nA square is never negative: $0 \\le (\\sqrt a - \\sqrt b)^2 = a - 2\\sqrt{ab} + b$. Add $2\\sqrt{ab}$ and divide by $2$. Equality holds "
    "if and only if $\\sqrt a = \\sqrt b$.\n\\end{proof}\n\nAs an application, among all rectangles with perimeter $P$ the square has the largest area: "
    "with sides $a$ and $b$ the area is $ab \\le \\left(\\frac{a+b}{2}\\right)^2 = P^2/16$.",
    "Claim. A connected graph with n vertices has at least n - 1 edges.\n\nProof. Start with the n vertices and no edges: there are n components. Add the "
    "edges one after the other. An edge joins two vertices either of one component, and then the number of components stays, or of two, and then it "
    "falls by one. At the end there is one component, so at least n - 1 edges have lowered the number. Equality means that no edge ever joined two "
    "vertices of one component, that is, the graph has no cycle; such a graph is called a tree.",
    "Theorem. The harmonic series 1 + 1/2 + 1/3 + 1/4 + ... diverges.\n\nProof. Group the terms:\n  1 + 1/2 + (1/3 + 1/4) + (1/5 + ... + 1/8) + (1/9 + ... + "
    "1/16) + ...\nThe k-th bracket has 2^k terms, and each of them is at least 1/2^(k+1). So every bracket is at least 1/2, and the partial sums exceed "
    "every bound. The growth is slow, however: the sum of the first n terms lies between ln(n + 1) and 1 + ln n, so it takes more than 12 thousand terms "
    "to pass 10, and more than 1.5 * 10^43 to pass 100.",
    "\\begin{theorem}[Intermediate values]\nLet $f\\colon [a,b] \\to \\mathbb{R}$ be continuous with $f(a) < 0 < f(b)$. Then $f(c) = 0$ for some $c \\in "
    "(a,b)$.\n\\end{theorem}\n\n\\begin{proof}\nHalve the interval again and again. Put $a_0 = a$, $b_0 = b$ and $m_n = (a_n + b_n)/2$. If $f(m_n) = 0$, we are "
    "done. If $f(m_n) < 0$, let $a_{n+1} = m_n$, $b_{n+1} = b_n$; otherwise let $a_{n+1} = a_n$, $b_{n+1} = m_n$. Then $f(a_n) < 0 < f(b_n)$ for all $n$, "
    "the sequence $(a_n)$ rises, $(b_n)$ falls, and $b_n - a_n = (b-a)/2^n \\to 0$. Both converge to the same $c$. By continuity $f(c) = \\lim f(a_n) \\le 0$ "
    "and $f(c) = \\lim f(b_n) \\ge 0$, so $f(c) = 0$.\n\\end{proof}",
    "Why is 0.999... equal to 1? The symbol 0.999... means the limit of 0.9, 0.99, 0.999 and so on. The n-th of these numbers is 1 - 10^(-n). Its distance "
    "from 1 is 10^(-n), which becomes smaller than any positive number. The limit is therefore 1. There is no number between 0.999... and 1: such a "
    "number would have a positive distance from 1, and from some n on 1 - 10^(-n) would lie beyond it.",
    "Proposition. Every group of order 4 is commutative.\n\nProof. Let G be a group of order 4. By Lagrange's theorem the order of each element divides 4. If "
    "some element a has order 4, then G = {e, a, a^2, a^3} is cyclic and hence commutative. Otherwise every element x other than e has order 2, so "
    "x = x^(-1) for all x. Then for all x, y we get xy = (xy)^(-1) = y^(-1) x^(-1) = yx. QED. The two cases are the cyclic group Z/4 and Klein's group "
    "Z/2 x Z/2, and they are not isomorphic, because only one of them has an element of order 4.",
    "How long does binary search take? Let T(n) be the largest number of comparisons in a sorted list of n elements. One comparison with the middle element "
    "leaves at most floor(n/2) elements, so T(1) = 1 and T(n) <= 1 + T(floor(n/2)). By induction T(n) <= 1 + floor(log2 n): if 2^k <= n < 2^(k+1), then "
    "2^(k-1) <= floor(n/2) < 2^k, and T(n) <= 1 + 1 + (k - 1) = k + 1. A list of a million elements needs at most 20 comparisons, one of a "
    "billion at most 30.",
    "Theorem (Cauchy-Schwarz). For real numbers a_1, ..., a_n and b_1, ..., b_n,\n  (a_1 b_1 + ... + a_n b_n)^2 <= (a_1^2 + ... + a_n^2)(b_1^2 + ... + b_n^2)."
    "\n\nProof. Consider p(t) = sum (a_i t + b_i)^2 = A t^2 + 2 B t + C with A = sum a_i^2, B = sum a_i b_i, C = sum b_i^2. It is a sum of squares, so it is never "
    "negative. If A = 0, all a_i vanish and there is nothing to show. Otherwise the quadratic p has at most one real zero, so its discriminant "
    "4 B^2 - 4 A C is not positive, which is the claim. Equality holds if p has a zero t, that is, if b_i = -t a_i for all i.",
    "Bayes' rule, by an example. A test finds 99 % of the ill and is wrong for 5 % of the healthy; 1 % of the people are ill. Somebody's test is positive. "
    "Among 10,000 people 100 are ill, and 99 of them test positive. Of the 9,900 healthy, 495 test positive as well. So of 99 + 495 = 594 positive tests only "
    "99 belong to ill people: the probability is 99/594 = 1/6. In symbols, P(I|+) = P(+|I) P(I) / (P(+|I) P(I) + P(+|H) P(H)) = 0.99 * 0.01 / (0.99 * 0.01 + "
    "0.05 * 0.99) = 1/6. A second, independent positive test raises it to about 0.80.",
]

PROBLEMS = [shopping, linear_equation, quadratic, euclid, derivative, integral, fractions_sum, modular_power, triangle, dice, committee,
            matrix, bases, progression, statistics, interest, factors, train, inequality]


def documents(count, seed):
    """`count` documents: the proofs, and problems of all subjects in turn, two to four in a document."""
    r = random.Random(seed)
    made = list(PROOFS)
    order = []
    while len(made) < count:
        if len(order) < 4:
            order += r.sample(PROBLEMS, len(PROBLEMS))
        number = r.randint(1, 3)
        made.append("\n\n".join(problem(r) for problem in order[:number]))
        del order[:number]
    r.shuffle(made)
    return made


if __name__ == "__main__":
    print("\n\n\n".join(documents(60, 1)))
