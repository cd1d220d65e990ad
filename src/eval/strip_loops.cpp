#include "eval/strip_loops.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

#include "eval/exponential.h"

namespace calque::eval {
namespace {

// Partial sums and maxima: a fixed order of operations, which the compiler makes vectors of.
constexpr std::size_t kLanes = 16;

float largest(std::span<const float> logits) {
  std::array<float, kLanes> partial;
  partial.fill(-std::numeric_limits<float>::infinity());
  const std::size_t whole = logits.size() - logits.size() % kLanes;
  for (std::size_t v = 0; v < whole; v += kLanes)
    for (std::size_t j = 0; j < kLanes; ++j)
      partial[j] = logits[v + j] > partial[j] ? logits[v + j] : partial[j];
  float result = partial[0];
  for (const float value : partial) result = std::max(result, value);
  for (std::size_t v = whole; v < logits.size(); ++v) result = std::max(result, logits[v]);
  return result;
}

// `term(v)` for all v < count.
template <typename Term>
double sum_of(std::size_t count, Term term) {
  std::array<double, kLanes> partial{};
  const std::size_t whole = count - count % kLanes;
  for (std::size_t v = 0; v < whole; v += kLanes)
    for (std::size_t j = 0; j < kLanes; ++j) partial[j] += term(v + j);
  double sum = 0;
  for (const double value : partial) sum += value;
  for (std::size_t v = whole; v < count; ++v) sum += term(v);
  return sum;
}

double exponentials(std::span<const float> logits, double largest, std::span<double> exponentials) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  for (std::size_t v = 0; v < logits.size(); ++v) {
    const double value = exponential(static_cast<double>(logits[v]) - largest);
    exponentials[v] = logits[v] == kNever ? 0.0 : value;
  }
  return sum_of(logits.size(), [&](std::size_t v) { return exponentials[v]; });
}

double crossed(std::span<const double> exponentials, std::span<const float> reference,
               std::span<const float> candidate) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  return sum_of(exponentials.size(), [&](std::size_t v) {
    const double term =
        exponentials[v] * (static_cast<double>(reference[v]) - static_cast<double>(candidate[v]));
    return reference[v] == kNever ? 0.0 : term;
  });
}

}  // namespace

inline namespace CALQUE_ISA {

const StripLoops& compiled_strip_loops() {
  static constexpr StripLoops kLoops = {largest, exponentials, crossed};
  return kLoops;
}

}  // namespace CALQUE_ISA

}  // namespace calque::eval
