#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "ggml/types/vector_bytes.h"

// The reference's rounding of a vector whose nearest levels are no point of the grid: it tries the
// points in the nearest shells (distances) around them.
namespace calque::ggml::inline CALQUE_ISA {

// A vector's levels, `kBits` bits each, the first element's lowest.
template <typename Grid>
struct Packing {
  static constexpr int kBits = Grid::kLevels == 3 ? 2 : 3;
  static constexpr int kNumbers = Grid::kLevels == 3 ? 6561 : 4096;

  static constexpr int pack(int number) {
    int packed = 0;
    for (int e = 0; e < Grid::kLength; ++e) packed |= Grid::level(number, e) << (kBits * e);
    return packed;
  }
};

template <typename Grid>
class Neighbours {
 public:
  Neighbours(const Grid& grid, int shells) {
    std::fill(std::begin(place_), std::end(place_), std::int16_t{-1});
    for (int p = 0; p < Grid::kCount; ++p)
      place_[grid.numbers[static_cast<std::size_t>(p)]] = static_cast<std::int16_t>(p);
    for (int e = 0; e < Grid::kLength; ++e)
      for (int p = 0; p < Grid::kCount; ++p)
        levels_[e][p] =
            static_cast<std::uint8_t>(Grid::level(grid.numbers[static_cast<std::size_t>(p)], e));
    for (int number = 0; number < kNumbers; ++number)
      if (!on_grid(number)) add_list(grid, number, shells);
  }

  bool on_grid(int number) const { return place_[number] >= 0; }
  // The place of a point that is on the grid.
  int place(int number) const { return place_[number]; }

  // The packed levels of the point among the neighbours of `number` with the lowest
  //   sum over e of w[e] (scale * values[level_e] - x[e])^2,
  // the first of equals. `values` repeats with the period 2^kBits.
  int nearest(int number, const float* x, const float* w, float scale, Floats values) const {
    Floats errors[Grid::kLength];  // by level
    for (int e = 0; e < Grid::kLength; ++e) {
      const Floats difference = scale * values - x[e];
      errors[e] = w[e] * difference * difference;
    }
    const std::uint16_t* list = lists_.data() + first_[number];
    Floats least = broadcast(std::numeric_limits<float>::max());
    Ints at{};
    for (int chunk = 0; chunk < chunks_[number]; ++chunk) {
      const Ints packed = load_packed(list + chunk * kLanes);
      Floats error = look_up(errors[0], packed);
      for (int e = 1; e < Grid::kLength; ++e)
        error += look_up(errors[e], packed >> (Packing<Grid>::kBits * e));
      const Ints less = error < least;
      least = less ? error : least;
      at = less ? Ints{} + chunk : at;
    }
    return list[first_of_least(least, at)];
  }

 private:
  static constexpr int kNumbers = Packing<Grid>::kNumbers;

  static Ints load_packed(const std::uint16_t* list) {
    typedef std::uint16_t Shorts __attribute__((vector_size(2 * kLanes)));
    Shorts shorts;
    std::memcpy(&shorts, list, sizeof(shorts));
    return __builtin_convertvector(shorts, Ints);
  }

  // table[index modulo its period].
  static Floats look_up(Floats table, Ints index) {
    return shuffle(table, table, index & (kLanes - 1));
  }

  static int first_of_least(Floats least, Ints chunk) {
    Floats lowest = least;
    for (int half = kLanes / 2; half > 0; half /= 2) {
      Ints partner;
      for (int lane = 0; lane < kLanes; ++lane) partner[lane] = lane ^ half;
      lowest = at_most(lowest, shuffle(lowest, lowest, partner));
    }
    unsigned lanes = simd::positive_lanes(least == lowest ? broadcast(1) : Floats{});
    int first = std::numeric_limits<int>::max();
    for (; lanes != 0; lanes &= lanes - 1) {
      const int lane = __builtin_ctz(lanes);
      first = std::min(first, chunk[lane] * kLanes + lane);
    }
    return first;
  }

  // Shell after shell, each in the grid's order; filled up with the first.
  void add_list(const Grid& grid, int number, int shells) {
    std::uint8_t distances[Grid::kCount] = {};
    for (int e = 0; e < Grid::kLength; ++e) {
      const int level = Grid::level(number, e);
      for (int p = 0; p < Grid::kCount; ++p) {
        const int difference = levels_[e][p] - level;
        distances[p] = static_cast<std::uint8_t>(distances[p] + difference * difference);
      }
    }
    first_[number] = static_cast<std::int32_t>(lists_.size());
    int last = -1;
    for (int shell = 0; shell < shells; ++shell) {
      int next = 255;
      for (const std::uint8_t distance : distances)
        next = distance > last && distance < next ? distance : next;
      last = next;
      for (int p = 0; p < Grid::kCount; ++p)
        if (distances[p] == next)
          lists_.push_back(static_cast<std::uint16_t>(
              Packing<Grid>::pack(grid.numbers[static_cast<std::size_t>(p)])));
    }
    const std::uint16_t filler = lists_[static_cast<std::size_t>(first_[number])];
    while ((lists_.size() - static_cast<std::size_t>(first_[number])) % kLanes != 0)
      lists_.push_back(filler);
    chunks_[number] = static_cast<std::uint16_t>(
        (lists_.size() - static_cast<std::size_t>(first_[number])) / kLanes);
  }

  std::int16_t place_[kNumbers];
  std::uint16_t chunks_[kNumbers] = {};
  std::int32_t first_[kNumbers] = {};
  std::vector<std::uint16_t> lists_;
  std::uint8_t levels_[Grid::kLength][Grid::kCount];
};

// Those of a type's grid, made when first asked for.
template <typename V>
const auto& neighbours_of() {
  using Grid = std::remove_cvref_t<decltype(V::kGrid)>;
  static const Neighbours<Grid> made(V::kGrid, V::kShells);
  return made;
}

// Up to kLanes groups of N columns, one a lane, whose vectors are rounded.
template <typename V>
struct VectorGroups {
  using Grid = std::remove_cvref_t<decltype(V::kGrid)>;
  static constexpr int kColumns = V::kGroup;
  static constexpr int kLength = Grid::kLength;
  static constexpr int kVectors = kColumns / kLength;
  static constexpr int kBits = Packing<Grid>::kBits;

  Lanes<kColumns> x;
  Lanes<kColumns> w;
  // Group g at g * kColumns: x, and what weighs neighbours.
  alignas(64) float x_rows[kLanes * kColumns];
  alignas(64) float w_rows[kLanes * kColumns];

  void store_rows(const Lanes<kColumns>& weights) {
    store_transposed(x, x_rows);
    store_transposed(weights, w_rows);
  }

  struct Choice {
    Ints packed[kVectors];
    Ints off_grid[kVectors];

    Floats level(int column) const {
      const int e = column % kLength;
      const Ints bits = packed[column / kLength] >> (kBits * e) & ((1 << kBits) - 1);
      return __builtin_convertvector(bits, Floats);
    }
  };

  // The points for levels(column), lane by lane; where those are none, by the neighbours at
  // `scale`, whose levels stand for values(vector, lane).
  template <typename Levels, typename Values>
  Choice choose(Levels levels, Floats scale, Values values) const {
    Choice choice;
    for (int v = 0; v < kVectors; ++v) {
      Floats number{}, packed{};
      for (int e = kLength - 1; e >= 0; --e) {
        const Floats level = levels(v * kLength + e);
        number = number * static_cast<float>(Grid::kLevels) + level;
        packed = packed * static_cast<float>(1 << kBits) + level;
      }
      std::int32_t numbers[kLanes], chosen[kLanes], off_grid[kLanes];
      store_ints(__builtin_convertvector(number, Ints), numbers);
      store_ints(__builtin_convertvector(packed, Ints), chosen);
      store_ints(Ints{}, off_grid);
      for (int lane = 0; lane < kLanes; ++lane) {
        if (neighbours.on_grid(numbers[lane])) continue;
        const int first = lane * kColumns + v * kLength;
        chosen[lane] = neighbours.nearest(numbers[lane], x_rows + first, w_rows + first,
                                          scale[lane], values(v, lane));
        off_grid[lane] = -1;
      }
      choice.packed[v] = load_ints(chosen);
      choice.off_grid[v] = load_ints(off_grid);
    }
    return choice;
  }

  const Neighbours<Grid>& neighbours = neighbours_of<V>();

  // The places in the grid of a lane's points.
  void store_points(const Choice& choice, int lane, std::uint16_t* points) const {
    for (int v = 0; v < kVectors; ++v) {
      int number = 0;
      for (int e = kLength - 1; e >= 0; --e)
        number =
            number * Grid::kLevels + (choice.packed[v][lane] >> (kBits * e) & ((1 << kBits) - 1));
      points[v] = static_cast<std::uint16_t>(neighbours.place(number));
    }
  }
};

// values[level] with the period of a packed level, in every lane.
template <typename Grid>
Floats periodic(const float (&values)[Grid::kLevels]) {
  Floats result;
  for (int lane = 0; lane < kLanes; ++lane) {
    const int level = lane % (1 << Packing<Grid>::kBits);
    result[lane] = level < Grid::kLevels ? values[level] : 0;
  }
  return result;
}

}  // namespace calque::ggml::inline CALQUE_ISA
