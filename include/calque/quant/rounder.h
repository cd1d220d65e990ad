#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "calque/core/error.h"
#include "calque/core/exec.h"
#include "calque/core/matrix.h"
#include "calque/quant/input_stats.h"
#include "calque/quant/quantized_matrix.h"

namespace calque::quant {

// RoundingReport::method of GGUF blocks rounded as llama.cpp does with an importance matrix.
inline constexpr std::string_view kByImportance = "imatrix";

// The outcome for one matrix; nothing happens silently.
struct RoundingReport {
  std::string method;  // the method that really ran: a Rounding's name, or kByImportance
  double loss = 0;     // tr(E G E^T) / tokens, E = dequantized - original; 0 without statistics
  double relative_error = 0;  // tr(E G E^T) / tr(W G W^T); without statistics |E|^2 / |W|^2
  double damp_percent =
      0;  // GPTQ: damping that was used, in the job file's unit (0.01 = 1 % of the mean diagonal)
  Index dead_columns = 0;       // inputs that were zero for every token
  std::string fallback_reason;  // reason if `method` is not the one asked for; else empty
};

struct Rounded {
  QuantizedMatrix matrix;
  RoundingReport report;
};

// Error(kNumerical, "E402"): a weight that is too large for the numbers that its grid stores. Rows
// are counted from the first one that the rounder was given.
class UnreachableWeight : public Error {
 public:
  UnreachableWeight(Index row, Index column, std::string reason);
  UnreachableWeight from_row(Index first) const { return {row_ + first, column_, reason_}; }

 private:
  Index row_;
  Index column_;
  std::string reason_;
};

// Runs `body` on rows from `first` on, and names rows of the whole matrix in what it throws.
template <typename Body>
auto counted_from(Index first, Body&& body) -> decltype(body()) {
  try {
    return std::forward<Body>(body)();
  } catch (const UnreachableWeight& error) {
    throw error.from_row(first);
  }
}

// Rounds matrices that read the same site. Throws UnreachableWeight rather than return a scale that
// is infinite, NaN or cut off at the largest number of its type. Work that depends only on the site
// (GPTQ's factorisation) is done once. Call from one thread at a time.
using SiteRounder = std::function<Rounded(Matrix<float> weight_NK, const Grid& grid)>;

// A rounding method with its options bound. `stats` may be empty (not calibrated). They are
// consumed: a Gram matrix is the largest object of a site, and its memory is reused.
using Rounder = std::function<SiteRounder(quant::InputStats stats, const Exec& exec)>;

// A matrix whose rows are independent is read and rounded in strips of about this many weights
// (2 MiB of fp32). With the copies that a search makes, a strip takes eight times as much memory.
inline constexpr Index kRowStripWeights = Index{1} << 19;
inline constexpr std::uint64_t kRowStripBytes = 8 * sizeof(float) * kRowStripWeights;

}  // namespace calque::quant
