// Scale codes and steps of a super-block, each the best along what the codes allow.
#include <algorithm>

#include "calque/core/dtype.h"
#include "kernels/cpu/super_block.h"

namespace calque::cpu {
namespace {

// Zero divides as infinity: what has no step does not move.
Floats divided(Floats v, Floats by) { return by == Floats{} ? Floats{} : v / by; }

}  // namespace

Floats SuperBlock::Moments::gain(Floats a, Floats b) const {
  return 2.0f * (a * ra + b * rb) - (a * a * aa + 2.0f * a * b * ab + b * b * bb);
}

// The determinant of two directions that are nearly one is noise: then a alone.
Floats SuperBlock::Moments::best_a(bool with_b) const {
  const Floats alone = divided(ra, aa);
  if (!with_b) return alone;
  const Floats determinant = aa * bb - ab * ab;
  return determinant > 1e-5f * aa * bb ? (ra * bb - rb * ab) / determinant : alone;
}
Floats SuperBlock::Moments::best_b(Floats a) const { return divided(rb - a * ab, bb); }

void SuperBlock::choose_scale_codes(const Curvature& curvature, Index g) {
  const Index width = structure_.group;
  const Index begin = g * width;
  for (Index i = begin; i < begin + width; ++i)
    for (int s = 0; s < kStrips; ++s) store(directions_.row(i) + s * kLanes, level(i, s));
  multiply(curvature, begin, width);
  for (int s = 0; s < kStrips; ++s) {
    if (structure_.has_minima())
      choose_integers(moments_of_group(curvature, g, s), g, s);
    else
      choose_scale(moments_of_group(curvature, g, s), g, s);
  }
  std::copy_n(values_.row(begin), moves_.size(), moves_.data());
  set_values(g);
  for (Index i = 0; i < moves_.size(); ++i)
    moves_.data()[i] = values_.row(begin)[i] - moves_.data()[i];
  subtract_moves(curvature, begin);
}

SuperBlock::Moments SuperBlock::moments_of_group(const Curvature& curvature, Index g, int s) const {
  Moments m;
  for (Index i = g * structure_.group; i < (g + 1) * structure_.group; ++i) {
    const Floats a = load_strip(directions_, i, s), h = load_strip(curved_, i, s);
    const Floats r = load_strip(residual_, i, s);
    m.aa += a * h;
    m.ab += h;
    m.ra += a * r;
    m.rb += r;
  }
  if (structure_.has_minima()) m.bb = broadcast(curvature.group_sums(g, g));
  return m;
}

// The scale codes within two of the best real one, each with the minimum codes within one of the
// best real one for it: rounding both at once misses pairs, as the directions are far from
// orthogonal.
void SuperBlock::choose_integers(const Moments& m, Index g, int s) {
  const Floats step = load_strip(steps_, 0, s), minimum_step = load_strip(steps_, 1, s);
  const Floats old_scale = load_strip(scale_codes_, g, s);
  const Floats old_minimum = load_strip(minimum_codes_, g, s);
  const Floats lowest = broadcast(static_cast<float>(structure_.lowest_scale));
  const Floats highest = broadcast(static_cast<float>(structure_.highest_scale));
  const Floats highest_minimum = broadcast(static_cast<float>(structure_.highest_minimum));
  const Floats middle = nearest_code(old_scale + divided(m.best_a(true), step), lowest, highest);
  Floats best{}, best_scale = old_scale, best_minimum = old_minimum;
  for (int x = -2; x <= 2; ++x) {
    const Floats scale_code = at_most(at_least(middle + static_cast<float>(x), lowest), highest);
    const Floats a = (scale_code - old_scale) * step;
    const Floats real = old_minimum - divided(m.best_b(a), minimum_step);
    const Floats near = nearest_code(real, Floats{}, highest_minimum);
    for (int y = -1; y <= 1; ++y) {
      const Floats code =
          at_most(at_least(near + static_cast<float>(y), Floats{}), highest_minimum);
      const Floats gain = m.gain(a, (old_minimum - code) * minimum_step);
      const auto better = gain > best;
      best = better ? gain : best;
      best_scale = better ? scale_code : best_scale;
      best_minimum = better ? code : best_minimum;
    }
  }
  store(scale_codes_.row(g) + s * kLanes, best_scale);
  store(minimum_codes_.row(g) + s * kLanes, best_minimum);
}

// The loss along one direction is a parabola: the integer nearest to its minimum is the best.
void SuperBlock::choose_scale(const Moments& m, Index g, int s) {
  const Floats step = load_strip(steps_, 0, s);
  const Floats old = load_strip(scale_codes_, g, s);
  const Floats code = nearest_code(old + divided(m.best_a(false), step),
                                   broadcast(static_cast<float>(structure_.lowest_scale)),
                                   broadcast(static_cast<float>(structure_.highest_scale)));
  const auto better = m.gain((code - old) * step, Floats{}) > Floats{};
  store(scale_codes_.row(g) + s * kLanes, better ? code : old);
}

SuperBlock::Moments SuperBlock::moments_of_steps(const Curvature& curvature, int s) const {
  Moments m;
  for (Index g = 0; g < scale_codes_.rows(); ++g) {
    const Floats b = -load_strip(minimum_codes_, g, s);
    Floats curved_sum{}, residual_sum{};
    for (Index i = g * structure_.group; i < (g + 1) * structure_.group; ++i) {
      const Floats a = load_strip(directions_, i, s), h = load_strip(curved_, i, s);
      const Floats r = load_strip(residual_, i, s);
      m.aa += a * h;
      m.ra += a * r;
      curved_sum += h;
      residual_sum += r;
    }
    m.ab += b * curved_sum;
    m.rb += b * residual_sum;
    if (!structure_.has_minima()) continue;
    for (Index other = 0; other < scale_codes_.rows(); ++other)
      m.bb -= b * load_strip(minimum_codes_, other, s) * curvature.group_sums(g, other);
  }
  return m;
}

void SuperBlock::refine_steps(const Curvature& curvature) {
  for (Index g = 0; g < scale_codes_.rows(); ++g)
    for (Index i = g * structure_.group; i < (g + 1) * structure_.group; ++i)
      for (int s = 0; s < kStrips; ++s)
        store(directions_.row(i) + s * kLanes, load_strip(scale_codes_, g, s) * level(i, s));
  multiply(curvature, 0, structure_.super);
  for (int s = 0; s < kStrips; ++s) choose_steps(moments_of_steps(curvature, s), s);
  for (Index g = 0; g < scale_codes_.rows(); ++g) set_values(g);
}

void SuperBlock::choose_steps(const Moments& m, int s) {
  const Floats step = load_strip(steps_, 0, s), minimum_step = load_strip(steps_, 1, s);
  const Floats a = m.best_a(structure_.has_minima());
  const Floats b = structure_.has_minima() ? m.best_b(a) : Floats{};
  Floats new_step = step, new_minimum_step = minimum_step;
  for (int lane = 0; lane < kLanes; ++lane) {
    new_step[lane] = rounded_to_half(step[lane] + a[lane]);
    const float rounded = rounded_to_half(minimum_step[lane] + b[lane]);
    if (rounded >= 0) new_minimum_step[lane] = rounded;
  }
  const auto better = m.gain(new_step - step, new_minimum_step - minimum_step) > Floats{};
  store(steps_.row(0) + s * kLanes, better ? new_step : step);
  store(steps_.row(1) + s * kLanes, better ? new_minimum_step : minimum_step);
}

}  // namespace calque::cpu
