#include "calque/kernels/round_vectors.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "calque/core/dtype.h"
#include "calque/kernels/panels.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/sgemm.h"
#include "kernels/kernel_table.h"

namespace calque::cpu {
namespace {

using Ints = simd::IntsOf<Floats>;

constexpr Index kRun = 8;             // columns that are chosen together: they share their signs
constexpr Index kBlockColumns = 128;  // between two products of the sweep

// A symmetric positive matrix of a run's columns: squared differences d count d A d^T.
struct Metric {
  float entry[kRun][kRun];
};

// A run of eight columns in sixteen rows: a vector's code for each half, or one for both.
struct Run {
  Ints codes[2];
  Ints signs;
  Floats levels[kRun];  // values at scale 1
};

// Sixteen rows' targets.
using Targets = Floats[kRun];

// The products v_i v_j, i <= j, of each point.
std::vector<float> products_of_points(const ggml::VectorStructure& structure) {
  std::vector<float> products;
  for (int p = 0; p < structure.count(); ++p) {
    const float* point = structure.points.data() + p * structure.length;
    for (Index i = 0; i < structure.length; ++i)
      for (Index j = i; j < structure.length; ++j) products.push_back(point[i] * point[j]);
  }
  return products;
}

// Finds vectors near targets.
class RunSearch {
 public:
  RunSearch(const ggml::VectorStructure& structure, std::span<const float> products)
      : structure_(structure), products_(products) {}

  // `signs` are those of the run now, for shifts that stay.
  Run nearest(const Metric& metric, const Targets& targets, Floats scale, Ints signs) const {
    if (structure_.shift == 0) return nearest_signed(metric, targets, scale);
    if (structure_.shift_columns > kRun) return nearest_shifted(metric, targets, scale, signs).run;
    const Found raised = nearest_shifted(metric, targets, scale, Ints{});
    const Found lowered = nearest_shifted(metric, targets, scale, Ints{} + 1);
    Run run = raised.run;
    for (int lane = 0; lane < kLanes; ++lane)
      if (lowered.distance[lane] < raised.distance[lane]) copy_lane(lowered.run, lane, run);
    return run;
  }

 private:
  struct Found {
    Run run;
    Floats distance;
  };

  static void copy_lane(const Run& from, int lane, Run& to) {
    for (int h = 0; h < 2; ++h) to.codes[h][lane] = from.codes[h][lane];
    to.signs[lane] = from.signs[lane];
    for (Index e = 0; e < kRun; ++e) to.levels[e][lane] = from.levels[e][lane];
  }

  void set_levels(Run& run) const {
    const Index length = structure_.length;
    for (int lane = 0; lane < kLanes; ++lane)
      for (Index e = 0; e < kRun; ++e) {
        const Index code = run.codes[e / length][lane];
        const float point = structure_.points[static_cast<std::size_t>(code * length + e % length)];
        const int sign = run.signs[lane];
        if (structure_.shift != 0)
          run.levels[e][lane] = point + (sign != 0 ? -structure_.shift : structure_.shift);
        else
          run.levels[e][lane] = (sign >> e & 1) != 0 ? -point : point;
      }
  }

  Run nearest_signed(const Metric& metric, const Targets& targets, Floats scale) const {
    Run run = {};
    run.signs = signs_of(metric, targets);
    find_points(metric, targets, scale, run);
    if (flip_signs(metric, targets, scale, run)) find_points(metric, targets, scale, run);
    return run;
  }

  // The targets' own; where their number must be even and is not, the element that counts least has
  // the other one.
  Ints signs_of(const Metric& metric, const Targets& targets) const {
    Ints signs{}, odd{}, least_at{};
    Floats least{};
    for (int e = 0; e < kRun; ++e) {
      const Ints negative = targets[e] < 0;
      signs |= negative & (1 << e);
      odd ^= negative;
      const Floats counts = metric.entry[e][e] * targets[e] * targets[e];
      const Ints less = e == 0 ? ~Ints{} : counts < least;
      least = less ? counts : least;
      least_at = less ? Ints{} + e : least_at;
    }
    if (structure_.even_signs)
      for (int e = 0; e < kRun; ++e) signs ^= odd & (least_at == e) & (1 << e);
    return signs;
  }

  // The sign, or the two signs, whose change takes most off the distance, in each row; false if
  // there are none.
  bool flip_signs(const Metric& metric, const Targets& targets, Floats scale, Run& run) const {
    Floats moves[kRun], gains[kRun];
    for (int e = 0; e < kRun; ++e) moves[e] = -2.0f * scale * run.levels[e];
    for (int e = 0; e < kRun; ++e) {
      Floats slope{};
      for (int j = 0; j < kRun; ++j)
        slope += metric.entry[e][j] * (targets[j] - scale * run.levels[j]);
      gains[e] = moves[e] * (2.0f * slope - moves[e] * metric.entry[e][e]);
    }
    Floats most{};
    Ints flips{};
    const auto consider = [&](Floats gain, int bits) {
      const Ints more = gain > most;
      most = more ? gain : most;
      flips = more ? Ints{} + bits : flips;
    };
    for (int e = 0; e < kRun; ++e) {
      if (!structure_.even_signs) consider(gains[e], 1 << e);
      for (int f = 0; f < e; ++f)
        consider(gains[e] + gains[f] - 2.0f * metric.entry[e][f] * moves[e] * moves[f],
                 1 << e | 1 << f);
    }
    run.signs ^= flips;
    bool any = false;
    for (int lane = 0; lane < kLanes; ++lane) any = any || flips[lane] != 0;
    return any;
  }

  Found nearest_shifted(const Metric& metric, const Targets& targets, Floats scale,
                        Ints lowered) const {
    Found found = {};
    found.run.signs = lowered;
    found.distance = find_points(metric, targets, scale, found.run);
    return found;
  }

  // The points for the signs of `run`. Of two vectors the first is found as if the second met its
  // targets, the second for what the first leaves. Returns the squared distance, to 12 bits.
  Floats find_points(const Metric& metric, const Targets& targets, Floats scale, Run& run) const {
    const Turned turned = without_signs(metric, targets, scale, run.signs);
    Floats distance{};
    if (structure_.length == kRun) {
      distance = find_point<kRun>(turned, 0, scale, run.codes[0]);
    } else {
      find_point<kRun / 2>(turned, 0, scale, run.codes[0]);
      const Turned rest = behind_first(turned, scale, run.codes[0]);
      distance = find_point<kRun / 2>(rest, kRun / 2, scale, run.codes[1]);
    }
    set_levels(run);
    return distance;
  }

  // The problem with every sign turned to plus, and shifts taken off the targets.
  struct Turned {
    Targets targets;
    Floats entry[kRun][kRun];
  };
  Turned without_signs(const Metric& metric, const Targets& targets, Floats scale,
                       Ints signs) const {
    Turned turned;
    Floats factors[kRun];
    const Floats shift =
        scale * (signs != 0 ? broadcast(-structure_.shift) : broadcast(structure_.shift));
    for (int e = 0; e < kRun; ++e) {
      const Ints minus = structure_.shift != 0 ? Ints{} : signs & (1 << e);
      factors[e] = minus != 0 ? broadcast(-1.0f) : broadcast(1.0f);
      turned.targets[e] = factors[e] * targets[e] - shift;
    }
    for (int i = 0; i < kRun; ++i)
      for (int j = 0; j < kRun; ++j)
        turned.entry[i][j] = metric.entry[i][j] * factors[i] * factors[j];
    return turned;
  }

  // Moves the second half's targets to the minimizer for the first half's point:
  // t_2 + (t_1 - s v_1) A_12 A_22^-1. Gauss-Seidel: a target needs few digits.
  Turned behind_first(const Turned& turned, Floats scale, Ints code) const {
    constexpr int kHalf = kRun / 2;
    Turned moved = turned;
    Floats left[kHalf];
    for (int e = 0; e < kHalf; ++e) {
      Floats level{};
      for (int lane = 0; lane < kLanes; ++lane)
        level[lane] = structure_.points[static_cast<std::size_t>(code[lane] * kHalf + e)];
      left[e] = turned.targets[e] - scale * level;
    }
    for (int sweep = 0; sweep < 4; ++sweep)
      for (int e = kHalf; e < kRun; ++e) {
        Floats pull{};
        for (int j = 0; j < kHalf; ++j) pull += turned.entry[e][j] * left[j];
        for (int j = kHalf; j < kRun; ++j)
          if (j != e) pull -= turned.entry[e][j] * (moved.targets[j] - turned.targets[j]);
        moved.targets[e] = turned.targets[e] + pull / turned.entry[e][e];
      }
    return moved;
  }

  // (t - s v) A (t - s v)^T over points v is fixed + slopes . v + curvatures . (products of v).
  template <int kLength>
  struct Parabola {
    static constexpr int kProducts = kLength * (kLength + 1) / 2;
    Floats slopes[kLength], curvatures[kProducts], fixed{};

    Parabola(const Turned& turned, int first, Floats scale) {
      int at = 0;
      for (int i = 0; i < kLength; ++i) {
        Floats weighted{};
        for (int j = 0; j < kLength; ++j) {
          const Floats entry = turned.entry[first + i][first + j];
          weighted += entry * turned.targets[first + j];
          if (j >= i) curvatures[at++] = (j > i ? 2.0f : 1.0f) * scale * scale * entry;
        }
        slopes[i] = -2.0f * scale * weighted;
        fixed += weighted * turned.targets[first + i];
      }
    }
  };

  // The best point. The code of a point takes the place of the distance's last bits, so that one
  // minimum finds both. Of long lists the best of each sixteenth under the diagonal of A is looked
  // at alone: a fourth of the time, and layers' losses within half a percent.
  template <int kLength>
  Floats find_point(const Turned& turned, int first, Floats scale, Ints& code) const {
    constexpr int kShort = 256, kParts = 16;
    const Parabola<kLength> whole(turned, first, scale);
    Floats least = broadcast(__builtin_inff());
    if (structure_.count() <= kShort) {
      for (int p = 0; p < structure_.count(); ++p)
        least = at_most(tagged(at_point(whole, p), Ints{} + p), least);
    } else {
      Turned diagonal = turned;
      for (int i = 0; i < kRun; ++i)
        for (int j = 0; j < kRun; ++j)
          if (i != j) diagonal.entry[i][j] = Floats{};
      const Parabola<kLength> quick(diagonal, first, scale);
      for (int part = 0; part < kParts; ++part) {
        const Ints candidate = code_in(nearest_of_part(quick, part, kParts));
        least = at_most(tagged(at_points(whole, candidate), candidate), least);
      }
    }
    code = code_in(least);
    return least;
  }

  static constexpr std::int32_t kCodes = 2047;
  static Floats tagged(Floats distance, Ints code) {
    const Ints bits = reinterpret_cast<Ints>(at_least(distance, Floats{}));
    return reinterpret_cast<Floats>((bits & ~kCodes) | code);
  }
  static Ints code_in(Floats tagged) { return reinterpret_cast<Ints>(tagged) & kCodes; }

  template <int kLength>
  Floats at_point(const Parabola<kLength>& parabola, int p) const {
    const float* point = structure_.points.data() + p * kLength;
    const float* product = products_.data() + p * parabola.kProducts;
    Floats distance = parabola.fixed;
    for (int i = 0; i < kLength; ++i) distance += parabola.slopes[i] * point[i];
    for (int i = 0; i < parabola.kProducts; ++i) distance += parabola.curvatures[i] * product[i];
    return distance;
  }

  // Each lane at a point of its own.
  template <int kLength>
  Floats at_points(const Parabola<kLength>& parabola, Ints codes) const {
    Floats point[kLength];
    for (int i = 0; i < kLength; ++i)
      for (int lane = 0; lane < kLanes; ++lane)
        point[i][lane] = structure_.points[static_cast<std::size_t>(codes[lane] * kLength + i)];
    Floats distance = parabola.fixed;
    int at = 0;
    for (int i = 0; i < kLength; ++i) {
      distance += parabola.slopes[i] * point[i];
      for (int j = i; j < kLength; ++j)
        distance += parabola.curvatures[at++] * (point[i] * point[j]);
    }
    return distance;
  }

  // The tagged distance of the best of every `step`-th point from `first` on, without products of
  // two elements.
  template <int kLength>
  Floats nearest_of_part(const Parabola<kLength>& parabola, int first, int step) const {
    Floats squares[kLength];
    for (int i = 0, at = 0; i < kLength; at += kLength - i, ++i)
      squares[i] = parabola.curvatures[at];
    Floats least = broadcast(__builtin_inff());
    for (int p = first; p < structure_.count(); p += step) {
      const float* point = structure_.points.data() + p * kLength;
      Floats distance = parabola.fixed;
      for (int i = 0; i < kLength; ++i)
        distance += (parabola.slopes[i] + squares[i] * point[i]) * point[i];
      least = at_most(tagged(distance, Ints{} + p), least);
    }
    return least;
  }

  const ggml::VectorStructure& structure_;
  std::span<const float> products_;
};

// Everything that all rows share.
struct Prepared {
  std::vector<float> products;
  // In the sweep's order: T = U_BB^-1, upper, and T T^T.
  std::vector<Metric> pivots_E, sweep_metrics_E;
  // The Hessian's blocks and their inverses.
  std::vector<Metric> blocks_E, inverses_E;
};

Metric inverse_of_upper(MatrixView<const float> factor_BB) {
  Metric inverse = {};
  for (Index j = 0; j < kRun; ++j) {
    inverse.entry[j][j] = 1.0f / factor_BB(j, j);
    for (Index i = j - 1; i >= 0; --i) {
      double sum = 0;
      for (Index k = i + 1; k <= j; ++k)
        sum += static_cast<double>(factor_BB(i, k)) * inverse.entry[k][j];
      inverse.entry[i][j] = static_cast<float>(-sum / factor_BB(i, i));
    }
  }
  return inverse;
}

// T T^T.
Metric square_of(const Metric& upper) {
  Metric square = {};
  for (Index i = 0; i < kRun; ++i)
    for (Index j = 0; j < kRun; ++j) {
      double sum = 0;
      for (Index k = 0; k < kRun; ++k)
        sum += static_cast<double>(upper.entry[i][k]) * upper.entry[j][k];
      square.entry[i][j] = static_cast<float>(sum);
    }
  return square;
}

// Inverts a positive definite matrix: Gauss-Jordan without pivots.
Metric inverse_of(const Metric& metric) {
  double work[kRun][2 * kRun] = {};
  for (Index i = 0; i < kRun; ++i) {
    for (Index j = 0; j < kRun; ++j) work[i][j] = metric.entry[i][j];
    work[i][kRun + i] = 1;
  }
  for (Index k = 0; k < kRun; ++k) {
    const double pivot = work[k][k];
    for (double& entry : work[k]) entry /= pivot;
    for (Index i = 0; i < kRun; ++i) {
      if (i == k) continue;
      const double share = work[i][k];
      for (Index j = 0; j < 2 * kRun; ++j) work[i][j] -= share * work[k][j];
    }
  }
  Metric inverse = {};
  for (Index i = 0; i < kRun; ++i)
    for (Index j = 0; j < kRun; ++j) inverse.entry[i][j] = static_cast<float>(work[i][kRun + j]);
  return inverse;
}

Prepared prepare(const RoundVectors& task) {
  Prepared prepared;
  prepared.products = products_of_points(task.structure);
  const auto block = [](MatrixView<const float> matrix_KK, Index e) {
    return matrix_KK.rows(e * kRun, kRun).cols(e * kRun, kRun);
  };
  for (Index e = 0; e < std::ssize(task.order_E); ++e) {
    prepared.pivots_E.push_back(inverse_of_upper(block(task.inverse_factor_KK, e)));
    prepared.sweep_metrics_E.push_back(square_of(prepared.pivots_E.back()));
  }
  for (Index e = 0; e < task.weight_NK.cols() / kRun; ++e) {
    Metric metric = {};
    for (Index i = 0; i < kRun; ++i)
      std::copy_n(block(task.hessian_KK, e).row(i), kRun, metric.entry[i]);
    prepared.blocks_E.push_back(metric);
    prepared.inverses_E.push_back(inverse_of(metric));
  }
  return prepared;
}

// Some rows.
class Panel {
 public:
  Panel(const RoundVectors& task, const Prepared& prepared, Index first, Index rows)
      : task_(task),
        structure_(task.structure),
        prepared_(prepared),
        search_(task.structure, prepared.products),
        first_(first),
        rows_(rows),
        columns_(task.weight_NK.cols()),
        weight_PK_(task.weight_NK.rows(first, rows)) {}

  void run() {
    if (!task_.inverse_factor_KK.empty()) sweep();
    if (task_.passes == 0) return;
    values_PK_ = Matrix<float>::uninitialized(rows_, columns_);
    moves_PK_ = Matrix<float>(rows_, columns_);
    for (Index r = 0; r < rows_; ++r)
      for (Index e = 0; e < columns_ / kRun; ++e) read_values(r, e, values_PK_.row(r) + e * kRun);
    start_residual();
    for (int pass = 0; pass < task_.passes; ++pass)
      for (Index s = 0; s < columns_ / structure_.super; ++s) refine_super(s);
    for (Index r = 0; r < rows_; ++r) loss_of(r) = measured_loss(r);
  }

 private:
  double& loss_of(Index r) { return task_.losses_N[static_cast<std::size_t>(first_ + r)]; }
  float scale_of(Index r, Index g) const {
    return scale_of(task_.fields.steps_NS(first_ + r, g * structure_.group / structure_.super),
                    task_.fields.scale_codes_NG(first_ + r, g));
  }
  float scale_of(float step, int code) const {
    return step * structure_.unit * static_cast<float>(2 * code + 1);
  }
  Index strips() const { return (rows_ + kLanes - 1) / kLanes; }
  Index lanes_of(Index strip) const { return std::min<Index>(kLanes, rows_ - strip * kLanes); }

  Floats scales(Index strip, Index e) const {
    Floats result{};
    for (Index lane = 0; lane < lanes_of(strip); ++lane)
      result[lane] = scale_of(strip * kLanes + lane, e * kRun / structure_.group);
    return result;
  }
  Ints signs(Index strip, Index e) const {
    Ints result{};
    for (Index lane = 0; lane < lanes_of(strip); ++lane)
      result[lane] = task_.fields.signs_NE(first_ + strip * kLanes + lane, e);
    return result;
  }
  void store_run(Index r, Index e, const Run& run, Index lane) {
    const Index n = first_ + r, parts = kRun / structure_.length;
    for (Index h = 0; h < parts; ++h)
      task_.fields.codes_NV(n, e * parts + h) = static_cast<std::uint16_t>(run.codes[h][lane]);
    task_.fields.signs_NE(n, e) = static_cast<std::uint8_t>(run.signs[lane]);
  }

  // The values of a run as the file's decoder has them.
  void read_values(Index r, Index e, float* values) const {
    const Index n = first_ + r, parts = kRun / structure_.length;
    const float scale = scale_of(r, e * kRun / structure_.group);
    const int sign = task_.fields.signs_NE(n, e);
    for (Index k = 0; k < kRun; ++k) {
      const Index code = task_.fields.codes_NV(n, e * parts + k / structure_.length);
      const float point =
          structure_
              .points[static_cast<std::size_t>(code * structure_.length + k % structure_.length)];
      if (structure_.shift != 0)
        values[k] = scale * (point + (sign != 0 ? -structure_.shift : structure_.shift));
      else
        values[k] = (sign >> k & 1) != 0 ? -(scale * point) : scale * point;
    }
  }

  // ---- The sweep

  void sweep() {
    Matrix<float> ordered_PK = Matrix<float>::uninitialized(rows_, columns_);
    for (Index i = 0; i < columns_ / kRun; ++i)
      for (Index r = 0; r < rows_; ++r)
        std::copy_n(weight_PK_.row(r) + task_.order_E[static_cast<std::size_t>(i)] * kRun, kRun,
                    ordered_PK.row(r) + i * kRun);
    Matrix<float> errors_PB = Matrix<float>::uninitialized(rows_, kBlockColumns);
    for (Index r = 0; r < rows_; ++r) loss_of(r) = 0;
    for (Index begin = 0; begin < columns_; begin += kBlockColumns) {
      const Index end = std::min(columns_, begin + kBlockColumns);
      for (Index k = begin; k < end; k += kRun) sweep_run(k, begin, end, ordered_PK, errors_PB);
      if (end == columns_) break;
      sgemm(-1.0f, errors_PB.view().cols(0, end - begin),
            task_.inverse_factor_KK.rows(begin, end - begin).cols(end, columns_ - end), 1.0f,
            ordered_PK.view().cols(end, columns_ - end));
    }
  }

  void sweep_run(Index at, Index begin, Index end, Matrix<float>& ordered_PK,
                 Matrix<float>& errors_PB) {
    const Index i = at / kRun;
    const Index e = task_.order_E[static_cast<std::size_t>(i)];
    for (Index strip = 0; strip < strips(); ++strip) {
      Targets targets = {};
      for (Index lane = 0; lane < lanes_of(strip); ++lane)
        for (Index k = 0; k < kRun; ++k)
          targets[k][lane] = ordered_PK(strip * kLanes + lane, at + k);
      const Run run = search_.nearest(prepared_.sweep_metrics_E[static_cast<std::size_t>(i)],
                                      targets, scales(strip, e), signs(strip, e));
      for (Index lane = 0; lane < lanes_of(strip); ++lane) {
        const Index r = strip * kLanes + lane;
        store_run(r, e, run, lane);
        spread_error(r, i, e, end, ordered_PK.row(r), errors_PB.row(r) + (at - begin));
      }
    }
  }

  // e = (weight - value) U_BB^-1, and the weights behind the run up to `end` follow.
  void spread_error(Index r, Index i, Index e, Index end, float* weight, float* errors) {
    float values[kRun];
    read_values(r, e, values);
    const Metric& pivot = prepared_.pivots_E[static_cast<std::size_t>(i)];
    const Index at = i * kRun;
    double squares = 0;
    for (Index j = 0; j < kRun; ++j) {
      float error = 0;
      for (Index k = 0; k <= j; ++k) error += (weight[at + k] - values[k]) * pivot.entry[k][j];
      errors[j] = error;
      squares += static_cast<double>(error) * error;
    }
    loss_of(r) += squares;
    for (Index j = 0; j < kRun; ++j) {
      const float* factor = task_.inverse_factor_KK.row(at + j);
      const float error = errors[j];
      for (Index k = at + kRun; k < end; ++k) weight[k] -= error * factor[k];
    }
  }

  // ---- Refinement. Between moves values_PK_ are what the fields stand for, residual_PK_ is
  // (weight - values) H, and in the super-block that is worked on moves_PK_ is how far values
  // moved.

  void start_residual() {
    Matrix<float> errors_PK = Matrix<float>::uninitialized(rows_, columns_);
    for (Index r = 0; r < rows_; ++r)
      std::transform(weight_PK_.row(r), weight_PK_.row(r) + columns_, values_PK_.row(r),
                     errors_PK.row(r), std::minus<>());
    residual_PK_ = Matrix<float>::uninitialized(rows_, columns_);
    sgemm(1.0f, errors_PK, task_.hessian_KK, 0.0f, residual_PK_);
  }

  double measured_loss(Index r) const {
    double total = 0;
    for (Index k = 0; k < columns_; ++k)
      total += static_cast<double>(weight_PK_(r, k) - values_PK_(r, k)) * residual_PK_(r, k);
    return total;
  }

  void refine_super(Index s) {
    const Index begin = s * structure_.super, end = begin + structure_.super;
    for (Index g = begin / structure_.group; g < end / structure_.group; ++g) {
      const Index first = g * structure_.group / kRun, last = (g + 1) * structure_.group / kRun;
      for (Index e = first; e < last; ++e) move_run(e, begin, end);
      for (Index r = 0; r < rows_; ++r) move_scale(r, g, begin, end);
    }
    move_steps(s, begin, end);
    if (begin > 0) subtract_moves(begin, end, 0, begin);
    if (end < columns_) subtract_moves(begin, end, end, columns_);
    for (Index r = 0; r < rows_; ++r)
      std::fill(moves_PK_.row(r) + begin, moves_PK_.row(r) + end, 0.0f);
  }

  void subtract_moves(Index begin, Index end, Index first, Index last) {
    sgemm(-1.0f, moves_PK_.view().cols(begin, end - begin),
          task_.hessian_KK.rows(begin, end - begin).cols(first, last - first), 1.0f,
          residual_PK_.view().cols(first, last - first));
  }

  void move_run(Index e, Index begin, Index end) {
    const Index at = e * kRun;
    const Metric& block = prepared_.blocks_E[static_cast<std::size_t>(e)];
    const Metric& inverse = prepared_.inverses_E[static_cast<std::size_t>(e)];
    for (Index strip = 0; strip < strips(); ++strip) {
      Targets targets = {};
      for (Index lane = 0; lane < lanes_of(strip); ++lane) {
        const float* residual = residual_PK_.row(strip * kLanes + lane) + at;
        for (Index k = 0; k < kRun; ++k) {
          float target = values_PK_(strip * kLanes + lane, at + k);
          for (Index j = 0; j < kRun; ++j) target += inverse.entry[k][j] * residual[j];
          targets[k][lane] = target;
        }
      }
      const Floats scale = scales(strip, e);
      const Run run = search_.nearest(block, targets, scale, signs(strip, e));
      for (Index lane = 0; lane < lanes_of(strip); ++lane) {
        const Index r = strip * kLanes + lane;
        float moves[kRun];
        for (Index k = 0; k < kRun; ++k)
          moves[k] = scale[lane] * run.levels[k][lane] - values_PK_(r, at + k);
        if (!(gain_of(r, at, kRun, moves) > 0)) continue;
        store_run(r, e, run, lane);
        take(r, at, kRun, moves, begin, end);
      }
    }
  }

  // The fall of the loss if the columns from `at` on move: 2 m . R - m H m.
  double gain_of(Index r, Index at, Index count, const float* moves) const {
    double slope = 0, curvature = 0;
    for (Index k = 0; k < count; ++k) {
      if (moves[k] == 0) continue;
      slope += static_cast<double>(moves[k]) * residual_PK_(r, at + k);
      curvature +=
          static_cast<double>(moves[k]) * dot(task_.hessian_KK.row(at + k) + at, moves, count);
    }
    return 2 * slope - curvature;
  }

  static float dot(const float* a, const float* b, Index count) {
    Floats lanes{};
    Index k = 0;
    for (; k + kLanes <= count; k += kLanes) lanes += load(a + k) * load(b + k);
    float total = sum(lanes);
    for (; k < count; ++k) total += a[k] * b[k];
    return total;
  }

  void take(Index r, Index at, Index count, const float* moves, Index begin, Index end) {
    float* residual = residual_PK_.row(r);
    for (Index k = 0; k < count; ++k) {
      const float move = moves[k];
      if (move == 0) continue;
      values_PK_(r, at + k) += move;
      moves_PK_(r, at + k) += move;
      const float* coupling = task_.hessian_KK.row(at + k);
      for (Index j = begin; j < end; ++j) residual[j] -= move * coupling[j];
    }
  }

  // The scale code next to the minimizer: values v of the group become (1 + t) v.
  void move_scale(Index r, Index g, Index begin, Index end) {
    const Index at = g * structure_.group;
    const float* values = values_PK_.row(r) + at;
    double slope = 0, curvature = 0;
    for (Index k = 0; k < structure_.group; ++k) {
      slope += static_cast<double>(values[k]) * residual_PK_(r, at + k);
      curvature += static_cast<double>(values[k]) *
                   dot(task_.hessian_KK.row(at + k) + at, values, structure_.group);
    }
    if (!(curvature > 0)) return;
    std::uint8_t& code = task_.fields.scale_codes_NG(first_ + r, g);
    const double wanted = (1 + slope / curvature) * (2 * code + 1);
    const int next =
        std::clamp(static_cast<int>(std::rint((wanted - 1) / 2)), 0, structure_.scale_codes - 1);
    if (next == code) return;
    const double share = static_cast<double>(2 * next + 1) / (2 * code + 1) - 1;
    if (!(2 * share * slope - share * share * curvature > 0)) return;
    code = static_cast<std::uint8_t>(next);
    float moves[64];
    for (Index e = 0; e < structure_.group / kRun; ++e)
      read_values(r, at / kRun + e, moves + e * kRun);
    for (Index k = 0; k < structure_.group; ++k) moves[k] -= values[k];
    take(r, at, structure_.group, moves, begin, end);
  }

  // Every row's step, by least squares.
  void move_steps(Index s, Index begin, Index end) {
    const Index width = end - begin;
    Matrix<float> curved_PS = Matrix<float>::uninitialized(rows_, width);
    const auto block_SS = task_.hessian_KK.rows(begin, width).cols(begin, width);
    sgemm(1.0f, values_PK_.view().cols(begin, width), block_SS, 0.0f, curved_PS);
    for (Index r = 0; r < rows_; ++r) {
      const double slope =
          simd::dot_in_double(values_PK_.row(r) + begin, residual_PK_.row(r) + begin, width);
      const double curvature =
          simd::dot_in_double(values_PK_.row(r) + begin, curved_PS.row(r), width);
      if (!(curvature > 0)) continue;
      float& step = task_.fields.steps_NS(first_ + r, s);
      const float next = rounded_to_half(static_cast<float>(step * (1 + slope / curvature)));
      const double share = static_cast<double>(next) / step - 1;
      if (!(next > 0) || !std::isfinite(next) ||
          !(2 * share * slope - share * share * curvature > 0))
        continue;
      step = next;
      for (Index k = 0; k < width; ++k)
        residual_PK_(r, begin + k) -= static_cast<float>(share) * curved_PS(r, k);
      for (Index k = begin; k < end; k += kRun) {
        float values[kRun];
        read_values(r, k / kRun, values);
        for (Index j = 0; j < kRun; ++j) {
          moves_PK_(r, k + j) += values[j] - values_PK_(r, k + j);
          values_PK_(r, k + j) = values[j];
        }
      }
    }
  }

  const RoundVectors& task_;
  const ggml::VectorStructure& structure_;
  const Prepared& prepared_;
  RunSearch search_;
  Index first_, rows_, columns_;
  MatrixView<const float> weight_PK_;
  Matrix<float> values_PK_, residual_PK_, moves_PK_;
};

}  // namespace

void round_vectors(const RoundVectors& task, const Exec::Backend& backend) {
  const Prepared prepared = prepare(task);
  const Index rows = task.weight_NK.rows();
  backend.workers.for_each((rows + kPanelRows - 1) / kPanelRows, [&](Index p) {
    const Index first = p * kPanelRows;
    Panel(task, prepared, first, std::min(kPanelRows, rows - first)).run();
  });
}

}  // namespace calque::cpu
