#pragma once

#include "ggml/types/lanes.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {

// A group whose largest magnitude is below this counts as all zero.
constexpr float kZeroGroup = 1e-15f;

// x ~ scale * code with codes -limit..limit - 1; the scale may be negative.
struct SymmetricFit {
  Floats scale;
  // x * inverse, rounded and clamped, is the code. NaN (the lowest code) where the group is zero.
  Floats inverse;
};

inline Floats symmetric_code(Floats x, Floats inverse, float limit) {
  return nearest_code(inverse * x, broadcast(-limit), broadcast(limit - 1));
}

// Sums over a group with its codes l: A = sum w x l and B = sum w l^2. A / B is the best scale for
// these codes, and A^2 / B what it takes off the squared error.
struct Projection {
  Floats A{};
  Floats B{};

  void add(Floats w, Floats x, Floats l) {
    A += w * x * l;
    B += w * l * l;
  }
  Floats scale() const { return B != 0 ? A / B : Floats{}; }
};

template <int N>
inline Projection project(const Lanes<N>& x, const Lanes<N>& w, Floats inverse, float limit) {
  Projection sums;
  for (int i = 0; i < N; ++i) sums.add(w[i], x[i], symmetric_code(x[i], inverse, limit));
  return sums;
}

// The best of 19 scales around the one that sends the extreme to -limit, each after a weighted
// least-squares fit (formats_gguf.md 3.2).
template <int N>
SymmetricFit fit_symmetric(const Lanes<N>& x, const Lanes<N>& w, float limit) {
  const Floats extreme = signed_extreme(x);
  Floats inverse = -limit / extreme;
  Projection sums = project(x, w, inverse, limit);
  Floats scale = sums.scale();
  Floats gain = scale * sums.A;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    const Floats trial = -(limit + 0.1f * static_cast<float>(step)) / extreme;
    sums = project(x, w, trial, limit);
    const Ints better = (sums.B > 0) & (sums.A * sums.A > gain * sums.B);
    scale = better ? sums.A / sums.B : scale;
    gain = better ? scale * sums.A : gain;
    inverse = better ? trial : inverse;
  }
  const Ints zero = magnitude(extreme) < kZeroGroup;
  return {zero ? Floats{} : scale, zero ? broadcast(__builtin_nanf("")) : inverse};
}

// Changes one code at a time while that lowers the squared error, at most five passes. `round`
// turns x / scale into an allowed code.
template <int N, typename Round>
void improve_codes(const Lanes<N>& x, const Lanes<N>& w, Round round, bool demand_positive_rest,
                   Projection& sums, Lanes<N>& codes) {
  for (int pass = 0; pass < 5; ++pass) {
    Ints changed{};
    for (int i = 0; i < N; ++i) {
      Projection rest{sums.A - w[i] * x[i] * codes[i], sums.B - w[i] * codes[i] * codes[i]};
      Ints better = rest.A > 0;
      if (demand_positive_rest) better &= rest.B > 0;
      const Floats code = round(x[i] * rest.B / rest.A);
      better &= code != codes[i];
      rest.add(w[i], x[i], code);
      better &= (rest.B > 0) & (rest.A * rest.A * sums.B > sums.A * sums.A * rest.B);
      codes[i] = better ? code : codes[i];
      sums.A = better ? rest.A : sums.A;
      sums.B = better ? rest.B : sums.B;
      changed |= better;
    }
    if (!any(changed)) return;
  }
}

template <int N>
struct CodedFit {
  Floats scale;
  Lanes<N> codes;
};

// One scale, then single codes changed; weights x^2 (formats_gguf.md 3.3). Codes -limit..limit - 1.
template <int N>
CodedFit<N> fit_symmetric_by_codes(const Lanes<N>& x, float limit) {
  const Lanes<N> w = squares(x);
  const Floats extreme = signed_extreme(x);
  const Ints zero = magnitude(extreme) < kZeroGroup;
  const Floats inverse = -limit / extreme;
  CodedFit<N> fit;
  Projection sums;
  for (int i = 0; i < N; ++i) {
    fit.codes[i] = symmetric_code(x[i], inverse, limit);
    sums.add(w[i], x[i], fit.codes[i]);
  }
  const auto round = [limit](Floats v) {
    return nearest_code(v, broadcast(-limit), broadcast(limit - 1));
  };
  improve_codes(x, w, round, false, sums, fit.codes);
  fit.scale = zero ? Floats{} : (sums.B > 0 ? sums.A / sums.B : Floats{});
  for (int i = 0; i < N; ++i) fit.codes[i] = zero ? broadcast(-limit) : fit.codes[i];
  return fit;
}

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
