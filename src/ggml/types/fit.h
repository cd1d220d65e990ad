#pragma once

#include "ggml/types/lanes.h"

// The reference quantizers' searches for scales, which families share: symmetric groups first,
// then groups with a minimum.
namespace calque::ggml::inline CALQUE_ISA {

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
// least-squares fit.
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

// One scale, then single codes changed; weights x^2. Codes -limit..limit - 1.
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

// An affine group's scale is searched among inverse scales (first + step * i + highest) / range
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

// These are known of a group apart from its codes.
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
// error is squared or absolute. An improvement moves the origin from which
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
// changed. For the scales and minima of a super-block.
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

}  // namespace calque::ggml::inline CALQUE_ISA
