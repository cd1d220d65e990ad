#pragma once

#include "ggml/types/symmetric_fit.h"

namespace calque::ggml::inline CALQUE_GGML_ISA {

// How the scale of an affine group is searched: inverse scales (first + step * i + highest) / range
// for i = 0..steps.
struct AffineSearch {
  float highest;  // codes 0..highest
  float first;
  float step;
  int steps;
};

// x ~ scale * code - minimum, minimum >= 0.
struct AffineFit {
  Floats scale;
  Floats minimum;
  // (x - origin) * inverse, rounded and clamped, is the code. 0 where the group has one code only.
  Floats inverse;
  Floats origin;
};

inline Floats affine_code(Floats x, Floats inverse, Floats origin, float highest) {
  return nearest_code(inverse * (x - origin), Floats{}, broadcast(highest));
}

template <bool Absolute, int N>
inline Floats affine_error(const Lanes<N>& x, const Lanes<N>& w, const Lanes<N>& codes,
                           Floats scale, Floats offset) {
  Floats error{};
  for (int i = 0; i < N; ++i) {
    const Floats difference = scale * codes[i] + offset - x[i];
    error += w[i] * (Absolute ? magnitude(difference) : difference * difference);
  }
  return error;
}

// What a group is apart from its codes.
struct GroupMoments {
  Floats lowest;  // at most 0: a minimum is never above zero
  Floats highest;
  Floats w{};
  Floats wx{};
};

template <int N>
GroupMoments moments_of(const Lanes<N>& x, const Lanes<N>& w) {
  GroupMoments m{x[0], x[0]};
  for (int i = 0; i < N; ++i) {
    m.lowest = at_most(x[i], m.lowest);
    m.highest = at_least(x[i], m.highest);
    m.w += w[i];
    m.wx += w[i] * x[i];
  }
  m.lowest = m.lowest > 0 ? Floats{} : m.lowest;
  return m;
}

// Codes from (x - origin) * inverse, read as scale * code + offset.
struct AffineTrial {
  Floats inverse;
  Floats origin;
  Floats scale;
  Floats offset;
  Floats error;
};

// The whole range in equal steps.
template <bool Absolute, int N>
AffineTrial trial_of_range(const Lanes<N>& x, const Lanes<N>& w, const GroupMoments& m,
                           float highest) {
  AffineTrial trial;
  trial.inverse = highest / (m.highest - m.lowest);
  trial.origin = trial.offset = m.lowest;
  trial.scale = 1.0f / trial.inverse;
  Lanes<N> codes;
  for (int i = 0; i < N; ++i) codes[i] = affine_code(x[i], trial.inverse, trial.origin, highest);
  trial.error = affine_error<Absolute>(x, w, codes, trial.scale, trial.offset);
  return trial;
}

// Weighted sums over a group and its codes l.
struct AffineSums {
  Floats wl{};
  Floats wll{};
  Floats wlx{};

  void add(Floats w, Floats x, Floats l) {
    const Floats weighted = w * l;
    wl += weighted;
    wll += weighted * l;
    wlx += weighted * x;
  }
};

// Scale and offset of least squares, the offset at most 0. Returns where there is a solution.
inline Ints solve(const GroupMoments& m, const AffineSums& sums, AffineTrial& trial) {
  const Floats determinant = m.w * sums.wll - sums.wl * sums.wl;
  const Floats scale = (m.w * sums.wlx - m.wx * sums.wl) / determinant;
  const Floats offset = (sums.wll * m.wx - sums.wl * sums.wlx) / determinant;
  const Ints above_zero = offset > 0;
  trial.scale = above_zero ? sums.wlx / sums.wll : scale;
  trial.offset = above_zero ? Floats{} : offset;
  return determinant > 0;
}

inline void adopt(Ints better, const AffineTrial& trial, AffineTrial& best) {
  best.inverse = better ? trial.inverse : best.inverse;
  best.origin = better ? trial.origin : best.origin;
  best.scale = better ? trial.scale : best.scale;
  best.offset = better ? trial.offset : best.offset;
  best.error = better ? trial.error : best.error;
}

// The best of steps + 1 scales, each after a weighted least-squares fit of scale and offset; the
// error is squared or absolute (formats_gguf.md 3.4). An improvement moves the origin from which
// later trials count: the reference does it so, and its bytes depend on it.
template <bool Absolute, int N>
AffineFit fit_affine(const Lanes<N>& x, const Lanes<N>& w, const AffineSearch& search) {
  const GroupMoments m = moments_of(x, w);
  AffineTrial best = trial_of_range<Absolute>(x, w, m, search.highest);
  for (int step = 0; step <= search.steps; ++step) {
    const float steps = search.first + search.step * static_cast<float>(step) + search.highest;
    AffineTrial trial;
    trial.inverse = steps / (m.highest - best.offset);
    trial.origin = best.offset;
    AffineSums sums;
    Lanes<N> codes;
    for (int i = 0; i < N; ++i) {
      codes[i] = affine_code(x[i], trial.inverse, trial.origin, search.highest);
      sums.add(w[i], x[i], codes[i]);
    }
    const Ints solved = solve(m, sums, trial);
    trial.error = affine_error<Absolute>(x, w, codes, trial.scale, trial.offset);
    adopt(solved & (trial.error < best.error), trial, best);
  }
  const Ints flat = m.highest == m.lowest;
  return {flat ? Floats{} : best.scale, flat ? -m.lowest : -best.offset,
          flat ? Floats{} : best.inverse, best.origin};
}

template <int N>
inline Floats scaling_error(const Lanes<N>& x, const Lanes<N>& w, Floats inverse, float highest) {
  const Floats scale = 1.0f / inverse;
  Floats error{};
  for (int i = 0; i < N; ++i) {
    const Floats difference =
        x[i] - scale * nearest_code(inverse * x[i], Floats{}, broadcast(highest));
    error += w[i] * difference * difference;
  }
  return error;
}

// x ~ scale * code for x >= 0 and codes 0..highest: the best of nine scales, then single codes
// changed (formats_gguf.md 3.5). For the scales and minima of a super-block.
template <int N>
CodedFit<N> fit_nonnegative(const Lanes<N>& x, const Lanes<N>& w, float highest) {
  Floats largest{};
  for (int i = 0; i < N; ++i) largest = at_least(x[i], largest);
  Floats inverse = highest / largest;
  Floats best_error = scaling_error(x, w, inverse, highest);
  for (int step = -4; step <= 4; ++step) {
    if (step == 0) continue;
    const Floats trial = (0.1f * static_cast<float>(step) + highest) / largest;
    const Floats error = scaling_error(x, w, trial, highest);
    inverse = error < best_error ? trial : inverse;
    best_error = error < best_error ? error : best_error;
  }
  const auto round = [highest](Floats v) { return nearest_code(v, Floats{}, broadcast(highest)); };
  CodedFit<N> fit;
  Projection sums;
  for (int i = 0; i < N; ++i) {
    fit.codes[i] = round(inverse * x[i]);
    sums.add(w[i], x[i], fit.codes[i]);
  }
  improve_codes(x, w, round, true, sums, fit.codes);
  const Ints zero = largest < kZeroGroup;
  fit.scale = zero ? Floats{} : (sums.B > 0 ? sums.A / sums.B : Floats{});
  for (int i = 0; i < N; ++i) fit.codes[i] = zero ? Floats{} : fit.codes[i];
  return fit;
}

}  // namespace calque::ggml::inline CALQUE_GGML_ISA
