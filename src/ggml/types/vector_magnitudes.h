#pragma once

#include "ggml/types/fit.h"
#include "ggml/types/vector_neighbours.h"

// The reference's rounding of IQ2 and IQ3: signs apart, then a scale for each group and points for
// its vectors, as if level l stood for 2 l + 1.
namespace calque::ggml::inline CALQUE_ISA {

// The codes' byte of the reference: a level below 0 wraps round.
inline Floats in_a_byte(Floats level) { return level < 0 ? level + 256.0f : level; }

inline Floats rounded_down_to(Floats v, float highest) {
  return simd::round_even(at_most(v, broadcast(highest)));
}

// x ~ scale * level with levels up to `highest`: fit_nonnegative, but of a vector with single
// negative elements, whose levels are below 0 when they are chosen and above 250 when they count as
// the level that was.
template <int N>
Floats fit_wrapped(const Lanes<N>& x, const Lanes<N>& w, Floats largest, float highest) {
  const auto error_of = [&](Floats inverse, bool wrapped) {
    const Floats scale = 1.0f / inverse;
    Floats error{};
    for (int i = 0; i < N; ++i) {
      const Floats level = rounded_down_to(inverse * x[i], highest);
      const Floats difference = x[i] - scale * (wrapped ? in_a_byte(level) : level);
      error += w[i] * difference * difference;
    }
    return error;
  };
  Floats inverse = highest / largest;
  Floats least = error_of(inverse, true);
  for (int step = -4; step <= 4; ++step) {
    if (step == 0) continue;
    const Floats trial = (0.1f * static_cast<float>(step) + highest) / largest;
    const Floats error = error_of(trial, false);
    inverse = error < least ? trial : inverse;
    least = error < least ? error : least;
  }
  Projection sums;
  Lanes<N> levels;
  for (int i = 0; i < N; ++i) {
    const Floats level = rounded_down_to(inverse * x[i], highest);
    sums.add(w[i], x[i], level);
    levels[i] = in_a_byte(level);
  }
  for (int pass = 0; pass < 5; ++pass) {
    Ints changed{};
    for (int i = 0; i < N; ++i) {
      Projection rest{sums.A - w[i] * x[i] * levels[i], sums.B - w[i] * levels[i] * levels[i]};
      Ints better = (rest.A > 0) & (rest.B > 0);
      const Floats level = rounded_down_to(x[i] * rest.B / rest.A, highest);
      better &= level != levels[i];
      rest.add(w[i], x[i], level);
      better &= rest.A * rest.A * sums.B > sums.A * sums.A * rest.B;
      levels[i] = better ? in_a_byte(level) : levels[i];
      sums.A = better ? rest.A : sums.A;
      sums.B = better ? rest.B : sums.B;
      changed |= better;
    }
    if (!any(changed)) break;
  }
  return sums.B > 0 ? sums.A / sums.B : Floats{};
}

template <typename V>
class MagnitudeFit {
 public:
  MagnitudeFit(const Lanes<V::kGroup>& x, const Lanes<V::kGroup>& w) {
    groups_.w = w;
    take_signs(x);
    Lanes<kColumns> roots;
    for (int i = 0; i < kColumns; ++i) roots[i] = square_root(w[i]);
    groups_.store_rows(roots);
    fit();
  }

  Floats scales() const { return scale_; }

  // A lane's group into its place.
  void store_group(int lane, int group, VectorBlock& block) const {
    constexpr int kEights = kColumns / 8;
    const bool zero = zero_[lane] != 0;
    for (int v = 0; v < kEights; ++v)
      block.signs[group * kEights + v] =
          zero ? std::uint8_t{0} : static_cast<std::uint8_t>(signs_[v][lane]);
    std::uint16_t* points = block.points + group * Groups::kVectors;
    if (zero)
      std::fill_n(points, Groups::kVectors, std::uint16_t{0});
    else
      groups_.store_points(best_, lane, points);
  }

 private:
  using Groups = VectorGroups<V>;
  using Choice = typename Groups::Choice;
  static constexpr int kColumns = V::kGroup;
  static constexpr float kTop = static_cast<float>(Groups::Grid::kLevels - 1);

  // Magnitudes and signs. Where the number of minus signs must be even and is not, the element that
  // counts least changes its sign.
  void take_signs(const Lanes<kColumns>& x) {
    for (int v = 0; v < kColumns / 8; ++v) {
      Ints signs{}, odd{}, least_at{};
      Floats least{};
      for (int e = 0; e < 8; ++e) {
        const int i = 8 * v + e;
        const Ints negative = x[i] < 0;
        groups_.x[i] = negative ? -x[i] : x[i];
        signs |= negative & (1 << e);
        odd ^= negative;
        const Floats counts = groups_.w[i] * x[i] * x[i];
        const Ints less = e == 0 ? ~Ints{} : counts < least;
        least = less ? counts : least;
        least_at = less ? Ints{} + e : least_at;
      }
      if constexpr (V::kEvenSigns) {
        for (int e = 0; e < 8; ++e) {
          const Ints flips = odd & (least_at == e);
          groups_.x[8 * v + e] = flips ? -groups_.x[8 * v + e] : groups_.x[8 * v + e];
          signs ^= flips & (1 << e);
        }
      }
      signs_[v] = signs;
    }
  }

  Choice choose(Floats inverse, Floats scale) const {
    return groups_.choose(
        [&](int i) {
          return nearest_code(0.5f * (inverse * groups_.x[i] - 1.0f), Floats{}, broadcast(kTop));
        },
        scale, [this](int, int) { return odd_; });
  }

  static Floats odd_numbers() {
    float values[Groups::Grid::kLevels];
    for (int level = 0; level < Groups::Grid::kLevels; ++level)
      values[level] = static_cast<float>(2 * level + 1);
    return periodic<typename Groups::Grid>(values);
  }

  Projection project(const Choice& choice) const {
    Projection sums;
    for (int i = 0; i < kColumns; ++i)
      sums.add(groups_.w[i], groups_.x[i], 2.0f * choice.level(i) + 1.0f);
    return sums;
  }

  void fit() {
    Floats largest = groups_.x[0];
    for (int i = 1; i < kColumns; ++i) largest = at_least(groups_.x[i], largest);
    zero_ = V::kTiny > 0 ? largest < V::kTiny : largest <= 0;
    constexpr float kHighest = 2 * kTop + 1;
    if constexpr (V::kAgain == Again::kAlways) {
      scale_ = fit_wrapped(groups_.x, groups_.w, largest, kTop + 2);
      largest = scale_ * (kTop + 1);
      zero_ |= largest <= 0;
    } else {
      scale_ = largest / kHighest;
    }
    for (int v = 0; v < Groups::kVectors; ++v) {
      best_.packed[v] = Ints{};
      best_.off_grid[v] = V::kAgain == Again::kAllIfOneIs ? ~Ints{} : Ints{};
    }
    Floats gain{};
    for (int trial = -V::kTrials; trial <= V::kTrials; ++trial) {
      const Floats inverse =
          zero_ ? Floats{} : (kHighest + static_cast<float>(trial) * V::kTrialStep) / largest;
      const Choice choice = choose(inverse, 1.0f / inverse);
      const Projection sums = project(choice);
      const Ints better = (sums.B > 0) & (sums.A * sums.A > gain * sums.B);
      scale_ = better ? sums.A / sums.B : scale_;
      gain = better ? scale_ * sums.A : gain;
      adopt(better, choice);
    }
    choose_again();
    for (int v = 0; v < kColumns / 8; ++v) signs_[v] = scale_ < 0 ? ~signs_[v] & 255 : signs_[v];
    scale_ = zero_ ? Floats{} : magnitude(scale_);
  }

  void adopt(Ints where, const Choice& choice) {
    for (int v = 0; v < Groups::kVectors; ++v) {
      best_.packed[v] = where ? choice.packed[v] : best_.packed[v];
      best_.off_grid[v] = where ? choice.off_grid[v] : best_.off_grid[v];
    }
  }

  // Points for the scale that fits the best trial's, and a scale that fits them.
  void choose_again() {
    Ints one_is{};
    for (const Ints& off_grid : best_.off_grid) one_is |= off_grid;
    const Ints positive = (scale_ > 0) & ~zero_;
    const Ints where = V::kAgain == Again::kAlways ? positive : positive & one_is;
    const Choice choice = choose(where ? 1.0f / scale_ : Floats{}, scale_);
    for (int v = 0; v < Groups::kVectors; ++v) {
      const Ints chosen = V::kAgain == Again::kOffGrid ? where & best_.off_grid[v] : where;
      best_.packed[v] = chosen ? choice.packed[v] : best_.packed[v];
    }
    const Projection sums = project(best_);
    scale_ = where & (sums.B > 0) ? sums.A / sums.B : scale_;
  }

  Groups groups_;
  Floats odd_ = odd_numbers();
  Ints signs_[kColumns / 8];
  Ints zero_;
  Floats scale_;
  Choice best_;
};

}  // namespace calque::ggml::inline CALQUE_ISA
