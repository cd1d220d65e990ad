#pragma once

#include "ggml/types/vector_neighbours.h"

// The reference's rounding of IQ1: three levels, all raised or lowered by kShift. Where the sorted
// weights of a group are cut into three is searched exactly.
namespace calque::ggml::inline CALQUE_ISA {

// The elements of each lane in rising order, equal ones in that of their columns, with what belongs
// to them (Batcher's odd-even merge).
template <int N>
struct SortedLanes {
  Lanes<N> x;
  Lanes<N> w;
  Ints column[N];

  SortedLanes(const Lanes<N>& values, const Lanes<N>& weights) : x(values), w(weights) {
    for (int i = 0; i < N; ++i) column[i] = Ints{} + i;
    for (int p = 1; p < N; p *= 2)
      for (int k = p; k > 0; k /= 2)
        for (int j = k % p; j + k < N; j += 2 * k)
          for (int i = 0; i < k && i + j + k < N; ++i)
            if ((i + j) / (2 * p) == (i + j + k) / (2 * p)) exchange(i + j, i + j + k);
  }

 private:
  void exchange(int a, int b) {
    const Ints swap = (x[a] > x[b]) | ((x[a] == x[b]) & (column[a] > column[b]));
    const auto swapped = [&](auto& first, auto& second) {
      const auto low = swap ? second : first;
      second = swap ? first : second;
      first = low;
    };
    swapped(x[a], x[b]);
    swapped(w[a], w[b]);
    swapped(column[a], column[b]);
  }
};

// The three values, raised and lowered.
constexpr float kRaised[3] = {-1 + kShift, kShift, 1 + kShift};
constexpr float kLowered[3] = {-1 - kShift, -kShift, 1 - kShift};

// Elements of the sorted group below `first` are the lowest level, those from `second` on the
// highest. Bit v of `lowered` says whether half v of the group is (IQ1_S: both or none).
struct Cuts {
  Floats scale;
  Floats gain = broadcast(-std::numeric_limits<float>::max());
  Ints first = ~Ints{};
  Ints second{};
  Ints lowered{};

  void try_sums(Floats A, Floats B, int first_trial, int second_trial, int lowered_trial) {
    const Ints better = (B > 0) & (A * A > gain * B);
    scale = better ? A / B : scale;
    gain = better ? scale * A : gain;
    first = better ? Ints{} + first_trial : first;
    second = better ? Ints{} + second_trial : second;
    lowered = better ? Ints{} + lowered_trial : lowered;
  }
  Ints found() const { return first >= 0; }
};

// One shift for the whole group.
template <int N>
Cuts best_cuts_of_whole(const SortedLanes<N>& sorted, Floats largest) {
  Floats wx[N + 1], w[N + 1];
  wx[0] = w[0] = Floats{};
  for (int j = 0; j < N; ++j) {
    wx[j + 1] = wx[j] + sorted.w[j] * sorted.x[j];
    w[j + 1] = w[j] + sorted.w[j];
  }
  Cuts cuts{largest};
  for (int first = 0; first <= N; ++first)
    for (int second = first; second <= N; ++second) {
      const auto with = [&](const float* levels, int lowered) {
        const Floats A = wx[first] * levels[0] + (wx[second] - wx[first]) * levels[1] +
                         (wx[N] - wx[second]) * levels[2];
        const Floats B = w[first] * levels[0] * levels[0] +
                         (w[second] - w[first]) * levels[1] * levels[1] +
                         (w[N] - w[second]) * levels[2] * levels[2];
        cuts.try_sums(A, B, first, second, lowered);
      };
      with(kRaised, 0);
      with(kLowered, 3);
    }
  return cuts;
}

// A shift for each half. Levels are 1 apart, so the sum of a half is its total times the highest
// less the sums below both cuts.
template <int N>
Cuts best_cuts_of_halves(const SortedLanes<N>& sorted, Floats largest) {
  Floats wx[2][N + 1], w[2][N + 1];
  for (int half = 0; half < 2; ++half) {
    wx[half][0] = w[half][0] = Floats{};
    for (int j = 0; j < N; ++j) {
      const Ints here = half == 0 ? sorted.column[j] < N / 2 : sorted.column[j] >= N / 2;
      wx[half][j + 1] = here ? wx[half][j] + sorted.w[j] * sorted.x[j] : wx[half][j];
      w[half][j + 1] = here ? w[half][j] + sorted.w[j] : w[half][j];
    }
  }
  constexpr const float* kLevels[2] = {kRaised, kLowered};
  Cuts cuts{largest};
  for (int first = 0; first <= N; ++first)
    for (int second = first; second <= N; ++second) {
      Floats A[2][2], B[2][2];  // by half and shift
      for (int half = 0; half < 2; ++half) {
        const Floats below = wx[half][first] + wx[half][second];
        for (int shift = 0; shift < 2; ++shift) {
          const float* l = kLevels[shift];
          A[half][shift] = wx[half][N] * l[2] - below;
          B[half][shift] = w[half][N] * l[2] * l[2] + w[half][first] * (l[0] * l[0] - l[1] * l[1]) +
                           w[half][second] * (l[1] * l[1] - l[2] * l[2]);
        }
      }
      for (int shifts = 0; shifts < 4; ++shifts)
        cuts.try_sums(A[0][shifts / 2] + A[1][shifts % 2], B[0][shifts / 2] + B[1][shifts % 2],
                      first, second, shifts / 2 | shifts % 2 << 1);
    }
  return cuts;
}

template <typename V>
class TernaryFit {
 public:
  TernaryFit(const Lanes<V::kGroup>& x, const Lanes<V::kGroup>& w) {
    groups_.x = x;
    groups_.w = w;
    groups_.store_rows(w);
    Floats largest = magnitude(x[0]);
    for (int i = 1; i < kColumns; ++i) largest = at_least(magnitude(x[i]), largest);
    const SortedLanes<kColumns> sorted(x, w);
    cuts_ = cuts_of(sorted, largest);
    zero_ = (largest < V::kTiny) | ~cuts_.found();
    fit(sorted);
  }

  Floats scales() const { return cuts_.scale; }

  void store_group(int lane, int group, VectorBlock& block) const {
    const bool zero = zero_[lane] != 0;
    for (int v = 0; v < kVectors; ++v)
      block.signs[group * kVectors + v] =
          static_cast<std::uint8_t>(zero ? 0 : cuts_.lowered[lane] >> half_of(v) & 1);
    std::uint16_t* points = block.points + group * kVectors;
    if (zero)
      std::fill_n(points, kVectors, std::uint16_t{0});
    else
      groups_.store_points(choice_, lane, points);
  }

 private:
  using Groups = VectorGroups<V>;
  static constexpr int kColumns = V::kGroup;
  static constexpr int kVectors = Groups::kVectors;

  static int half_of(int vector) { return 2 * vector / kVectors; }

  static Cuts cuts_of(const SortedLanes<kColumns>& sorted, Floats largest) {
    if constexpr (V::kShiftOfHalves) return best_cuts_of_halves(sorted, largest);
    return best_cuts_of_whole(sorted, largest);
  }

  // Levels by column. Where the scale is negative, all is turned round.
  Lanes<kColumns> levels_of(const SortedLanes<kColumns>& sorted) {
    const Ints negative = cuts_.scale < 0;
    Lanes<kColumns> levels;
    for (int j = 0; j < kColumns; ++j) {
      const Ints level = ((cuts_.first <= j) & 1) + ((cuts_.second <= j) & 1);
      const Ints turned = zero_ ? Ints{} : negative ? 2 - level : level;
      for (int lane = 0; lane < kLanes; ++lane)
        levels[sorted.column[j][lane]][lane] = static_cast<float>(turned[lane]);
    }
    cuts_.scale = magnitude(cuts_.scale);
    cuts_.lowered = negative ? 3 - cuts_.lowered : cuts_.lowered;
    return levels;
  }

  void fit(const SortedLanes<kColumns>& sorted) {
    const Lanes<kColumns> levels = levels_of(sorted);
    const Floats raised = periodic<typename Groups::Grid>(kRaised);
    const Floats lowered = periodic<typename Groups::Grid>(kLowered);
    choice_ =
        groups_.choose([&](int i) { return levels[i]; }, cuts_.scale,
                       [&](int v, int lane) {
                         return (cuts_.lowered[lane] >> half_of(v) & 1) != 0 ? lowered : raised;
                       });
    Ints off_grid{};
    for (const Ints& vector : choice_.off_grid) off_grid |= vector;
    Floats A{}, B{};
    for (int i = 0; i < kColumns; ++i) {
      const Floats q = choice_.level(i) - 1.0f + shift_of(i);
      A += groups_.w[i] * q * groups_.x[i];
      B += groups_.w[i] * q * q;
    }
    cuts_.scale = off_grid & (A > 0) & (B > 0) ? A / B : cuts_.scale;
    cuts_.scale = zero_ ? Floats{} : cuts_.scale;
  }

  Floats shift_of(int column) const {
    const Ints lowered = (cuts_.lowered >> half_of(column / Groups::kLength) & 1) != 0;
    return lowered ? broadcast(-kShift) : broadcast(kShift);
  }

  Groups groups_;
  Cuts cuts_;
  Ints zero_;
  typename Groups::Choice choice_;
};

}  // namespace calque::ggml::inline CALQUE_ISA
